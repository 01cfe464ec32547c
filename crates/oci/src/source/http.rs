//! One HTTP request, with its redirects followed and its times bounded.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, LOCATION, RANGE};
use ureq::http::{HeaderMap, HeaderName, Method, Request};

use super::agents::Agents;
use super::error::Fault;
use super::retry;
use super::secret::Secret;
use super::trust::Trust;
use super::url::{Scheme, Url};

const MAX_REDIRECTS: usize = 5;
/// The longest error body that is looked at, in bytes.
const MAX_ERROR: u64 = 16 << 10;
/// The longest that a document may take: a manifest, a token, an error's body.
const DOCUMENT_TIME: Duration = Duration::from_secs(300);

/// How long to wait for a server. There is no limit on the whole transfer of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For resolving the name and for connecting, each.
    pub connect: Duration,
    /// For the next bytes to come, or to be taken.
    pub idle: Duration,
    /// The fewest bytes that must come in a time of `idle`. A server that drips is
    /// given up on; a slow link is not.
    pub least: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            // Less is no progress either, so the attempts that are left become fewer.
            least: retry::PROGRESS,
        }
    }
}

/// Sends the requests for one registry.
#[derive(Debug)]
pub(super) struct Http {
    agents: Agents,
    timeouts: Timeouts,
}

/// An answer whose body is yet to be read.
pub(super) struct Response {
    /// Who answered, after redirects.
    pub(super) url: Url,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Box<dyn Read + Send>,
}

impl Http {
    pub(super) fn new(agents: Agents, timeouts: Timeouts) -> Self {
        Self { agents, timeouts }
    }

    /// Sends GET and follows redirects.
    ///
    /// `authorization` goes to the origin of `url` only; a redirect away from
    /// it, even with a way back, leaves it behind. A redirect from HTTPS to
    /// HTTP is refused.
    pub(super) fn get(
        &self,
        url: &Url,
        trust: Trust,
        accept: &str,
        authorization: Option<&Secret>,
    ) -> Result<Response, Fault> {
        self.get_from(url, trust, accept, authorization, 0)
    }

    /// The same for the bytes from `offset` on, where that is not 0.
    pub(super) fn get_from(
        &self,
        url: &Url,
        trust: Trust,
        accept: &str,
        authorization: Option<&Secret>,
        offset: u64,
    ) -> Result<Response, Fault> {
        let mut url = url.clone();
        let mut authorization = authorization;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.get_once(&url, trust, accept, authorization, offset)?;
            let Some(next) = redirect(&response, trust)? else {
                return Ok(response);
            };
            if !url.is_same_origin(&next) {
                authorization = None;
            }
            url = next;
        }
        Err(Fault::Redirect {
            host: url.authority().to_owned(),
            reason: format!("more than {MAX_REDIRECTS} times in a row"),
        })
    }

    /// Sends a form. A redirect is not followed: the secrets in it are for `url` alone.
    pub(super) fn post_form(
        &self,
        url: &Url,
        trust: Trust,
        form: &Secret,
    ) -> Result<Response, Fault> {
        let response = self
            .agents
            .get(url, trust)?
            .post(url.to_request_target())
            .header(ACCEPT, "application/json")
            .content_type("application/x-www-form-urlencoded")
            .send(form.expose())
            .map_err(|error| Fault::Transport(format!("{url}: {error}")))?;
        let (head, body) = response.into_parts();
        Ok(Response {
            url: url.clone(),
            status: head.status.as_u16(),
            headers: head.headers,
            body: Box::new(Lively::new(body.into_reader(), self.timeouts)),
        })
    }

    /// Sends one request with a body of known length. A redirect is not followed.
    pub(super) fn send(
        &self,
        method: Method,
        url: &Url,
        trust: Trust,
        headers: &[(HeaderName, String)],
        body: &[u8],
    ) -> Result<Response, Fault> {
        let broken = |error: &dyn std::fmt::Display| Fault::Transport(format!("{url}: {error}"));
        let mut request = Request::builder()
            .method(method.clone())
            .uri(url.to_request_target());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let agent = self.agents.get(url, trust)?;
        let response = match method {
            Method::HEAD | Method::GET => {
                agent.run(request.body(()).map_err(|error| broken(&error))?)
            }
            _ => agent.run(request.body(body).map_err(|error| broken(&error))?),
        };
        let (head, body) = response.map_err(|error| broken(&error))?.into_parts();
        Ok(Response {
            url: url.clone(),
            status: head.status.as_u16(),
            headers: head.headers,
            body: Box::new(Lively::new(body.into_reader(), self.timeouts)),
        })
    }

    fn get_once(
        &self,
        url: &Url,
        trust: Trust,
        accept: &str,
        authorization: Option<&Secret>,
        offset: u64,
    ) -> Result<Response, Fault> {
        let mut request = self
            .agents
            .get(url, trust)?
            .get(url.to_request_target())
            .header(ACCEPT, accept)
            // The digest is that of the bytes sent, so they must not be recoded.
            .header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization.expose());
        }
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        let response = request
            .call()
            .map_err(|error| Fault::Transport(format!("{url}: {error}")))?;
        let (head, body) = response.into_parts();
        Ok(Response {
            url: url.clone(),
            status: head.status.as_u16(),
            headers: head.headers,
            body: Box::new(Lively::new(body.into_reader(), self.timeouts)),
        })
    }
}

