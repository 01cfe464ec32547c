//! SELinux labels for a tree, from the policy that is in it.
//!
//! The image decides: labels of the machine that it was built on mean nothing where
//! it boots. The rules are those of composefs-boot 0.9, for labels are in the digest.

mod policy;

use std::collections::HashMap;

use hull_sys::bits::Bits;

use crate::fsverity::ObjectId;
use crate::tree::{Content, ContentView, DirectoryId, Entry, LeafId, Metadata, Node, Tree, Xattrs};
use policy::Policy;

/// The attribute with the label.
pub(crate) const ATTRIBUTE: &[u8] = b"security.selinux";

const CONFIG: &str = "/etc/selinux/config";

/// Why a tree can't be labelled. `E` is what the reading of objects fails with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError<E: std::error::Error + 'static> {
    /// A file of the policy can't be read.
    #[error("can't read {path} of the image")]
    Read {
        /// The file, as a path in the image.
        path: String,
        /// Why.
        source: E,
    },
    /// Something of the policy is no regular file, or is not there.
    #[error("the image configures an SELinux policy, but {path} is no file in it")]
    NoFile {
        /// The path in the image.
        path: String,
    },
    /// A line of the policy is not as selabel_file(5) has it.
    #[error("{path} of the image, line {line}: {problem}")]
    Line {
        /// The file, as a path in the image.
        path: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The patterns of the policy can't be compiled.
    #[error("the SELinux policy of the image has a pattern that hull can't match: {problem}")]
    Pattern {
        /// What the regular expression engine says of it.
        problem: String,
    },
}

/// Labels a tree that went through [`crate::transform::prepare_for_boot`] by the
/// policy that its `/etc/selinux/config` names, and says whether there is one.
/// Without one, labels that are there are removed.
///
/// `read` gives the content of an object; it is asked for the files of the policy
/// only. Hard links whose names have different labels are parted. The tree is
/// unchanged if this fails.
pub fn label<E: std::error::Error + 'static>(
    tree: &mut Tree,
    read: impl FnMut(&ObjectId, u64) -> Result<Vec<u8>, E>,
) -> Result<bool, LabelError<E>> {
    let mut files = PolicyFiles { tree, read };
    let name = files.find(CONFIG)?.and_then(|config| policy::name(&config));
    let policy = match &name {
        Some(name) => Some(Policy::read(&mut files, name)?),
        None => None,
    };
    let is_labelled = policy.is_some();
    let leaves = tree.leaf_count();
    match policy {
        Some(policy) => Labels {
            met: Bits::none(leaves),
            tree,
            policy,
            labelled: Labelled::default(),
        }
        .apply(),
        None => tree.for_each_metadata_mut(|metadata| {
            metadata.xattrs.remove(ATTRIBUTE);
        }),
    }
    Ok(is_labelled)
}

/// The files of a policy, which are in the tree that it labels.
struct PolicyFiles<'a, R> {
    tree: &'a Tree,
    read: R,
}

impl<R> PolicyFiles<'_, R> {
    /// The content of a file, if it is there.
    fn find<E: std::error::Error + 'static>(
        &mut self,
        path: &str,
    ) -> Result<Option<Vec<u8>>, LabelError<E>>
    where
        R: FnMut(&ObjectId, u64) -> Result<Vec<u8>, E>,
    {
        let content = match self.tree.lookup(path.as_bytes()) {
            None => return Ok(None),
            Some(Entry::Leaf(_, leaf)) => leaf.content,
            Some(Entry::Directory(_)) => {
                return Err(LabelError::NoFile {
                    path: path.to_owned(),
                });
            }
        };
        match content {
            Content::Inline(bytes) => Ok(Some(bytes.into_vec())),
            Content::Object { id, size } => match (self.read)(&id, size) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(source) => Err(LabelError::Read {
                    path: path.to_owned(),
                    source,
                }),
            },
            _ => Err(LabelError::NoFile {
                path: path.to_owned(),
            }),
        }
    }
}

