//! What a pull reports, as tasks and parts.

use std::sync::{Mutex, PoisonError};

use hull_oci::progress::{Event, LayerInfo, Progress, Stage};

use super::Shown;
use super::tracker::{Amount, Part, Task, Tracker};
use crate::output;
use crate::render::{quantity, text};

/// Passes on what pulls report.
#[derive(Debug)]
pub(crate) struct Pulling<'a> {
    tracker: &'a Tracker,
    /// `Pulling`, or what else is done to the image.
    verb: &'static str,
    image: Mutex<Image>,
}

/// The image that is pulled.
#[derive(Debug, Default)]
struct Image {
    name: String,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    info: LayerInfo,
    begun: bool,
}

impl<'a> Pulling<'a> {
    /// Shows pulls there.
    pub(crate) fn new(shown: &'a Shown) -> Self {
        Self::doing("Pulling", shown)
    }

    /// Shows copies there.
    pub(crate) fn copying(shown: &'a Shown) -> Self {
        Self::doing("Copying", shown)
    }

    fn doing(verb: &'static str, shown: &'a Shown) -> Self {
        Self {
            tracker: shown.tracker(),
            verb,
            image: Mutex::default(),
        }
    }

    fn begin(&self, name: &'static str, description: &str) {
        self.tracker.begin(Task {
            name,
            description: description.to_owned(),
            id: name.to_owned(),
            ..Task::default()
        });
    }

    fn begin_layers(&self, image: &mut Image, infos: &[LayerInfo]) {
        let layer = |info: &LayerInfo| Layer {
            info: *info,
            begun: false,
        };
        image.layers = infos.iter().map(layer).collect();
        let sum = |infos: &mut dyn Iterator<Item = &LayerInfo>| -> u64 {
            infos.map(|info| info.size).fold(0, u64::saturating_add)
        };
        let cached_bytes = sum(&mut infos.iter().filter(|info| info.cached));
        let cached = number(infos.iter().filter(|info| info.cached).count());
        self.tracker.begin(Task {
            name: "pulling",
            description: format!("{} {}", self.verb, image.name),
            id: image.name.clone(),
            bytes: Some(Amount {
                cached: cached_bytes,
                done: cached_bytes,
                total: sum(&mut infos.iter()),
            }),
            steps: Amount {
                cached,
                done: cached,
                total: number(infos.len()),
            },
            parts: Vec::new(),
        });
    }

    /// A layer's part, from the first that is heard of it.
    fn part(&self, image: &mut Image, layer: usize) -> Option<String> {
        let layer = image.layers.get_mut(layer)?;
        let id = layer.info.digest.to_string();
        if !std::mem::replace(&mut layer.begun, true) {
            let size = quantity::bytes(layer.info.size);
            self.tracker.begin_part(Part {
                name: "layer",
                description: format!("Layer {} ({size})", text::short_digest(&id)),
                id: id.clone(),
                amount: Amount {
                    total: layer.info.size,
                    ..Amount::default()
                },
                completed: false,
            });
        }
        Some(id)
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Progress for Pulling<'_> {
    fn report(&self, event: Event<'_>) {
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Stage(Stage::Resolving) => self.begin("resolving", "Asking for the image"),
            Event::Stage(Stage::Fetching) => {}
            Event::Stage(Stage::Recording) => self.begin("staging", "Preparing the image"),
            Event::Resolved { reference, .. } => {
                let name = reference.to_string();
                name.trim_start_matches("docker://")
                    .clone_into(&mut image.name);
            }
            Event::Remark(text) => output::note(&format!("note: {}", text::line(text))),
            Event::Layers(infos) => self.begin_layers(&mut image, infos),
            Event::LayerBytes { layer, bytes } => {
                if let Some(id) = self.part(&mut image, layer) {
                    self.tracker.reach(&id, bytes);
                }
            }
            Event::LayerDone { layer } => {
                if let Some(id) = self.part(&mut image, layer) {
                    self.tracker.end_part(&id);
                }
            }
            // Later versions may report more; it is progress all the same.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hull_oci::{Digest, Reference};

    fn layer(n: u8, size: u64, cached: bool) -> LayerInfo {
        let digest = format!("sha256:{}", format!("{n:02x}").repeat(32));
        LayerInfo {
            digest: digest.parse().unwrap(),
            size,
            cached,
        }
    }

    #[test]
    fn a_pull_is_a_task_and_its_layers_are_parts() {
        let shown = Shown::nowhere();
        let pulling = Pulling::new(&shown);
        let reference = Reference::parse("docker://registry.example/os:stable").unwrap();
        let manifest: Digest = layer(9, 0, false).digest;
        pulling.report(Event::Stage(Stage::Resolving));
        pulling.report(Event::Resolved {
            reference: &reference,
            manifest: &manifest,
        });
        pulling.report(Event::Layers(&[layer(1, 500, true), layer(2, 100, false)]));
        pulling.report(Event::LayerBytes {
            layer: 1,
            bytes: 40,
        });
        let seen = shown.tracker().look();
        assert_eq!(seen.finished[0].name, "resolving");
        let task = seen.current.unwrap();
        assert_eq!(task.id, "registry.example/os:stable");
        assert_eq!(
            task.bytes,
            Some(Amount {
                cached: 500,
                done: 540,
                total: 600
            })
        );
        assert_eq!(
            task.steps,
            Amount {
                cached: 1,
                done: 1,
                total: 2
            }
        );
        assert_eq!(
            task.parts[0].amount,
            Amount {
                cached: 0,
                done: 40,
                total: 100
            }
        );

        pulling.report(Event::LayerDone { layer: 1 });
        let task = shown.tracker().look().current.unwrap();
        assert_eq!(task.bytes.unwrap().done, 600);
        assert_eq!(task.steps.done, 2);
        assert!(task.parts[0].completed);
    }

    #[test]
    fn a_layer_that_was_not_announced_is_passed_over() {
        let shown = Shown::nowhere();
        let pulling = Pulling::new(&shown);
        pulling.report(Event::LayerBytes {
            layer: 7,
            bytes: 40,
        });
        pulling.report(Event::LayerDone { layer: 7 });
        shown.tracker().close();
        assert_eq!(shown.tracker().look().current, None);
    }
}
