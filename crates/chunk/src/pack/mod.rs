//! Which components share a layer: pure functions of sizes and rates of change.
//!
//! What is made small is the expected download of an update: the sum over the
//! layers of their size times the probability that one of their components
//! changed since the last update. A component that changes often should not
//! share a layer with one that is large.
//!
//! A plan is also stable: the same component goes to the same layer next time.
//! With a previous plan ([`stable`]) nothing moves. Without one ([`fresh`]) the
//! small components go to layers by rendezvous hashing, so that one component
//! more or less moves that one only.

mod cost;
mod foreign;
mod fresh;
mod stable;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::cost::expected_download;
pub use self::foreign::{in_our_names, known};
pub use self::fresh::fresh;
pub use self::stable::stable;
use crate::frequency::Frequency;

/// A component, as far as packing goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// How often it changes.
    pub frequency: Frequency,
}

/// The components of each layer, by name; no layer is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Lowest layer first; the names within a layer are sorted.
    pub layers: Vec<Vec<String>>,
}

impl Plan {
    /// The layer of each component.
    pub fn places(&self) -> BTreeMap<&str, usize> {
        let layers = self.layers.iter().enumerate();
        layers
            .flat_map(|(place, names)| names.iter().map(move |name| (name.as_str(), place)))
            .collect()
    }
}

/// The items by name.
fn by_name(items: &[Item]) -> BTreeMap<&str, &Item> {
    items
        .iter()
        .map(|item| (item.name.as_str(), item))
        .collect()
}