/// A body that must keep coming.
///
/// Only the time spent waiting for the server counts: one that reads slowly may
/// take its time.
struct Lively<R> {
    inner: R,
    timeouts: Timeouts,
    /// Of the present window: how long was waited, and what came.
    waited: Duration,
    bytes: u64,
}

impl<R: Read> Lively<R> {
    fn new(inner: R, timeouts: Timeouts) -> Self {
        Self {
            inner,
            timeouts,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Judges the window once it is over.
    fn judge(&mut self) -> io::Result<()> {
        if self.waited < self.timeouts.idle {
            return Ok(());
        }
        let Timeouts { idle, least, .. } = self.timeouts;
        if self.bytes < least {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "the server sends next to nothing: {} bytes in {idle:?}",
                    self.bytes,
                ),
            ));
        }
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}

impl<R: Read> Read for Lively<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.judge()?;
        let start = Instant::now();
        let count = self.inner.read(buffer)?;
        self.waited += start.elapsed();
        self.bytes += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }
}

/// A body that must end in time.
struct Limited<R> {
    inner: R,
    end: Instant,
}

impl<R: Read> Limited<R> {
    fn new(inner: R, time: Duration) -> Self {
        Self {
            inner,
            end: Instant::now() + time,
        }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.end {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the server takes too long for a short document",
            ));
        }
        self.inner.read(buffer)
    }
}

/// Where a response sends us, if it does.
fn redirect(response: &Response, trust: Trust) -> Result<Option<Url>, Fault> {
    if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let refuse = |reason: String| Fault::Redirect {
        host: response.url.authority().to_owned(),
        reason,
    };
    let location = response
        .headers
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| refuse("no Location is given".to_owned()))?;
    let next = response
        .url
        .join(location)
        .map_err(|error| refuse(format!("the Location is not followed: {error}")))?;
    let leaves_https = response.url.scheme() == Scheme::Https && next.scheme() == Scheme::Http;
    if leaves_https || trust.forbids(&next) {
        return Err(refuse(format!("to {next}, which is not encrypted")));
    }
    Ok(Some(next))
}

impl Response {
    /// The header of that name, where it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The whole body, which may have up to `limit` bytes.
    pub(super) fn read_body(self, limit: u64) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        let url = self.url;
        Limited::new(self.body, DOCUMENT_TIME)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Fault::Transport(format!("{url}: {}", describe(&error))))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
            return Err(Fault::TooLong(limit));
        }
        Ok(bytes)
    }

    /// What the server says went wrong, in its own words, for a message. The body of a
    /// success says nothing of that, and may be a token.
    pub(super) fn into_message(self) -> String {
        self.into_message_without(&[])
    }

    /// The same without what was sent.
    pub(super) fn into_message_without(self, secrets: &[&Secret]) -> String {
        if self.status < 400 {
            return String::new();
        }
        let mut bytes = Vec::new();
        // Whatever came before an error is better than nothing.
        let _incomplete = Limited::new(self.body, DOCUMENT_TIME)
            .take(MAX_ERROR)
            .read_to_end(&mut bytes);
        let hide = |text: String, secret: &&Secret| secret.hide_in(&text);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        message_of(secrets.iter().fold(text, hide).as_bytes())
    }

    /// How long the server wants us to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        retry::parse_retry_after(self.header("retry-after")?, self.header("date"))
    }

    /// Whether this is what is left of `size` bytes from `offset` on, and nothing
    /// else (RFC 9110, 14.4).
    pub(super) fn is_rest(&self, offset: u64, size: u64) -> bool {
        let range = self.header("content-range").and_then(parse_content_range);
        self.status == 206
            && range.is_some_and(|(first, last, length)| {
                first == offset
                    && last.checked_add(1) == Some(size)
                    && length.is_none_or(|length| length == size)
            })
    }
}

/// First byte, last byte, and the length of the whole where it is known.
fn parse_content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok())?
    };
    let (range, length) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let length = match length {
        "*" => None,
        length => Some(number(length)?),
    };
    Some((number(first)?, number(last)?, length))
}

/// An [`io::Error`] from reading a body, in words.
pub(super) fn describe(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(ureq::Error::Timeout(_)) => "the server fell silent".to_owned(),
        _ => error.to_string(),
    }
}

