//! Deciding, for every name in `/etc`, which version it gets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use hull_erofs::tree::Metadata;
use serde::Serialize;

use super::compare::{At, same_file, same_metadata, same_version};
use super::conflict::{Conflict, ConflictKind, Policy, Side};
use super::special::{Special, special};
use super::tree::{Content, Directory, EtcTree, Leaf, Node, Regular};
use crate::accounts::{AccountFile, AccountMerger, Clash};

/// Account files are never larger, in bytes.
const MAX_ACCOUNTS: u64 = 8 << 20;

/// File names are at most this long, in bytes.
const MAX_NAME: usize = 255;
/// How many names got what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// As they were on all sides.
    pub unchanged: u64,
    /// Changed, added or removed by me.
    pub mine: u64,
    /// Changed, added or removed by them.
    pub theirs: u64,
    /// Made from both versions.
    pub merged: u64,
}

/// What the merged `/etc` will be.
#[derive(Debug)]
pub struct MergePlan {
    pub(super) root: PlannedDirectory,
    /// What both sides changed in different ways.
    pub conflicts: Vec<Conflict>,
    /// Lines of account files that could not be merged.
    pub clashes: Vec<Clash>,
    /// How much comes from where.
    pub counts: Counts,
}

#[derive(Debug)]
pub(super) struct PlannedDirectory {
    pub(super) metadata: Side,
    pub(super) entries: BTreeMap<Box<[u8]>, Step>,
}

#[derive(Debug)]
pub(super) enum Step {
    /// All of that side's entry of that name, with all below it.
    Copy { side: Side, name: Box<[u8]> },
    /// A directory that has entries of both sides.
    Directory(PlannedDirectory),
    /// A file whose content and metadata come from different sides.
    File { content: Side, metadata: Side },
    /// A file with this content.
    Text { bytes: Vec<u8>, metadata: Side },
}

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot compare {path} with the version of another image: {source}")]
pub struct PlanError {
    path: String,
    source: io::Error,
}

/// Plans the merge. Nothing is written; contents are read where nothing else
/// tells whether they are the same.
///
/// Without `base` there is no old system: `mine` is what an installer adds to
/// the image's `/etc`, and wins without a conflict.
pub fn plan(
    base: Option<&EtcTree<'_>>,
    mine: &EtcTree<'_>,
    theirs: &EtcTree<'_>,
    policy: Policy,
) -> Result<MergePlan, PlanError> {
    let mut planner = Planner {
        is_first: base.is_none(),
        policy,
        path: Vec::new(),
        conflicts: Vec::new(),
        counts: Counts::default(),
        accounts: AccountMerger::default(),
    };
    let root = planner
        .directory(
            base.map(|tree| At::new(tree, &tree.root)),
            Some(At::new(mine, &mine.root)),
            Some(At::new(theirs, &theirs.root)),
        )
        .map_err(|source| PlanError {
            path: planner.shown_path(),
            source,
        })?;
    Ok(MergePlan {
        root,
        conflicts: planner.conflicts,
        clashes: planner.accounts.into_clashes(),
        counts: planner.counts,
    })
}

/// The three versions of a name.
#[derive(Clone, Copy)]
struct Versions<'t> {
    base: Option<At<'t, Node>>,
    mine: Option<At<'t, Node>>,
    theirs: Option<At<'t, Node>>,
}

struct Planner {
    is_first: bool,
    policy: Policy,
    /// Where it is, below `/etc`.
    path: Vec<u8>,
    conflicts: Vec<Conflict>,
    counts: Counts,
    accounts: AccountMerger,
}

impl Planner {
    fn shown_path(&self) -> String {
        format!("/etc/{}", String::from_utf8_lossy(&self.path))
    }

