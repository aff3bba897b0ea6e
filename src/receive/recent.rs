//! Which heaps were there already.

use std::net::SocketAddr;

/// Which heaps left the window, by position, and where the last of them came from: their packets come too
/// late, or twice, or are those of another stream.
#[derive(Debug, Default)]
pub(super) struct RecentHeaps {
    highest: Option<i128>,
    /// A bit for each position up to [`REMEMBERED`] before the highest, in a ring.
    left: Vec<u64>,
    /// Position and source of the last heaps, in a ring.
    sources: Vec<(i128, Option<SocketAddr>)>,
}

/// Whether a heap was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    No,
    Yes,
    /// It is too long ago for anybody to know.
    LongAgo,
}

impl RecentHeaps {
    pub(super) fn seen(&self, position: i128) -> Seen {
        match self.highest {
            Some(highest) if position <= highest => {
                if highest - position >= REMEMBERED {
                    return Seen::LongAgo;
                }
                let (word, bit) = place(position);
                if self.left[word] & bit == 0 { Seen::No } else { Seen::Yes }
            }
            _ => Seen::No,
        }
    }

    /// Where a heap came from, if it is one of the last.
    pub(super) fn source(&self, position: i128) -> Option<SocketAddr> {
        let (at, source) = self.sources.get(position.rem_euclid(SOURCES) as usize)?;
        source.filter(|_| *at == position)
    }

    pub(super) fn insert(&mut self, position: i128, source: Option<SocketAddr>) {
        if self.left.is_empty() {
            self.left = vec![0; REMEMBERED as usize / 64];
        }
        let highest = self.highest.unwrap_or(position - 1);
        if position > highest {
            if position - highest >= REMEMBERED {
                self.left.fill(0);
            } else {
                for skipped in highest + 1..position {
                    let (word, bit) = place(skipped);
                    self.left[word] &= !bit;
                }
            }
            self.highest = Some(position);
        } else if highest - position >= REMEMBERED {
            return;
        }
        let (word, bit) = place(position);
        self.left[word] |= bit;
        if source.is_some() {
            if self.sources.is_empty() {
                self.sources = vec![(i128::MIN, None); SOURCES as usize];
            }
            self.sources[position.rem_euclid(SOURCES) as usize] = (position, source);
        }
    }
}

fn place(position: i128) -> (usize, u64) {
    let at = position.rem_euclid(REMEMBERED) as usize;
    (at / 64, 1 << (at % 64))
}

/// Positions that are remembered: of heaps that come this late, nobody knows whether they were there.
const REMEMBERED: i128 = 1 << 17;
/// Heaps whose source is remembered.
const SOURCES: i128 = 1 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    proptest! {
        /// Against a set, in any order, with gaps longer than what is remembered.
        #[test]
        fn what_left_is_remembered(steps in prop::collection::vec((-40_i128..60, any::<bool>()), 1..200)) {
            let (mut recent, mut set, mut at) = (RecentHeaps::default(), BTreeSet::new(), 0_i128);
            for (step, far) in steps {
                at += if far { step * 5000 } else { step };
                recent.insert(at, None);
                set.insert(at);
                let highest = *set.last().unwrap();
                for position in set.iter().copied().chain(at - 50..at + 50) {
                    let expected = match set.contains(&position) {
                        _ if position > highest => Seen::No,
                        _ if highest - position >= REMEMBERED => Seen::LongAgo,
                        true => Seen::Yes,
                        false => Seen::No,
                    };
                    prop_assert_eq!(recent.seen(position), expected, "{}", position);
                }
            }
        }
    }
}
