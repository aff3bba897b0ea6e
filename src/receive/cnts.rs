//! What the cnts of heaps tell of heaps that never came.

use crate::wire::Flavour;

/// The cnts of the heaps of one stream, as far as they were seen.
///
/// Cnts are told by the distance from one heap with data to the next, which is learnt: heaps of one of
/// four substreams may have cnts 5, 9, 13. What comes before the first heap of any kind is not known of,
/// unless the first cnt is; what comes after the last is, by the cnt of the stop heap, which all senders
/// take from the same sequence.
#[derive(Clone, Debug, Default)]
pub(super) struct Cnts {
    /// Of heaps with data.
    range: Option<(i128, i128)>,
    /// The greatest common divisor of all their distances; 0 before there is one.
    step: u128,
    seen: u64,
    /// Of heaps without: descriptors, stream control.
    others: Vec<Progression>,
    stop: Option<i128>,
}

/// Positions that follow each other in one distance.
#[derive(Clone, Copy, Debug)]
struct Progression {
    first: i128,
    step: i128,
    last: i128,
}

impl Cnts {
    /// Learns the distance from a heap with data, which is counted later or never. False if it lies so far
    /// before all others that it is none of theirs: further than `heaps` may be out of order.
    pub(super) fn learn(&mut self, position: i128, heaps: usize) -> bool {
        let (lowest, highest) = self.range.unwrap_or((position, position));
        if lowest - position > heaps as i128 * self.step().unwrap_or(1) {
            return false;
        }
        self.step = common_divisor(self.step, position.abs_diff(lowest));
        self.range = Some((lowest.min(position), highest.max(position)));
        true
    }

    /// Counts a heap with data, or of which nobody knows.
    pub(super) fn note(&mut self, position: i128, heaps: usize) {
        self.seen += u64::from(self.learn(position, heaps));
    }

    /// Counts a heap without data.
    pub(super) fn note_other(&mut self, position: i128) {
        if let Some(run) = self.others.last_mut() {
            let step = position - run.last;
            if step > 0 && (run.step == 0 || run.step == step) {
                (run.step, run.last) = (step, position);
                return;
            }
        }
        if self.others.len() < MAX_OTHERS {
            self.others.push(Progression { first: position, step: 0, last: position });
        }
    }

    /// The stream ends before this heap.
    pub(super) fn note_stop(&mut self, position: i128) {
        self.stop = Some(position);
    }

    /// Of the first heap with data.
    pub(super) fn lowest(&self) -> Option<i128> {
        self.range.map(|(lowest, _)| lowest)
    }

    /// Of the first heap of any kind.
    pub(super) fn first(&self) -> Option<i128> {
        let others = self.others.iter().map(|run| run.first);
        others.chain(self.lowest()).chain(self.stop).min()
    }

    /// From one heap to the next, if there are two.
    pub(super) fn step(&self) -> Option<i128> {
        i128::try_from(self.step).ok().filter(|&step| step > 0)
    }

    /// How many heaps there must have been that were not seen. `usual_step` is their distance if there
    /// was one heap only; `first` is the cnt of the first heap, if that is known.
    pub(super) fn missing(&self, usual_step: i128, first: Option<i128>) -> u64 {
        let Some((lowest, highest)) = self.range else { return 0 };
        let step = self.step().unwrap_or(usual_step).max(1);
        // A heap before them, or after them, need not be in step with them: what is cut off is none.
        let announced = self.others.iter().map(|run| run.last).filter(|&last| last < lowest).max();
        let before = match (first, announced) {
            (Some(first), _) => (lowest - first).max(0) / step,
            (None, Some(other)) => (lowest - other) / step - 1,
            (None, None) => 0,
        };
        let after = match self.stop {
            Some(stop) if stop > highest && stop - highest <= FAR => (stop - highest) / step - 1,
            _ => 0,
        };
        let (before, after) = (before.max(0), after.max(0));
        let slots = (highest - lowest) / step + 1 + before + after;
        let (start, end) = (lowest - before * step, highest + after * step);
        let others: i128 = self.others.iter().map(|run| run.count(start, end, step)).sum();
        let missing = slots - others - i128::from(self.seen);
        u64::try_from(missing.max(0)).unwrap_or(u64::MAX)
    }
}

