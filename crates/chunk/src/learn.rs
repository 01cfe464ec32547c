//! What earlier images tell of how often components change.
//!
//! Between two images a layer is the same or another. If it is another, one of its
//! components changed at least: with a layer of its own that is certain, and those
//! that share a layer are blamed as their rates say. What was seen and what was
//! assumed are weighed by the time that each stands for.

use std::collections::{BTreeSet, HashMap};

use hull_oci::Digest;

use crate::components::{Component, UNKNOWN_RATE};
use crate::frequency::{WINDOW_YEARS, between_updates, probability, week};

/// What was assumed counts like having watched for so many years.
const ASSUMED_YEARS: f64 = 0.5;
const YEAR: f64 = 365.25 * 86400.0;
/// Times up to this one, a day after the epoch, were set by somebody and mean none.
const NO_TIME: i64 = 86400;

/// An earlier image.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// When it was made, in seconds since the epoch.
    pub created: Option<i64>,
    /// The components of each layer, and the digest of its archive, before compression.
    pub layers: Vec<(Vec<String>, Digest)>,
}

/// What is known of a component from two images.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sight {
    /// How many changes are expected to have been.
    changes: f64,
    /// Whether it changed for certain.
    certain: bool,
    /// The years between the two.
    years: f64,
}

/// Corrects how often components change by what earlier images, the oldest first, show.
///
/// Where the time of one of two images is unknown, two weeks lie between them; images of the
/// same time tell nothing. `newest` is the time of the newest change of the whole system.
pub fn learn(components: &mut [Component], images: &[Seen], newest: Option<i64>) {
    let known: HashMap<&str, f64> = components
        .iter()
        .map(|component| (component.name.as_str(), component.frequency.rate))
        .collect();
    let mut sights: HashMap<String, Vec<Sight>> = HashMap::new();
    let mut weeks: HashMap<String, u128> = HashMap::new();
    for pair in images.windows(2) {
        let [old, new] = pair else { continue };
        let when = time(new).zip(newest);
        let when = when.map_or(0, |(time, newest)| week(time, newest));
        for (name, sight) in compare(old, new, &known) {
            if sight.certain {
                *weeks.entry(name.to_owned()).or_default() |= when;
            }
            sights.entry(name.to_owned()).or_default().push(sight);
        }
    }
    for component in components {
        let frequency = &mut component.frequency;
        let Some(sights) = sights.get(&component.name).filter(|_| !frequency.said) else {
            continue;
        };
        let changes: f64 = sights.iter().map(|sight| sight.changes).sum();
        let years: f64 = sights.iter().map(|sight| sight.years).sum();
        frequency.rate = (frequency.rate * ASSUMED_YEARS + changes) / (ASSUMED_YEARS + years);
        frequency.weeks |= weeks.get(&component.name).copied().unwrap_or(0);
    }
}

/// What two images show of each component that is in both.
fn compare<'a>(old: &Seen, new: &'a Seen, rates: &HashMap<&str, f64>) -> Vec<(&'a str, Sight)> {
    let years = years_between(old, new);
    let before: BTreeSet<&Digest> = old.layers.iter().map(|(_, digest)| digest).collect();
    let before_by_names: BTreeSet<&Vec<String>> =
        old.layers.iter().map(|(names, _)| names).collect();
    // Where not one layer is the same, something changed that is in all: a mode of a directory,
    // or the program that made them.
    let shares = new.layers.iter().any(|(_, digest)| before.contains(digest));
    if years <= 0.0 || !(shares || new.layers.len() < 2) {
        return Vec::new();
    }
    let mut seen = Vec::new();
    for (names, digest) in &new.layers {
        let same = before.contains(digest);
        if !same && !before_by_names.contains(names) {
            // It is another layer because others are in it: that says nothing of any of them.
            continue;
        }
        // What the root does not have any more was there, and may have been what changed.
        let rate = |name: &String| rates.get(name.as_str()).copied().unwrap_or(UNKNOWN_RATE);
        let none: f64 = names
            .iter()
            .map(|name| 1.0 - probability(rate(name), years))
            .product();
        for name in names {
            let changes = match (same, names.len()) {
                (true, _) => 0.0,
                // Once at least.
                (false, 1) => (rate(name) * years).max(1.0),
                // Bayes: the layer always changes when the component does.
                (false, _) if none < 1.0 => rate(name) * years / (1.0 - none),
                (false, _) => 0.0,
            };
            let certain = !same && names.len() == 1;
            let sight = Sight {
                changes,
                certain,
                years,
            };
            seen.push((name.as_str(), sight));
        }
    }
    seen
}

