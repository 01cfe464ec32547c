//! What other tools call the components that hull finds.

use std::collections::BTreeSet;

use super::{Item, Plan};
use crate::components::REST;

/// What chunkah and rpm-ostree call what nothing else claims.
const RESTS: [&str; 2] = ["chunkah/unclaimed", "rpmostree-unpackaged-content"];
/// What rpm-ostree calls the component of an initramfs, which hull calls by the first.
const INITRAMFS: [&str; 2] = ["initramfs", "initramfs.img"];

/// The plan of an earlier image in the names of hull's components.
///
/// chunkah names components as hull does, but for large files, which have the last part of their path, and what is left
/// over. rpm-ostree names packages as rpm does, where hull has their sources: one that is called like its source is
/// known, as most are. Names that lead to none of `items` stay.
pub fn in_our_names(plan: &Plan, items: &[Item]) -> Plan {
    let ours: BTreeSet<&str> = items.iter().map(|item| item.name.as_str()).collect();
    let layers = plan.layers.iter();
    let layers = layers.map(|names| names.iter().map(|name| our_name(name, &ours)).collect());
    Plan {
        layers: layers.collect(),
    }
}

/// How many of a plan's components are among the items, and how many it has.
pub fn known(plan: &Plan, items: &[Item]) -> (usize, usize) {
    let ours: BTreeSet<&str> = items.iter().map(|item| item.name.as_str()).collect();
    let names = plan.layers.iter().flatten();
    let known = names.clone().filter(|name| ours.contains(name.as_str()));
    (known.count(), names.count())
}

fn our_name(name: &str, ours: &BTreeSet<&str>) -> String {
    let is_ours = |name: &str| ours.contains(name);
    let found = if is_ours(name) {
        None
    } else if RESTS.contains(&name) {
        Some(REST.to_owned())
    } else if INITRAMFS.contains(&name) {
        Some(INITRAMFS[0].to_owned())
    } else if let Some(file) = name.strip_prefix("bigfiles/") {
        large_file(file, ours)
    } else {
        // Where rpm-ostree heeds user.component, it takes the value as it is.
        let kinds = ["rpm", "xattr"].iter();
        kinds
            .map(|kind| format!("{kind}/{name}"))
            .find(|name| is_ours(name))
    };
    found.unwrap_or_else(|| name.to_owned())
}

/// The component of the one large file that is called so; chunkah writes the whole path where there is another.
fn large_file(name: &str, ours: &BTreeSet<&str>) -> Option<String> {
    let name = name.trim_start_matches('/');
    let tail = format!("/{name}");
    let mut found = ours
        .iter()
        .filter(|component| component.starts_with("file/") && component.ends_with(&tail));
    let first = found.next()?;
    let is_only = found.next().is_none() || **first == format!("file{tail}");
    is_only.then(|| (*first).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frequency::Frequency;

    #[test]
    fn names_of_other_tools_lead_to_the_components_of_hull() {
        let names = [
            "rpm/bash",
            "rest",
            "initramfs",
            "file/usr/bin/large",
            "file/a/twice",
            "file/b/twice",
            "xattr/app",
        ];
        let items = names.map(|name| Item {
            name: name.to_owned(),
            size: 1,
            frequency: Frequency::of(1.0),
        });
        let plan = |names: &[&str]| Plan {
            layers: vec![names.iter().map(|name| (*name).to_owned()).collect()],
        };
        for (theirs, ours) in [
            ("rpm/bash", "rpm/bash"),
            ("bash", "rpm/bash"),
            ("app", "xattr/app"),
            ("initramfs.img", "initramfs"),
            ("rpmostree-unpackaged-content", "rest"),
            ("chunkah/unclaimed", "rest"),
            ("bigfiles/large", "file/usr/bin/large"),
            ("bigfiles/usr/bin/large", "file/usr/bin/large"),
            ("bigfiles/twice", "bigfiles/twice"),
            ("bigfiles/b/twice", "file/b/twice"),
            ("glibc-common", "glibc-common"),
        ] {
            assert_eq!(in_our_names(&plan(&[theirs]), &items), plan(&[ours]));
        }
        let both = in_our_names(&plan(&["bash", "glibc-common"]), &items);
        assert_eq!(known(&both, &items), (1, 2));
    }
}