/// The message in a registry's error body (distribution-spec, "Error codes"),
/// else its text; at most 300 characters on one line.
fn message_of(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Entry>,
        details: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Body>(body) {
        Ok(Body { errors, .. }) if !errors.is_empty() => errors
            .iter()
            .map(
                |entry| match (entry.code.as_str(), entry.message.as_str()) {
                    (code, "") => code.to_owned(),
                    ("", message) => message.to_owned(),
                    (code, message) => format!("{code}: {message}"),
                },
            )
            .collect::<Vec<_>>()
            .join("; "),
        Ok(Body {
            details: Some(details),
            ..
        }) => details,
        // A page of HTML says nothing to a person at a terminal.
        _ if body.trim_ascii_start().starts_with(b"<") => String::new(),
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    text.split_whitespace()
        .flat_map(|word| [" ", word])
        .skip(1)
        .collect::<String>()
        .chars()
        .filter(|c| !c.is_control())
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_to(from: &str, location: Option<&str>) -> Result<Option<Url>, Fault> {
        sent_with(Trust::Unverified, from, location)
    }

    fn sent_with(trust: Trust, from: &str, location: Option<&str>) -> Result<Option<Url>, Fault> {
        let mut headers = HeaderMap::new();
        if let Some(location) = location {
            headers.insert(LOCATION, location.parse().unwrap());
        }
        let response = Response {
            url: Url::parse(from).unwrap(),
            status: 307,
            headers,
            body: Box::new(io::empty()),
        };
        redirect(&response, trust)
    }

    #[test]
    fn a_redirect_never_leads_from_https_to_http() {
        let to_http = Some("http://cdn.example/blob?signature=hush");
        let error = sent_to("https://r.example/v2/", to_http).unwrap_err();
        assert!(error.to_string().contains("not encrypted"));
        assert!(!error.to_string().contains("hush"));
        assert!(sent_to("http://r.example/v2/", to_http).unwrap().is_some());
        let error = sent_with(Trust::ThisMachine, "http://localhost/v2/", to_http).unwrap_err();
        assert!(error.to_string().contains("not encrypted"));
        let to_https = Some("https://cdn.example/blob");
        assert!(sent_to("https://r.example/", to_https).unwrap().is_some());
        assert!(sent_to("http://r.example/", to_https).unwrap().is_some());
        assert!(sent_to("https://r.example/v2/", None).is_err());
    }

    #[test]
    fn the_rest_of_a_blob_is_what_was_asked_for_and_nothing_else() {
        let is_rest = |range: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-range", range.parse().unwrap());
            let response = Response {
                url: Url::parse("https://r.example/").unwrap(),
                status: 206,
                headers,
                body: Box::new(io::empty()),
            };
            response.is_rest(5, 10)
        };
        assert!(is_rest("bytes 5-9/10"));
        assert!(is_rest("bytes 5-9/*"));
        for wrong in [
            "bytes 4-9/10",
            "bytes 5-8/10",
            "bytes 5-9/11",
            "bytes 5-/10",
            "bytes */10",
            "bytes +5-9/10",
            "bytes 5-18446744073709551615/10",
            "5-9/10",
        ] {
            assert!(!is_rest(wrong), "{wrong}");
        }
    }

    /// Gives a byte after each pause.
    struct Dripping(Duration);

    impl Read for Dripping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(self.0);
            buffer[0] = 1;
            Ok(1)
        }
    }

    #[test]
    fn a_server_that_drips_is_given_up_on_and_a_slow_reader_is_not() {
        let timeouts = Timeouts {
            idle: Duration::from_millis(500),
            least: 1000,
            ..Timeouts::default()
        };
        let mut dripping = Lively::new(Dripping(Duration::from_millis(50)), timeouts);
        let error = io::copy(&mut dripping, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("next to nothing"), "{error}");

        let mut quick = Lively::new(&[7; 5][..], timeouts);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(quick.read(&mut [0]).unwrap(), 1);
        }
    }

    #[test]
    fn a_document_must_end_in_time_although_it_keeps_coming() {
        let dripping = Dripping(Duration::from_millis(1));
        let mut limited = Limited::new(dripping, Duration::from_millis(20));
        let error = io::copy(&mut limited, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_is_too_little_to_go_on_with_is_no_progress_for_the_next_attempt() {
        assert!(Timeouts::default().least >= retry::PROGRESS);
    }

    #[test]
    fn the_registry_speaks_in_its_own_words() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\nunknown","detail":{}}]}"#;
        assert_eq!(message_of(body), "MANIFEST_UNKNOWN: manifest unknown");
        assert_eq!(
            message_of(br#"{"details":"wrong password"}"#),
            "wrong password"
        );
        assert_eq!(message_of(b"<html>"), "");
        assert_eq!(message_of(b"plain \x1b[31m text\n"), "plain [31m text");
        assert_eq!(message_of(&[b'x'; 1000]).len(), 300);
    }
}
