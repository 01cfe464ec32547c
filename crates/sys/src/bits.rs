//! A bit for each of many.

/// Whether something holds for each of some places, in a bit each.
#[derive(Debug, Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// For so many places that it does not.
    pub fn none(places: usize) -> Self {
        Self(vec![0; places.div_ceil(64)])
    }

    /// What was said of a place.
    pub fn get(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    /// Says so of a place; returns what was said before.
    pub fn set(&mut self, place: usize, value: bool) -> bool {
        let before = self.get(place);
        if before != value {
            self.0[place / 64] ^= 1 << (place % 64);
        }
        before
    }

    /// The places for which it holds, ascending.
    pub fn places(&self) -> impl Iterator<Item = usize> {
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

/// The places for which something holds, numbered.
#[derive(Debug)]
pub struct Ranks {
    bits: Bits,
    /// By word of the bits, how many places there are before it.
    before: Vec<usize>,
}

impl Ranks {
    /// Numbers the places for which it holds, ascending from 0.
    pub fn of(bits: Bits) -> Self {
        let mut count = 0;
        let mut before = Vec::with_capacity(bits.0.len() + 1);
        for word in &bits.0 {
            before.push(count);
            count += word.count_ones() as usize;
        }
        before.push(count);
        Self { bits, before }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.before.last().copied().unwrap_or_default()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a place, if it holds for that.
    pub fn rank(&self, place: usize) -> Option<usize> {
        if !self.bits.get(place) {
            return None;
        }
        let below = self.bits.0[place / 64] & ((1 << (place % 64)) - 1);
        Some(self.before[place / 64] + below.count_ones() as usize)
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
            let ranks = Ranks::of(bits);
            prop_assert_eq!(ranks.len(), model.len());
            prop_assert_eq!(ranks.is_empty(), model.is_empty());
            let expected = |place| model.iter().position(|&there| there == place);
            prop_assert!((0..200).all(|place| ranks.rank(place) == expected(place)));
        }
    }
}
