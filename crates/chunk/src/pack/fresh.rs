//! A plan without a previous one.
//!
//! The components with the highest expected download have a layer each. The
//! others go into classes by their rate of change (a class for each doubling),
//! each class has some layers, and a component's layer among them is the one
//! with the highest hash of both their names. How many layers the classes get
//! together is tried for a few numbers, and the cheapest is taken.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::cost::{Load, sum};
use super::{Item, Plan, expected_download};

/// Parts of the layers that are tried for shared ones, in eighths.
const SHARED_EIGHTHS: [usize; 4] = [1, 2, 3, 4];

/// Packs components into at most `max_layers` (at least 1) layers.
pub fn fresh(items: &[Item], max_layers: usize) -> Plan {
    let max_layers = max_layers.max(1);
    let mut items: Vec<&Item> = items.iter().collect();
    items.sort_by(|a, b| {
        let cost = |item: &Item| Load::of(item).cost();
        cost(b)
            .total_cmp(&cost(a))
            .then_with(|| a.name.cmp(&b.name))
    });
    if items.len() <= max_layers {
        return plan(items.iter().map(|item| vec![*item]).collect());
    }
    let all: Vec<Item> = items.iter().map(|&item| item.clone()).collect();
    let candidates = SHARED_EIGHTHS.map(|eighths| {
        let shared = (max_layers * eighths / 8).max(1);
        let (alone, rest) = items.split_at(max_layers - shared);
        let mut layers: Vec<_> = alone.iter().map(|item| vec![*item]).collect();
        layers.extend(share(rest, shared));
        plan(layers)
    });
    let cost = |plan: &Plan| expected_download(plan, &all);
    let best = candidates
        .into_iter()
        .min_by(|a, b| cost(a).total_cmp(&cost(b)));
    best.unwrap_or_default()
}

/// Quiet layers first: what is above a layer that changes is stored anew by
/// programs that know layers by all that is below them.
fn plan(mut layers: Vec<Vec<&Item>>) -> Plan {
    for layer in &mut layers {
        layer.sort_by(|a, b| a.name.cmp(&b.name));
    }
    layers.sort_by(|a, b| {
        let rate = |layer: &Vec<&Item>| class(sum(layer.iter().copied()).rate);
        let name = |layer: &Vec<&Item>| layer.first().map(|item| item.name.clone());
        rate(a).cmp(&rate(b)).then_with(|| name(a).cmp(&name(b)))
    });
    let names = |layer: Vec<&Item>| layer.into_iter().map(|item| item.name.clone()).collect();
    Plan {
        layers: layers.into_iter().map(names).collect(),
    }
}

/// The class of a rate: a number that grows by one with each doubling. Powers of two,
/// which what is assumed is, lie in the middle of theirs: a little more or less changes no class.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the logarithm of a double is a small number"
)]
fn class(rate: f64) -> i16 {
    rate.max(1e-3).log2().round() as i16
}

/// Puts components into `count` layers or fewer.
fn share<'a>(items: &[&'a Item], count: usize) -> Vec<Vec<&'a Item>> {
    let mut classes: BTreeMap<i16, Vec<&Item>> = BTreeMap::new();
    for item in items {
        classes
            .entry(class(item.frequency.rate))
            .or_default()
            .push(item);
    }
    let mut classes: Vec<(i16, Vec<&Item>)> = classes.into_iter().collect();
    while classes.len() > count {
        // The two quietest lose least by being one.
        let (_, quietest) = classes.remove(0);
        classes[0].1.extend(quietest);
    }
    let mut counts = vec![1; classes.len()];
    for _ in classes.len()..count {
        let gain = |place: usize| {
            let load = sum(classes[place].1.iter().copied());
            split_cost(load, counts[place]) - split_cost(load, counts[place] + 1)
        };
        let best = (0..classes.len()).max_by(|&a, &b| gain(a).total_cmp(&gain(b)));
        if let Some(best) = best {
            counts[best] += 1;
        }
    }
    let mut layers = Vec::new();
    for ((class, items), count) in classes.iter().zip(counts) {
        let mut shared = vec![Vec::new(); count];
        for item in items {
            shared[rendezvous(&item.name, *class, count)].push(*item);
        }
        layers.extend(shared.into_iter().filter(|layer| !layer.is_empty()));
    }
    layers
}

/// The cost of a class whose content is spread evenly over so many layers.
fn split_cost(load: Load, count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let count = count as f64;
    count * Load::new(load.size / count, load.rate / count).cost()
}

/// Which of `count` layers of a class has the highest hash together with a name.
fn rendezvous(name: &str, class: i16, count: usize) -> usize {
    let weight = |layer: usize| -> [u8; 32] {
        Sha256::digest(format!("{name}\0{class}\0{layer}").as_bytes()).into()
    };
    (0..count).max_by_key(|&layer| weight(layer)).unwrap_or(0)
}
