//! Telling systemd which block device the root is on.
//!
//! Where `/` is an overlay, systemd (`blockdev_get_root`, used by
//! systemd-gpt-auto-generator and bootctl among others) follows the link
//! `/run/systemd/volatile-root`, which systemd-volatile-root.service makes for
//! volatile roots: it leads to `/dev/block/MAJOR:MINOR`.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use hull_sys::{dir, durable};
use rustix::fs::{AtFlags, OFlags};

use super::SetupError;

/// The name of the link below `/run/systemd`.
const LINK: &str = "volatile-root";

/// `mountinfo` is never larger in an initrd.
const MAX_MOUNTINFO: u64 = 4 << 20;

/// Makes the link, unless the physical root is on no block device or somebody
/// made it before.
pub(super) fn link_volatile_root(physical: BorrowedFd<'_>, run: &Path) -> Result<(), SetupError> {
    let failed = |source| SetupError::Stage {
        path: run.join("systemd").join(LINK).display().to_string(),
        source,
    };
    let Some((major, minor)) = block_device(physical).map_err(failed)? else {
        return Ok(());
    };
    let run = rustix::fs::openat(
        rustix::fs::CWD,
        run,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|e| failed(e.into()))?;
    let systemd = durable::make_dir(run, "systemd", 0o755).map_err(failed)?;
    match durable::symlink(&format!("/dev/block/{major}:{minor}"), systemd, LINK) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(failed(e)),
        _ => Ok(()),
    }
}

fn block_device(physical: BorrowedFd<'_>) -> io::Result<Option<(u32, u32)>> {
    let device = rustix::fs::fstat(physical)?.st_dev;
    let number = (rustix::fs::major(device), rustix::fs::minor(device));
    if number.0 != 0 {
        return Ok(Some(number));
    }
    // Btrfs and others that may be on several devices have a number of their
    // own; the mount's source names one of the devices.
    let mount = rustix::fs::statx(
        physical,
        c"",
        AtFlags::EMPTY_PATH,
        rustix::fs::StatxFlags::MNT_ID,
    )?;
    let mounts = dir::read_at_most(
        std::fs::File::open("/proc/thread-self/mountinfo")?,
        MAX_MOUNTINFO,
    )?;
    let mounts = String::from_utf8_lossy(&mounts);
    let Some(source) = source_of(&mounts, mount.stx_mnt_id) else {
        return Ok(None);
    };
    let Ok(stat) = rustix::fs::stat(source) else {
        return Ok(None);
    };
    let is_block = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_block_device();
    Ok(is_block.then(|| {
        (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        )
    }))
}

/// The source of the mount with this number (proc_pid_mountinfo(5): the first
/// field; the second one after the hyphen), where it is a path.
fn source_of(mountinfo: &str, mount: u64) -> Option<&str> {
    let mount = mount.to_string();
    mountinfo
        .lines()
        .find(|line| line.split(' ').next() == Some(&mount))
        .and_then(|line| line.split_once(" - ")?.1.split(' ').nth(1))
        .filter(|source| source.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_source_of_a_file_system_without_one_device_is_found() {
        let mountinfo = "22 1 0:20 / /proc rw - proc proc rw\n\
             30 1 0:31 /sub /sysroot rw shared:1 - btrfs /dev/vda2 rw,subvol=/sub\n";
        assert_eq!(source_of(mountinfo, 30), Some("/dev/vda2"));
        assert_eq!(source_of(mountinfo, 22), None);
        assert_eq!(source_of(mountinfo, 3), None);
    }

    #[test]
    fn a_root_on_no_block_device_gets_no_link() {
        let temp = tempfile::tempdir().unwrap();
        let proc = std::fs::File::open("/proc").unwrap();
        link_volatile_root(proc.as_fd(), temp.path()).unwrap();
        assert!(!temp.path().join("systemd").exists());
    }
}
