//! A bit for each entry.

/// Whether something holds for each of some places, in a bit each.
#[derive(Debug, Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// For so many places that it does not.
    pub(crate) fn none(places: usize) -> Self {
        Self(vec![0; places.div_ceil(64)])
    }

    pub(crate) fn get(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    /// Says so of a place; returns what was said before.
    pub(crate) fn set(&mut self, place: usize, value: bool) -> bool {
        let before = self.get(place);
        if before != value {
            self.0[place / 64] ^= 1 << (place % 64);
        }
        before
    }

    /// The places for which it holds, ascending.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        let words = self.0.iter().enumerate();
        words.flat_map(|(index, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.checked_sub(1)?;
                Some(index * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_like_a_set(steps in proptest::collection::vec((0usize..200, any::<bool>()), 0..300)) {
            let mut bits = Bits::none(200);
            let mut model = BTreeSet::new();
            for (place, value) in steps {
                let before = match value {
                    true => !model.insert(place),
                    false => model.remove(&place),
                };
                prop_assert_eq!(bits.set(place, value), before);
            }
            prop_assert!(bits.places().eq(model.iter().copied()));
            prop_assert!((0..200).all(|place| bits.get(place) == model.contains(&place)));
        }
    }
}
