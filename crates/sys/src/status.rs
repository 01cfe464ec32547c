//! What a name in a directory is, and which mount it is on.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, StatxFlags};

/// A mount: two names with the same are not separated by a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount(MountKey);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MountKey {
    /// The kernel's number, since Linux 5.8.
    Number(u64),
    /// Major and minor number of the device, where the kernel tells none.
    Device(u32, u32),
}

/// What `statx(2)` says of a name.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    /// What it is.
    pub kind: FileType,
    /// Permissions, with setuid, setgid and the sticky bit.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When its content changed: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// The length in bytes.
    pub size: u64,
    /// Which device a device file is: major and minor number.
    pub represents: (u32, u32),
    /// The file system that it is on: major and minor number.
    pub device: (u32, u32),
    /// Its number there.
    pub inode: u64,
    /// How many names the inode has.
    pub links: u32,
    /// The mount that it is on.
    pub mount: Mount,
}

impl Status {
    /// Looks at `name` in `dir`, or at `dir` itself where `name` is empty. No symbolic link is
    /// followed, and nothing is mounted by looking.
    pub fn of(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = rustix::fs::statx(dir, name, flags, wanted)?;
        let device = (stat.stx_dev_major, stat.stx_dev_minor);
        // Subvolumes have devices of their own on one mount, so the device is second choice.
        let mount = match stat.stx_mask & StatxFlags::MNT_ID.bits() {
            0 => MountKey::Device(device.0, device.1),
            _ => MountKey::Number(stat.stx_mnt_id),
        };
        Ok(Self {
            kind: FileType::from_raw_mode(stat.stx_mode.into()),
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            size: stat.stx_size,
            represents: (stat.stx_rdev_major, stat.stx_rdev_minor),
            device,
            inode: stat.stx_ino,
            links: stat.stx_nlink,
            mount: Mount(mount),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn names_on_one_mount_have_one_mount_and_others_have_another() {
        let temp = tempfile::tempdir().unwrap();
        let mut file = File::create(temp.path().join("file")).unwrap();
        file.write_all(b"12").unwrap();
        std::os::unix::fs::symlink("/proc", temp.path().join("link")).unwrap();
        let dir = File::open(temp.path()).unwrap();
        let of = |name: &CStr| Status::of(dir.as_fd(), name).unwrap();
        let (itself, file, link) = (of(c""), of(c"file"), of(c"link"));
        assert_eq!((file.kind, file.size), (FileType::RegularFile, 2));
        assert_eq!(link.kind, FileType::Symlink);
        assert!(itself.mount == file.mount && file.mount == link.mount);
        let root = File::open("/").unwrap();
        let proc = Status::of(root.as_fd(), c"proc").unwrap();
        assert_ne!(proc.mount, itself.mount);
    }
}
