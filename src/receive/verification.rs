//! Whether heaps are those that a sender made.

use super::heap::{Content, HeapView};
use crate::wire::Flavour;

/// Knows what the heaps of a stream contain.
pub trait Verifier: Send {
    /// Whether `payload` is, byte by byte, heap `index` of the stream.
    fn matches(&self, index: u64, payload: &[u8]) -> bool;
}

impl<F: Fn(u64, &[u8]) -> bool + Send> Verifier for F {
    fn matches(&self, index: u64, payload: &[u8]) -> bool {
        self(index, payload)
    }
}

/// Compares heaps with what they should be: which one a heap is, its cnt says or else its timestamp, which
/// is the index times the heap's bytes. Both start over when they no longer fit the flavour; of the heaps
/// that may be meant, it is the one nearest to the heap that was to come next.
pub struct Verification {
    verifier: Option<Box<dyn Verifier>>,
    known: Option<KnownStream>,
    /// The heap that is to come next, on each substream.
    next: Vec<u64>,
    /// Items that do not lie in one piece, brought together.
    gathered: Vec<u8>,
}

/// What is known of a stream beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownStream {
    /// Identifiers and sizes, in bytes, of the items of each heap with data, in the order in which
    /// the verifier knows them.
    pub items: Vec<(u64, usize)>,
    /// Cnt of the heap with index 0.
    pub first_cnt: u64,
    /// What the cnt of each heap adds to that of the heap before.
    pub cnt_step: u64,
    /// Number of heaps with data; `None` if only the stream's end tells.
    pub heaps: Option<u64>,
}

impl Verification {
    /// Of the heaps of any stream, all their items together.
    pub fn new(verifier: Box<dyn Verifier>) -> Self {
        Self { verifier: Some(verifier), known: None, next: Vec::new(), gathered: Vec::new() }
    }

    /// Of a stream of which this is known; without a verifier, lengths and timestamps are checked.
    pub fn known(stream: KnownStream, verifier: Option<Box<dyn Verifier>>) -> Self {
        Self { verifier, known: Some(stream), next: Vec::new(), gathered: Vec::new() }
    }

    /// Whether a heap with data is what it should be.
    pub fn matches(&mut self, heap: &HeapView<'_>) -> bool {
        let items: Vec<(u64, Content<'_>)> = heap.items().collect();
        let timestamp = items.iter().find_map(|(id, content)| match content {
            Content::Immediate(value) if *id == TIMESTAMP_ITEM => Some(*value),
            _ => None,
        });
        let mut gathered = std::mem::take(&mut self.gathered);
        let bytes = match &self.known {
            Some(stream) => expected_items(&items, &stream.items, heap.flavour(), &mut gathered),
            None => Some(all_items(&items, &mut gathered)),
        };
        let matches = bytes.is_some_and(|bytes| {
            self.index(heap, timestamp, bytes.len() as u64).is_some_and(|index| {
                let verifier = self.verifier.as_ref();
                verifier.is_none_or(|verifier| verifier.matches(index, bytes))
            })
        });
        self.gathered = gathered;
        matches
    }

    /// Which heap this is; `None` if the stream has no such one.
    fn index(&mut self, heap: &HeapView<'_>, timestamp: Option<u64>, len: u64) -> Option<u64> {
        let flavour = heap.flavour();
        if self.next.len() <= heap.substream() {
            self.next.resize(heap.substream() + 1, 0);
        }
        let next = &mut self.next[heap.substream()];
        let index = match (&self.known, timestamp) {
            (Some(stream), _) => {
                let distance = heap.cnt().wrapping_sub(stream.first_cnt) & flavour.max_value();
                let index = multiple(flavour, stream.cnt_step, distance, *next)?;
                let stamp = index.wrapping_mul(len) & flavour.max_value();
                let fits = timestamp.is_none_or(|timestamp| timestamp == stamp);
                (fits && stream.heaps.is_none_or(|heaps| index < heaps)).then_some(index)?
            }
            (None, Some(timestamp)) => multiple(flavour, len, timestamp, *next)?,
            (None, None) => *next,
        };
        *next = index.wrapping_add(1);
        Some(index)
    }
}

/// The number `n` nearest to `near` for which `n * factor` is `value`, both as far as the flavour's values
/// go.
fn multiple(flavour: Flavour, factor: u64, value: u64, near: u64) -> Option<u64> {
    let bits = u32::from(flavour.address_bits());
    // A power of two, by which the value is divided, times an odd number, which has an inverse.
    let twos = factor.trailing_zeros().min(bits);
    if factor == 0 || value & ((1 << twos) - 1) != 0 {
        return None;
    }
    let odd = factor >> twos | 1;
    // Newton's iteration: an odd number is its own inverse modulo 8, and each step doubles the number
    // of bits that are right.
    let inverse = (0..5).fold(odd, |inverse, _| {
        inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)))
    });
    let mask = (1 << (bits - twos)) - 1;
    let ahead = (value >> twos).wrapping_mul(inverse).wrapping_sub(near) & mask;
    let behind = (mask - ahead) + 1;
    match behind <= ahead && behind <= near {
        true => Some(near - behind),
        false => near.checked_add(ahead),
    }
}

