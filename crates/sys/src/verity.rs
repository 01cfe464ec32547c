//! fs-verity: the kernel checks each block that it reads of a file.
//!
//! Only SHA-512 with blocks of 4096 bytes and without salt, which is what
//! composefs calls `fsverity-sha512-12`.

#![allow(
    unsafe_code,
    reason = "the two fs-verity ioctls have no safe wrapper in rustix"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

/// Length in bytes of a digest that the kernel measures.
pub const DIGEST_LEN: usize = 64;

/// `FS_VERITY_HASH_ALG_SHA512` of linux/fsverity.h.
const HASH_SHA512: u16 = 2;
const BLOCK_SIZE: u32 = 4096;

/// `struct fsverity_enable_arg` of linux/fsverity.h.
#[repr(C)]
struct EnableArgument {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt_ptr: u64,
    sig_size: u32,
    reserved1: u32,
    sig_ptr: u64,
    reserved2: [u64; 11],
}

/// `struct fsverity_digest` of linux/fsverity.h, with room for the digest.
#[repr(C)]
struct Digest {
    algorithm: u16,
    size: u16,
    digest: [u8; DIGEST_LEN],
}

const ENABLE: Opcode = opcode::write::<EnableArgument>(b'f', 133);
// The size in the number is that of the struct without its flexible array.
const MEASURE: Opcode = opcode::read_write::<[u16; 2]>(b'f', 134);

/// What the kernel knows about a file's fs-verity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The file has fs-verity, and this is its digest.
    Enabled([u8; DIGEST_LEN]),
    /// The file system has fs-verity, the file does not.
    Disabled,
    /// Neither has.
    Unsupported,
}

/// Why fs-verity could not be enabled or measured.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// The file system or the kernel has no fs-verity.
    #[error(
        "the file system has no fs-verity (ext4 needs `mkfs.ext4 -O verity -b 4096`, xfs has none)"
    )]
    Unsupported,
    /// A file has fs-verity of another kind than SHA-512.
    #[error("the file has fs-verity with hash algorithm {algorithm}, not SHA-512")]
    OtherAlgorithm {
        /// The kernel's number of the algorithm.
        algorithm: u16,
    },
    /// Anything else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Asks the kernel for the fs-verity digest of an open file.
///
/// Cheap: no content is read. Works on a read-only file system.
pub fn measure(file: impl AsFd) -> Result<State, VerityError> {
    let mut digest = Digest {
        algorithm: 0,
        size: 64,
        digest: [0; DIGEST_LEN],
    };
    // SAFETY: FS_IOC_MEASURE_VERITY takes a pointer to a `struct
    // fsverity_digest` whose `digest_size` says how many bytes follow it;
    // `Digest` is laid out so, and 64 bytes follow. The kernel writes no more.
    let measured = unsafe {
        ioctl(
            file.as_fd(),
            Updater::<'_, MEASURE, Digest>::new(&mut digest),
        )
    };
    match measured {
        Ok(()) if digest.algorithm == HASH_SHA512 && usize::from(digest.size) == DIGEST_LEN => {
            Ok(State::Enabled(digest.digest))
        }
        Ok(()) => Err(VerityError::OtherAlgorithm {
            algorithm: digest.algorithm,
        }),
        Err(Errno::NODATA) if has_large_blocks(file.as_fd())? => Ok(State::Disabled),
        Err(Errno::NODATA) => Ok(State::Unsupported),
        Err(Errno::NOTTY | Errno::OPNOTSUPP) => Ok(State::Unsupported),
        Err(error) => Err(VerityError::Io(error.into())),
    }
}

/// Whether the blocks of the file system are as large as those of the hash tree,
/// as the kernel wants it. Those of a small ext4 are not.
fn has_large_blocks(file: BorrowedFd<'_>) -> io::Result<bool> {
    let size = rustix::fs::fstatvfs(file)?.f_bsize;
    Ok(size >= u64::from(BLOCK_SIZE))
}

/// Enables fs-verity on a file that is open for reading; that it is enabled
/// already is success.
///
/// The kernel reads the whole file and hashes it, and nobody can ever write to
/// the file again. On return the hash tree is in the file system, durable with
/// the next barrier. Nobody may have the file open for writing: a process that
/// was forked at this moment may hold such a descriptor until it executes its
/// program, so this waits for it for up to a second.
pub fn enable(file: impl AsFd) -> Result<(), VerityError> {
    const ATTEMPTS: u32 = 100;
    for attempt in 1..=ATTEMPTS {
        match enable_once(file.as_fd()) {
            Err(Errno::TXTBSY | Errno::INTR) if attempt < ATTEMPTS => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(()) | Err(Errno::EXIST) => return Ok(()),
            // ENOPKG: the kernel was built without SHA-512. EINVAL: the blocks of
            // the file system are too small; the arguments are always valid.
            Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOPKG | Errno::INVAL) => {
                return Err(VerityError::Unsupported);
            }
            Err(error) => return Err(VerityError::Io(error.into())),
        }
    }
    Err(VerityError::Io(Errno::TXTBSY.into()))
}

fn enable_once(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let argument = EnableArgument {
        version: 1,
        hash_algorithm: u32::from(HASH_SHA512),
        block_size: BLOCK_SIZE,
        salt_size: 0,
        salt_ptr: 0,
        sig_size: 0,
        reserved1: 0,
        sig_ptr: 0,
        reserved2: [0; 11],
    };
    // SAFETY: FS_IOC_ENABLE_VERITY takes a pointer to a `struct
    // fsverity_enable_arg` that it only reads; `EnableArgument` is laid out
    // so, and its salt and signature pointers are null with length 0.
    unsafe { ioctl(file, Setter::<ENABLE, EnableArgument>::new(argument)) }
}

/// Opens the same file again, read-only, as [`enable`] needs it: the writable
/// descriptor must be closed before. Needs `/proc`.
pub fn reopen_read_only(file: impl AsFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Tells whether files in `dir` can have fs-verity, by trying it on a file
/// without a name. Needs write access.
pub fn probe(dir: impl AsFd) -> io::Result<bool> {
    let fd = rustix::fs::openat(
        dir,
        ".",
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )?;
    rustix::io::write(&fd, b"probe")?;
    let readable = reopen_read_only(&fd)?;
    drop(fd);
    match enable(&readable) {
        Ok(()) => Ok(true),
        Err(VerityError::Unsupported) => Ok(false),
        Err(VerityError::Io(error)) => Err(error),
        Err(error @ VerityError::OtherAlgorithm { .. }) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctl_numbers_and_structs_are_those_of_the_kernel_header() {
        assert_eq!(size_of::<EnableArgument>(), 128);
        assert_eq!(ENABLE, 0x4080_6685);
        assert_eq!(MEASURE, 0xc004_6686);
    }

    #[test]
    fn a_file_system_without_verity_says_so() {
        // tmpfs has no fs-verity in any kernel.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("file");
        std::fs::File::create(&path).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        assert_eq!(measure(&file).unwrap(), State::Unsupported);
        assert!(matches!(enable(&file), Err(VerityError::Unsupported)));
    }

    #[test]
    fn probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        assert!(!probe(&fd).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
