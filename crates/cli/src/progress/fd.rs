//! The descriptor that `--progress-fd` names.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

/// Why progress can't be written to a descriptor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidFd {
    /// Nothing is open there.
    #[error("--progress-fd {0}: no file is open there")]
    NotOpen(i32),
    /// It is a terminal, a directory, or the like.
    #[error("--progress-fd {0}: it is neither a pipe nor a socket nor a file")]
    Kind(i32),
    /// It is the end that is read from.
    #[error("--progress-fd {0}: it is not open for writing")]
    ReadOnly(i32),
    /// The kernel refuses for another reason.
    #[error("--progress-fd {fd}: it cannot be used")]
    Refused {
        /// The number.
        fd: i32,
        /// The reason.
        #[source]
        source: rustix::io::Errno,
    },
}

/// The open file behind a descriptor's number, as a descriptor of our own.
pub(crate) fn open(number: i32) -> Result<OwnedFd, InvalidFd> {
    let fd = duplicate(number).map_err(|source| match source {
        rustix::io::Errno::BADF | rustix::io::Errno::NOENT => InvalidFd::NotOpen(number),
        source => InvalidFd::Refused { fd: number, source },
    })?;
    let refused = |source| InvalidFd::Refused { fd: number, source };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd).map_err(refused)?.st_mode);
    if !matches!(
        kind,
        FileType::Fifo | FileType::Socket | FileType::RegularFile
    ) {
        return Err(InvalidFd::Kind(number));
    }
    let mode = rustix::fs::fcntl_getfl(&fd).map_err(refused)? & OFlags::RWMODE;
    if mode == OFlags::RDONLY {
        return Err(InvalidFd::ReadOnly(number));
    }
    Ok(fd)
}

/// A number is not proof that the descriptor is ours, so the standard library
/// takes it with `unsafe` only. The kernel copies it by number, closed on exec.
/// Where that is forbidden (system call filters), a pipe or file can be opened
/// anew through /proc.
fn duplicate(number: i32) -> rustix::io::Result<OwnedFd> {
    let copied = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .and_then(|this| rustix::process::pidfd_getfd(this, number, PidfdGetfdFlags::empty()));
    match copied {
        Err(rustix::io::Errno::PERM | rustix::io::Errno::NOSYS) => rustix::fs::open(
            format!("/proc/self/fd/{number}"),
            OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        ),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    #[test]
    fn what_is_written_to_the_copy_comes_out_of_the_pipe() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut copy = std::fs::File::from(open(writer.as_raw_fd()).unwrap());
        drop(writer);
        copy.write_all(b"x").unwrap();
        drop(copy);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn files_and_sockets_are_taken() {
        let file = tempfile::tempfile().unwrap();
        open(file.as_raw_fd()).unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        open(socket.as_raw_fd()).unwrap();
    }

    #[test]
    fn what_cannot_take_lines_is_refused_by_number() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let error = open(reader.as_raw_fd()).unwrap_err();
        assert!(matches!(error, InvalidFd::ReadOnly(_)), "{error}");
        let directory = std::fs::File::open("/").unwrap();
        let error = open(directory.as_raw_fd()).unwrap_err();
        assert!(matches!(error, InvalidFd::Kind(_)), "{error}");
        let error = open(1_000_000).unwrap_err();
        assert!(error.to_string().contains("1000000"), "{error}");
        assert!(matches!(error, InvalidFd::NotOpen(_)), "{error}");
    }
}
