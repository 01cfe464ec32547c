//! A file system that is being configured (`fsopen`), and what it has to say.

use std::fmt;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::{Mount, MountError};

/// The messages of a file system while it is configured and mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelLog(Vec<String>);

impl fmt::Display for KernelLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|message| write!(f, "; the kernel says: {message}"))
    }
}

/// A file system context of the kernel.
pub(super) struct Context {
    fd: OwnedFd,
    kind: &'static str,
}

impl Context {
    pub(super) fn open(kind: &'static str) -> Result<Self, MountError> {
        let fd = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| {
            MountError::NoFileSystem {
                kind,
                source: e.into(),
            }
        })?;
        Ok(Self { fd, kind })
    }

    pub(super) fn set(&self, key: &str, value: &str) -> Result<(), MountError> {
        rustix::mount::fsconfig_set_string(&self.fd, key, value)
            .map_err(|e| self.error(format!("option {key}={value}"), e))
    }

    pub(super) fn set_flag(&self, key: &str) -> Result<(), MountError> {
        rustix::mount::fsconfig_set_flag(&self.fd, key)
            .map_err(|e| self.error(format!("option {key}"), e))
    }

    pub(super) fn mount(self, flags: MountAttrFlags) -> Result<Mount, MountError> {
        rustix::mount::fsconfig_create(&self.fd)
            .map_err(|e| self.error("opening the file system".to_owned(), e))?;
        let fd = rustix::mount::fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, flags)
            .map_err(|e| self.error("making the mount".to_owned(), e))?;
        Ok(Mount { fd })
    }

    fn error(&self, step: String, errno: Errno) -> MountError {
        MountError::FileSystem {
            kind: self.kind,
            step,
            source: errno.into(),
            log: self.log(),
        }
    }

    /// Each read gives one message, "e overlay: No changes allowed", until
    /// `ENODATA`; the kernel keeps eight.
    fn log(&self) -> KernelLog {
        const KEPT: usize = 16;
        let mut buffer = [0; 1024];
        let mut messages = Vec::new();
        while messages.len() < KEPT {
            let length = match rustix::io::read(&self.fd, &mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            };
            let message = String::from_utf8_lossy(&buffer[..length]);
            let message = message.trim();
            let text = message
                .split_once(' ')
                .map_or(message, |(_level, text)| text);
            messages.push(text.to_owned());
        }
        KernelLog(messages)
    }
}

/// A file system in memory whose root directory has this mode.
pub fn tmpfs(name: &str, mode: u32) -> Result<Mount, MountError> {
    let context = Context::open("tmpfs")?;
    context.set("source", name)?;
    context.set("mode", &format!("{mode:o}"))?;
    context.mount(MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_kernel_s_own_words() {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test opens a file system context: run it as root"
        );
        let context = Context::open("overlay").unwrap();
        let error = context.set("nonsense", "x").unwrap_err();
        assert_eq!(error.errno(), Some(Errno::INVAL));
        let text = error.to_string();
        assert!(
            text.starts_with("cannot mount overlay (option nonsense=x)"),
            "{text}"
        );
        assert!(
            text.contains("the kernel says: overlay: Unknown parameter"),
            "{text}"
        );
    }

    #[test]
    fn a_file_system_that_the_kernel_does_not_have_is_named() {
        let error = Context::open("no-such-fs").map(drop).unwrap_err();
        assert!(error.to_string().contains("no-such-fs"), "{error}");
    }
}
