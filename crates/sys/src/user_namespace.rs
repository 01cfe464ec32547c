//! User namespaces: a user is root among its own subordinate numbers (subuid(5)).

#![allow(
    unsafe_code,
    reason = "rustix marks unshare as unsafe for one of its flags"
)]

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::process::{Child, Command, Stdio};

use rustix::thread::UnshareFlags;

use crate::run::PATH;

/// Numbers in a row: the first inside, the first outside, how many.
pub type Row = (u32, u32, u32);

/// Makes this process root of a user namespace of its own, in which these numbers are mapped,
/// and gives it mounts of its own.
///
/// The process must have one thread. The programs `newuidmap` and `newgidmap` do the mapping, for
/// a user may do so only through them; they must be installed, and allow these numbers.
///
/// # Errors
///
/// What the kernel or these programs say. The process may be nobody in its new namespace
/// then: it can only say so and end.
pub fn enter(users: &[Row], groups: &[Row]) -> io::Result<()> {
    // They must run outside, so a process that waits outside starts them.
    let mut mapper = start_mapper(users, groups)?;
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
    // SAFETY: only unsharing the table of file descriptors is unsafe, since
    // other threads may hold numbers of it; it stays shared.
    let entered = unsafe { rustix::thread::unshare_unsafe(flags) };
    match entered {
        Ok(()) => finish(mapper),
        Err(error) => {
            mapper.kill().ok();
            mapper.wait().ok();
            Err(error.into())
        }
    }
}

/// Whether this user could map numbers: the programs are where programs are.
pub fn is_possible() -> bool {
    let is_there = |program: &str| PATH.split(':').any(|dir| exists(dir, program));
    is_there(MAP_USERS) && is_there(MAP_GROUPS)
}

const MAP_USERS: &str = "newuidmap";
const MAP_GROUPS: &str = "newgidmap";

fn exists(dir: &str, program: &str) -> bool {
    std::path::Path::new(dir).join(program).exists()
}

/// A shell that maps once it reads a line, and does nothing if there is none.
fn start_mapper(users: &[Row], groups: &[Row]) -> io::Result<Child> {
    let process = std::process::id();
    let script = format!(
        "read go && {MAP_USERS} {process}{} && {MAP_GROUPS} {process}{}",
        arguments(users),
        arguments(groups)
    );
    #[expect(
        clippy::disallowed_methods,
        reason = "it has to run beside this process, which `run` does not offer"
    )]
    Command::new("/bin/sh")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
}

fn arguments(rows: &[Row]) -> String {
    rows.iter()
        .fold(String::new(), |mut text, (inside, outside, count)| {
            // Writing to memory does not fail.
            write!(text, " {inside} {outside} {count}").ok();
            text
        })
}

fn finish(mut mapper: Child) -> io::Result<()> {
    if let Some(mut stdin) = mapper.stdin.take() {
        stdin.write_all(b"go\n")?;
    }
    let mut said = String::new();
    if let Some(stderr) = mapper.stderr.take() {
        stderr.take(4096).read_to_string(&mut said)?;
    }
    if mapper.wait()?.success() {
        return Ok(());
    }
    let said = said.trim();
    Err(io::Error::other(format!(
        "{MAP_USERS} and {MAP_GROUPS} map no subordinate numbers: {said}"
    )))
}
