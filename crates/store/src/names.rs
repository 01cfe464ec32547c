//! The names in a store: of objects, streams, references and passing files.

use hull_erofs::ObjectId;

use crate::error::StoreError;

/// The two kinds of things that references lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An EROFS image, in `images/`.
    Image,
    /// A file that was split into objects, in `streams/`.
    Stream,
}

impl Kind {
    /// The directory of the links and, in `refs/` there, the references.
    pub(crate) const fn directory(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Stream => "streams",
        }
    }
}

/// The directory of references in that of a kind.
pub(crate) const REFS: &str = "refs";

/// How names begin that stand only for a moment, or until the next
/// collection. They are in the store's own directory, where they are neither
/// object nor root to anybody.
pub(crate) const PASSING: &str = ".hull-";

/// How the names of marks begin; then the boot's name, a dot, and the process.
pub(crate) const UNSYNCED: &str = ".hull-unsynced-";

/// Where the object lies, from the store's directory.
pub(crate) fn object_path(id: &ObjectId) -> String {
    format!("objects/{}", id.to_object_path())
}

/// What a link in `images/` or `streams/` says.
pub(crate) fn object_link(id: &ObjectId) -> String {
    format!("../{}", object_path(id))
}

/// The object that such a link leads to. As upstream does, only the end counts.
pub(crate) fn parse_object_link(target: &str) -> Option<ObjectId> {
    let (rest, name) = target.rsplit_once('/')?;
    let shard = rest.rsplit('/').next()?;
    if shard.len() != 2 {
        return None;
    }
    format!("{shard}{name}").parse().ok()
}

/// Checks the name of a stream: one component, not hidden, not `refs`.
pub(crate) fn check_stream_name(name: &str) -> Result<(), StoreError> {
    let refuse = |reason| {
        Err(StoreError::InvalidName {
            what: "stream",
            name: name.chars().take(300).collect(),
            reason,
        })
    };
    if name == REFS {
        return refuse("references are kept there");
    }
    if name.contains('/') {
        return refuse("it has a slash");
    }
    component_fault(name).map_or(Ok(()), refuse)
}

/// Checks the name of a reference: components between slashes, none hidden.
pub(crate) fn check_ref_name(name: &str) -> Result<(), StoreError> {
    let refuse = |reason| {
        Err(StoreError::InvalidName {
            what: "reference",
            name: name.chars().take(300).collect(),
            reason,
        })
    };
    if name.len() > 1024 {
        return refuse("it is longer than 1024 bytes");
    }
    name.split('/')
        .find_map(component_fault)
        .map_or(Ok(()), refuse)
}

fn component_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty between two slashes");
    }
    if name.len() > 255 {
        return Some("it is longer than 255 bytes");
    }
    if name.starts_with('.') {
        return Some("it begins with a dot");
    }
    name.chars()
        .any(char::is_control)
        .then_some("it has a control character")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_link_is_read_back() {
        let id = ObjectId::from_bytes([0xab; 64]);
        assert!(object_link(&id).starts_with("../objects/ab/ababab"));
        assert_eq!(parse_object_link(&object_link(&id)), Some(id));
        for bad in ["", "..", "../objects/ab/abab", "x", &id.to_hex()] {
            assert_eq!(parse_object_link(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for bad in ["", "refs", "a/b", ".hidden", "..", "a\nb", &"x".repeat(256)] {
            assert!(check_stream_name(bad).is_err(), "{bad:?}");
        }
        check_stream_name("oci-layer-sha256:abc").unwrap();
        for bad in ["", "/a", "a/", "a//b", "a/../b", "a/.b", &"x/".repeat(600)] {
            assert!(check_ref_name(bad).is_err(), "{bad:?}");
        }
        check_ref_name("oci/docker.io%2Flibrary%2Fdebian:stable").unwrap();
    }
}
