//! Uploading one blob (OCI distribution specification 1.1, "Pushing blobs").
//!
//! Blobs go in chunks. A chunk stays in memory until the registry has said that it
//! has it, so that a connection that breaks costs one chunk at the most; a registry that lost
//! the upload gets the blob from its beginning.

use std::io::{self, Read};

use ureq::http::Method;
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION};

use super::super::error::Fault;
use super::super::http::Response;
use super::super::retry::Patience;
use super::super::url::{Scheme, Url};
use super::{Asking, PutError, Repository};
use crate::manifest::Descriptor;

/// The length of a chunk in bytes, unless the registry wants longer ones; a blob that is no
/// longer goes in one piece.
const CHUNK: u64 = 8 << 20;
/// The longest chunk that a registry may want.
const MAX_CHUNK: u64 = 64 << 20;
const OCTETS: &str = "application/octet-stream";

/// Where an upload stands.
struct Session {
    location: Url,
    /// Bytes that the registry has.
    acknowledged: u64,
}

/// Why an upload did not go on.
enum Stopped {
    /// It has to begin anew, if at all.
    Lost(Fault),
    Read(io::Error),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Lost(fault)
    }
}

impl Repository {
    /// Uploads a blob. `open` gives its content from the beginning, checked while it is
    /// read; it is called again where the registry lost an upload. `sent` hears how many bytes
    /// the registry has.
    pub(crate) fn put_blob(
        &self,
        blob: &Descriptor,
        open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>,
        sent: &dyn Fn(u64),
    ) -> Result<(), PutError> {
        let mut patience = Patience::new(self.retry);
        loop {
            let fault = match self.upload(blob, open, sent, &mut patience) {
                Ok(()) => return Ok(()),
                Err(Stopped::Read(error)) => return Err(PutError::Read(error)),
                Err(Stopped::Lost(fault)) => fault,
            };
            // A session that the registry forgot is begun anew.
            let fault = match fault {
                Fault::Status {
                    status: 404 | 416, ..
                } => Fault::Transport(format!("the registry lost the upload: {fault}")),
                fault => fault,
            };
            if !patience.wait(&fault) {
                let what = format!("the blob {}", blob.digest);
                return Err(PutError::Registry(self.error(what, fault, &patience)));
            }
            // Where only the last answer was lost, all is there.
            if self.has_blob(blob).map_err(PutError::Registry)? {
                sent(blob.size);
                return Ok(());
            }
        }
    }

    fn upload(
        &self,
        blob: &Descriptor,
        open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>,
        sent: &dyn Fn(u64),
        patience: &mut Patience,
    ) -> Result<(), Stopped> {
        let mut content = open().map_err(Stopped::Read)?;
        let response = self.ask(Method::POST, "blobs/uploads/", Vec::new(), &[])?;
        if response.status != 202 {
            return Err(self.failed(response).into());
        }
        let limit = chunk_length(&response);
        let mut session = session(&response)?;
        let mut chunk = Vec::new();
        let mut start = 0;
        loop {
            chunk.clear();
            let read = (&mut content).take(limit).read_to_end(&mut chunk);
            let end = start + chunk.len() as u64;
            let last = end == blob.size;
            // The end is asked for: only then is the digest known to be right.
            let read = match last {
                true => read.and_then(|_| content.read_to_end(&mut Vec::new())),
                false => read,
            };
            if let Err(error) = read {
                self.give_up(&session);
                return Err(Stopped::Read(error));
            }
            if (last && start == 0) || chunk.is_empty() {
                self.finish(session, blob, &chunk)?;
                sent(end);
                return Ok(());
            }
            session = self.put_chunk(session, start, &chunk, patience)?;
            start = end;
            sent(end);
        }
    }

    /// Sends a chunk until the registry has all of it.
    fn put_chunk(
        &self,
        mut session: Session,
        start: u64,
        chunk: &[u8],
        patience: &mut Patience,
    ) -> Result<Session, Stopped> {
        let end = start + chunk.len() as u64;
        while session.acknowledged < end {
            let before = session.acknowledged;
            let fault = match self.put_rest(&session, start, chunk) {
                Ok(next) => {
                    session = next;
                    match session.acknowledged > before {
                        true => {
                            patience.reached(session.acknowledged);
                            continue;
                        }
                        false => Fault::Transport("the registry took nothing".to_owned()),
                    }
                }
                Err(fault) => fault,
            };
            session = self.after(fault, session, patience)?;
        }
        if session.acknowledged > end {
            return Err(more_than_sent().into());
        }
        Ok(session)
    }

