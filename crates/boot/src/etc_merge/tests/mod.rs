//! Rules of the merge, on trees in memory.

mod on_disk;
mod properties;

use std::collections::BTreeMap;
use std::io;

use hull_erofs::tree as image;

use super::plan::{PlannedDirectory, Step};
use super::tree::{Content, Directory, Leaf, Node};
use super::*;

/// A version of `/etc` for a test: what is at each path.
type Files = BTreeMap<String, Entry>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Directory(u16),
    File(u16, String),
    Link(String),
}

fn file(text: &str) -> Entry {
    Entry::File(0o644, text.to_owned())
}

fn link(target: &str) -> Entry {
    Entry::Link(target.to_owned())
}

fn files<const N: usize>(entries: [(&str, Entry); N]) -> Files {
    entries.map(|(path, entry)| (path.to_owned(), entry)).into()
}

/// Missing parents are directories of mode 0755.
fn etc(files: &Files) -> EtcTree<'static> {
    let mut tree = image::Tree::default();
    let root = image::DirectoryId::ROOT;
    tree.change_directory_metadata(root, |metadata| metadata.mode = 0o755);
    insert(&mut tree, "etc", &Entry::Directory(0o755));
    for (path, entry) in files {
        insert(&mut tree, &format!("etc/{path}"), entry);
    }
    EtcTree::from_image(&tree, |_| Err(io::ErrorKind::NotFound.into()))
}

fn insert(tree: &mut image::Tree, path: &str, entry: &Entry) {
    let metadata = |mode| image::Metadata {
        mode,
        ..image::Metadata::default()
    };
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if tree.directory(parent.as_bytes()).is_none() {
        insert(tree, parent, &Entry::Directory(0o755));
    }
    let parent = tree.directory(parent.as_bytes()).unwrap().id();
    let leaf = match entry {
        Entry::Directory(mode) => {
            tree.put_directory(parent, name.as_bytes(), metadata(*mode));
            return;
        }
        Entry::File(mode, text) => image::Leaf {
            metadata: metadata(*mode),
            content: image::Content::Inline(text.as_bytes().into()),
        },
        Entry::Link(target) => image::Leaf {
            metadata: metadata(0o777),
            content: image::Content::Symlink(target.as_bytes().into()),
        },
    };
    let leaf = tree.add_leaf(leaf);
    tree.put_leaf(parent, name.as_bytes(), leaf);
}

/// What executing a plan would give.
struct Outcome<'t> {
    mine: &'t EtcTree<'t>,
    theirs: &'t EtcTree<'t>,
    files: Files,
}

impl Outcome<'_> {
    fn tree(&self, side: Side) -> &EtcTree<'_> {
        match side {
            Side::Mine => self.mine,
            Side::Theirs => self.theirs,
        }
    }

    fn directory(
        &mut self,
        path: &str,
        planned: &PlannedDirectory,
        mine: Option<&Directory>,
        theirs: Option<&Directory>,
    ) {
        let metadata = match planned.metadata {
            Side::Mine => mine,
            Side::Theirs => theirs,
        };
        let mode = metadata.unwrap().metadata.mode;
        if !path.is_empty() {
            self.files.insert(path.to_owned(), Entry::Directory(mode));
        }
        let find = |side, name: &[u8]| match side {
            Side::Mine => mine.unwrap().entries.get(name).unwrap(),
            Side::Theirs => theirs.unwrap().entries.get(name).unwrap(),
        };
        for (name, step) in &planned.entries {
            let path = join(path, name);
            match step {
                Step::Copy { side, name } => self.copy(&path, *side, find(*side, name)),
                Step::Directory(planned) => {
                    let mine = find_directory(self.mine, &path);
                    let theirs = find_directory(self.theirs, &path);
                    self.directory(&path, planned, mine, theirs);
                }
                Step::File { content, metadata } => {
                    let text = self.text(*content, find(*content, name));
                    let mode = find(*metadata, name).metadata().mode;
                    self.files.insert(path, Entry::File(mode, text));
                }
                Step::Text { bytes, metadata } => {
                    let mode = find(*metadata, name).metadata().mode;
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    self.files.insert(path, Entry::File(mode, text));
                }
            }
        }
    }

    fn copy(&mut self, path: &str, side: Side, node: &Node) {
        match node {
            Node::Directory(directory) => {
                let mode = directory.metadata.mode;
                self.files.insert(path.to_owned(), Entry::Directory(mode));
                for (name, node) in &directory.entries {
                    self.copy(&join(path, name), side, node);
                }
            }
            Node::Leaf(Leaf { metadata, content }) => {
                let entry = match content {
                    Content::Symlink(target) => {
                        Entry::Link(String::from_utf8(target.to_vec()).unwrap())
                    }
                    _ => Entry::File(metadata.mode, self.text(side, node)),
                };
                self.files.insert(path.to_owned(), entry);
            }
        }
    }

    fn text(&self, side: Side, node: &Node) -> String {
        let file = node.as_regular().unwrap();
        io::read_to_string(self.tree(side).open(file).unwrap()).unwrap()
    }
}

