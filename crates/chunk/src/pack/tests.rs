use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn item(name: &str, size: u64, rate: f64) -> Item {
    Item {
        name: name.to_owned(),
        size,
        frequency: Frequency::of(rate),
    }
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let one = ("[a-z]{1,4}", 0u64..200_000_000, 0.0f64..60.0);
    proptest::collection::btree_map("[a-z]{1,4}", one, 0..120).prop_map(|map| {
        map.into_iter()
            .map(|(name, (_, size, rate))| item(&name, size, rate))
            .collect()
    })
}

/// Items of which it is known, rightly or not, when they changed.
fn dated_items() -> impl Strategy<Value = Vec<Item>> {
    let one = (
        0u64..200_000_000,
        0.0f64..60.0,
        any::<u128>(),
        any::<u128>(),
    );
    let item = |(size, rate, some, others)| Item {
        frequency: Frequency {
            weeks: some & others & ((1 << 104) - 1),
            ..Frequency::of(rate)
        },
        ..item("x", size, rate)
    };
    proptest::collection::vec(one.prop_map(item), 1..20)
}

fn names(plan: &Plan) -> Vec<&str> {
    let mut names: Vec<_> = plan.layers.iter().flatten().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// How many layers of `new` are not layers of `old`, and which components moved.
fn moved<'a>(old: &'a Plan, new: &'a Plan) -> BTreeSet<&'a str> {
    let companions = |plan: &'a Plan| -> BTreeMap<&'a str, BTreeSet<&'a str>> {
        let layers = plan.layers.iter();
        layers
            .flat_map(|layer| {
                let all: BTreeSet<&str> = layer.iter().map(String::as_str).collect();
                layer.iter().map(move |name| (name.as_str(), all.clone()))
            })
            .collect()
    };
    let (old, new) = (companions(old), companions(new));
    let differs = |name: &&&str| new.get(**name) != old.get(**name);
    old.keys().filter(differs).copied().collect()
}

proptest! {
    #[test]
    fn a_layer_never_costs_less_with_one_component_more(items in dated_items()) {
        let costs: Vec<f64> = (0..=items.len()).map(|count| cost::sum(&items[..count]).cost()).collect();
        for pair in costs.windows(2) {
            prop_assert!(pair[0] <= pair[1] * (1.0 + 1e-9), "{costs:?}");
            prop_assert!(pair[1].is_finite());
        }
    }

    #[test]
    fn every_component_is_in_one_layer_and_there_are_not_too_many(
        items in items(),
        max in 1usize..80,
    ) {
        let plan = fresh(&items, max);
        prop_assert!(plan.layers.len() <= max);
        prop_assert!(plan.layers.iter().all(|layer| !layer.is_empty()));
        prop_assert_eq!(names(&plan), items.iter().map(|i| i.name.as_str()).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_of_the_components_does_not_matter(items in items(), max in 1usize..80) {
        let mut reversed = items.clone();
        reversed.reverse();
        prop_assert_eq!(fresh(&items, max), fresh(&reversed, max));
    }

    #[test]
    fn what_has_not_changed_keeps_its_plan(items in items(), max in 1usize..80) {
        let plan = fresh(&items, max);
        prop_assert_eq!(stable(&items, &plan, max), plan);
    }

    #[test]
    fn a_stable_plan_holds_all_whatever_came_before(
        old in items(), new in items(), was in 1usize..80, max in 1usize..80,
    ) {
        let plan = stable(&new, &fresh(&old, was), max);
        prop_assert!(plan.layers.len() <= max);
        prop_assert!(plan.layers.iter().all(|layer| !layer.is_empty()));
        prop_assert_eq!(names(&plan), new.iter().map(|i| i.name.as_str()).collect::<Vec<_>>());
    }

    #[test]
    fn components_stay_together_when_others_come_and_go(
        old in items(), new in items(), max in 1usize..80,
    ) {
        let before = fresh(&old, max);
        let after = stable(&new, &before, max);
        let (was, is) = (before.places(), after.places());
        let kept: Vec<&str> = was.keys().filter(|name| is.contains_key(*name)).copied().collect();
        for pair in kept.windows(2) {
            prop_assert_eq!(was[pair[0]] == was[pair[1]], is[pair[0]] == is[pair[1]]);
            prop_assert_eq!(was[pair[0]] < was[pair[1]], is[pair[0]] < is[pair[1]]);
        }
    }
}

fn system() -> Vec<Item> {
    let mut items: Vec<_> = (0..200u64)
        .map(|n| {
            item(
                &format!("p{n}"),
                4000 * (n * n + 1),
                f64::from(u8::try_from(n % 13).unwrap()),
            )
        })
        .collect();
    items.push(item("rest", 3_000_000, 52.0));
    items
}

#[test]
fn what_changes_with_every_build_is_alone() {
    let plan = fresh(&system(), 32);
    assert!(plan.layers.contains(&vec!["rest".to_owned()]));
}

#[test]
fn one_component_more_moves_few_others_without_a_previous_plan() {
    let before = fresh(&system(), 64);
    let mut items = system();
    items.push(item("new", 10_000, 3.0));
    let after = fresh(&items, 64);
    let changed = after
        .layers
        .iter()
        .filter(|layer| !before.layers.contains(layer));
    assert!(changed.count() <= 4, "{:?}", moved(&before, &after));
}

#[test]
fn a_new_component_changes_one_layer_where_there_is_no_room() {
    let before = fresh(&system(), 64);
    let mut items = system();
    items.push(item("new", 10_000, 3.0));
    let after = stable(&items, &before, 64);
    let changed = after
        .layers
        .iter()
        .filter(|layer| !before.layers.contains(layer));
    assert_eq!(changed.count(), 1);
}

#[test]
fn a_quiet_giant_is_not_fetched_with_a_busy_dwarf() {
    let items = [
        item("giant", 100_000_000, 0.5),
        item("dwarf", 10_000, 50.0),
        item("other", 10_000, 50.0),
    ];
    assert_eq!(
        fresh(&items, 2).layers,
        [
            vec!["giant".to_owned()],
            vec!["dwarf".to_owned(), "other".to_owned()]
        ]
    );
}

#[test]
fn a_plan_that_is_out_of_date_costs_more_than_a_fresh_one() {
    let items = system();
    let one = Plan {
        layers: vec![items.iter().map(|item| item.name.clone()).collect()],
    };
    let kept = stable(&items, &one, 64);
    assert!(expected_download(&kept, &items) > 2.0 * expected_download(&fresh(&items, 64), &items));
}

#[test]
fn what_changed_in_the_same_weeks_shares_a_layer_at_less_cost() {
    let dated = |weeks| Item {
        frequency: Frequency {
            weeks,
            ..Frequency::of(6.0)
        },
        ..item("x", 10_000_000, 6.0)
    };
    let cost = |a, b| cost::sum(&[dated(a), dated(b)]).cost();
    assert!(cost(0b1111, 0b1111) < cost(0b1111, 0b1111_0000));
}