    /// Sends what the registry does not have of a chunk.
    fn put_rest(&self, session: &Session, start: u64, chunk: &[u8]) -> Result<Session, Fault> {
        let end = start + chunk.len() as u64;
        let done = session.acknowledged.checked_sub(start);
        let done = done.and_then(|done| usize::try_from(done).ok());
        let rest = done.and_then(|done| chunk.get(done..)).ok_or_else(|| {
            // What came before the chunk is not in memory any more.
            Fault::Transport("the registry has less of it than it said".to_owned())
        })?;
        let range = format!("{}-{}", session.acknowledged, end - 1);
        let response = self.send(&Asking {
            method: Method::PATCH,
            url: session.location.clone(),
            headers: vec![(CONTENT_TYPE, OCTETS.to_owned()), (CONTENT_RANGE, range)],
            body: rest,
        })?;
        if response.status != 202 {
            return Err(self.failed(response));
        }
        let mut next = self::session(&response)?;
        // Without a word about it, all was taken.
        if response.header("range").is_none() {
            next.acknowledged = end;
        }
        Ok(next)
    }

    /// Waits, and asks the registry where the upload stands. It stops where it
    /// cannot go on.
    fn after(
        &self,
        mut fault: Fault,
        session: Session,
        patience: &mut Patience,
    ) -> Result<Session, Stopped> {
        loop {
            // 416: what was sent is not what comes next, as the registry sees it.
            let disagrees = matches!(fault, Fault::Status { status: 416, .. });
            if disagrees {
                fault = Fault::Transport(fault.to_string());
            }
            if !patience.wait(&fault) {
                return Err(fault.into());
            }
            match self.status(&session) {
                Ok(session) => return Ok(session),
                Err(next) if next.is_transient() => fault = next,
                Err(next) => return Err(next.into()),
            }
        }
    }

    /// Asks the registry how much of an upload it has.
    fn status(&self, session: &Session) -> Result<Session, Fault> {
        let response = self.send(&Asking::empty(Method::GET, session.location.clone()))?;
        match response.status {
            200 | 202 | 204 => Ok(Session {
                acknowledged: acknowledged(&response),
                location: match response.header(LOCATION.as_str()) {
                    Some(_) => self::session(&response)?.location,
                    None => session.location.clone(),
                },
            }),
            _ => Err(self.failed(response)),
        }
    }

    /// Closes an upload, with what is left of it.
    fn finish(&self, session: Session, blob: &Descriptor, rest: &[u8]) -> Result<(), Fault> {
        let url = session.location;
        let url = url.with_query(&[("digest", &blob.digest.to_string())]);
        let response = self.send(&Asking {
            method: Method::PUT,
            url,
            headers: vec![(CONTENT_TYPE, OCTETS.to_owned())],
            body: rest,
        })?;
        match response.status {
            201 | 204 => Ok(()),
            _ => Err(self.failed(response)),
        }
    }

    /// Takes back the upload that an answer to a request to mount has begun.
    pub(super) fn take_back(&self, response: &Response) {
        if let Ok(session) = session(response) {
            self.give_up(&session);
        }
    }

    /// Tells the registry that no more of an upload comes. It would find out itself some day.
    fn give_up(&self, session: &Session) {
        drop(self.send(&Asking::empty(Method::DELETE, session.location.clone())));
    }
}

fn more_than_sent() -> Fault {
    Fault::Transport("the registry has more of it than was sent".to_owned())
}

/// How long chunks are, in bytes: `OCI-Chunk-Min-Length` within reason.
fn chunk_length(response: &Response) -> u64 {
    let wanted = response.header("oci-chunk-min-length");
    let wanted = wanted.and_then(|text| text.trim().parse().ok());
    wanted.unwrap_or(CHUNK).clamp(CHUNK, MAX_CHUNK)
}

/// Where an upload goes on, after the answer's `Location` and `Range`.
fn session(response: &Response) -> Result<Session, Fault> {
    let refuse = |reason: String| Fault::Redirect {
        host: response.url.authority().to_owned(),
        reason,
    };
    let location = response.header(LOCATION.as_str()).ok_or_else(|| {
        Fault::Transport(format!(
            "{} does not say where the upload goes on",
            response.url
        ))
    })?;
    let location = response
        .url
        .join(location)
        .map_err(|error| refuse(format!("the upload is not followed: {error}")))?;
    if response.url.scheme() == Scheme::Https && location.scheme() == Scheme::Http {
        return Err(refuse(format!(
            "the upload is to go on at {location}, which is not encrypted"
        )));
    }
    Ok(Session {
        location,
        acknowledged: acknowledged(response),
    })
}

/// How many bytes the registry has: `Range: 0-99` are 100. Of an empty upload registries
/// say `0-0`, so one byte alone is taken for none.
fn acknowledged(response: &Response) -> u64 {
    let parse = |text: &str| {
        let text = text.trim_start_matches("bytes=");
        text.strip_prefix("0-")?.parse::<u64>().ok()
    };
    match response.header("range").and_then(parse) {
        None | Some(0) => 0,
        Some(last) => last.saturating_add(1),
    }
}
