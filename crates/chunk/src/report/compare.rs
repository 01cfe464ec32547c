//! What of the contents of an image is new, file by file.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, Read, Write};

use hull_erofs::ObjectId;
use hull_erofs::tree::{Content, Directory, Node, Tree};
use serde::Serialize;

use crate::scan::FullPath;

/// How contents are compressed that are counted: as layers are by default.
const LEVEL: i32 = 3;
/// The longest content that a delta is made for: it and the old one are in memory; in bytes.
const DELTA_MAX: u64 = 64 << 20;
/// How many files a report names.
const NAMED: usize = 100;

/// What is new in the contents of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Files {
    /// How many contents the earlier image has nowhere.
    pub new_contents: usize,
    /// Their bytes.
    pub size: u64,
    /// Their bytes, each compressed by itself (zstd 3): what a client downloads that fetches by file.
    pub by_file: u64,
    /// Their bytes, each as a difference from the file of the same path (zstd with the old one as its prefix);
    /// without one, or of more than 64 MiB, compressed by itself.
    pub by_delta: u64,
    /// The largest of them, by what they cost compressed; at most a hundred.
    pub largest: Vec<ChangedFile>,
}

/// A content that is new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedFile {
    /// The first of its paths, printable.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    /// Compressed by itself.
    pub compressed: u64,
    /// As a difference from the old file of that path.
    pub delta: Option<u64>,
}

/// An image that is compared: its merged tree, and its objects.
pub struct Side<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// Opens an object.
    pub open: &'a dyn Fn(&ObjectId) -> io::Result<Box<dyn Read>>,
}

impl fmt::Debug for Side<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").finish_non_exhaustive()
    }
}

/// A content that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the content of {path} cannot be read")]
pub struct CompareError {
    path: FullPath,
    source: io::Error,
}

/// Finds what the new image holds that the old one does not.
///
/// Contents are compared by their digests. Those of up to 64 bytes, which are part of the image itself, are not counted.
pub fn compare(old: &Side<'_>, new: &Side<'_>) -> Result<Files, CompareError> {
    let had = contents(old.tree);
    let known: HashSet<ObjectId> = had.values().map(|(id, _)| *id).collect();
    let mut found: Vec<(Vec<u8>, (ObjectId, u64))> = contents(new.tree).into_iter().collect();
    found.sort();
    let mut seen = HashSet::new();
    let mut files: Vec<ChangedFile> = Vec::new();
    for (path, (id, size)) in found {
        if known.contains(&id) || !seen.insert(id) {
            continue;
        }
        let failed = |source| CompareError {
            path: FullPath::new(&path),
            source,
        };
        let compressed = compressed(&mut *(new.open)(&id).map_err(failed)?).map_err(failed)?;
        let before = had
            .get(&path)
            .filter(|(_, before)| size.max(*before) <= DELTA_MAX);
        let delta = match before {
            Some((before, _)) => {
                let delta = delta(
                    &mut *(old.open)(before).map_err(failed)?,
                    &mut *(new.open)(&id).map_err(failed)?,
                );
                Some(delta.map_err(failed)?.min(compressed))
            }
            None => None,
        };
        files.push(ChangedFile {
            path: FullPath::new(&path).to_string(),
            size,
            compressed,
            delta,
        });
    }
    files.sort_by(|a, b| {
        b.compressed
            .cmp(&a.compressed)
            .then_with(|| a.path.cmp(&b.path))
    });
    Ok(Files {
        new_contents: files.len(),
        size: files.iter().map(|file| file.size).sum(),
        by_file: files.iter().map(|file| file.compressed).sum(),
        by_delta: files
            .iter()
            .map(|file| file.delta.unwrap_or(file.compressed))
            .sum(),
        largest: files.into_iter().take(NAMED).collect(),
    })
}

/// The objects of a tree by path, with their lengths.
fn contents(tree: &Tree) -> HashMap<Vec<u8>, (ObjectId, u64)> {
    fn walk(
        tree: &Tree,
        directory: Directory<'_>,
        path: &mut Vec<u8>,
        found: &mut HashMap<Vec<u8>, (ObjectId, u64)>,
    ) {
        let length = path.len();
        for (name, node) in directory.entries() {
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            match node {
                Node::Directory(inner) => walk(tree, inner, path, found),
                Node::Leaf(id) => {
                    if let Content::Object { id, size } = tree.leaf(id).content {
                        found.insert(path.clone(), (id, size));
                    }
                }
            }
            path.truncate(length);
        }
    }
    let mut found = HashMap::new();
    walk(tree, tree.root(), &mut Vec::new(), &mut found);
    found
}

fn compressed(content: &mut dyn Read) -> io::Result<u64> {
    let mut encoder = zstd::stream::write::Encoder::new(Count(0), LEVEL)?;
    io::copy(content, &mut encoder)?;
    Ok(encoder.finish()?.0)
}

/// The length of a content as zstd's difference from another.
fn delta(old: &mut dyn Read, new: &mut dyn Read) -> io::Result<u64> {
    let mut prefix = Vec::new();
    old.take(DELTA_MAX).read_to_end(&mut prefix)?;
    let mut content = Vec::new();
    new.take(DELTA_MAX).read_to_end(&mut content)?;
    let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Count(0), LEVEL, &prefix)?;
    let window = (prefix.len() + content.len()).max(1).ilog2() + 1;
    encoder.long_distance_matching(true)?;
    encoder.window_log(window.clamp(10, 27))?;
    encoder.write_all(&content)?;
    Ok(encoder.finish()?.0)
}

struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