struct Labels<'a> {
    tree: &'a mut Tree,
    policy: Policy,
    /// Which leaves have the label of the first of their names, by index.
    met: Bits,
    labelled: Labelled,
}

/// The attributes of inodes that have a label and no other, by the label: many are the same.
#[derive(Default)]
struct Labelled(HashMap<Box<[u8]>, Xattrs>);

impl Labelled {
    fn store(&mut self, metadata: &mut Metadata, label: Option<&[u8]>) {
        match label {
            Some(label) if metadata.xattrs.is_empty() => {
                if !self.0.contains_key(label) {
                    let xattrs = Xattrs::from([(ATTRIBUTE.into(), label.into())]);
                    self.0.insert(label.into(), xattrs);
                }
                metadata.xattrs.clone_from(&self.0[label]);
            }
            Some(label) => drop(metadata.xattrs.insert(ATTRIBUTE.into(), label.into())),
            None => drop(metadata.xattrs.remove(ATTRIBUTE)),
        }
    }
}

/// A directory whose entries are being labelled.
struct Open {
    directory: DirectoryId,
    path: Vec<u8>,
    /// The last name that was.
    last: Vec<u8>,
}

impl Labels<'_> {
    fn apply(mut self) {
        self.set_directory(DirectoryId::ROOT, b"/");
        self.walk();
    }

    /// Depth first, in order: the first name of a leaf keeps it.
    fn walk(&mut self) {
        let mut open = vec![Open {
            directory: DirectoryId::ROOT,
            path: Vec::new(),
            last: Vec::new(),
        }];
        while let Some(top) = open.last_mut() {
            let directory = top.directory;
            let Some((name, node)) = self.tree.next_entry(directory, &top.last) else {
                open.pop();
                continue;
            };
            top.last.clear();
            top.last.extend_from_slice(name);
            let above = &top.path;
            let slash: &[u8] = if above.ends_with(b"/") { b"" } else { b"/" };
            let path = self.policy.substitute([above, slash, name].concat());
            match node {
                Node::Leaf(id) => {
                    let own = self.set_leaf(id, &path);
                    if own != id {
                        self.tree.put_leaf(directory, &top.last, own);
                    }
                }
                Node::Directory(inner) => {
                    let directory = inner.id();
                    self.set_directory(directory, &path);
                    open.push(Open {
                        directory,
                        path,
                        last: Vec::new(),
                    });
                }
            }
        }
    }

    fn set_directory(&mut self, id: DirectoryId, path: &[u8]) {
        let label = self.policy.label(path, b'd');
        let labelled = &mut self.labelled;
        self.tree
            .change_directory_metadata(id, |metadata| labelled.store(metadata, label));
    }

    /// Gives a leaf the label of one of its names; which leaf has it, where another one had another before.
    fn set_leaf(&mut self, mut id: LeafId, path: &[u8]) -> LeafId {
        let file_type = type_code(self.tree.leaf_view(id).content);
        let label = self.policy.label(path, file_type);
        if self.met.set(id.index(), true) {
            let leaf = self.tree.leaf(id);
            if leaf.metadata.xattrs.get(ATTRIBUTE).map(|known| &**known) == label {
                return id;
            }
            id = self.tree.add_leaf(leaf);
        }
        let labelled = &mut self.labelled;
        self.tree
            .change_leaf_metadata(id, |metadata| labelled.store(metadata, label));
        id
    }
}

/// How a policy writes the type of an inode.
fn type_code(content: ContentView<'_>) -> u8 {
    match content {
        ContentView::Inline(_) | ContentView::Object { .. } => b'-',
        ContentView::Symlink(_) => b'l',
        ContentView::CharacterDevice(_) => b'c',
        ContentView::BlockDevice(_) => b'b',
        ContentView::Fifo => b'p',
        ContentView::Socket => b's',
    }
}
