//! A registry for machines to pull from: Debian's `docker-registry` on loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{Daemon, POLL, Program};
use crate::{VmError, Workplace};

/// The ports that the example images allow plain HTTP to (`images/debian/files/etc/containers`).
const PORTS: std::ops::RangeInclusive<u16> = 5000..=5003;

/// How long the registry may take to answer its first request.
const START: Duration = Duration::from_secs(30);

/// How long a copy to the registry may take.
const COPY: Duration = Duration::from_secs(300);

/// A registry with a storage of its own; it ends with this value.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    directory: PathBuf,
    daemon: Option<Daemon>,
}

impl Registry {
    /// Starts a registry on the first free one of four ports, 5000 if possible.
    pub fn start(place: &Workplace) -> Result<Self, VmError> {
        let directory = place.subdirectory("registry")?;
        let mut last = "all are in use".to_owned();
        for port in PORTS {
            let mut registry = Registry {
                port,
                directory: directory.clone(),
                daemon: None,
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
                continue;
            }
            match registry.resume() {
                Ok(()) => return Ok(registry),
                Err(VmError::Registry { last: why, .. }) => last = why,
                Err(other) => return Err(other),
            }
        }
        Err(VmError::Registry {
            ports: format!("{} to {}", PORTS.start(), PORTS.end()),
            last,
        })
    }

    /// Ends the registry; its storage stays.
    pub fn stop(&mut self) {
        self.daemon = None;
    }

    /// Starts it again on the same port with the same storage.
    pub fn resume(&mut self) -> Result<(), VmError> {
        let config = self.directory.join("config.yml");
        write(
            &config,
            &format!(
                "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: '{}'}}\n  \
                 delete: {{enabled: true}}\nhttp: {{addr: '127.0.0.1:{}'}}\n",
                self.directory.join("storage").display(),
                self.port
            ),
        )?;
        let log = self.directory.join("registry.log");
        let mut daemon = Program::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .daemon(&log)?;
        let start = Instant::now();
        while start.elapsed() < START && daemon.ended().is_none() {
            if self.answers() && daemon.ended().is_none() {
                self.daemon = Some(daemon);
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Err(VmError::Registry {
            ports: self.port.to_string(),
            last: daemon.printed(),
        })
    }

    fn answers(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, POLL * 10) else {
            return false;
        };
        let mut answer = [0; 12];
        stream.set_read_timeout(Some(POLL * 30)).is_ok()
            && stream
                .write_all(b"GET /v2/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
                .is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && answer.ends_with(b"200")
    }

    /// Host and port as programs on this machine name it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// An image as programs on this machine name it: `docker://localhost:5000/<name>`.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.host())
    }

    /// An image as programs inside a [`crate::Machine`] name it: `10.0.2.2:5000/<name>`.
    #[must_use]
    pub fn reference_inside(&self, name: &str) -> String {
        format!("10.0.2.2:{}/{name}", self.port)
    }

    /// Copies an image to `name` (with its tag), whatever was there, byte for byte.
    pub fn push(&self, source: &str, name: &str) -> Result<(), VmError> {
        Program::new("skopeo")
            .args(["copy", "--quiet", "--preserve-digests", "--insecure-policy"])
            .args(["--dest-tls-verify=false", source])
            .arg(self.reference(name))
            .succeed(COPY)
            .map(drop)
    }

    /// The manifest digest that `name` stands for now.
    pub fn digest(&self, name: &str) -> Result<String, VmError> {
        Program::new("skopeo")
            .args(["inspect", "--tls-verify=false", "--no-tags"])
            .args(["--format", "{{.Digest}}"])
            .arg(self.reference(name))
            .succeed(COPY)
            .map(|digest| digest.trim().to_owned())
    }
}

fn write(path: &Path, text: &str) -> Result<(), VmError> {
    std::fs::File::create(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| VmError::File {
            action: "write",
            path: path.to_owned(),
            source,
        })
}
