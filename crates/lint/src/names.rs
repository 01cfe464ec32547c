//! Names that cannot be part of an image.

use hull_chunk::scan::Reason;

use crate::finding::{Finding, Verdict};
use crate::root::{Kind, Root};

/// Names and targets that are not UTF-8.
pub(crate) fn utf8(root: &Root) -> Verdict {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    let mut findings = Vec::new();
    for (path, kind) in root.all() {
        // What is in such a directory is not named again.
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        if !text(name) {
            findings.push(Finding::new(
                path,
                "its name is not UTF-8",
                "rename it, or leave it out of the image",
            ));
        }
        if let Kind::Symlink(target) = kind
            && !text(target)
        {
            findings.push(Finding::new(
                path,
                format!("it leads to {}, which is not UTF-8", target.escape_ascii()),
                "make a link to a name in UTF-8",
            ));
        }
    }
    findings.into()
}

/// Names that could not be looked at.
pub(crate) fn readable(root: &Root) -> Verdict {
    let unreadable = root.unreadable().iter().map(|(path, error)| {
        Finding::new(
            path,
            format!("it cannot be read: {error}"),
            "run as its owner or as root (podman unshare); what is in it was not checked",
        )
    });
    unreadable.collect::<Vec<_>>().into()
}

/// Files that layers cannot hold, or that must not be in them.
pub(crate) fn chunkable(root: &Root) -> Verdict {
    let findings = root.refusals().iter().map(|refusal| {
        let (problem, remedy) = explain(&refusal.reason);
        Finding {
            path: refusal.path.to_string(),
            problem,
            remedy: remedy.to_owned(),
        }
    });
    findings.collect::<Vec<_>>().into()
}

fn explain(reason: &Reason) -> (String, &'static str) {
    match reason {
        Reason::Unreadable(error) => (
            format!("it cannot be read: {error}"),
            "run hull chunk as its owner or as root, or with --exclude",
        ),
        Reason::Special(kind) => (
            format!("it is a {kind}"),
            "remove it, or run hull chunk with --special-files=skip or =keep",
        ),
        Reason::Whiteout => (
            "its name begins with .wh., which in a layer hides another file".to_owned(),
            "rename or remove it",
        ),
        Reason::WhiteoutDevice => (
            "it is a character device 0/0, which means a deleted file".to_owned(),
            "remove it: the upper directory of an overlay is no root file system",
        ),
        other => (other.to_string(), "move or remove it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, paths, problems};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn names_and_targets_that_are_not_text_are_found_and_escaped() {
        let root = Builder::new().file("fine/ö", "x");
        let odd = root.path().join(OsStr::from_bytes(b"b\xff"));
        std::fs::create_dir_all(odd.join("inside")).unwrap();
        std::os::unix::fs::symlink(OsStr::from_bytes(b"\xfe"), root.path().join("link")).unwrap();
        assert_eq!(paths(utf8, &root), ["/b\\xff", "/link"]);
    }

    #[test]
    fn what_hull_chunk_refuses_is_found_with_its_path() {
        let root = Builder::new()
            .file("etc/.wh.gone", "")
            .file("boot/vmlinuz", "x");
        let socket = root.path().join("etc/socket");
        let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        let found = problems(chunkable, &root);
        assert!(found.contains("/etc/.wh.gone: its name begins"), "{found}");
        assert!(found.contains("/etc/socket: it is a socket"), "{found}");
        assert_eq!(paths(chunkable, &root).len(), 2, "{found}");
    }
}
