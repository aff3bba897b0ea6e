//! Which heap of a stream a cnt means, and which heaps were there already.

use crate::wire::Flavour;

/// Numbers the heaps of a stream by their cnts, which wrap around at the flavour's width.
#[derive(Debug)]
pub(super) struct Sequence {
    first_cnt: u64,
    /// Cnts have this many low bits in common: the step is an odd number times a power of two.
    common_bits: u32,
    /// What undoes a multiplication with that odd number.
    inverse: u64,
    /// How many heaps it takes for cnts to come again, less 1.
    period_mask: u64,
    cnt_mask: u64,
    /// The index after the highest so far.
    next: u64,
    /// Whether a heap was there, for those up to [`WINDOW`] before `next`.
    seen: Vec<bool>,
}

impl Sequence {
    pub(super) fn new(flavour: Flavour, first_cnt: u64, step: u64) -> Self {
        let bits = u32::from(flavour.address_bits());
        let common_bits = step.trailing_zeros().min(bits);
        let odd = step.checked_shr(common_bits).unwrap_or(0) | 1;
        // Newton's iteration: an odd number is its own inverse modulo 8, and each step doubles the
        // number of bits that are right.
        let inverse = (0..5).fold(odd, |inverse, _| {
            inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)))
        });
        Self {
            first_cnt,
            common_bits,
            inverse,
            period_mask: (1 << (bits - common_bits)) - 1,
            cnt_mask: flavour.max_value(),
            next: 0,
            seen: vec![false; WINDOW as usize],
        }
    }

    /// The index of the heap with this cnt: of all that are possible, the one closest to the
    /// next heap. `None` if the stream has no such cnt.
    pub(super) fn index(&self, cnt: u64) -> Option<u64> {
        let distance = cnt.wrapping_sub(self.first_cnt) & self.cnt_mask;
        if distance & ((1 << self.common_bits) - 1) != 0 {
            return None;
        }
        let index = (distance >> self.common_bits).wrapping_mul(self.inverse) & self.period_mask;
        let ahead = index.wrapping_sub(self.next) & self.period_mask;
        let behind = (self.period_mask - ahead).checked_add(1)?;
        if ahead >= behind && behind <= self.next {
            Some(self.next - behind)
        } else {
            // The last number of all has none after it.
            self.next.checked_add(ahead).filter(|&index| index < u64::MAX)
        }
    }

    /// Whether the heap was there; those that are long past count as if they were.
    pub(super) fn contains(&self, index: u64) -> bool {
        index < self.next && (self.next - index > WINDOW || self.seen[(index % WINDOW) as usize])
    }

    pub(super) fn insert(&mut self, index: u64) {
        for skipped in self.next.max(index.saturating_sub(WINDOW))..index {
            self.seen[(skipped % WINDOW) as usize] = false;
        }
        self.next = self.next.max(index + 1);
        self.seen[(index % WINDOW) as usize] = true;
    }

    /// The index after the highest so far.
    pub(super) fn end(&self) -> u64 {
        self.next
    }
}

const WINDOW: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_gap_forgets_what_was_before() {
        let mut sequence = Sequence::new(Flavour::SPEAD_64_40, 0, 1);
        sequence.insert(0);
        sequence.insert(3 * WINDOW);
        assert!(sequence.contains(1) && sequence.contains(3 * WINDOW));
        assert!(!sequence.contains(3 * WINDOW - 1) && !sequence.contains(3 * WINDOW + 1));
        sequence.insert(3 * WINDOW - 1);
        assert!(sequence.contains(3 * WINDOW - 1));
        assert_eq!(sequence.end(), 3 * WINDOW + 1);
    }

    proptest! {
        /// Heaps arrive a little out of order, and cnts wrap around, many times at 8 bits.
        #[test]
        fn every_heap_keeps_its_index(
            bytes in 1_u8..=7, first: u64, step in 1_u64.., jitter in prop::collection::vec(0_u64..6, 1000),
        ) {
            let flavour = Flavour::new(bytes * 8).unwrap();
            // As long as there are enough cnts to tell neighbours apart.
            let step = if step.trailing_zeros() > 3 { step | 1 } else { step };
            let mut sequence = Sequence::new(flavour, first & flavour.max_value(), step);
            let mut order: Vec<(u64, u64)> =
                jitter.iter().zip(0..).map(|(jitter, index)| (index + jitter, index)).collect();
            order.sort_unstable();
            for (_, index) in order {
                let cnt = first.wrapping_add(index.wrapping_mul(step)) & flavour.max_value();
                prop_assert_eq!(sequence.index(cnt), Some(index));
                prop_assert!(!sequence.contains(index));
                sequence.insert(index);
                prop_assert!(sequence.contains(index));
            }
            prop_assert_eq!(sequence.end(), 1000);
        }

        #[test]
        fn arbitrary_cnts_do_not_panic(
            bytes in 1_u8..=7, first: u64, step: u64, cnts in prop::collection::vec(any::<u64>(), 20),
        ) {
            let flavour = Flavour::new(bytes * 8).unwrap();
            let mut sequence = Sequence::new(flavour, first, step);
            for cnt in cnts {
                if let Some(index) = sequence.index(cnt & flavour.max_value()) {
                    sequence.insert(index);
                }
            }
        }
    }
}