/// The bytes of all items, in the order of their addresses, immediates left out.
fn all_items<'a>(items: &[(u64, Content<'a>)], gathered: &'a mut Vec<u8>) -> &'a [u8] {
    gathered.clear();
    let mut pieces = 0;
    let mut single: &[u8] = &[];
    for (_, content) in items {
        if let Content::Addressed(bytes) = *content {
            match pieces {
                0 => single = bytes,
                1 => gathered.extend([single, bytes].concat()),
                _ => gathered.extend_from_slice(bytes),
            }
            pieces += 1;
        }
    }
    if pieces > 1 { gathered } else { single }
}

/// The bytes of the items that are expected, in order; `None` if one is missing or not as long as expected.
fn expected_items<'a>(
    items: &[(u64, Content<'a>)],
    expected: &[(u64, usize)],
    flavour: Flavour,
    gathered: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    gathered.clear();
    for &(id, size) in expected {
        let (_, content) = items.iter().find(|(other, _)| *other == id)?;
        match content {
            Content::Addressed(bytes) if bytes.len() != size => return None,
            Content::Addressed(bytes) if expected.len() == 1 => return Some(bytes),
            Content::Addressed(bytes) => gathered.extend_from_slice(bytes),
            // Short ones may lie inside their pointers, right-aligned.
            Content::Immediate(value) if size <= flavour.address_bytes() => {
                gathered.extend_from_slice(&value.to_be_bytes()[size_of::<u64>() - size..]);
            }
            Content::Immediate(_) => return None,
        }
    }
    Some(gathered)
}

/// Identifier of the timestamp, as in the tutorial of spead2.
pub const TIMESTAMP_ITEM: u64 = 0x1600;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::ItemPointer;

    const FLAVOUR: Flavour = Flavour::SPEAD_64_40;

    fn view<'a>(cnt: u64, pointers: &'a [ItemPointer], payload: &'a [u8]) -> HeapView<'a> {
        HeapView { flavour: FLAVOUR, cnt, substream: 0, pointers, payload }
    }

    fn at(id: u64, address: u64) -> ItemPointer {
        ItemPointer::addressed(FLAVOUR, id, address)
    }

    fn bytes(pointers: &[ItemPointer], payload: &[u8]) -> Option<Vec<u8>> {
        let items = [(0x3300, 3), (0x3301, 2), (0x3302, 0)];
        let mut gathered = Vec::new();
        let found: Vec<_> = view(1, pointers, payload).items().collect();
        expected_items(&found, &items, FLAVOUR, &mut gathered).map(<[u8]>::to_vec)
    }

    #[test]
    fn items_are_where_their_pointers_say() {
        let expected = Some(b"abcde".to_vec());
        assert_eq!(bytes(&[at(0x3300, 0), at(0x3301, 3), at(0x3302, 5)], b"abcde"), expected);
        // After a descriptor, out of order, with something behind.
        let pointers = [at(0x3302, 2), at(0x3301, 5), at(0x3300, 2), at(5, 0), at(0, 7)];
        assert_eq!(bytes(&pointers, b"..abcde."), expected);
        // As spead2 does with several new items: each after its descriptor.
        let pointers = [at(5, 0), at(0x3300, 2), at(5, 5), at(0x3301, 6), at(0x3302, 8)];
        assert_eq!(bytes(&pointers, b"..abc.de"), expected);
        // Two bytes are an immediate, which is right-aligned.
        let short = ItemPointer::immediate(FLAVOUR, 0x3301, u64::from(u16::from_be_bytes(*b"de")));
        assert_eq!(bytes(&[at(0x3300, 0), short, at(0x3302, 3)], b"abc"), expected);
    }

    #[test]
    fn items_that_are_missing_or_of_other_lengths_are_none() {
        for (pointers, payload) in [
            (vec![at(0x3300, 0), at(0x3301, 3)], "abcde"),
            (vec![at(0x3300, 0), at(0x3301, 3), at(0x3302, 5)], "abcd"),
            (vec![at(0x3300, 0), at(0x3301, 3), at(0x3302, 5)], "abcdef"),
            (vec![at(0x3300, 0), at(0x3301, 2), at(0x3302, 4)], "abcd"),
            (vec![at(0x3300, 0), at(0x3301, 3), at(0x3302, 5), at(7, 4)], "abcde"),
            (vec![at(0x3300, 0), at(0x3301, 3), at(0x3302, 6)], "abcde"),
            (vec![at(0x3300, (1 << 40) - 3), at(0x3301, 3), at(0x3302, 5)], "abcde"),
            (vec![ItemPointer::immediate(FLAVOUR, 0x3300, 0)], "abcde"),
        ] {
            assert_eq!(bytes(&pointers, payload.as_bytes()), None, "{pointers:?}");
        }
    }

    /// After 2^27 heaps of 8 KiB, timestamps of 40 bits start over; heaps go on.
    #[test]
    fn timestamps_start_over_and_heaps_do_not() {
        for len in [8192_u64, 12_288, 1000] {
            let matches = |index: u64, bytes: &[u8]| bytes.starts_with(&index.to_le_bytes());
            let mut verification = Verification::new(Box::new(matches));
            let first = (1 << 40) / len - 3;
            // Heaps are heard of from the start of the stream on, if not of all of them.
            let far = (0..4).map(|quarter| quarter * first / 4);
            let near = [0, 1, 2, 3, 4, 9, 10, 80].map(|more| first + more);
            for index in far.chain(near) {
                let mut payload = vec![0; len as usize];
                payload[..8].copy_from_slice(&index.to_le_bytes());
                let stamp = index.wrapping_mul(len) & FLAVOUR.max_value();
                let pointers =
                    [ItemPointer::immediate(FLAVOUR, TIMESTAMP_ITEM, stamp), at(0x3300, 0)];
                assert!(verification.matches(&view(1, &pointers, &payload)), "{len}: {index}");
            }
        }
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
            let mut order: Vec<(u64, u64)> =
                jitter.iter().zip(0..).map(|(jitter, index)| (index + jitter, index)).collect();
            order.sort_unstable();
            let mut next = 0;
            for (_, index) in order {
                let cnt = first.wrapping_add(index.wrapping_mul(step)) & flavour.max_value();
                let distance = cnt.wrapping_sub(first) & flavour.max_value();
                prop_assert_eq!(multiple(flavour, step, distance, next), Some(index));
                next = index + 1;
            }
        }

        #[test]
        fn arbitrary_numbers_do_not_panic(bytes in 1_u8..=7, factor: u64, value: u64, near: u64) {
            let flavour = Flavour::new(bytes * 8).unwrap();
            let value = value & flavour.max_value();
            if let Some(n) = multiple(flavour, factor, value, near) {
                prop_assert_eq!(n.wrapping_mul(factor) & flavour.max_value(), value);
            }
        }
    }
}
