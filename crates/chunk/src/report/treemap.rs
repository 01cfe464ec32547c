//! Where the rectangles of a treemap lie.
//!
//! The squarified layout (Bruls, Huizing and van Wijk, 2000): rectangles go into rows along the shorter side, and a
//! row ends when one more would make its rectangles longer than they are.

/// A rectangle; the origin is at the top left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Rect {
    pub(super) fn area(&self) -> f64 {
        self.width * self.height
    }

    /// Without a margin on each side, and at the top without `top`.
    pub(super) fn inside(&self, margin: f64, top: f64) -> Self {
        Self {
            x: self.x + margin,
            y: self.y + top,
            width: (self.width - 2.0 * margin).max(0.0),
            height: (self.height - top - margin).max(0.0),
        }
    }
}

/// Divides a rectangle among weights, which must descend; one rectangle for each, of an area in proportion.
pub(super) fn squarify(weights: &[f64], within: Rect) -> Vec<Rect> {
    let total: f64 = weights.iter().sum();
    let mut rects = Vec::with_capacity(weights.len());
    if total <= 0.0 || within.area() <= 0.0 {
        rects.resize(
            weights.len(),
            Rect {
                width: 0.0,
                height: 0.0,
                ..within
            },
        );
        return rects;
    }
    let scale = within.area() / total;
    let areas: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
    let (mut free, mut rest) = (within, &areas[..]);
    while !rest.is_empty() {
        let side = free.width.min(free.height);
        let mut count = 1;
        while count < rest.len()
            && longest(&rest[..count + 1], side) <= longest(&rest[..count], side)
        {
            count += 1;
        }
        let (row, later) = rest.split_at(count);
        free = lay(row, free, &mut rects);
        rest = later;
    }
    rects
}

/// The worst ratio of sides in a row.
fn longest(row: &[f64], side: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let thickness = sum / side;
    row.iter()
        .map(|area| {
            let length = area / thickness;
            (length / thickness).max(thickness / length)
        })
        .fold(0.0, f64::max)
}

/// Lays a row along the shorter side; returns what is free behind it.
fn lay(row: &[f64], free: Rect, rects: &mut Vec<Rect>) -> Rect {
    let sum: f64 = row.iter().sum();
    let upright = free.width >= free.height;
    let side = if upright { free.height } else { free.width };
    let thickness = if side > 0.0 { sum / side } else { 0.0 };
    let mut at = 0.0;
    for area in row {
        let length = if thickness > 0.0 {
            area / thickness
        } else {
            0.0
        };
        rects.push(match upright {
            true => Rect {
                x: free.x,
                y: free.y + at,
                width: thickness,
                height: length,
            },
            false => Rect {
                x: free.x + at,
                y: free.y,
                width: length,
                height: thickness,
            },
        });
        at += length;
    }
    match upright {
        true => Rect {
            x: free.x + thickness,
            width: (free.width - thickness).max(0.0),
            ..free
        },
        false => Rect {
            y: free.y + thickness,
            height: (free.height - thickness).max(0.0),
            ..free
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: Rect = Rect {
        x: 10.0,
        y: 20.0,
        width: 900.0,
        height: 500.0,
    };

    proptest! {
        #[test]
        fn areas_are_in_proportion_and_nothing_overlaps(mut weights in prop::collection::vec(1u32..1_000_000, 1..60)) {
            weights.sort_unstable_by(|a, b| b.cmp(a));
            let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
            let total: f64 = weights.iter().sum();
            let rects = squarify(&weights, PAGE);
            prop_assert_eq!(rects.len(), weights.len());
            for (rect, weight) in rects.iter().zip(&weights) {
                let wanted = weight / total * PAGE.area();
                prop_assert!((rect.area() - wanted).abs() < 1e-3 * PAGE.area(), "{:?} {}", rect, wanted);
                prop_assert!(rect.x >= PAGE.x - 1e-6 && rect.x + rect.width <= PAGE.x + PAGE.width + 1e-6);
                prop_assert!(rect.y >= PAGE.y - 1e-6 && rect.y + rect.height <= PAGE.y + PAGE.height + 1e-6);
            }
            for (place, a) in rects.iter().enumerate() {
                for b in &rects[place + 1..] {
                    let across = (a.x + a.width).min(b.x + b.width) - a.x.max(b.x);
                    let down = (a.y + a.height).min(b.y + b.height) - a.y.max(b.y);
                    prop_assert!(across <= 1e-6 || down <= 1e-6, "{:?} {:?}", a, b);
                }
            }
        }
    }

    #[test]
    fn nothing_to_divide_is_divided_into_nothing() {
        assert_eq!(squarify(&[], PAGE), []);
        assert!(
            squarify(&[0.0, 0.0], PAGE)
                .iter()
                .all(|rect| rect.area() == 0.0)
        );
    }
}