    /// Merges the entries of two or three directories.
    ///
    /// Without one of mine and theirs its entries count as removed, and the
    /// other one's metadata are used.
    fn directory(
        &mut self,
        base: Option<At<'_, Directory>>,
        mine: Option<At<'_, Directory>>,
        theirs: Option<At<'_, Directory>>,
    ) -> io::Result<PlannedDirectory> {
        let metadata = match (mine, theirs) {
            (Some(mine), Some(theirs)) => self.metadata_side(
                base.map(|base| &base.it.metadata),
                &mine.it.metadata,
                &theirs.it.metadata,
            ),
            (_, None) => Side::Mine,
            (None, _) => Side::Theirs,
        };
        let names: BTreeSet<&[u8]> = [mine, theirs]
            .into_iter()
            .flatten()
            .flat_map(|directory| directory.it.entries.keys())
            .map(|name| &**name)
            .collect();
        let mut planned = PlannedDirectory {
            metadata,
            entries: BTreeMap::new(),
        };
        for name in names {
            let before = self.path.len();
            if before > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            let versions = Versions {
                base: base.and_then(|directory| directory.entry(name)),
                mine: mine.and_then(|directory| directory.entry(name)),
                theirs: theirs.and_then(|directory| directory.entry(name)),
            };
            self.entry(name, versions, &mut planned.entries)?;
            self.path.truncate(before);
        }
        Ok(planned)
    }

    fn entry(
        &mut self,
        name: &[u8],
        versions: Versions<'_>,
        entries: &mut BTreeMap<Box<[u8]>, Step>,
    ) -> io::Result<()> {
        let Versions { base, mine, theirs } = versions;
        let step = match special(&self.path) {
            Some(Special::Dropped) => None,
            Some(Special::Machine) => match (mine, base, theirs) {
                (Some(_), ..) => Some(self.keep(name)),
                (None, None, Some(_)) => Some(self.take(name)),
                _ => None,
            },
            Some(Special::Image) if theirs.is_some() => Some(self.take(name)),
            Some(Special::Accounts(file)) => match self.accounts(file, name, versions)? {
                Some(step) => Some(step),
                None => self.generic(name, versions, entries)?,
            },
            _ => self.generic(name, versions, entries)?,
        };
        if let Some(step) = step {
            // What is kept beside a name may have replaced an older leftover.
            entries.entry(name.into()).or_insert(step);
        }
        Ok(())
    }

    fn keep(&mut self, name: &[u8]) -> Step {
        self.counts.mine += 1;
        copy(Side::Mine, name)
    }

    fn take(&mut self, name: &[u8]) -> Step {
        self.counts.theirs += 1;
        copy(Side::Theirs, name)
    }

    fn generic(
        &mut self,
        name: &[u8],
        versions: Versions<'_>,
        entries: &mut BTreeMap<Box<[u8]>, Step>,
    ) -> io::Result<Option<Step>> {
        let Versions { base, mine, theirs } = versions;
        let directories = (
            base.and_then(At::directory),
            mine.and_then(At::directory),
            theirs.and_then(At::directory),
        );
        match directories {
            (base, Some(mine), Some(theirs)) => {
                let merged = self.directory(base, Some(mine), Some(theirs))?;
                return Ok(Some(Step::Directory(merged)));
            }
            (Some(base), mine, theirs) if versions.one_is_gone() => {
                return self.half_removed(base, mine, theirs);
            }
            _ => {}
        }
        self.leaf(name, versions, entries)
    }

    /// A directory that one side removed: what the other side changed or added
    /// in it is decided entry by entry.
    fn half_removed(
        &mut self,
        base: At<'_, Directory>,
        mine: Option<At<'_, Directory>>,
        theirs: Option<At<'_, Directory>>,
    ) -> io::Result<Option<Step>> {
        let left = self.directory(Some(base), mine, theirs)?;
        if !left.entries.is_empty() {
            return Ok(Some(Step::Directory(left)));
        }
        match mine {
            Some(_) => self.counts.theirs += 1,
            None => self.counts.mine += 1,
        }
        Ok(None)
    }

