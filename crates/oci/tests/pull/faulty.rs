//! A registry in this process that serves one image, and misbehaves as told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::image::TestImage;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Path and query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    /// What a POST sends.
    pub(crate) body: String,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream.take(64 << 10));
        let mut lines = reader.by_ref().lines();
        let first = lines.next()?.ok()?;
        let (method, rest) = first.split_once(' ')?;
        let path = rest.split(' ').next()?.to_owned();
        let headers = lines
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let mut request = Self {
            path,
            headers,
            body: String::new(),
        };
        match method {
            "GET" => {}
            "POST" => {
                let length = request.header("content-length")?.parse().ok()?;
                let body = &mut request.body;
                reader.take(length).read_to_string(body).ok()?;
            }
            _ => return None,
        }
        Some(request)
    }
}

/// What to send back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How many bytes of the body are sent before the fault.
    sent: usize,
    fault: Fault,
}

/// What happens after the part of the body that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing bad.
    None,
    /// The connection is closed.
    Close,
    /// Nothing at all, for a while.
    Silence(Duration),
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            sent: usize::MAX,
            fault: Fault::None,
        }
    }

    pub(crate) fn ok(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::status(200)
            .header("Content-Type", content_type)
            .body(body)
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Announces the whole body, sends so much of it, then misbehaves.
    pub(crate) fn cut(mut self, sent: usize, fault: Fault) -> Self {
        self.sent = sent;
        self.fault = fault;
        self
    }

    fn send(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        if self.sent == 0 && self.fault != Fault::None {
            // Not even a header.
        } else {
            let mut head = format!("HTTP/1.1 {} Test\r\nConnection: close\r\n", self.status);
            for (name, value) in &self.headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
            stream.write_all(head.as_bytes())?;
            stream.write_all(&self.body[..self.sent.min(self.body.len())])?;
            stream.flush()?;
        }
        if let Fault::Silence(time) = self.fault {
            std::thread::sleep(time);
        }
        Ok(())
    }
}

type Behaviour = dyn Fn(&Request, &Faulty) -> Option<Answer> + Send + Sync;

/// The registry. It answers as long as the process lives.
#[derive(Clone)]
pub(crate) struct Faulty {
    port: u16,
    image: Arc<TestImage>,
    log: Arc<Mutex<Vec<Request>>>,
    behaviour: Arc<Behaviour>,
}

impl Faulty {
    /// Serves `image` under every tag and name, but as `behaviour` wants where that
    /// gives an answer.
    pub(crate) fn new(
        image: TestImage,
        behaviour: impl Fn(&Request, &Faulty) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            image: Arc::new(image),
            log: Arc::default(),
            behaviour: Arc::new(behaviour),
        };
        let copy = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = copy.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        server
    }

    /// The same with one answer for each request whose path contains `part`.
    pub(crate) fn with_answer(image: TestImage, part: &str, answer: Answer) -> Self {
        let part = part.to_owned();
        Self::new(image, move |request, _| {
            request.path.contains(&part).then(|| answer.clone())
        })
    }

    fn serve(&self, mut stream: TcpStream) {
        let Some(request) = Request::read(&stream) else {
            return;
        };
        self.log.lock().unwrap().push(request.clone());
        let answer = (self.behaviour)(&request, self).unwrap_or_else(|| self.answer(&request));
        answer.send(&mut stream).ok();
    }

    /// The right answer.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap();
        let last = path.rsplit('/').next().unwrap();
        if path.contains("/manifests/") && last.parse::<hull_oci::Digest>().is_err() {
            return Answer::ok(self.image.media_type(), self.image.manifest());
        }
        match last
            .parse()
            .ok()
            .and_then(|digest| self.image.blobs.get(&digest))
        {
            Some(bytes) if path.contains("/manifests/") => {
                let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
                Answer::ok(value["mediaType"].as_str().unwrap(), bytes.clone())
            }
            Some(bytes) => Answer::ok("application/octet-stream", bytes.clone()),
            None => Answer::status(404),
        }
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("docker://127.0.0.1:{}/{name}", self.port)
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}
