//! Programs on the host: those with an end, which have a deadline, and those without, which end with their owner.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::VmError;

/// How often a waiting harness looks.
pub(crate) const POLL: Duration = Duration::from_millis(100);

/// How much of a program's output an error shows, in bytes from its end.
const SHOWN: u64 = 8 << 10;

/// What came of a program.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit status; `None` when a signal or a deadline ended it.
    pub status: Option<i32>,
    /// Its standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// Whether the program exited with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status == Some(0)
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => writeln!(f, "status {status}")?,
            None => writeln!(f, "no status")?,
        }
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(f, "--- {name}\n{}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

/// A command line that is about to be run.
///
/// The environment is that of the test.
#[derive(Debug)]
pub struct Program {
    command: Command,
    input: Stdio,
}

impl Program {
    /// A program by its name or path.
    #[must_use]
    pub fn new(name: impl AsRef<std::ffi::OsStr>) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "tests start long-running programs with deadlines, which hull itself never does"
        )]
        let command = Command::new(name);
        Program {
            command,
            input: Stdio::null(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<std::ffi::OsStr>>(
        mut self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        self.command.args(arguments);
        self
    }

    /// Gives it `file` as standard input; it has none otherwise.
    #[must_use]
    pub fn input(mut self, file: File) -> Self {
        self.input = file.into();
        self
    }

    /// Runs it to its end, however it ends, or kills it at the deadline.
    pub fn output(self, deadline: Duration) -> Result<Output, VmError> {
        let shown = self.to_string();
        // Files, not pipes: a grandchild that keeps its copy open cannot make us wait.
        let (stdout, stderr) = (capture()?, capture()?);
        let mut child = self.spawn(&stdout, &stderr)?;
        let status = wait(&mut child, deadline);
        if status.is_none() {
            child.kill().ok();
            child.wait().ok();
        }
        let output = Output {
            status: status.and_then(|status| status.code()),
            stdout: read_all(stdout),
            stderr: read_all(stderr),
        };
        if status.is_none() {
            return Err(VmError::TimedOut {
                command: shown,
                after: deadline,
                output,
            });
        }
        Ok(output)
    }

    /// Runs it to its end, wants it to succeed, and returns its standard output.
    pub fn succeed(self, deadline: Duration) -> Result<String, VmError> {
        let shown = self.to_string();
        let output = self.output(deadline)?;
        if output.success() {
            Ok(output.stdout)
        } else {
            Err(VmError::Failed {
                command: shown,
                output,
            })
        }
    }

    /// Starts it, with all that it prints going to `log`.
    pub fn daemon(self, log: &Path) -> Result<Daemon, VmError> {
        let file = File::create(log).map_err(|source| VmError::File {
            action: "create",
            path: log.to_owned(),
            source,
        })?;
        let command = self.to_string();
        let child = self.dying_with_us().spawn(&file, &file)?;
        Ok(Daemon {
            child,
            command,
            log: log.to_owned(),
        })
    }

    /// The same program, killed by the kernel when this process ends however it ends.
    fn dying_with_us(self) -> Program {
        let inner = self.command;
        Program::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(inner.get_program())
            .args(inner.get_args())
    }

    fn spawn(mut self, stdout: &File, stderr: &File) -> Result<Child, VmError> {
        let program = self.command.get_program().to_string_lossy().into_owned();
        let failed = |source| VmError::Start {
            program: program.clone(),
            source,
        };
        self.command
            .stdin(self.input)
            .stdout(stdout.try_clone().map_err(failed)?)
            .stderr(stderr.try_clone().map_err(failed)?);
        spawn_from_lasting_thread(self.command).map_err(failed)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.command.get_program().to_string_lossy())?;
        for argument in self.command.get_args() {
            write!(f, " {}", argument.to_string_lossy())?;
        }
        Ok(())
    }
}

type Spawned = mpsc::Sender<std::io::Result<Child>>;

/// The kernel's "parent died" signal means the thread that forked. Tests come
/// and go in threads, so one thread that lasts starts everything.
fn spawn_from_lasting_thread(command: Command) -> std::io::Result<Child> {
    static SPAWNER: LazyLock<mpsc::Sender<(Command, Spawned)>> = LazyLock::new(|| {
        let (requests, received) = mpsc::channel::<(Command, Spawned)>();
        thread::spawn(move || {
            for (mut command, answer) in received {
                answer.send(command.spawn()).ok();
            }
        });
        requests
    });
    let (answer, answered) = mpsc::channel();
    SPAWNER
        .send((command, answer))
        .map_err(|_| std::io::Error::other("the thread that starts programs is gone"))?;
    answered
        .recv()
        .map_err(|_| std::io::Error::other("the thread that starts programs is gone"))?
}

/// A running program that ends when this value is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    command: String,
    log: PathBuf,
}

impl Daemon {
    /// Its exit status, when it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it has ended by itself; false when it has not by then.
    pub fn wait(&mut self, deadline: Duration) -> bool {
        wait(&mut self.child, deadline).is_some()
    }

    /// Kills it at once (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// The command line.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The end of what it has printed.
    #[must_use]
    pub fn printed(&self) -> String {
        File::open(&self.log).map(tail_of).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + deadline;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(POLL / 4);
    }
}

fn capture() -> Result<File, VmError> {
    tempfile::tempfile().map_err(|source| VmError::File {
        action: "create a file for the output of a program in",
        path: std::env::temp_dir(),
        source,
    })
}

fn read_all(mut file: File) -> String {
    let mut bytes = Vec::new();
    file.rewind().ok();
    file.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn tail_of(mut file: File) -> String {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))
        .ok();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("sh").args(["-c", script])
    }

    #[test]
    fn a_program_gives_its_status_and_both_outputs() {
        let output = shell("echo out; echo err >&2; exit 3")
            .output(Duration::from_secs(10))
            .unwrap();
        assert_eq!(output.status, Some(3));
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("out\n", "err\n")
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_at_its_deadline_and_shows_what_it_printed() {
        let error = shell("echo started; exec sleep 60")
            .output(Duration::from_secs(5))
            .unwrap_err();
        let VmError::TimedOut { output, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(output.stdout, "started\n");
        let shown = error.to_string();
        assert!(
            shown.contains("started") && shown.contains("sleep 60"),
            "{shown}"
        );
    }

    #[test]
    fn a_grandchild_that_keeps_the_output_open_holds_nobody_up() {
        let start = Instant::now();
        shell("sleep 20 & echo done")
            .succeed(Duration::from_secs(10))
            .unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_daemon_outlives_the_thread_that_started_it_and_ends_with_its_value() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("log");
        let mut daemon = thread::spawn({
            let log = log.clone();
            move || shell("echo up; exec sleep 60").daemon(&log).unwrap()
        })
        .join()
        .unwrap();
        let start = Instant::now();
        while daemon.printed().is_empty() && start.elapsed() < Duration::from_secs(60) {
            thread::sleep(POLL);
        }
        assert!(daemon.ended().is_none());
        assert_eq!(daemon.printed(), "up\n");
        let id = daemon.child.id();
        drop(daemon);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn a_missing_program_is_named_with_what_installs_it() {
        let error = Program::new("no-such-program-of-hull")
            .output(Duration::from_secs(1))
            .unwrap_err();
        assert!(error.to_string().contains("tools/setup"), "{error}");
    }
}
