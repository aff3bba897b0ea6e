//! What the cnts of heaps tell of heaps that never came.

use crate::wire::Flavour;

/// The cnts of the heaps of a substream, as far as they were seen.
///
/// Cnts are told by the distance from one to the next, which is learnt: heaps of one of four
/// substreams may have cnts 5, 9, 13. What is lost before the first or after the last heap that came
/// leaves no trace.
#[derive(Clone, Debug, Default)]
pub(super) struct Cnts {
    range: Option<(i128, i128)>,
    /// The greatest common divisor of all distances; 0 before there is one.
    step: u128,
    seen: u64,
}

impl Cnts {
    /// Takes note of a heap that has not been seen.
    pub(super) fn note(&mut self, position: i128) {
        let (lowest, highest) = self.range.unwrap_or((position, position));
        self.step = common_divisor(self.step, position.abs_diff(lowest));
        self.range = Some((lowest.min(position), highest.max(position)));
        self.seen += 1;
    }

    /// From one heap to the next, if there are two.
    pub(super) fn step(&self) -> Option<i128> {
        i128::try_from(self.step).ok().filter(|&step| step > 0)
    }

    /// How many heaps there must have been that were not seen.
    pub(super) fn missing(&self) -> u64 {
        let Some((lowest, highest)) = self.range else { return 0 };
        let heaps = highest.abs_diff(lowest) / self.step.max(1) + 1;
        u64::try_from(heaps.saturating_sub(u128::from(self.seen))).unwrap_or(u64::MAX)
    }
}

/// Where a cnt is in the stream, given one close to it: cnts start over when they no longer fit.
pub(super) fn position(flavour: Flavour, cnt: u64, near: Option<i128>) -> i128 {
    let Some(near) = near else { return i128::from(cnt) };
    let period = i128::from(flavour.max_value()) + 1;
    let ahead = (i128::from(cnt) - near).rem_euclid(period);
    near + if ahead > period / 2 { ahead - period } else { ahead }
}

fn common_divisor(a: u128, b: u128) -> u128 {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any heaps but the first and the last two are lost, and cnts wrap around.
        #[test]
        fn what_is_missing_is_counted(
            bytes in 2_u8..=7, first: u64, step in 1_u64..5, lost: [bool; 30], swap in 0_usize..29,
        ) {
            let flavour = Flavour::new(bytes * 8).unwrap();
            let mut came: Vec<u64> = (0..33).collect();
            came.retain(|&index| index == 0 || index > 30 || !lost[index as usize - 1]);
            let missing = 33 - came.len() as u64;
            let last = came.len() - 1;
            came.swap(swap % last, swap % last + 1);
            let mut cnts = Cnts::default();
            let mut near = None;
            for index in came {
                let cnt = first.wrapping_add(index * step) & flavour.max_value();
                let position = position(flavour, cnt, near);
                near = Some(position);
                cnts.note(position);
            }
            prop_assert_eq!(cnts.step(), Some(i128::from(step)));
            prop_assert_eq!(cnts.missing(), missing);
        }

        #[test]
        fn arbitrary_cnts_do_not_panic(bytes in 1_u8..=7, all in prop::collection::vec(any::<u64>(), 20)) {
            let flavour = Flavour::new(bytes * 8).unwrap();
            let mut cnts = Cnts::default();
            let mut near = None;
            for cnt in all {
                let position = position(flavour, cnt & flavour.max_value(), near);
                near = Some(position);
                cnts.note(position);
                cnts.missing();
            }
        }
    }
}
