//! `hull history` for people.

use hull_boot::record::Operation;
use hull_deploy::history::Event;

use super::status::whole_seconds;
use super::table::table;
use super::{Style, text};

/// A line for each event, the latest first.
pub(crate) fn render(events: &[Event], verbose: bool, style: Style) -> String {
    if events.is_empty() {
        return "Nothing was done to this system yet.\n".to_owned();
    }
    let header = ["WHEN", "WHAT", "VERSION", "IMAGE", "DEPLOYMENT"].map(String::from);
    let rows = events.iter().rev().map(|event| row(event, verbose));
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let table = table(&rows);
    match table.split_once('\n') {
        Some((header, rest)) => format!("{}\n{rest}", style.faint(header)),
        None => table,
    }
}

fn row(event: &Event, verbose: bool) -> [String; 5] {
    let reference = event
        .reference
        .strip_prefix("docker://")
        .unwrap_or(&event.reference);
    let (image, deployment) = (
        format!("{reference}@{}", event.manifest_digest),
        event.deployment,
    );
    [
        whole_seconds(&event.when),
        operation(event.operation).to_owned(),
        event.version.as_deref().map_or("-".to_owned(), text::line),
        text::line(if verbose { &image } else { reference }),
        if verbose {
            deployment.to_string()
        } else {
            text::shorten(&deployment.to_string())
        },
    ]
}

fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Install => "install",
        Operation::Upgrade => "upgrade",
        Operation::Switch => "switch",
        Operation::Rollback => "rollback",
    }
}
