//! Loop devices, for kernels that mount block devices only.

#![allow(
    unsafe_code,
    reason = "the ioctls of loop devices have no safe wrapper in rustix"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl};

/// `LOOP_CTL_GET_FREE` of linux/loop.h.
const GET_FREE: Opcode = 0x4c82;
/// `LOOP_CONFIGURE` of linux/loop.h (Linux 5.8).
const CONFIGURE: Opcode = 0x4c0a;

const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Config>() == 304);

/// Why there is no loop device.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// `/dev/loop-control` can't be used.
    #[error("cannot get a loop device from /dev/loop-control: {0}; is the module loop missing?")]
    Control(#[source] io::Error),
    /// The device can't be opened.
    #[error("cannot open the loop device {path}: {source}")]
    Open {
        /// The device.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The device does not take the file.
    #[error("cannot attach a file to {path}: {source}")]
    Configure {
        /// The device.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Other processes took each free device first.
    #[error("no loop device stays free for long enough: {0} attempts")]
    Contended(u32),
}

impl LoopError {
    pub(crate) fn source_io(&self) -> Option<&io::Error> {
        match self {
            Self::Control(source) | Self::Open { source, .. } | Self::Configure { source, .. } => {
                Some(source)
            }
            Self::Contended(_) => None,
        }
    }
}

/// `LOOP_CTL_GET_FREE`: the number of a device that is free at the moment.
struct GetFree;

// SAFETY: the request takes no argument and gives a number as its result, so
// the kernel reads and writes no memory of ours.
unsafe impl Ioctl for GetFree {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        GET_FREE
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        result: IoctlOutput,
        _: *mut rustix::ffi::c_void,
    ) -> rustix::io::Result<u32> {
        u32::try_from(result).map_err(|_| Errno::RANGE)
    }
}

/// Attaches `file` to a free loop device, read-only and with direct I/O where
/// the file system of `file` can do it (else each page is cached twice).
///
/// The device frees itself once neither the handle nor a mount uses it.
pub fn attach_read_only(file: impl AsFd) -> Result<OwnedFd, LoopError> {
    const ATTEMPTS: u32 = 64;
    let file = file.as_fd();
    let control = rustix::fs::openat(
        CWD,
        "/dev/loop-control",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| LoopError::Control(e.into()))?;
    for _ in 0..ATTEMPTS {
        // SAFETY: `GetFree` describes this request truly.
        let number =
            unsafe { ioctl(&control, GetFree) }.map_err(|e| LoopError::Control(e.into()))?;
        if let Some(device) = take(&format!("/dev/loop{number}"), file)? {
            return Ok(device);
        }
    }
    Err(LoopError::Contended(ATTEMPTS))
}

/// Attaches `file` to this device; `None` where another process was faster.
fn take(path: &str, file: BorrowedFd<'_>) -> Result<Option<OwnedFd>, LoopError> {
    let device = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| LoopError::Open {
            path: path.to_owned(),
            source: e.into(),
        })?;
    let config = Config {
        fd: file.as_raw_fd().unsigned_abs(),
        block_size: 0,
        info: Info {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: READ_ONLY | AUTOCLEAR | DIRECT_IO,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: `CONFIGURE` reads one `struct loop_config`, which `Config` is laid
    // out as (its size is checked above), and keeps no pointer to it.
    match unsafe { ioctl(&device, Setter::<CONFIGURE, Config>::new(config)) } {
        Ok(()) => Ok(Some(device)),
        Err(Errno::BUSY) => Ok(None),
        Err(e) => Err(LoopError::Configure {
            path: path.to_owned(),
            source: e.into(),
        }),
    }
}