impl Progression {
    /// How many lie from `start` to `end` in steps of `step`.
    fn count(&self, start: i128, end: i128, step: i128) -> i128 {
        let in_step = |position: i128| (position - start).rem_euclid(step) == 0;
        if self.step == 0 || self.step % step != 0 {
            // Rare, and never many: two heaps without data are in another step than those with.
            let all = std::iter::successors(Some(self.first), |at| Some(at + self.step.max(1)));
            let all = all.take_while(|&at| at <= self.last.min(end)).take(MAX_OTHERS);
            return all.filter(|&at| at >= start && in_step(at)).count() as i128;
        }
        if !in_step(self.first) {
            return 0;
        }
        let skipped = (start - self.first).max(0);
        let first = self.first + skipped / self.step * self.step;
        let first = if first < start { first + self.step } else { first };
        let last = self.last.min(end);
        if last < first { 0 } else { (last - first) / self.step + 1 }
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

/// No more heaps than this are lost at once: cnts further apart are of two streams, or made up.
pub(super) const FAR: i128 = 1 << 28;
/// Of heaps without data that are in no order at all.
const MAX_OTHERS: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any heaps but the first two are lost, at the end, too; cnts wrap around, and some heaps
        /// are descriptors.
        #[test]
        fn what_is_missing_is_counted(
            bytes in 2_u8..=7, first: u64, step in 1_u64..5, lost: [bool; 33], swap in 0_usize..33,
            announced: bool, descriptors: [bool; 33],
        ) {
            let flavour = Flavour::new(bytes * 8).unwrap();
            let cnt = |index: u64| first.wrapping_add(index * step) & flavour.max_value();
            let mut came: Vec<u64> = (1..34).collect();
            came.retain(|&index| index <= 2 || !lost[index as usize - 1]);
            let missing = 33 - came.len() as u64;
            let last = came.len() - 1;
            let at = 1.max(swap % last.max(1));
            came.swap(at.min(last), (at + 1).min(last));
            if announced {
                came.insert(0, 0);
            }
            let mut cnts = Cnts::default();
            let mut near = None;
            let mut place = |index| {
                let position = position(flavour, cnt(index), near);
                near = Some(position);
                position
            };
            let mut data = 0;
            for index in came {
                let other = index == 0 || index > 2 && descriptors[index as usize - 1];
                if other {
                    cnts.note_other(place(index));
                } else {
                    cnts.note(place(index), 64);
                    data += 1;
                }
            }
            cnts.note_stop(place(34));
            prop_assert!(data >= 2);
            prop_assert_eq!(cnts.step().unwrap() % i128::from(step), 0);
            // Where two of them have a longer step in common, they are counted in that one.
            if cnts.step() == Some(i128::from(step)) {
                prop_assert_eq!(cnts.missing(1, None), missing);
            }
        }

        #[test]
        fn arbitrary_cnts_do_not_panic(bytes in 1_u8..=7, all in prop::collection::vec((any::<u64>(), 0_u8..3), 20)) {
            let flavour = Flavour::new(bytes * 8).unwrap();
            let mut cnts = Cnts::default();
            let mut near = None;
            for (cnt, kind) in all {
                let position = position(flavour, cnt & flavour.max_value(), near);
                near = Some(position);
                match kind {
                    0 => cnts.note(position, 64),
                    1 => cnts.note_other(position),
                    _ => cnts.note_stop(position),
                }
                cnts.missing(1, near);
            }
        }
    }

    #[test]
    fn the_last_heaps_of_a_substream_are_counted() {
        // Of two substreams, each with a stop heap: cnts 3, 5 and 4, stop heaps 6 and 7.
        let mut cnts = Cnts::default();
        cnts.note_other(2);
        cnts.note(4, 64);
        cnts.note_stop(7);
        assert_eq!(cnts.missing(2, None), 0);
        cnts.note_stop(10);
        assert_eq!(cnts.missing(2, None), 2);
        // One that says 2^40 more is none of this stream's.
        cnts.note_stop(1 << 40);
        assert_eq!(cnts.missing(2, None), 0);
        assert_eq!(cnts.missing(2, Some(-6)), 4);
    }
}
