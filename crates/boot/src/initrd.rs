//! A second initrd with setup-root, for an image whose own initrd has none.
//!
//! The boot loader puts it behind the image's initrd, the kernel unpacks one
//! over the other (Documentation/driver-api/early-userspace/buffer-format.rst).
//! An archive of the format "newc", whose bytes depend on setup-root's alone.

/// The unit that runs setup-root; the same that the dracut module installs.
const UNIT: &str = include_str!("../../../dist/usr/lib/systemd/system/hull-setup-root.service");

/// What systemd-modules-load.service loads while the root's device is waited for.
const MODULES: &str =
    include_str!("../../../dist/usr/lib/dracut/modules.d/51hull/modules-load.conf");

/// Type bits of `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Packs the static program `setup_root` with what starts it in a systemd
/// initrd, and takes bootc's own unit for the same work out of the way.
///
/// The image's initrd must have the kernel modules for EROFS and overlay,
/// as that of any image that boots from composefs does.
///
/// # Panics
///
/// If the program has 4 GiB or more, which the format cannot hold.
pub fn pack(setup_root: &[u8]) -> Vec<u8> {
    let mut archive = Archive::default();
    for path in [
        "etc",
        "etc/modules-load.d",
        "etc/systemd",
        "etc/systemd/system",
        "usr",
        "usr/lib",
        "usr/lib/hull",
        "usr/lib/systemd",
        "usr/lib/systemd/system",
        "usr/lib/systemd/system/initrd-root-fs.target.requires",
    ] {
        archive.add(path, DIRECTORY | 0o755, b"");
    }
    archive.add(
        "etc/modules-load.d/hull.conf",
        REGULAR | 0o644,
        MODULES.as_bytes(),
    );
    archive.add("usr/lib/hull/setup-root", REGULAR | 0o755, setup_root);
    archive.add(
        "usr/lib/systemd/system/hull-setup-root.service",
        REGULAR | 0o644,
        UNIT.as_bytes(),
    );
    archive.add(
        "usr/lib/systemd/system/initrd-root-fs.target.requires/hull-setup-root.service",
        SYMLINK | 0o777,
        b"../hull-setup-root.service",
    );
    archive.add(
        "etc/systemd/system/bootc-root-setup.service",
        SYMLINK | 0o777,
        b"/dev/null",
    );
    archive.finish()
}

/// An archive under construction. The order of entries is that of their
/// addition, a directory before what is in it.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = if mode & !0o7777 == DIRECTORY { 2 } else { 1 };
        self.entry(path, self.entries, mode, links, content);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, 0, 1, b"");
        self.bytes
    }

    /// Header of 13 numbers, name with its NUL, content; the latter two end at
    /// a multiple of four. Owner, time and devices are 0.
    fn entry(&mut self, path: &str, inode: u32, mode: u32, links: u32, content: &[u8]) {
        let length = |bytes: usize| u32::try_from(bytes).expect("an entry is shorter than 4 GiB");
        let numbers = [
            inode,
            mode,
            0,
            0,
            links,
            0,
            length(content.len()),
            0,
            0,
            0,
            0,
            length(path.len() + 1),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for number in numbers {
            self.bytes
                .extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hull_sys::run::Program;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_same_program_gives_the_same_bytes() {
        assert_eq!(pack(b"program"), pack(b"program"));
        assert_eq!(pack(b"program").len() % 4, 0);
    }

    #[test]
    fn cpio_lists_and_unpacks_it() {
        let temp = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(temp.path()).unwrap();
        hull_sys::durable::write_new(&dir, "initrd", 0o644, &pack(b"#!/bin/true\n")).unwrap();
        let script = format!(
            "set -e; cd '{}'; cpio -t --quiet <initrd; mkdir root; cd root; \
             cpio -id --quiet --no-absolute-filenames <../initrd",
            temp.path().display()
        );
        let listed = Program::new("sh")
            .args(["-c", &script])
            .package("cpio")
            .output()
            .unwrap();
        let listed = String::from_utf8(listed).unwrap();
        assert!(listed.contains("usr/lib/hull/setup-root\n"), "{listed}");

        let root = temp.path().join("root");
        let program = root.join("usr/lib/hull/setup-root");
        assert_eq!(std::fs::read(&program).unwrap(), b"#!/bin/true\n");
        let mode = std::fs::metadata(&program).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        let units = root.join("usr/lib/systemd/system");
        let wanted = units.join("initrd-root-fs.target.requires/hull-setup-root.service");
        assert_eq!(std::fs::read_to_string(wanted).unwrap(), UNIT);
        let mask = root.join("etc/systemd/system/bootc-root-setup.service");
        assert_eq!(
            std::fs::read_link(mask).unwrap().to_str(),
            Some("/dev/null")
        );
    }
}