/// When an image was made, if that can be believed.
fn time(image: &Seen) -> Option<i64> {
    image.created.filter(|&time| time > NO_TIME)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of some years are exact"
)]
fn years_between(old: &Seen, new: &Seen) -> f64 {
    match time(old).zip(time(new)) {
        Some((old, new)) => (new.saturating_sub(old) as f64 / YEAR).min(WINDOW_YEARS),
        None => between_updates(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frequency::Frequency;

    const WEEK: i64 = 7 * 86400;
    const NEWEST: i64 = 1_750_000_000;

    fn component(name: &str, rate: f64) -> Component {
        Component {
            name: name.to_owned(),
            size: 1,
            entries: 1,
            frequency: Frequency::of(rate),
        }
    }

    fn image(created: Option<i64>, layers: &[(&[&str], &str)]) -> Seen {
        let layer = |(names, content): &(&[&str], &str)| {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            (names, Digest::sha256(content.as_bytes()))
        };
        Seen {
            created,
            layers: layers.iter().map(layer).collect(),
        }
    }

    /// The rates after half a year of weekly images.
    fn learned(images: &[Seen], assumed: &[(&str, f64)]) -> Vec<f64> {
        let mut components: Vec<_> = assumed
            .iter()
            .map(|(name, rate)| component(name, *rate))
            .collect();
        learn(&mut components, images, Some(NEWEST));
        components.iter().map(|one| one.frequency.rate).collect()
    }

    fn weekly(layers: impl Fn(usize) -> [(&'static [&'static str], String); 2]) -> Vec<Seen> {
        let image_of = |week: usize| {
            let [(a, first), (b, second)] = layers(week);
            let ago = i64::try_from(26 - week).unwrap() * WEEK;
            image(Some(NEWEST - ago), &[(a, &first), (b, &second)])
        };
        (0..=26).map(image_of).collect()
    }

    #[test]
    fn what_changes_in_each_image_changes_often_and_what_never_does_rarely() {
        let images = weekly(|week| [(&["a"], week.to_string()), (&["b"], "b".into())]);
        let rates = learned(&images, &[("a", 4.0), ("b", 4.0), ("new", 4.0)]);
        assert!((25.0..32.0).contains(&rates[0]), "{rates:?}");
        assert!((1.9..2.1).contains(&rates[1]), "{rates:?}");
        assert_eq!(rates[2].to_bits(), 4.0_f64.to_bits());
    }

    #[test]
    fn in_a_shared_layer_the_busier_one_is_blamed() {
        let images = weekly(|week| [(&["busy", "calm"], week.to_string()), (&["b"], "b".into())]);
        let rates = learned(&images, &[("busy", 20.0), ("calm", 0.5)]);
        assert!(rates[0] > 30.0, "{rates:?}");
        assert!(rates[1] < 3.0, "{rates:?}");
    }

    #[test]
    fn what_is_gone_may_have_been_what_changed() {
        let images = weekly(|week| [(&["a", "gone"], week.to_string()), (&["b"], "b".into())]);
        let rates = learned(&images, &[("a", 4.0)]);
        assert!(rates[0] < 17.0, "{rates:?}");
    }

    #[test]
    fn what_changes_every_week_stays_busy_where_images_are_rare() {
        let half_a_year = [
            image(Some(NEWEST - 26 * WEEK), &[(&["a"], "1"), (&["b"], "b")]),
            image(Some(NEWEST), &[(&["a"], "2"), (&["b"], "b")]),
        ];
        let rates = learned(&half_a_year, &[("a", 52.0)]);
        assert!((rates[0] - 52.0).abs() < 1e-6, "{rates:?}");
    }

    #[test]
    fn what_the_author_said_is_not_corrected() {
        let mut components = [component("a", 1.0)];
        components[0].frequency.said = true;
        let images = weekly(|week| [(&["a"], week.to_string()), (&["b"], "b".into())]);
        learn(&mut components, &images, Some(NEWEST));
        assert_eq!(components[0].frequency.rate.to_bits(), 1.0_f64.to_bits());
    }

    #[test]
    fn images_of_one_time_and_images_that_share_nothing_tell_nothing() {
        let twice = [
            image(Some(NEWEST), &[(&["a"], "1"), (&["b"], "b")]),
            image(Some(NEWEST), &[(&["a"], "1"), (&["b"], "b")]),
        ];
        let other_bytes = [
            image(None, &[(&["a"], "1"), (&["b"], "1")]),
            image(None, &[(&["a"], "2"), (&["b"], "2")]),
        ];
        for images in [&twice, &other_bytes] {
            let rates = learned(images, &[("a", 4.0), ("b", 4.0)]);
            assert!(
                rates.iter().all(|rate| rate.to_bits() == 4.0_f64.to_bits()),
                "{rates:?}"
            );
        }
    }

    #[test]
    fn a_time_that_somebody_set_to_nothing_is_none() {
        let images = [
            image(Some(0), &[(&["a"], "1"), (&["b"], "b")]),
            image(Some(NEWEST), &[(&["a"], "2"), (&["b"], "b")]),
        ];
        let rates = learned(&images, &[("a", 4.0)]);
        assert!(rates[0] > 4.0, "{rates:?}");
    }

    #[test]
    fn a_layer_with_other_components_in_it_says_nothing() {
        let images = [
            image(None, &[(&["a", "b"], "1")]),
            image(None, &[(&["a", "b", "c"], "2")]),
        ];
        let rates = learned(&images, &[("a", 4.0), ("b", 4.0), ("c", 4.0)]);
        assert!(rates.iter().all(|rate| rate.to_bits() == 4.0_f64.to_bits()));
    }

    #[test]
    fn images_without_times_are_two_weeks_apart() {
        let images: Vec<_> = (0..14)
            .map(|number: i32| image(None, &[(&["a"], &number.to_string())]))
            .collect();
        let rates = learned(&images, &[("a", 4.0)]);
        // 13 changes in half a year, and two that were assumed.
        assert!((rates[0] - 15.0).abs() < 1e-9, "{rates:?}");
    }

    #[test]
    fn the_week_of_a_change_that_is_certain_is_known() {
        let mut components = [component("a", 4.0)];
        let images = [
            image(Some(NEWEST - 5 * WEEK), &[(&["a"], "1")]),
            image(Some(NEWEST - 3 * WEEK), &[(&["a"], "2")]),
        ];
        learn(&mut components, &images, Some(NEWEST));
        assert_eq!(components[0].frequency.weeks, 1 << 3);
    }
}
