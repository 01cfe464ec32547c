//! Running other programs: the only place in hull that starts any.
//!
//! A program runs with an environment of its own (nothing is inherited but
//! what [`Program::env`] sets), without input but for [`Program::input`], and
//! its output is captured up to a bound. What it printed on standard error becomes part of the
//! error, because there it says why it failed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Where programs are looked for; mkfs tools live in the sbin directories.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much standard output [`Program::output`] accepts, in bytes.
pub const MAX_OUTPUT: usize = 16 << 20;

/// How much of the end of standard error is kept, in bytes.
const STDERR_TAIL: usize = 16 << 10;

/// How many of the last lines of standard error an error message shows.
const STDERR_LINES: usize = 8;

/// A program to be run, with its arguments.
#[derive(Debug, Clone)]
pub struct Program {
    name: String,
    package: Option<String>,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    input: Vec<u8>,
    limit: Option<Duration>,
}

/// How often a program that closed its output and goes on is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Why a program's work is not done.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program is not installed.
    #[error("the program {program} was not found{}", hint(.package.as_deref()))]
    NotFound {
        /// Its name.
        program: String,
        /// The Debian package that holds it, where the caller knows it.
        package: Option<String>,
    },
    /// It could not be started, or its output could not be read.
    #[error("cannot run {command}")]
    Start {
        /// Program and arguments.
        command: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ran and failed.
    #[error("{command} failed ({status}){}", shown(.stderr))]
    Failed {
        /// Program and arguments.
        command: String,
        /// Its exit status.
        status: ExitStatus,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// It took longer than [`Program::limit`] allows, and was killed.
    #[error("{command} did not finish in {seconds} s")]
    TooSlow {
        /// Program and arguments.
        command: String,
        /// How long it was given.
        seconds: u64,
    },
    /// It printed more than [`MAX_OUTPUT`].
    #[error("{command} printed more than {MAX_OUTPUT} bytes")]
    TooMuchOutput {
        /// Program and arguments.
        command: String,
    },
}

fn hint(package: Option<&str>) -> String {
    package.map_or_else(String::new, |package| {
        format!("; install the package {package} (its name in Debian)")
    })
}

fn shown(stderr: &str) -> String {
    if stderr.is_empty() {
        ", without saying why".into()
    } else {
        format!(": {stderr}")
    }
}

impl Program {
    /// A program by its name (looked up in the system directories) or path.
    pub fn new(name: impl Into<String>) -> Self {
        Program {
            name: name.into(),
            package: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            input: Vec::new(),
            limit: None,
        }
    }

    /// What it reads from its standard input; a few bytes that fit into a pipe.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Kills it when it has not finished after so long.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Names the Debian package to install when the program is missing.
    #[must_use]
    pub fn package(mut self, package: impl Into<String>) -> Self {
        self.package = Some(package.into());
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Runs it to its end; its standard output is thrown away.
    pub fn run(&self) -> Result<(), RunError> {
        self.execute(Stdio::null()).map(drop)
    }

    /// Runs it to its end and returns its standard output.
    pub fn output(&self) -> Result<Vec<u8>, RunError> {
        self.execute(Stdio::piped()).map(|(printed, _)| printed)
    }

    /// Runs it to its end and returns its standard output, also where it failed;
    /// beside it the failure, then.
    pub fn output_even_so(&self) -> Result<(Vec<u8>, Option<RunError>), RunError> {
        let (printed, stderr, status) = self.finish(Stdio::piped())?;
        let failure = (!status.success()).then(|| self.failed(status, stderr));
        Ok((printed, failure))
    }

    /// Runs it to its end and returns the last lines of its standard error,
    /// joined by `; `: where some programs print their version.
    pub fn messages(&self) -> Result<String, RunError> {
        self.execute(Stdio::null()).map(|(_, messages)| messages)
    }

    fn execute(&self, stdout: Stdio) -> Result<(Vec<u8>, String), RunError> {
        let (printed, stderr, status) = self.finish(stdout)?;
        if status.success() {
            Ok((printed, stderr))
        } else {
            Err(self.failed(status, stderr))
        }
    }

    fn failed(&self, status: ExitStatus, stderr: String) -> RunError {
        RunError::Failed {
            command: self.to_string(),
            status,
            stderr,
        }
    }

    fn finish(&self, stdout: Stdio) -> Result<(Vec<u8>, String, ExitStatus), RunError> {
        let deadline = self.limit.map(|limit| Instant::now() + limit);
        let mut child = self.spawn(stdout)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not want its input says so by its status.
            stdin.write_all(&self.input).ok();
        }
        let (sender, tail) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            thread::spawn(move || sender.send(last_lines(stderr)));
        }
        let printed = match child.stdout.take() {
            Some(pipe) => self.collect(pipe, deadline),
            None => Ok(Vec::new()),
        };
        let status = printed
            .is_ok()
            .then(|| self.wait(&mut child, deadline))
            .transpose();
        if printed.is_err() || status.is_err() {
            // Nobody waits for it any more; that could be forever.
            child.kill().ok();
            child.wait().ok();
        }
        let printed = printed?;
        let Some(status) = status? else {
            return Err(self.start_error(io::ErrorKind::Other.into()));
        };
        // A program that it left behind may keep the pipe open.
        let stderr = match deadline {
            Some(deadline) => tail.recv_timeout(left(deadline)).unwrap_or_default(),
            None => tail.recv().unwrap_or_default(),
        };
        Ok((printed, stderr, status))
    }

    fn wait(&self, child: &mut Child, deadline: Option<Instant>) -> Result<ExitStatus, RunError> {
        let fail = |source| self.start_error(source);
        let Some(deadline) = deadline else {
            return child.wait().map_err(fail);
        };
        loop {
            match child.try_wait().map_err(fail)? {
                Some(status) => return Ok(status),
                None if left(deadline).is_zero() => return Err(self.too_slow()),
                None => thread::sleep(LOOK),
            }
        }
    }

    fn too_slow(&self) -> RunError {
        RunError::TooSlow {
            command: self.to_string(),
            seconds: self.limit.unwrap_or_default().as_secs(),
        }
    }

    fn spawn(&self, stdout: Stdio) -> Result<Child, RunError> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place")]
        let mut command = std::process::Command::new(&self.name);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C.UTF-8")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(if self.input.is_empty() {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .stdout(stdout)
            .stderr(Stdio::piped());
        command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => RunError::NotFound {
                program: self.name.clone(),
                package: self.package.clone(),
            },
            _ => self.start_error(source),
        })
    }

    fn collect(
        &self,
        mut pipe: ChildStdout,
        deadline: Option<Instant>,
    ) -> Result<Vec<u8>, RunError> {
        let mut printed = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            if let Some(deadline) = deadline {
                self.wait_for_output(&pipe, deadline)?;
            }
            match pipe.read(&mut buffer) {
                Ok(0) => return Ok(printed),
                Ok(count) => printed.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.start_error(error)),
            }
            if printed.len() > MAX_OUTPUT {
                return Err(RunError::TooMuchOutput {
                    command: self.to_string(),
                });
            }
        }
    }

    fn wait_for_output(&self, pipe: &ChildStdout, deadline: Instant) -> Result<(), RunError> {
        loop {
            let left = Timespec::try_from(left(deadline)).ok();
            let mut polled = [PollFd::new(pipe, PollFlags::IN)];
            match poll(&mut polled, left.as_ref()) {
                Ok(0) => return Err(self.too_slow()),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.start_error(error.into())),
            }
        }
    }

    fn start_error(&self, source: io::Error) -> RunError {
        RunError::Start {
            command: self.to_string(),
            source,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.arguments.iter().try_for_each(|argument| {
            let argument = argument.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
            if !argument.is_empty() && argument.chars().all(plain) {
                write!(f, " {argument}")
            } else {
                write!(f, " {argument:?}")
            }
        })
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Reads a pipe to its end and keeps the last lines of it.
fn last_lines(mut pipe: impl Read) -> String {
    let mut tail = VecDeque::with_capacity(STDERR_TAIL);
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                tail.extend(&buffer[..read]);
                tail.drain(..tail.len().saturating_sub(STDERR_TAIL));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let tail = Vec::from(tail);
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(STDERR_LINES)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("sh").arg("-c").arg(script)
    }

    #[test]
    fn output_is_what_the_program_printed() {
        assert_eq!(shell("printf abc").output().unwrap(), b"abc");
    }

    #[test]
    fn the_environment_holds_only_what_was_set() {
        let printed = Program::new("env")
            .env("SOURCE_DATE_EPOCH", "7")
            .output()
            .unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let mut names: Vec<_> = printed
            .lines()
            .filter_map(|l| l.split('=').next())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH", "SOURCE_DATE_EPOCH"]);
    }

    #[test]
    fn a_failure_names_the_command_its_status_and_its_last_words() {
        let error = shell("echo 'disk on fire' >&2; exit 3").run().unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh -c \"echo 'disk on fire' >&2; exit 3\" failed (exit status: 3): disk on fire"
        );
    }

    #[test]
    fn only_the_last_lines_of_long_complaints_are_kept() {
        let error = shell("seq 1 100000 >&2; exit 1")
            .run()
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("99999; 100000"), "{error}");
        assert!(error.len() < 500, "{error}");
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = Program::new("mkfs.nowhere")
            .package("nowhere-progs")
            .run()
            .unwrap_err();
        assert!(matches!(error, RunError::NotFound { .. }));
        assert_eq!(
            error.to_string(),
            "the program mkfs.nowhere was not found; install the package nowhere-progs (its name in Debian)"
        );
    }

    #[test]
    fn endless_output_is_cut_off() {
        let error = Program::new("yes").output().unwrap_err();
        assert!(matches!(error, RunError::TooMuchOutput { .. }));
    }

    #[test]
    fn messages_are_what_it_said_on_standard_error() {
        assert_eq!(
            shell("echo out; echo one >&2; echo two >&2")
                .messages()
                .unwrap(),
            "one; two"
        );
    }

    #[test]
    fn a_program_gets_no_input() {
        assert_eq!(Program::new("cat").output().unwrap(), b"");
    }

    #[test]
    fn a_program_reads_the_input_that_it_is_given() {
        let printed = Program::new("cat").input("abc").output().unwrap();
        assert_eq!(printed, b"abc");
        // One that does not read it is no error.
        Program::new("true").input("abc").run().unwrap();
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let limit = Duration::from_millis(50);
        for script in ["sleep 1000", "exec >&-; sleep 1000", "sleep 5 & exit 0"] {
            let error = shell(script).limit(limit).output().unwrap_err();
            assert!(matches!(error, RunError::TooSlow { .. }), "{script}");
        }
        let quick = shell("printf abc").limit(Duration::from_secs(600));
        assert_eq!(quick.output().unwrap(), b"abc");
    }
}
