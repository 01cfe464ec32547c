//! Root's ssh keys, as given to `hull install`.
//!
//! They are written twice. The file in /var is there before the first boot, so
//! a power cut in it can't leave an empty one behind: systemd-tmpfiles, which
//! would make it, doesn't wait for the disk. The line of tmpfiles.d in /etc, as
//! bootc has it, gives the file its label, and makes it where /var is another
//! file system than the one that was installed to.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use base64::Engine as _;
use hull_erofs::Tree;
use hull_erofs::tree::{Content, Entry};
use hull_sys::durable;

/// Root's home directory, an absolute path: where the link `/root` leads.
///
/// systemd-tmpfiles works in the order of the paths, so a path through the link
/// would come before the directory behind it is made. A link that could not stand in a line of
/// tmpfiles.d as it is (white space, `%`, quotes) is not followed.
pub(crate) fn home(tree: &Tree) -> String {
    let link = match tree.lookup(b"root") {
        Some(Entry::Leaf(_, leaf)) => match leaf.content {
            Content::Symlink(target) => String::from_utf8(target.into_vec()).ok(),
            _ => None,
        },
        _ => None,
    };
    match link.filter(|target| target.bytes().all(is_plain)) {
        Some(target) => format!("/{}", target.trim_start_matches('/')),
        None => "/root".to_owned(),
    }
}

/// Whether the byte means itself in tmpfiles.d(5).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+@:".contains(&byte)
}

/// The file of tmpfiles.d that lets `keys` in: its path below /etc, and its content.
pub(crate) fn tmpfiles(home: &str, keys: &[u8]) -> (String, Vec<u8>) {
    let encoded = base64::engine::general_purpose::STANDARD.encode(keys);
    let text = format!(
        "# Root's ssh keys, as given to hull install.\nd {home}/.ssh 0700 root root -\nf~ {home}/.ssh/authorized_keys 0600 root root - {encoded}\n"
    );
    (
        "tmpfiles.d/hull-root-ssh.conf".to_owned(),
        text.into_bytes(),
    )
}

/// Writes the keys below the machine's `var`, unless root's home is elsewhere or
/// the image brings a file of that name. The names are durable after a barrier.
pub(crate) fn write(var: impl AsFd, home: &str, keys: &[u8]) -> io::Result<()> {
    let names: Vec<&str> = home.split('/').filter(|name| !name.is_empty()).collect();
    let Some(("var", below)) = names.split_first().map(|(first, rest)| (*first, rest)) else {
        return Ok(());
    };
    if below.is_empty() || below.iter().any(|name| matches!(*name, "." | "..")) {
        return Ok(());
    }
    let mut directory: OwnedFd = var.as_fd().try_clone_to_owned()?;
    for (index, name) in below.iter().enumerate() {
        let mode = if index + 1 == below.len() {
            0o700
        } else {
            0o755
        };
        directory = durable::make_dir(&directory, name, mode)?;
    }
    let ssh = durable::make_dir(&directory, ".ssh", 0o700)?;
    match durable::write_new(&ssh, "authorized_keys", 0o600, keys) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    use hull_erofs::tree::{DirectoryId, Leaf, Metadata};
    use rustix::fs::{Mode, OFlags};

    fn open(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap()
    }

    fn with_home(target: &[u8]) -> Tree {
        let mut tree = Tree::default();
        let leaf = tree.add_leaf(Leaf {
            metadata: Metadata::default(),
            content: Content::Symlink(target.into()),
        });
        tree.put_leaf(DirectoryId::ROOT, b"root", leaf);
        tree
    }

    #[test]
    fn a_link_that_would_mean_something_else_in_a_line_is_not_followed() {
        for target in [
            &b"var/x 0777\nf /etc/shadow"[..],
            b"var/%h",
            b"var/\"x",
            b"var/\\x",
        ] {
            assert_eq!(home(&with_home(target)), "/root");
        }
    }

    #[test]
    fn keys_go_where_the_link_of_root_s_home_leads() {
        assert_eq!(home(&Tree::default()), "/root");
        let tree = with_home(b"var/roothome");
        let text = String::from_utf8(tmpfiles(&home(&tree), b"key").1).unwrap();
        assert!(
            text.contains("f~ /var/roothome/.ssh/authorized_keys"),
            "{text}"
        );
        assert!(text.contains(" a2V5\n"), "{text}");
    }

    #[test]
    fn keys_are_in_var_before_the_first_boot_for_root_alone() {
        let temp = tempfile::tempdir().unwrap();
        write(open(temp.path()), "/var/roothome", b"key").unwrap();
        let directory = temp.path().join("roothome/.ssh");
        let file = directory.join("authorized_keys");
        assert_eq!(std::fs::read(&file).unwrap(), b"key");
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
        // What is there already stays.
        write(open(temp.path()), "/var/roothome", b"other").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"key");
    }

    #[test]
    fn a_home_elsewhere_or_behind_a_link_gets_no_file() {
        let temp = tempfile::tempdir().unwrap();
        for home in ["/root", "/var", "/var/../etc"] {
            write(open(temp.path()), home, b"key").unwrap();
        }
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
        std::os::unix::fs::symlink("/etc", temp.path().join("home")).unwrap();
        write(open(temp.path()), "/var/home", b"key").unwrap_err();
    }
}
