//! What an update costs.

use super::{Item, Plan, by_name};

/// Updates of a machine in a year: one every two weeks.
const UPDATES: f64 = 26.0;
/// What a layer costs beside its content, in bytes: a request, and the directories above its files.
pub(super) const OVERHEAD: f64 = 16384.0;

/// The probability that something that changes `rate` times a year changed since the last update.
pub fn change_probability(rate: f64) -> f64 {
    -(-rate / UPDATES).exp_m1()
}

/// Size and rate of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Load {
    pub(super) size: f64,
    pub(super) rate: f64,
}

impl Load {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn of(item: &Item) -> Self {
        Self {
            size: item.size as f64,
            rate: item.rate.max(0.0),
        }
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self {
            size: self.size + other.size,
            rate: self.rate + other.rate,
        }
    }

    /// The bytes that an update is expected to fetch of it.
    pub(super) fn cost(self) -> f64 {
        (self.size + OVERHEAD) * change_probability(self.rate)
    }
}

pub(super) fn sum<'a>(items: impl IntoIterator<Item = &'a Item>) -> Load {
    let loads = items.into_iter().map(Load::of);
    loads.fold(Load::default(), Load::with)
}

/// The bytes that an update is expected to fetch, before compression.
pub fn expected_download(plan: &Plan, items: &[Item]) -> f64 {
    let items = by_name(items);
    let layer = |names: &Vec<String>| {
        sum(names
            .iter()
            .filter_map(|name| items.get(name.as_str()).copied()))
        .cost()
    };
    plan.layers.iter().map(layer).sum()
}