    fn leaf(
        &mut self,
        name: &[u8],
        versions: Versions<'_>,
        entries: &mut BTreeMap<Box<[u8]>, Step>,
    ) -> io::Result<Option<Step>> {
        let Versions { base, mine, theirs } = versions;
        if self.is_first {
            return Ok(Some(match mine {
                Some(_) => self.keep(name),
                None => self.take(name),
            }));
        }
        let changed_by_them = !same_version(base, theirs)?;
        if !changed_by_them {
            // Whether I changed it matters for the count alone, and may cost a
            // read: what is not there is the one case that is plain.
            match (mine, base) {
                (Some(_), Some(_)) => self.counts.unchanged += 1,
                _ => self.counts.mine += 1,
            }
            return Ok(mine.map(|_| copy(Side::Mine, name)));
        }
        if same_version(base, mine)? {
            self.counts.theirs += 1;
            return Ok(theirs.map(|_| copy(Side::Theirs, name)));
        }
        if same_version(mine, theirs)? {
            self.counts.unchanged += 1;
            return Ok(mine.map(|_| copy(Side::Mine, name)));
        }
        if let Some(step) = self.file_in_parts(name, versions, entries)? {
            return Ok(Some(step));
        }
        Ok(self.conflict(name, versions, entries))
    }

    /// A file that is one on both sides: content and metadata are decided
    /// apart, so that new permissions of mine and a new content of theirs go
    /// together.
    fn file_in_parts(
        &mut self,
        name: &[u8],
        versions: Versions<'_>,
        entries: &mut BTreeMap<Box<[u8]>, Step>,
    ) -> io::Result<Option<Step>> {
        let Versions { base, mine, theirs } = versions;
        let (Some(my_file), Some(their_file)) =
            (mine.and_then(At::regular), theirs.and_then(At::regular))
        else {
            return Ok(None);
        };
        let base_file = base.and_then(At::regular);
        let (Some(mine), Some(theirs)) = (mine, theirs) else {
            return Ok(None);
        };
        let content = match content_side(base_file, my_file, their_file)? {
            Some(side) => side,
            None => {
                self.report(ConflictKind::BothChanged, name, true, entries);
                self.policy.winner()
            }
        };
        let metadata = self.metadata_side(
            base.map(|base| base.it.metadata()),
            mine.it.metadata(),
            theirs.it.metadata(),
        );
        self.counts.merged += 1;
        Ok(Some(if content == metadata {
            copy(content, name)
        } else {
            Step::File { content, metadata }
        }))
    }

    fn conflict(
        &mut self,
        name: &[u8],
        versions: Versions<'_>,
        entries: &mut BTreeMap<Box<[u8]>, Step>,
    ) -> Option<Step> {
        let Versions { mine, theirs, .. } = versions;
        let is_directory =
            |version: Option<At<'_, Node>>| version.and_then(At::directory).is_some();
        let kind = match (mine, theirs) {
            (None, _) => ConflictKind::RemovedByMe,
            (_, None) => ConflictKind::RemovedByThem,
            _ if is_directory(mine) != is_directory(theirs) => ConflictKind::KindChanged,
            _ => ConflictKind::BothChanged,
        };
        let winner = self.policy.winner();
        let (winning, losing) = match winner {
            Side::Mine => (mine, theirs),
            Side::Theirs => (theirs, mine),
        };
        // A file that was removed on purpose is not brought back beside its name.
        let is_kept = winning.is_some()
            && losing.is_some_and(|losing| {
                matches!(
                    losing.it,
                    Node::Leaf(Leaf {
                        content: Content::Regular(_) | Content::Symlink(_),
                        ..
                    })
                )
            });
        self.report(kind, name, is_kept, entries);
        winning.map(|_| copy(winner, name))
    }

    /// Notes a conflict at the current path, and keeps the losing version.
    fn report(
        &mut self,
        kind: ConflictKind,
        name: &[u8],
        is_kept: bool,
        entries: &mut BTreeMap<Box<[u8]>, Step>,
    ) {
        let winner = self.policy.winner();
        let mut kept_name = name.to_vec();
        kept_name.extend_from_slice(self.policy.suffix_of_the_other());
        let is_kept = is_kept && kept_name.len() <= MAX_NAME;
        self.conflicts.push(Conflict {
            path: self.shown_path(),
            kind,
            winner,
            kept_as: is_kept.then(|| String::from_utf8_lossy(&kept_name).into_owned()),
        });
        if is_kept {
            let losing = match winner {
                Side::Mine => Side::Theirs,
                Side::Theirs => Side::Mine,
            };
            entries.insert(kept_name.into(), copy(losing, name));
        }
    }

