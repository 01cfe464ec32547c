//! What an update costs.

use super::{Item, Plan, by_name};
use crate::frequency::{change_probability, yearly};

/// What a layer costs beside its content, in bytes: a request, and the directories above its files.
pub(super) const OVERHEAD: f64 = 16384.0;

/// Size and changes of what shares a layer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Load {
    pub(super) size: f64,
    /// The changes in a year of all parts, as if no two changed at once.
    pub(super) rate: f64,
    /// The changes in a year of the part that changes most.
    busiest: f64,
    /// The weeks in which a part is known to have changed.
    weeks: u128,
    /// The same, summed over the parts.
    counted: u32,
}

impl Load {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn of(item: &Item) -> Self {
        let frequency = item.frequency;
        let rate = frequency.rate.max(0.0);
        // Where earlier images, or the author, say that it changes less than it did in these
        // weeks, they count for nothing: no more than the whole rate may be shared.
        let counted = frequency.weeks.count_ones();
        let (weeks, counted) = match yearly(counted) <= rate {
            true => (frequency.weeks, counted),
            false => (0, 0),
        };
        Self {
            size: item.size as f64,
            rate,
            busiest: rate,
            weeks,
            counted,
        }
    }

    /// So much that changes so often.
    pub(super) fn new(size: f64, rate: f64) -> Self {
        Self {
            size,
            rate,
            busiest: rate,
            ..Self::default()
        }
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self {
            size: self.size + other.size,
            rate: self.rate + other.rate,
            busiest: self.busiest.max(other.busiest),
            weeks: self.weeks | other.weeks,
            counted: self.counted + other.counted,
        }
    }

    /// The changes in a year of the whole: parts that changed in the same week are one change.
    fn changes(self) -> f64 {
        let together = self.counted - self.weeks.count_ones();
        // No less than its busiest part, whatever the rounding.
        (self.rate - yearly(together)).max(self.busiest)
    }

    /// The bytes that an update is expected to fetch of it.
    pub(super) fn cost(self) -> f64 {
        (self.size + OVERHEAD) * change_probability(self.changes())
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
