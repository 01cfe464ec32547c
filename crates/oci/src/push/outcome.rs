//! What copying is told, and what it tells.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::Digest;
use crate::manifest::Compression;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::reference::Reference;
use crate::source::SourceOptions;

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// How to reach where the image comes from.
    pub source: SourceOptions,
    /// How to reach where it goes to.
    pub target: SourceOptions,
    /// Which image of an index to take; by default that of this machine.
    pub platform: Option<Platform>,
    /// Takes all images of an index, and the index.
    pub all: bool,
    /// Compresses plain tars so.
    pub compress: Option<Compression>,
    /// An image that may have some of the blobs already. Where it is in the registry that is
    /// written to, blobs of its repository are mounted from there and not sent; else it
    /// counts for nothing. By default, where the image comes from.
    pub mount_from: Option<Reference>,
    /// Which sources are trusted, and what must have signed their images.
    pub policy: Option<Arc<Policy>>,
}

/// What copying did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The digest that the image, or the index, has where it went; none in an archive of
    /// `docker save`, which has no manifest.
    pub digest: Option<Digest>,
    /// The digest that it had.
    pub source_digest: Digest,
    /// Blobs that were written.
    pub sent_blobs: usize,
    /// Their lengths together, in bytes.
    pub sent_bytes: u64,
    /// Blobs that were there already.
    pub present_blobs: usize,
    /// What people should know about it, a sentence each.
    pub remarks: Vec<String>,
}

/// What was done so far, by several threads.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) sent: AtomicUsize,
    pub(super) bytes: AtomicU64,
    pub(super) present: AtomicUsize,
    pub(super) remarks: Mutex<Vec<String>>,
    /// What indexes listed so far.
    listed: Mutex<HashSet<Digest>>,
}

impl Done {
    /// Whether no index listed this before.
    pub(super) fn is_first(&self, digest: &Digest) -> bool {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.insert(*digest)
    }

    pub(super) fn remark(&self, text: String) {
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if !remarks.contains(&text) {
            remarks.push(text);
        }
    }
}