    fn metadata_side(
        &mut self,
        base: Option<&Metadata>,
        mine: &Metadata,
        theirs: &Metadata,
    ) -> Side {
        if self.is_first {
            // An installer's directories are there for the files in them.
            return Side::Theirs;
        }
        if same_metadata(mine, theirs) || base.is_some_and(|base| same_metadata(base, theirs)) {
            return Side::Mine;
        }
        if base.is_some_and(|base| same_metadata(base, mine)) {
            return Side::Theirs;
        }
        let winner = self.policy.winner();
        self.conflicts.push(Conflict {
            path: self.shown_path(),
            kind: ConflictKind::BothChangedMetadata,
            winner,
            kept_as: None,
        });
        winner
    }

    /// Merges an account file by line; `None` where it is not a file on both sides.
    fn accounts(
        &mut self,
        file: AccountFile,
        name: &[u8],
        versions: Versions<'_>,
    ) -> io::Result<Option<Step>> {
        let Versions { base, mine, theirs } = versions;
        let (Some(mine), Some(theirs)) = (mine, theirs) else {
            return Ok(None);
        };
        let (Some(my_file), Some(their_file)) = (mine.regular(), theirs.regular()) else {
            return Ok(None);
        };
        let base_file = base.and_then(At::regular);
        if let Some(base_file) = base_file
            && same_file(base_file, their_file)?
        {
            return Ok(None);
        }
        let base_text = base_file.map(read_accounts).transpose()?;
        let my_text = read_accounts(my_file)?;
        let their_text = read_accounts(their_file)?;
        let bytes = self.accounts.merge(
            file,
            base_text.as_deref().unwrap_or_default(),
            &my_text,
            &their_text,
        );
        let metadata = self.metadata_side(
            base.map(|base| base.it.metadata()),
            mine.it.metadata(),
            theirs.it.metadata(),
        );
        let content = match bytes {
            _ if bytes == my_text => Some(Side::Mine),
            _ if bytes == their_text => Some(Side::Theirs),
            _ => None,
        };
        match content {
            Some(Side::Mine) => self.counts.mine += 1,
            Some(Side::Theirs) => self.counts.theirs += 1,
            None => self.counts.merged += 1,
        }
        Ok(Some(match content {
            Some(content) if content == metadata => copy(content, name),
            Some(content) => Step::File { content, metadata },
            None => Step::Text { bytes, metadata },
        }))
    }
}

impl Versions<'_> {
    /// One of mine and theirs is not there, and the other one is.
    fn one_is_gone(&self) -> bool {
        self.mine.is_some() != self.theirs.is_some()
            && self
                .mine
                .or(self.theirs)
                .is_some_and(|version| version.directory().is_some())
    }
}

fn copy(side: Side, name: &[u8]) -> Step {
    Step::Copy {
        side,
        name: name.into(),
    }
}

fn read_accounts(file: At<'_, Regular>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.tree
        .open(file.it)?
        .take(MAX_ACCOUNTS + 1)
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_ACCOUNTS) {
        Ok(bytes)
    } else {
        Err(io::Error::other("it is too large for an account file"))
    }
}

/// Whose content a file gets; `None`: both changed it.
fn content_side(
    base: Option<At<'_, Regular>>,
    mine: At<'_, Regular>,
    theirs: At<'_, Regular>,
) -> io::Result<Option<Side>> {
    if let Some(base) = base {
        if same_file(base, theirs)? {
            return Ok(Some(Side::Mine));
        }
        if same_file(base, mine)? {
            return Ok(Some(Side::Theirs));
        }
    }
    Ok(same_file(mine, theirs)?.then_some(Side::Mine))
}