fn find_directory<'t>(tree: &'t EtcTree<'_>, path: &str) -> Option<&'t Directory> {
    path.split('/').try_fold(&tree.root, |directory, name| {
        directory.entries.get(name.as_bytes())?.as_directory()
    })
}

fn join(path: &str, name: &[u8]) -> String {
    let name = std::str::from_utf8(name).unwrap();
    match path {
        "" => name.to_owned(),
        path => format!("{path}/{name}"),
    }
}

fn merged_by(
    policy: Policy,
    base: Option<&Files>,
    mine: &Files,
    theirs: &Files,
) -> (Files, MergePlan) {
    let (base, mine, theirs) = (base.map(etc), etc(mine), etc(theirs));
    let plan = plan(base.as_ref(), &mine, &theirs, policy).unwrap();
    let mut outcome = Outcome {
        mine: &mine,
        theirs: &theirs,
        files: Files::new(),
    };
    outcome.directory("", &plan.root, Some(&mine.root), Some(&theirs.root));
    (outcome.files, plan)
}

fn merged(base: &Files, mine: &Files, theirs: &Files) -> (Files, MergePlan) {
    merged_by(Policy::Mine, Some(base), mine, theirs)
}

/// Merges one path, and says what it is then, and which conflict there was.
fn merged_path(
    path: &str,
    base: Option<Entry>,
    mine: Option<Entry>,
    theirs: Option<Entry>,
) -> (Option<Entry>, Option<ConflictKind>) {
    let version = |entry: Option<Entry>| -> Files {
        entry
            .map(|entry| (path.to_owned(), entry))
            .into_iter()
            .collect()
    };
    let (files, plan) = merged(&version(base), &version(mine), &version(theirs));
    assert!(plan.conflicts.len() <= 1);
    (
        files.get(path).cloned(),
        plan.conflicts.first().map(|conflict| conflict.kind),
    )
}

#[test]
fn what_one_side_changed_is_taken_from_it() {
    let (a, b) = (Some(file("a")), Some(file("b")));
    for (base, mine, theirs, expected) in [
        (a.clone(), a.clone(), a.clone(), a.clone()),
        (a.clone(), b.clone(), a.clone(), b.clone()),
        (a.clone(), a.clone(), b.clone(), b.clone()),
        (a.clone(), b.clone(), b.clone(), b.clone()),
        (a.clone(), None, a.clone(), None),
        (a.clone(), a.clone(), None, None),
        (a.clone(), None, None, None),
        (None, a.clone(), None, a.clone()),
        (None, None, a.clone(), a.clone()),
        (None, a.clone(), a.clone(), a.clone()),
        (Some(link("x")), Some(link("x")), a.clone(), a.clone()),
        (a.clone(), Some(link("x")), a.clone(), Some(link("x"))),
    ] {
        let result = merged_path("x", base.clone(), mine.clone(), theirs.clone());
        assert_eq!(result, (expected, None), "{base:?} {mine:?} {theirs:?}");
    }
}

#[test]
fn where_both_changed_it_mine_wins_and_theirs_is_beside_it() {
    let (files, plan) = merged(
        &files([("d/x", file("a"))]),
        &files([("d/x", file("b"))]),
        &files([("d/x", file("c"))]),
    );
    assert_eq!(files["d/x"], file("b"));
    assert_eq!(files["d/x.hull-new~"], file("c"));
    let text = plan.conflicts[0].to_string();
    assert!(
        text.contains("/etc/d/x:") && text.contains("x.hull-new~"),
        "{text}"
    );
}

#[test]
fn the_other_policy_takes_theirs_and_keeps_mine_beside_it() {
    let (files, plan) = merged_by(
        Policy::Theirs,
        Some(&files([("x", file("a"))])),
        &files([("x", file("b"))]),
        &files([("x", file("c"))]),
    );
    assert_eq!(files["x"], file("c"));
    assert_eq!(files["x.hull-old~"], file("b"));
    assert_eq!(plan.conflicts[0].winner, Side::Theirs);
}

#[test]
fn an_older_version_beside_a_name_gives_way_to_the_newer_one() {
    let (files, _) = merged(
        &files([("x", file("b"))]),
        &files([("x", file("mine")), ("x.hull-new~", file("b"))]),
        &files([("x", file("c"))]),
    );
    assert_eq!(files["x.hull-new~"], file("c"));
}

