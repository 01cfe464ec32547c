//! The way into a machine: one connection, through which all commands go.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{Daemon, Output, POLL, Program};
use crate::{VmError, Workplace};

/// How long the machine may take to answer a connection that its kernel has accepted.
///
/// An emulated processor needs some seconds for the cryptography alone.
const HANDSHAKE: Duration = Duration::from_secs(40);

/// An ssh key of the test's own.
#[derive(Debug, Clone)]
pub struct Key {
    private: PathBuf,
    public: PathBuf,
}

impl Key {
    /// Makes a key in the test's directory.
    pub fn generate(place: &Workplace) -> Result<Self, VmError> {
        let private = place.path("id");
        Program::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "hull-vm", "-f"])
            .arg(&private)
            .succeed(Duration::from_secs(30))?;
        Ok(Self::at(private))
    }

    /// The key in `private` and `private.pub`.
    #[must_use]
    pub fn at(private: impl Into<PathBuf>) -> Self {
        let private = private.into();
        let mut public = private.clone().into_os_string();
        public.push(".pub");
        Key {
            private,
            public: public.into(),
        }
    }

    /// The file to give to `--root-ssh-authorized-keys`.
    #[must_use]
    pub fn public(&self) -> &Path {
        &self.public
    }
}

/// A connection as root to a port of the loopback interface.
///
/// Each command would cost an emulated machine more than a second of
/// cryptography on a connection of its own, so they share one; where that one
/// has broken, a command makes its own.
#[derive(Debug)]
pub(crate) struct Connection {
    key: Key,
    port: u16,
    // Unix socket addresses are short, the paths of tests are not.
    socket: PathBuf,
    directory: tempfile::TempDir,
    shared: Option<Daemon>,
}

impl Connection {
    pub(crate) fn new(key: &Key, port: u16) -> Result<Self, VmError> {
        let directory = tempfile::Builder::new()
            .prefix("hull-vm")
            .tempdir()
            .map_err(|source| VmError::File {
                action: "make a directory for a connection in",
                path: std::env::temp_dir(),
                source,
            })?;
        Ok(Connection {
            key: key.clone(),
            port,
            socket: directory.path().join("ssh"),
            directory,
            shared: None,
        })
    }

    /// Tries to connect once; false when the machine does not answer (yet).
    pub(crate) fn open(&mut self) -> Result<bool, VmError> {
        self.close();
        let log = self.directory.path().join("log");
        let mut shared = self.program().args(["-M", "-N"]).daemon(&log)?;
        let end = Instant::now() + HANDSHAKE;
        while Instant::now() < end && shared.ended().is_none() {
            if self.socket.exists() {
                self.shared = Some(shared);
                return Ok(true);
            }
            thread::sleep(POLL);
        }
        shared.kill();
        Ok(false)
    }

    /// Gives the connection up; the machine is about to go away.
    pub(crate) fn close(&mut self) {
        self.shared = None;
        fs::remove_file(&self.socket).ok();
    }

    /// Runs `script` in root's shell, with `input` as its standard input.
    pub(crate) fn send(
        &self,
        script: &str,
        input: File,
        deadline: Duration,
    ) -> Result<Output, VmError> {
        self.program()
            .arg("--")
            .arg(script)
            .input(input)
            .output(deadline)
    }

    /// Runs `script` in root's shell.
    pub(crate) fn run(&self, script: &str, deadline: Duration) -> Result<Output, VmError> {
        self.program().arg("--").arg(script).output(deadline)
    }

    /// Starts `script` in root's shell and leaves it running.
    pub(crate) fn start(&self, script: &str, log: &Path) -> Result<Daemon, VmError> {
        self.program().arg("--").arg(script).daemon(log)
    }

    fn program(&self) -> Program {
        let options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "ConnectTimeout=30",
            "ServerAliveInterval=10",
            "ServerAliveCountMax=6",
        ];
        let mut program = Program::new("ssh").arg("-F").arg("none");
        for option in options {
            program = program.arg("-o").arg(option);
        }
        program
            .arg("-S")
            .arg(&self.socket)
            .arg("-i")
            .arg(&self.key.private)
            .args(["-p", &self.port.to_string(), "root@127.0.0.1"])
    }
}
