//! Names of components, and files known by their names.
//!
//! A name holds no comma, space or control character, so that lists of names
//! can be written into annotations: other bytes than letters, digits and
//! `/ . _ + - : ~ @ =` are written as `%XX`.

use std::fmt::Write as _;

/// The name of a component that a person or a package system named.
pub(super) fn of(kind: &str, name: &[u8]) -> String {
    let mut text = format!("{kind}/");
    for &byte in name {
        if byte.is_ascii_alphanumeric() || b"/._+-:~@=".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(text, "%{byte:02X}").ok();
        }
    }
    text
}

/// The name of the component of one large file.
pub(super) fn of_file(path: &[u8]) -> String {
    of("file", path)
}

fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn is_below_modules(path: &[u8]) -> bool {
    path.strip_prefix(b"usr/lib/modules/")
        .is_some_and(|rest| rest.iter().filter(|&&byte| byte == b'/').count() == 1)
}

fn is_in_boot(path: &[u8]) -> bool {
    path.strip_prefix(b"boot/")
        .is_some_and(|rest| !rest.contains(&b'/'))
}

/// An initramfs where dracut, initramfs-tools, mkinitcpio or an image's author puts it.
pub(super) fn is_initramfs(path: &[u8]) -> bool {
    let name = last(path);
    let named = name.starts_with(b"initramfs") || name.starts_with(b"initrd");
    named && (is_below_modules(path) || is_in_boot(path))
}

/// A kernel.
pub(super) fn is_kernel(path: &[u8]) -> bool {
    let name = last(path);
    name.starts_with(b"vmlinuz") && (is_below_modules(path) || is_in_boot(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_sign_that_ends_it_in_a_list() {
        assert_eq!(of("dpkg", b"libstdc++6"), "dpkg/libstdc++6");
        assert_eq!(of_file(b"opt/a b,c\xff%"), "file/opt/a%20b%2Cc%FF%25");
    }

    #[test]
    fn an_initramfs_is_known_by_its_place() {
        for path in [
            "usr/lib/modules/6.1/initramfs.img",
            "boot/initrd.img-6.1",
            "boot/initramfs-6.1.img",
        ] {
            assert!(is_initramfs(path.as_bytes()), "{path}");
        }
        for path in [
            "usr/share/initramfs-tools/init",
            "usr/lib/modules/initramfs.img",
        ] {
            assert!(!is_initramfs(path.as_bytes()), "{path}");
        }
        assert!(is_kernel(b"usr/lib/modules/6.1/vmlinuz"));
    }
}
