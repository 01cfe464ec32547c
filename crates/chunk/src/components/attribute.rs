//! Components that the author of an image names: `user.component`, on a file or a directory.

use std::collections::BTreeMap;

use super::names;
use super::places::{Places, Table};
use crate::scan::{FullPath, Scan};

const COMPONENT: &[u8] = b"user.component";
const INTERVAL: &[u8] = b"user.update-interval";
/// The longest name of a component, in bytes.
const NAME_MAX: usize = 255;

/// What the attributes say.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// The component of each entry of the scan that has one, as a place in `names`.
    pub(super) of_entry: Places,
    pub(super) names: Vec<String>,
    /// Changes in a year by component.
    pub(super) rates: BTreeMap<String, f64>,
}

/// An attribute that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum AttributeError {
    /// No name of a component.
    #[error("{0}: user.component must name a component in 1 to {NAME_MAX} bytes")]
    Name(FullPath),
    /// No interval.
    #[error(
        "{path}: user.update-interval is {value:?}; a number of days or daily, weekly, biweekly, \
         monthly, quarterly, yearly is expected"
    )]
    Interval {
        /// Where it is.
        path: FullPath,
        /// What it says.
        value: String,
    },
    /// An interval of nothing.
    #[error("{0}: user.update-interval is set where no user.component applies")]
    NoComponent(FullPath),
    /// Two intervals for one component.
    #[error("{path}: user.update-interval of the component {component} is another one elsewhere")]
    Conflict {
        /// Where the second one is.
        path: FullPath,
        /// The component.
        component: String,
    },
}

/// Reads the attributes; a directory's name holds for all that is in it.
pub(super) fn read(scan: &Scan) -> Result<Tags, AttributeError> {
    let mut tags = Tags::default();
    let mut names = Table::<String>::new();
    for place in 0..scan.entries.len() {
        let path = || FullPath::new(&scan.entries.path(place));
        let xattrs = scan.entries.xattrs(place);
        let tag = match (xattrs.get(COMPONENT), scan.entries.parent(place)) {
            (Some(value), _) => {
                let name = component(value).ok_or_else(|| AttributeError::Name(path()))?;
                Some(names.place(&*name))
            }
            // What is above comes before it.
            (None, Some(parent)) => tags.of_entry.get(parent),
            (None, None) => None,
        };
        tags.of_entry.push(tag);
        if let Some(value) = xattrs.get(INTERVAL) {
            let tag = tag.ok_or_else(|| AttributeError::NoComponent(path()))?;
            let component = &names.rows[tag];
            let rate = rate(value).ok_or_else(|| AttributeError::Interval {
                path: path(),
                value: String::from_utf8_lossy(value).chars().take(40).collect(),
            })?;
            let known = *tags.rates.entry(component.clone()).or_insert(rate);
            if known.to_bits() != rate.to_bits() {
                return Err(AttributeError::Conflict {
                    path: path(),
                    component: component.clone(),
                });
            }
        }
    }
    tags.names = names.rows;
    Ok(tags)
}

/// Tools write a NUL behind the value, or none.
fn text(value: &[u8]) -> &[u8] {
    value.strip_suffix(b"\0").unwrap_or(value)
}

/// The component that a value names, if it is a name.
fn component(value: &[u8]) -> Option<String> {
    let name = text(value);
    let is_name = (1..=NAME_MAX).contains(&name.len());
    is_name.then(|| names::of("xattr", name))
}

/// Changes in a year.
fn rate(value: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text(value)).ok()?.trim();
    let days = match text {
        "daily" => 1,
        "weekly" => 7,
        "biweekly" => 14,
        "monthly" => 30,
        "quarterly" => 90,
        "yearly" => 365,
        number => number.parse::<u16>().ok().filter(|&days| days > 0)?,
    };
    Some(365.0 / f64::from(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_word_or_a_number_of_days() {
        for (value, days) in [(&b"weekly"[..], 7.0), (b"30", 30.0), (b"daily\0", 1.0)] {
            let rate = rate(value).unwrap();
            assert!((rate - 365.0 / days).abs() < 1e-9);
        }
        for wrong in [&b""[..], b"0", b"-1", b"sometimes", b"99999999"] {
            assert_eq!(rate(wrong), None);
        }
    }
}
