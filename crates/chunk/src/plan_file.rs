//! Plans as files, so that another program can make them.
//!
//! ```json
//! {
//!   "version": 1,
//!   "components": [{"name": "dpkg/curl", "size": 1469012, "entries": 41, "changesPerYear": 7.2}],
//!   "layers": [{"components": ["dpkg/curl"]}]
//! }
//! ```
//!
//! `components` is what was found, for the program that makes a plan; it is not
//! read. `layers` is the plan, lowest first. A component that no layer names goes
//! where it costs least; a name that the root does not have is ignored.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::components::Component;
use crate::pack::Plan;

const VERSION: u32 = 1;
/// The most layers that an image may have.
const LAYERS_MAX: usize = hull_oci::manifest::MAX_LAYERS;

/// A plan file that is none.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    /// It is not of the form that is documented.
    #[error("the plan cannot be understood")]
    Malformed(#[from] serde_json::Error),
    /// It is of another version.
    #[error("the plan has version {0}; version {VERSION} is expected")]
    Version(u32),
    /// A component in two layers.
    #[error("the plan names the component {0} twice")]
    Twice(String),
    /// Too many layers.
    #[error("the plan has {0} layers; an image has at most {LAYERS_MAX}")]
    TooMany(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    version: u32,
    #[serde(default)]
    components: Vec<Found>,
    layers: Vec<Layer>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    name: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    entries: u64,
    #[serde(default)]
    changes_per_year: f64,
}

#[derive(Serialize, Deserialize)]
struct Layer {
    components: Vec<String>,
}

/// Writes a plan with the components that it is about.
pub fn write(components: &[Component], plan: &Plan) -> String {
    let components = components.iter().map(|component| Found {
        name: component.name.clone(),
        size: component.size,
        entries: component.entries,
        changes_per_year: component.frequency.rate,
    });
    let layers = plan.layers.iter().map(|names| Layer {
        components: names.clone(),
    });
    let file = File {
        version: VERSION,
        components: components.collect(),
        layers: layers.collect(),
    };
    let mut text = serde_json::to_string_pretty(&file).expect("names and numbers always are JSON");
    text.push('\n');
    text
}

/// Reads a plan.
pub fn read(text: &[u8]) -> Result<Plan, PlanFileError> {
    let file: File = serde_json::from_slice(text)?;
    if file.version != VERSION {
        return Err(PlanFileError::Version(file.version));
    }
    if file.layers.len() > LAYERS_MAX {
        return Err(PlanFileError::TooMany(file.layers.len()));
    }
    let mut seen = BTreeSet::new();
    let layers: Vec<Vec<String>> = file
        .layers
        .into_iter()
        .map(|layer| layer.components)
        .filter(|names| !names.is_empty())
        .collect();
    for name in layers.iter().flatten() {
        if !seen.insert(name) {
            return Err(PlanFileError::Twice(name.clone()));
        }
    }
    Ok(Plan { layers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_was_written_is_read_as_it_was() {
        let plan = Plan {
            layers: vec![vec!["a".into(), "b".into()], vec!["c".into()]],
        };
        let component = Component {
            name: "a".into(),
            size: 1,
            entries: 2,
            frequency: crate::frequency::Frequency::of(0.25),
        };
        let text = write(&[component], &plan);
        assert!(text.contains("\"changesPerYear\": 0.25"), "{text}");
        assert_eq!(read(text.as_bytes()).unwrap(), plan);
    }

    #[test]
    fn a_plan_that_cannot_be_followed_is_refused() {
        for wrong in [
            "",
            "{}",
            r#"{"version": 2, "layers": []}"#,
            r#"{"version": 1, "layers": [{"components": ["a"]}, {"components": ["a"]}]}"#,
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
