//! A store in a temporary directory, and what to look at in it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use hull_erofs::Tree;
use hull_erofs::tree::{Content, Entry};
use hull_oci::progress::Silent;
use hull_oci::source::{Retry, SourceOptions, Timeouts};
use hull_oci::{Digest, Image, PullError, PullOptions, Pulled, Reference};
use hull_store::{Kind, Store, Verity};
use std::time::Duration;

pub(crate) struct LocalStore {
    pub(crate) store: Store,
    temp: tempfile::TempDir,
}

impl LocalStore {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = open(temp.path());
        Self { store, temp }
    }

    pub(crate) fn path(&self, inner: &str) -> std::path::PathBuf {
        self.temp.path().join(inner)
    }

    /// Pulls with options that suit a test: HTTP allowed, little patience.
    pub(crate) fn pull(&self, reference: &str) -> Result<Pulled, PullError> {
        self.pull_with(reference, &options())
    }

    pub(crate) fn pull_with(
        &self,
        reference: &str,
        options: &PullOptions,
    ) -> Result<Pulled, PullError> {
        let reference = Reference::parse(reference).unwrap();
        hull_oci::pull(&self.store, &reference, options, &Silent)
    }

    /// Asserts that the store has neither the image nor a reference.
    #[track_caller]
    pub(crate) fn assert_lacks(&self, manifest: &Digest) {
        let refs = self.store.refs(Kind::Stream).unwrap();
        assert_eq!(refs, [], "no reference was made");
        assert!(Image::load(&self.store, manifest).is_err());
    }
}

pub(crate) fn open(path: &Path) -> Store {
    let dir = OwnedFd::from(File::open(path).unwrap());
    Store::create(dir, Verity::WhereSupported).unwrap()
}

pub(crate) fn options() -> PullOptions {
    PullOptions {
        source: SourceOptions {
            insecure: true,
            timeouts: Timeouts {
                connect: Duration::from_secs(5),
                idle: Duration::from_secs(20),
                ..Timeouts::default()
            },
            retry: Retry {
                attempts: 3,
                pause: Duration::from_millis(10),
                longest_pause: Duration::from_secs(2),
            },
            ..SourceOptions::default()
        },
        ..PullOptions::default()
    }
}

/// The content of a file of the tree.
pub(crate) fn read(store: &Store, tree: &Tree, path: &str) -> Vec<u8> {
    let Some(Entry::Leaf(_, leaf)) = tree.lookup(path.as_bytes()) else {
        panic!("{path} is no file of the image");
    };
    match &leaf.content {
        Content::Inline(bytes) => bytes.to_vec(),
        Content::Object { id, size } => store.read_object(id, *size).unwrap(),
        other => panic!("{path}: {other:?}"),
    }
}

/// The error and all its causes, as a person sees them.
pub(crate) fn show(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