#[test]
fn a_name_too_long_for_a_suffix_is_a_conflict_without_a_copy() {
    let name = "x".repeat(250);
    let version = |text| files([(&name, file(text))]);
    let (files, plan) = merged(&version("a"), &version("b"), &version("c"));
    assert_eq!(files.len(), 1);
    assert_eq!(plan.conflicts[0].kept_as, None);
}

#[test]
fn a_file_that_i_removed_stays_away_though_they_changed_it() {
    let result = merged_path("x", Some(file("a")), None, Some(file("b")));
    assert_eq!(result, (None, Some(ConflictKind::RemovedByMe)));
}

#[test]
fn a_file_that_they_removed_stays_if_i_changed_it() {
    let result = merged_path("x", Some(file("a")), Some(file("b")), None);
    assert_eq!(result, (Some(file("b")), Some(ConflictKind::RemovedByThem)));
}

#[test]
fn permissions_of_mine_and_a_content_of_theirs_go_together() {
    let (files, plan) = merged(
        &files([("x", Entry::File(0o644, "a".into()))]),
        &files([("x", Entry::File(0o600, "a".into()))]),
        &files([("x", Entry::File(0o644, "b".into()))]),
    );
    assert_eq!(files["x"], Entry::File(0o600, "b".into()));
    assert_eq!(plan.conflicts, []);
}

#[test]
fn permissions_that_both_changed_are_mine_and_reported() {
    let version = |mode| files([("d", Entry::Directory(mode)), ("d/x", file("a"))]);
    let (files, plan) = merged(&version(0o755), &version(0o700), &version(0o750));
    assert_eq!(files["d"], Entry::Directory(0o700));
    assert_eq!(plan.conflicts[0].kind, ConflictKind::BothChangedMetadata);
}

#[test]
fn directories_are_merged_entry_by_entry() {
    let (files, plan) = merged(
        &files([("d/a", file("a")), ("d/b", file("b"))]),
        &files([
            ("d/a", file("mine")),
            ("d/b", file("b")),
            ("d/m", file("m")),
        ]),
        &files([("d/a", file("a")), ("d/t", file("t"))]),
    );
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["d", "d/a", "d/m", "d/t"]);
    assert_eq!(files["d/a"], file("mine"));
    assert_eq!(plan.conflicts, []);
}

#[test]
fn a_directory_that_they_removed_goes_but_for_what_i_changed_in_it() {
    let base = files([("d/a", file("a")), ("d/b", file("b"))]);
    let (result, plan) = merged(&base, &base, &Files::new());
    assert_eq!(result, Files::new());
    assert_eq!(plan.conflicts, []);
    let mine = files([("d/a", file("mine")), ("d/b", file("b"))]);
    let (result, plan) = merged(&base, &mine, &Files::new());
    let names: Vec<_> = result.keys().map(String::as_str).collect();
    assert_eq!(names, ["d", "d/a"]);
    assert_eq!(plan.conflicts[0].kind, ConflictKind::RemovedByThem);
}

#[test]
fn a_directory_that_i_removed_comes_back_with_what_is_new_in_it_only() {
    let base = files([("d/a", file("a"))]);
    let theirs = files([("d/a", file("a")), ("d/new", file("n"))]);
    let (result, plan) = merged(&base, &Files::new(), &theirs);
    let names: Vec<_> = result.keys().map(String::as_str).collect();
    assert_eq!(names, ["d", "d/new"]);
    assert_eq!(plan.conflicts, []);
}

#[test]
fn a_file_that_became_a_directory_is_taken_unless_i_changed_the_file() {
    let base = files([("x", file("a"))]);
    let theirs = files([("x/y", file("y"))]);
    let (result, plan) = merged(&base, &base, &theirs);
    assert_eq!(result["x/y"], file("y"));
    assert_eq!(plan.conflicts, []);
    let mine = files([("x", file("mine"))]);
    let (result, plan) = merged(&base, &mine, &theirs);
    assert_eq!(result, mine);
    assert_eq!(plan.conflicts[0].kind, ConflictKind::KindChanged);
}

#[test]
fn a_directory_that_became_a_link_is_taken_unless_i_changed_something_in_it() {
    let base = files([("d/a", file("a"))]);
    let theirs = files([("d", link("/usr/share/d"))]);
    let (result, _) = merged(&base, &base, &theirs);
    assert_eq!(result, theirs);
    let mine = files([("d/a", file("mine"))]);
    let (result, plan) = merged(&base, &mine, &theirs);
    assert_eq!(result["d/a"], file("mine"));
    assert_eq!(result["d.hull-new~"], link("/usr/share/d"));
    assert_eq!(plan.conflicts[0].kind, ConflictKind::KindChanged);
}

