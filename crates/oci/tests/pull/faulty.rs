//! A registry in this process that serves one image, and misbehaves as told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::image::TestImage;

/// A connection, encrypted or not.
trait Connection: Read + Write {
    fn socket(&self) -> &TcpStream;

    /// Tells the other side that all was said.
    fn end(&mut self) -> std::io::Result<()>;
}

impl Connection for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn end(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Connection for StreamOwned<ServerConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.conn.send_close_notify();
        self.flush()
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `GET` and so on.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    /// What is sent along.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// The first byte that is wanted, if not all are.
    pub(crate) fn offset(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }

    fn read(stream: &mut impl Connection) -> Option<Self> {
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
            method: method.to_owned(),
            path,
            headers,
            body: Vec::new(),
        };
        if let Some(length) = request.header("content-length") {
            let length = length.parse().ok()?;
            reader.get_mut().set_limit(length);
            let mut body = reader.take(length);
            body.read_to_end(&mut request.body).ok()?;
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
    length: Length,
}

/// What is said of the body's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    True,
    /// Nothing: it ends with the connection.
    Unsaid,
    /// Nothing: it comes in chunks.
    Chunked,
    Lie(usize),
}

/// What happens after the part of the body that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing bad.
    None,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// One byte after each such time.
    Drip(Duration),
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
            length: Length::True,
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

    pub(crate) fn body_length(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status == 404
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn change_body(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(&mut self.body);
        self
    }

    /// A header in place of all of that name.
    pub(crate) fn other_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers
            .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.header(name, value)
    }

    /// Announces the whole body, sends so much of it, then misbehaves.
    pub(crate) fn cut(mut self, sent: usize, fault: Fault) -> Self {
        self.sent = sent;
        self.fault = fault;
        self
    }

    pub(crate) fn length(mut self, length: Length) -> Self {
        self.length = length;
        self
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} Test\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.length {
            Length::True => head.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
            Length::Lie(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
            Length::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Length::Unsaid => {}
        }
        head + "\r\n"
    }

    fn send(&self, stream: &mut impl Connection, sent: &AtomicU64) -> std::io::Result<()> {
        if self.fault == Fault::Reset {
            rustix::net::sockopt::set_socket_linger(stream.socket(), Some(Duration::ZERO))?;
        }
        // Not even a header, where the fault is at the begin.
        if self.sent > 0 || self.fault == Fault::None {
            stream.write_all(self.head().as_bytes())?;
            let (begin, rest) = self.body.split_at(self.sent.min(self.body.len()));
            for piece in begin.chunks(16 << 10) {
                if self.length == Length::Chunked {
                    stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                }
                stream.write_all(piece)?;
                if self.length == Length::Chunked {
                    stream.write_all(b"\r\n")?;
                }
                sent.fetch_add(u64::try_from(piece.len()).unwrap(), Ordering::SeqCst);
            }
            if self.length == Length::Chunked && self.fault == Fault::None {
                stream.write_all(b"0\r\n\r\n")?;
            }
            stream.flush()?;
            if let Fault::Drip(pause) = self.fault {
                for byte in rest {
                    std::thread::sleep(pause);
                    stream.write_all(&[*byte])?;
                }
            }
        }
        match self.fault {
            Fault::None => stream.end(),
            Fault::Silence(time) => {
                std::thread::sleep(time);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

type Behaviour = dyn Fn(&Request, &Faulty) -> Option<Answer> + Send + Sync;

/// The registry. It answers as long as the process lives.
#[derive(Clone)]
pub(crate) struct Faulty {
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    image: Arc<TestImage>,
    log: Arc<Mutex<Vec<Request>>>,
    sent: Arc<AtomicU64>,
    behaviour: Arc<Behaviour>,
}

impl Faulty {
    /// Serves `image` under every tag and name, but as `behaviour` wants where that
    /// gives an answer.
    pub(crate) fn new(
        image: TestImage,
        behaviour: impl Fn(&Request, &Faulty) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start(image, None, behaviour)
    }

    /// The same over HTTPS, where there is a configuration for that.
    pub(crate) fn start(
        image: TestImage,
        tls: Option<Arc<ServerConfig>>,
        behaviour: impl Fn(&Request, &Faulty) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            tls,
            image: Arc::new(image),
            log: Arc::default(),
            sent: Arc::default(),
            behaviour: Arc::new(behaviour),
        };
        let copy = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = copy.clone();
                std::thread::spawn(move || server.take(stream));
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

    fn take(&self, stream: TcpStream) {
        let Some(config) = &self.tls else {
            return self.serve(stream);
        };
        let session = ServerConnection::new(config.clone()).unwrap();
        self.serve(StreamOwned::new(session, stream));
    }

    fn serve(&self, mut stream: impl Connection) {
        let Some(request) = Request::read(&mut stream) else {
            return;
        };
        self.log.lock().unwrap().push(request.clone());
        let answer = (self.behaviour)(&request, self).unwrap_or_else(|| self.answer(&request));
        let answer = match &*request.method {
            "HEAD" => {
                let length = Length::Lie(answer.body.len());
                answer.body("").length(length)
            }
            _ => answer,
        };
        answer.send(&mut stream, &self.sent).ok();
    }

    /// The right answer.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        self.image.answer(request)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("docker://127.0.0.1:{}/{name}", self.port)
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// How many bytes of bodies went out.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

impl TestImage {
    /// What a registry answers that has this image alone, under every tag and name.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap();
        let last = path.rsplit('/').next().unwrap();
        if path.contains("/manifests/") && last.parse::<hull_oci::Digest>().is_err() {
            return Answer::ok(self.media_type(), self.manifest());
        }
        match last.parse().ok().and_then(|digest| self.blobs.get(&digest)) {
            Some(bytes) if path.contains("/manifests/") => {
                let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
                Answer::ok(value["mediaType"].as_str().unwrap(), bytes.clone())
            }
            Some(bytes) => blob(request, bytes),
            None => Answer::status(404),
        }
    }
}

/// A blob, or the rest of it where that is asked for.
fn blob(request: &Request, bytes: &[u8]) -> Answer {
    let Some(offset) = request.offset() else {
        return Answer::ok("application/octet-stream", bytes);
    };
    let size = bytes.len();
    match bytes.get(offset..) {
        Some(rest) if !rest.is_empty() => {
            let range = format!("bytes {offset}-{}/{size}", size - 1);
            Answer::status(206)
                .header("Content-Range", range)
                .body(rest)
        }
        _ => Answer::status(416),
    }
}
