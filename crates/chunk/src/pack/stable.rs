//! A plan that keeps to a previous one.

use std::collections::{BTreeMap, BTreeSet};

use super::cost::{Load, sum};
use super::{Item, Plan, by_name};

/// Packs components as `previous` did: each stays in its layer, layers stay in
/// their order. A new component gets the layer where it costs least, or a new
/// layer where there may be one more. Layers are joined only where there are
/// more than `max_layers`.
pub fn stable(items: &[Item], previous: &Plan, max_layers: usize) -> Plan {
    let known = by_name(items);
    let mut placed = BTreeSet::new();
    let mut layers: Vec<Vec<&Item>> = Vec::new();
    for names in &previous.layers {
        // Nothing stops a manifest from naming a component twice.
        let kept = names.iter().filter_map(|name| known.get(name.as_str()));
        let layer: Vec<&Item> = kept
            .copied()
            .filter(|item| placed.insert(item.name.as_str()))
            .collect();
        if !layer.is_empty() {
            layers.push(layer);
        }
    }
    join_cheapest(&mut layers, max_layers.max(1));
    let mut new: Vec<&Item> = items
        .iter()
        .filter(|item| !placed.contains(item.name.as_str()))
        .collect();
    new.sort_by(|a, b| {
        let cost = |item: &Item| Load::of(item).cost();
        cost(b)
            .total_cmp(&cost(a))
            .then_with(|| a.name.cmp(&b.name))
    });
    for item in new {
        add(&mut layers, item, max_layers.max(1));
    }
    let names = |layer: Vec<&Item>| {
        let names: BTreeMap<_, _> = layer.iter().map(|item| (item.name.clone(), ())).collect();
        names.into_keys().collect()
    };
    Plan {
        layers: layers.into_iter().map(names).collect(),
    }
}

/// What it costs to have both in one layer.
fn join_cost(a: Load, b: Load) -> f64 {
    a.with(b).cost() - a.cost() - b.cost()
}

fn add<'a>(layers: &mut Vec<Vec<&'a Item>>, item: &'a Item, max_layers: usize) {
    let load = Load::of(item);
    let extra = |layer: &Vec<&Item>| join_cost(sum(layer.iter().copied()), load);
    let best = layers
        .iter()
        .enumerate()
        .map(|(place, layer)| (place, extra(layer)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    match best {
        Some((place, extra)) if extra <= 0.0 || layers.len() >= max_layers => {
            layers[place].push(item);
        }
        _ => layers.push(vec![item]),
    }
}

fn join_cheapest(layers: &mut Vec<Vec<&Item>>, max_layers: usize) {
    while layers.len() > max_layers {
        let loads: Vec<Load> = layers
            .iter()
            .map(|layer| sum(layer.iter().copied()))
            .collect();
        let pairs = (0..loads.len()).flat_map(|a| (a + 1..loads.len()).map(move |b| (a, b)));
        let cheapest = pairs.min_by(|&(a, b), &(c, d)| {
            join_cost(loads[a], loads[b]).total_cmp(&join_cost(loads[c], loads[d]))
        });
        let Some((a, b)) = cheapest else { return };
        let joined = layers.remove(b);
        layers[a].extend(joined);
    }
}
