//! Who uses a block device: mounts, swap, and devices on top of it.

use std::fmt;
use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The number of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

impl DeviceNumber {
    /// From the form that stat(2) gives.
    pub fn of(number: u64) -> Self {
        DeviceNumber {
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(DeviceNumber {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One way in which a device or one of its partitions is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// It is mounted.
    Mounted {
        /// What of the device.
        source: String,
        /// Where.
        at: String,
    },
    /// It is swapped to.
    Swap {
        /// What of the device.
        source: String,
    },
    /// Another device is made of it.
    Holder {
        /// What of the device.
        source: String,
        /// The other device.
        holder: String,
    },
    /// Something has it open exclusively.
    Claimed,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Mounted { source, at } => write!(f, "{source} is mounted at {at}"),
            Use::Swap { source } => write!(f, "{source} is swapped to"),
            Use::Holder { source, holder } => write!(f, "{source} is part of {holder}"),
            Use::Claimed => write!(f, "a program has opened it exclusively"),
        }
    }
}

/// Whether a device is a partition of another.
pub fn is_partition(number: DeviceNumber) -> bool {
    sysfs(number).join("partition").exists()
}

/// All uses of a device and its partitions that the kernel tells of.
pub fn of_device(number: DeviceNumber) -> io::Result<Vec<Use>> {
    let parts = parts(number);
    let numbers: Vec<DeviceNumber> = parts.iter().map(|(number, _)| *number).collect();
    let is_part = |source: &str| {
        source.starts_with('/')
            && fs::metadata(source)
                .is_ok_and(|stat| numbers.contains(&DeviceNumber::of(stat.st_rdev())))
    };
    let mut uses = mounts(
        &fs::read_to_string("/proc/self/mountinfo")?,
        &numbers,
        is_part,
    );
    uses.extend(swaps(
        &fs::read_to_string("/proc/swaps").unwrap_or_default(),
        is_part,
    ));
    for (_, directory) in &parts {
        uses.extend(holders(directory));
    }
    Ok(uses)
}

fn sysfs(number: DeviceNumber) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{number}"))
}

/// The device and its partitions, with their directories in sysfs.
fn parts(number: DeviceNumber) -> Vec<(DeviceNumber, PathBuf)> {
    let directory = sysfs(number);
    let mut parts = vec![(number, directory.clone())];
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let number = fs::read_to_string(path.join("dev"))
            .ok()
            .and_then(|text| DeviceNumber::parse(&text));
        if let Some(number) = number.filter(|_| path.join("partition").exists()) {
            parts.push((number, path));
        }
    }
    parts
}

fn holders(directory: &Path) -> Vec<Use> {
    let source = fs::canonicalize(directory)
        .ok()
        .and_then(|path| {
            path.file_name()
                .map(|name| format!("/dev/{}", name.to_string_lossy()))
        })
        .unwrap_or_default();
    let entries = fs::read_dir(directory.join("holders"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|entry| Use::Holder {
            source: source.clone(),
            holder: format!("/dev/{}", entry.file_name().to_string_lossy()),
        })
        .collect()
}

/// The mounts in a mountinfo text (proc_pid_mountinfo(5)) of any of `numbers`.
///
/// Btrfs gives its mounts numbers of their own, so the source counts too.
fn mounts(mountinfo: &str, numbers: &[DeviceNumber], is_part: impl Fn(&str) -> bool) -> Vec<Use> {
    let mut uses = Vec::new();
    for line in mountinfo.lines() {
        let mut fields = line.split(' ');
        let number = fields.nth(2).and_then(DeviceNumber::parse);
        let at = fields.nth(1).map(unescape);
        let source = fields
            .skip_while(|field| *field != "-")
            .nth(2)
            .map(unescape);
        let (Some(number), Some(at), Some(source)) = (number, at, source) else {
            continue;
        };
        if numbers.contains(&number) || is_part(&source) {
            uses.push(Use::Mounted { source, at });
        }
    }
    uses
}

/// The lines of `/proc/swaps` that name one of the devices.
fn swaps(swaps: &str, is_part: impl Fn(&str) -> bool) -> Vec<Use> {
    let sources = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    sources
        .map(unescape)
        .filter(|source| is_part(source))
        .map(|source| Use::Swap { source })
        .collect()
}

/// Undoes the octal escapes that the kernel writes for blanks and backslashes.
fn unescape(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
        22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        40 22 7:3 / /mnt/a\\040b rw shared:1 - ext4 /dev/loop3 rw\n\
        41 22 0:45 / /mnt/btrfs rw - btrfs /dev/loop4 rw\n\
        garbage\n";

    #[test]
    fn a_mount_is_found_by_its_number_and_its_path_is_unescaped() {
        let number = DeviceNumber { major: 7, minor: 3 };
        let uses = mounts(MOUNTINFO, &[number], |_| false);
        let expected = Use::Mounted {
            source: "/dev/loop3".into(),
            at: "/mnt/a b".into(),
        };
        assert_eq!(uses, [expected]);
    }

    #[test]
    fn a_mount_with_a_number_of_its_own_is_found_by_its_source() {
        let uses = mounts(MOUNTINFO, &[], |source| source == "/dev/loop4");
        assert_eq!(uses[0].to_string(), "/dev/loop4 is mounted at /mnt/btrfs");
    }

    #[test]
    fn swap_is_found_below_the_heading() {
        let text =
            "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n/swapfile file 1 0 -3\n";
        let uses = swaps(text, |source| source == "/dev/sda2");
        assert_eq!(
            uses,
            [Use::Swap {
                source: "/dev/sda2".into()
            }]
        );
    }
}
