//! The table of crates in ARCHITECTURE.md and Cargo's own graph say the same.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

type Edges = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[expect(
    clippy::disallowed_methods,
    reason = "Cargo itself is asked, not a program of the system"
)]
fn metadata() -> serde_json::Value {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--offline",
            "--filter-platform=x86_64-unknown-linux-gnu",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The name of a crate as in the table, for the packages below `crates/`.
fn crate_name(package: &str) -> &str {
    match package {
        "hull" => "cli",
        other => other.strip_prefix("hull-").unwrap_or(other),
    }
}

fn cargo_edges(metadata: &serde_json::Value) -> Edges {
    let mut edges = Edges::new();
    for package in metadata["packages"].as_array().unwrap() {
        let manifest = package["manifest_path"].as_str().unwrap();
        if !package["source"].is_null() || !manifest.contains("/crates/") {
            continue;
        }
        let uses = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str())
            .filter_map(|name| name.strip_prefix("hull-"))
            .map(str::to_owned)
            .collect();
        let name = crate_name(package["name"].as_str().unwrap());
        edges.insert(name.to_owned(), uses);
    }
    edges
}

/// Rows of the form `| name | what | may use | must not know |`.
fn table_edges() -> Edges {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let name = cells[0].trim_end_matches('`').to_owned();
            let uses = cells
                .get(2)?
                .split([',', ' '])
                .filter(|word| !word.is_empty() && *word != "–");
            (cells.len() == 5).then(|| (name, uses.map(str::to_owned).collect()))
        })
        .collect()
}

#[test]
fn the_crates_use_only_what_the_table_allows() {
    let (cargo, table) = (cargo_edges(&metadata()), table_edges());
    let names: Vec<_> = cargo.keys().collect();
    assert_eq!(
        names,
        table.keys().collect::<Vec<_>>(),
        "the table lists each crate once"
    );
    for (name, uses) in &cargo {
        let forbidden: Vec<_> = uses.difference(&table[name]).collect();
        assert!(
            forbidden.is_empty(),
            "{name} uses {forbidden:?}, which the table does not allow"
        );
    }
}

#[test]
fn setup_root_is_built_without_network_code() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let by_id: BTreeMap<_, _> = nodes
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let start = by_id.keys().find(|id| id.contains("crates/boot#")).unwrap();
    let (mut seen, mut open) = (BTreeSet::new(), vec![*start]);
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in by_id[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                open.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    for banned in [
        "ureq",
        "rustls",
        "tokio",
        "hull-oci",
        "hull-store",
        "crates/oci",
        "crates/store",
    ] {
        let found = seen.iter().find(|id| id.contains(banned));
        assert!(found.is_none(), "setup-root would be built with {found:?}");
    }
}