#[test]
fn what_makes_the_machine_itself_is_always_mine() {
    for path in [
        "machine-id",
        "ssh/ssh_host_ed25519_key",
        "ssh/ssh_host_rsa_key.pub",
    ] {
        let (base, mine, theirs) = (file("base"), file("mine"), file("theirs"));
        let result = merged_path(
            path,
            Some(base.clone()),
            Some(mine.clone()),
            Some(theirs.clone()),
        );
        assert_eq!(result, (Some(mine.clone()), None), "{path}");
        let result = merged_path(path, None, Some(mine.clone()), Some(theirs.clone()));
        assert_eq!(result, (Some(mine.clone()), None), "{path}");
        let result = merged_path(
            path,
            Some(base.clone()),
            Some(base.clone()),
            Some(theirs.clone()),
        );
        assert_eq!(result, (Some(base.clone()), None), "{path}");
        let result = merged_path(path, Some(base.clone()), Some(mine.clone()), None);
        assert_eq!(result, (Some(mine), None), "{path}");
        let result = merged_path(path, Some(base), None, Some(theirs));
        assert_eq!(result, (None, None), "{path}");
    }
}

#[test]
fn host_keys_stay_when_the_new_image_has_no_ssh() {
    let image = [("ssh/sshd_config", file("c"))];
    let mine = files([
        ("ssh/sshd_config", file("c")),
        ("ssh/ssh_host_rsa_key", file("key")),
    ]);
    let (result, _) = merged(&files(image), &mine, &Files::new());
    let names: Vec<_> = result.keys().map(String::as_str).collect();
    assert_eq!(names, ["ssh", "ssh/ssh_host_rsa_key"]);
}

#[test]
fn the_stamp_of_updates_goes_so_that_systemd_sees_one() {
    let with = files([(".updated", file("1")), ("x", file("a"))]);
    let (result, plan) = merged(&with, &with, &with);
    assert_eq!(result, files([("x", file("a"))]));
    assert_eq!(plan.conflicts, []);
}

#[test]
fn the_linker_s_cache_is_that_of_the_new_image_s_libraries() {
    let result = merged_path(
        "ld.so.cache",
        Some(file("a")),
        Some(file("b")),
        Some(file("c")),
    );
    assert_eq!(result, (Some(file("c")), None));
}

#[test]
fn account_files_are_merged_by_line_and_their_old_copies_are_mine() {
    let root = "root:x:0:0::/root:/bin/sh\n";
    let mine = format!("{root}anna:x:1000:1000::/home/anna:/bin/sh\n");
    let theirs = format!("{root}sshd:x:104:104::/:/bin/false\n");
    let (result, plan) = merged(
        &files([("passwd", file(root)), ("passwd-", file("1"))]),
        &files([("passwd", file(&mine)), ("passwd-", file("2"))]),
        &files([("passwd", file(&theirs)), ("passwd-", file("3"))]),
    );
    let expected = format!("{mine}sshd:x:104:104::/:/bin/false\n");
    assert_eq!(result["passwd"], file(&expected));
    assert_eq!(result["passwd-"], file("2"));
    assert_eq!(result.len(), 2);
    assert_eq!(plan.conflicts, []);
}

#[test]
fn users_that_do_not_fit_are_reported() {
    let (_, plan) = merged(
        &files([("passwd", file("root:x:0:0:::\n"))]),
        &files([("passwd", file("root:x:0:0:::\na:x:5:5:::\n"))]),
        &files([("passwd", file("root:x:0:0:::\nb:x:5:5:::\n"))]),
    );
    assert_eq!(plan.clashes.len(), 1);
}

#[test]
fn a_file_named_like_an_account_file_in_a_directory_is_a_file_like_others() {
    let version = |text| files([("d/passwd", file(text))]);
    let (_, plan) = merged(&version("a:1"), &version("b:2"), &version("c:3"));
    assert_eq!(plan.conflicts.len(), 1);
}

#[test]
fn what_an_installer_adds_wins_without_a_conflict() {
    let installed = files([
        ("conf.d", Entry::Directory(0o700)),
        ("conf.d/installer", file("i")),
        ("hostname", file("mine")),
    ]);
    let image = files([("conf.d/image", file("x")), ("hostname", file("image"))]);
    let (result, plan) = merged_by(Policy::Mine, None, &installed, &image);
    assert_eq!(result["conf.d"], Entry::Directory(0o755));
    assert_eq!(result["conf.d/installer"], file("i"));
    assert_eq!(result["conf.d/image"], file("x"));
    assert_eq!(result["hostname"], file("mine"));
    assert_eq!(plan.conflicts, []);
    assert_eq!(result.len(), 4);
}
