//! User namespaces: a user is root among its own subordinate numbers (subuid(5)).

#![allow(
    unsafe_code,
    reason = "rustix marks unshare as unsafe for one of its flags"
)]

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::run::{PATH, Program, RunError};

/// Numbers in a row: the first inside, the first outside, how many.
pub type Row = (u32, u32, u32);

/// How long a program may take that maps numbers: names may come from a directory service.
const LIMIT: Duration = Duration::from_secs(30);

/// How long threads that have done their work may take to end; that is microseconds, but on a busy machine.
const END: Duration = Duration::from_secs(10);

/// Why there is no namespace; nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// A program that maps numbers.
    #[error(transparent)]
    Map(#[from] RunError),
    /// The kernel.
    #[error("this machine lets you make no user namespace: {0}")]
    Kernel(#[from] io::Error),
}

/// Makes this process root of a user namespace of its own, in which these numbers are mapped,
/// and gives it mounts of its own where it may have them: programs that it starts may mount then.
///
/// The process must have one thread (setns(2)), but for those that end by themselves at once. The programs `newuidmap` and `newgidmap` do the mapping, for
/// a user may do so only through them; they must be installed, and allow these numbers.
pub fn enter(users: &[Row], groups: &[Row]) -> Result<(), NamespaceError> {
    // All that can fail is done to another process, whose namespace this one joins at the end.
    let mut holder = Holder::start()?;
    let process = holder.child.id().to_string();
    for (program, rows) in [("newuidmap", users), ("newgidmap", groups)] {
        let numbers = rows.iter().flat_map(|&(a, b, c)| [a, b, c]);
        let mapper = Program::new(program).package("uidmap").arg(&process);
        mapper
            .args(numbers.map(|number| number.to_string()))
            .limit(LIMIT)
            .run()?;
    }
    let namespace = File::open(format!("/proc/{process}/ns/user"))?;
    let kind = Some(LinkNameSpaceType::User);
    wait_for_threads()?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).map_err(io::Error::from)?;
    holder.end();
    // SAFETY: only unsharing the table of file descriptors is unsafe, since
    // other threads may hold numbers of it; it stays shared.
    // Without mounts of its own it is there all the same, and reads what it came for.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.ok();
    Ok(())
}

/// Waits until this thread is the process's only one. Those that read what the mapping programs say
/// have said it by now, but may not have ended, and a thread that was joined is the kernel's a moment longer.
fn wait_for_threads() -> io::Result<()> {
    let start = Instant::now();
    while std::fs::read_dir("/proc/self/task")?.count() > 1 && start.elapsed() < END {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether this process is in a user namespace that is not the machine's first one: it sees
/// numbers of its own, and those that have none as [`OVERFLOW`].
pub fn is_inside() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let numbers: Vec<&str> = map.split_whitespace().collect();
    !matches!(numbers[..], [] | ["0", "0", "4294967295"])
}

/// What the kernel shows in place of a number that is not mapped, unless the machine was set up otherwise.
pub const OVERFLOW: u32 = 65534;

/// A process that has a user namespace, and does nothing.
struct Holder {
    child: Child,
}

impl Holder {
    fn start() -> io::Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "it has to live beside this process, which `run` does not offer"
        )]
        let child = Command::new("unshare")
            .args(["--user", "sh", "-c", "echo inside && read -r end"])
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut holder = Self { child };
        let mut line = String::new();
        if let Some(stdout) = holder.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line == "inside\n" {
            true => Ok(holder),
            false => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn end(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_namespace_maps_everything_to_itself() {
        let probe = "cat /proc/self/uid_map";
        let inside = Program::new("unshare").args(["--user", "--map-root-user", "sh", "-c", probe]);
        let map = inside.output().unwrap();
        assert!(!map.is_empty());
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
        let is_first = map.split_whitespace().eq(["0", "0", "4294967295"]);
        assert_eq!(is_inside(), !is_first);
    }

    #[test]
    fn where_numbers_cannot_be_mapped_nothing_is_changed() {
        let user = rustix::process::geteuid();
        // More than there are.
        let error = enter(&[(0, 0, 1), (1, u32::MAX, 5)], &[(0, 0, 1)]).unwrap_err();
        assert!(error.to_string().contains("newuidmap"), "{error}");
        assert_eq!(rustix::process::geteuid(), user);
    }
}
