//! What was done to a machine: one event for each operation, kept beside the
//! deployments in `/state/history.json`.

use std::io;
use std::os::fd::AsFd;

use hull_boot::record::{DeploymentName, Operation};
use hull_sys::{dir, durable};
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "history.json";
/// Older events are dropped, so that the file stays small.
const MAX_EVENTS: usize = 200;
const MAX_BYTES: u64 = 4 << 20;

/// An operation that was completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, RFC 3339.
    pub when: String,
    /// What was done.
    pub operation: Operation,
    /// The deployment that the next boot was to start.
    pub deployment: DeploymentName,
    /// The order number of its entry.
    pub order: u32,
    /// Where its image came from.
    pub reference: String,
    /// The digest of its manifest.
    pub manifest_digest: String,
    /// The version label of its image.
    #[serde(default)]
    pub version: Option<String>,
}

/// All events that are kept, the oldest first. A damaged file, and one that is
/// longer than hull's are, is an empty history: it is for people, nothing depends on it.
pub fn read(state_dir: impl AsFd) -> io::Result<Vec<Event>> {
    match dir::read_file_at_most(state_dir, FILE_NAME, MAX_BYTES) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Adds an event. On return it is on disk.
pub fn append(state_dir: impl AsFd, event: Event) -> io::Result<()> {
    let mut events = read(&state_dir)?;
    events.push(event);
    let excess = events.len().saturating_sub(MAX_EVENTS);
    events.drain(..excess);
    let mut bytes = serde_json::to_vec_pretty(&events)?;
    bytes.push(b'\n');
    durable::replace(state_dir, FILE_NAME, 0o644, &bytes)
}
