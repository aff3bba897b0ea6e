//! Where in a heap the items are that are expected.

use std::collections::HashMap;
use std::ops::Range;

use crate::wire::{Flavour, ItemPointer};

/// Finds the items of one heap after the other, as their pointers say: descriptors and other items
/// may lie between them, and short ones inside their pointers.
#[derive(Debug)]
pub(super) struct Items {
    flavour: Flavour,
    sizes: Vec<usize>,
    position_of_id: HashMap<u64, usize>,
    /// The pointer of each item, once noted.
    pointers: Vec<Option<ItemPointer>>,
    /// Where anything starts.
    starts: Vec<u64>,
    /// Items that do not lie one right after the other, brought together.
    gathered: Vec<u8>,
}

impl Items {
    /// Items of these identifiers and sizes.
    pub(super) fn new(flavour: Flavour, items: &[(u64, usize)]) -> Self {
        Self {
            flavour,
            sizes: items.iter().map(|(_, size)| *size).collect(),
            position_of_id: items.iter().map(|(id, _)| *id).zip(0..).collect(),
            pointers: vec![None; items.len()],
            starts: Vec::new(),
            gathered: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Bytes of all items.
    pub(super) fn len(&self) -> usize {
        self.sizes.iter().fold(0, |len, size| len.saturating_add(*size))
    }

    /// Starts over with another heap.
    pub(super) fn clear(&mut self) {
        self.pointers.fill(None);
        self.starts.clear();
    }

    /// Takes note of a pointer, and says whether it is that of an item expected.
    pub(super) fn note(&mut self, pointer: ItemPointer) -> bool {
        if !pointer.is_immediate() {
            self.starts.push(pointer.value(self.flavour));
        }
        let position = self.position_of_id.get(&pointer.id(self.flavour));
        if let Some(&position) = position {
            self.pointers[position] = Some(pointer);
        }
        position.is_some()
    }

    /// The bytes of all items, in order; `None` if one is missing or not as long as expected.
    pub(super) fn bytes<'a>(&'a mut self, payload: &'a [u8]) -> Option<&'a [u8]> {
        self.starts.push(payload.len() as u64);
        self.starts.sort_unstable();
        let mut whole: Option<Range<usize>> = None;
        let mut adjacent = true;
        for (pointer, &size) in self.pointers.iter().zip(&self.sizes) {
            let Some(start) = self.start((*pointer)?, size)? else {
                adjacent = false;
                continue;
            };
            let range = whole.get_or_insert(start..start);
            adjacent &= range.end == start;
            range.end = start + size;
        }
        if adjacent {
            return payload.get(whole.unwrap_or_default());
        }
        self.gathered.clear();
        for (pointer, &size) in self.pointers.iter().zip(&self.sizes) {
            let pointer = (*pointer)?;
            match self.start(pointer, size)? {
                Some(start) => self.gathered.extend_from_slice(payload.get(start..start + size)?),
                None => {
                    let bytes = pointer.to_be_bytes();
                    self.gathered.extend_from_slice(&bytes[bytes.len() - size..]);
                }
            }
        }
        Some(&self.gathered)
    }

    /// Where an item of `size` bytes starts, and `Some(None)` if it is inside its pointer; `None` if
    /// it is not as long. An item ends where the next one starts, or the heap ends.
    fn start(&self, pointer: ItemPointer, size: usize) -> Option<Option<usize>> {
        if pointer.is_immediate() {
            return (size <= self.flavour.address_bytes()).then_some(None);
        }
        let start = pointer.value(self.flavour);
        let end = start.checked_add(size as u64)?;
        // Of items that start at one place, all but the last are empty.
        let next = match size {
            0 => self.starts.partition_point(|&other| other < start) + 1,
            _ => self.starts.partition_point(|&other| other <= start),
        };
        let start = usize::try_from(start).ok()?;
        (self.starts.get(next) == Some(&end)).then_some(Some(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAVOUR: Flavour = Flavour::SPEAD_64_40;

    fn bytes(pointers: &[ItemPointer], payload: &[u8]) -> Option<Vec<u8>> {
        let mut items = Items::new(FLAVOUR, &[(0x3300, 3), (0x3301, 2), (0x3302, 0)]);
        assert_eq!(items.len(), 5);
        items.note(at(0x3300, 0));
        items.clear();
        pointers.iter().for_each(|&pointer| _ = items.note(pointer));
        items.bytes(payload).map(<[u8]>::to_vec)
    }

    fn at(id: u64, address: u64) -> ItemPointer {
        ItemPointer::addressed(FLAVOUR, id, address)
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
}
