//! What holds for any three versions.

use proptest::prelude::*;

use super::*;

fn entry() -> impl Strategy<Value = Entry> {
    let modes = || proptest::sample::select(vec![0o644, 0o600]);
    prop_oneof![
        1 => proptest::sample::select(vec![0o755, 0o700]).prop_map(Entry::Directory),
        4 => (modes(), "[xyz]").prop_map(|(mode, text)| Entry::File(mode, text)),
        1 => "[xy]".prop_map(Entry::Link),
    ]
}

/// Few names, so that the versions have many in common.
fn version() -> impl Strategy<Value = Files> {
    proptest::collection::btree_map("[abc](/[abc]){0,2}", entry(), 0..8).prop_map(consistent)
}

/// Drops what is below something that is no directory, and adds parents.
fn consistent(files: Files) -> Files {
    let mut result = Files::new();
    for (path, entry) in files {
        let parents: Vec<&str> = path
            .match_indices('/')
            .map(|(end, _)| &path[..end])
            .collect();
        let fits = parents
            .iter()
            .all(|parent| matches!(result.get(*parent), None | Some(Entry::Directory(_))));
        if fits {
            for parent in parents {
                result
                    .entry(parent.to_owned())
                    .or_insert(Entry::Directory(0o755));
            }
            result.insert(path, entry);
        }
    }
    result
}

proptest! {
    #[test]
    fn without_changes_of_theirs_mine_comes_out(base in version(), mine in version()) {
        let (result, plan) = merged(&base, &mine, &base);
        prop_assert_eq!(result, mine);
        prop_assert_eq!(plan.conflicts, []);
    }

    #[test]
    fn without_changes_of_mine_theirs_comes_out(base in version(), theirs in version()) {
        let (result, plan) = merged(&base, &base, &theirs);
        prop_assert_eq!(result, theirs);
        prop_assert_eq!(plan.conflicts, []);
    }

    #[test]
    fn equal_changes_are_no_conflict(base in version(), both in version()) {
        let (result, plan) = merged(&base, &both, &both);
        prop_assert_eq!(result, both);
        prop_assert_eq!(plan.conflicts, []);
    }

    #[test]
    fn no_change_of_mine_is_lost(base in version(), mine in version(), theirs in version()) {
        let (result, _) = merged(&base, &mine, &theirs);
        for (path, entry) in &mine {
            let Entry::File(_, text) = entry else { continue };
            if !matches!(base.get(path), Some(Entry::File(_, before)) if before == text) {
                let is_kept = matches!(result.get(path), Some(Entry::File(_, kept)) if kept == text);
                prop_assert!(is_kept, "{}", path);
            }
        }
    }

    #[test]
    fn the_next_upgrade_to_the_same_image_changes_nothing(
        base in version(), mine in version(), theirs in version(),
    ) {
        let (result, _) = merged(&base, &mine, &theirs);
        let (again, plan) = merged(&theirs, &result, &theirs);
        prop_assert_eq!(again, result);
        prop_assert_eq!(plan.conflicts, []);
    }
}
