//! The writing side of a registry in this process, on top of [`Faulty`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use hull_oci::Digest;

use crate::faulty::{Answer, Fault, Faulty, Request};
use crate::image::three_layers;

/// What was written so far.
#[derive(Default)]
pub(crate) struct Written {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: usize,
    uploads: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<(String, Digest), Vec<u8>>,
    manifests: BTreeMap<(String, String), Vec<u8>>,
}

/// A registry that takes images, but where `fault` gives another answer.
pub(crate) fn writable(
    fault: impl Fn(&Request, &Written) -> Option<Answer> + Send + Sync + 'static,
) -> (Faulty, Arc<Written>) {
    let written = Arc::new(Written::default());
    let copy = Arc::clone(&written);
    let server = Faulty::new(three_layers("unused"), move |request, _| {
        Some(fault(request, &copy).unwrap_or_else(|| copy.answer(request)))
    });
    (server, written)
}

/// An answer that never comes: the connection is reset.
pub(crate) fn reset() -> Answer {
    Answer::status(500).cut(0, Fault::Reset)
}

/// A parameter of the request's query.
pub(crate) fn query<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let (_, query) = request.path.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}

/// How an upload stands.
fn accepted(status: u16, repository: &str, id: &str, length: usize) -> Answer {
    Answer::status(status)
        .header(
            "Location",
            format!("/v2/{repository}/blobs/uploads/{id}?state=x"),
        )
        .header("Range", format!("0-{}", length.saturating_sub(1)))
}

impl Written {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Forgets the uploads that are under way.
    pub(crate) fn forget(&self) {
        self.lock().uploads.clear();
    }

    pub(crate) fn uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    pub(crate) fn manifest(&self, repository: &str, selector: &str) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), selector.to_owned());
        self.lock().manifests.get(&key).cloned()
    }

    pub(crate) fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        let key = (repository.to_owned(), *digest);
        self.lock().blobs.get(&key).cloned()
    }

    /// Takes the first bytes only of what a PATCH sends.
    pub(crate) fn take(&self, request: &Request, count: usize) {
        let mut part = request.clone();
        part.body.truncate(count);
        self.answer(&part);
    }

    /// The right answer.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap();
        let Some(path) = path.strip_prefix("/v2/") else {
            return Answer::status(404);
        };
        if path.is_empty() {
            return Answer::status(200);
        }
        if let Some((repository, id)) = path.split_once("/blobs/uploads/") {
            return match id {
                "" => self.begin(repository, request),
                id => self.go_on(repository, id, request),
            };
        }
        if let Some((repository, selector)) = path.split_once("/manifests/") {
            return self.document(repository, selector, request);
        }
        let (repository, digest) = path.split_once("/blobs/").unwrap();
        match self.blob(repository, &digest.parse().unwrap()) {
            Some(bytes) => Answer::ok("application/octet-stream", bytes),
            None => Answer::status(404),
        }
    }

    fn begin(&self, repository: &str, request: &Request) -> Answer {
        assert_eq!(request.method, "POST");
        let mut state = self.lock();
        if let (Some(digest), Some(from)) = (query(request, "mount"), query(request, "from")) {
            let digest = digest.parse().unwrap();
            if let Some(bytes) = state.blobs.get(&(from.to_owned(), digest)).cloned() {
                state.blobs.insert((repository.to_owned(), digest), bytes);
                return Answer::status(201);
            }
        }
        state.begun += 1;
        let id = state.begun.to_string();
        state.uploads.insert(id.clone(), Vec::new());
        accepted(202, repository, &id, 0)
    }

    fn go_on(&self, repository: &str, id: &str, request: &Request) -> Answer {
        let mut state = self.lock();
        let Some(bytes) = state.uploads.get_mut(id) else {
            return Answer::status(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#);
        };
        match &*request.method {
            "GET" => {
                let length = bytes.len();
                accepted(204, repository, id, length)
            }
            "PATCH" => {
                let (first, _) = request
                    .header("content-range")
                    .unwrap()
                    .split_once('-')
                    .unwrap();
                if first.parse() != Ok(bytes.len()) {
                    return accepted(416, repository, id, bytes.len());
                }
                bytes.extend(&request.body);
                accepted(202, repository, id, bytes.len())
            }
            "PUT" => {
                assert_eq!(query(request, "state"), Some("x"), "the query is kept");
                let digest: Digest = query(request, "digest").unwrap().parse().unwrap();
                let mut bytes = state.uploads.remove(id).unwrap();
                bytes.extend(&request.body);
                if Digest::sha256(&bytes) != digest {
                    return Answer::status(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                state.blobs.insert((repository.to_owned(), digest), bytes);
                Answer::status(201)
            }
            "DELETE" => {
                state.uploads.remove(id);
                Answer::status(204)
            }
            other => panic!("{other} of an upload"),
        }
    }

    fn document(&self, repository: &str, selector: &str, request: &Request) -> Answer {
        let key = (repository.to_owned(), selector.to_owned());
        let mut state = self.lock();
        if request.method == "PUT" {
            let digest = Digest::sha256(&request.body);
            let by_digest = (repository.to_owned(), digest.to_string());
            state.manifests.insert(by_digest, request.body.clone());
            state.manifests.insert(key, request.body.clone());
            return Answer::status(201).header("Docker-Content-Digest", digest.to_string());
        }
        match state.manifests.get(&key) {
            Some(bytes) => Answer::ok(crate::image::OCI_MANIFEST, bytes.clone()),
            None => Answer::status(404),
        }
    }
}
