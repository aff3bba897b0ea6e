//! A heap of which not all packets are there yet.

use std::collections::HashSet;
use std::ops::Range;

use super::buffer::Buffer;
use crate::wire::{ItemPointer, Packet, PacketHead};

/// A heap that is being put together. Once done with, it serves for another: its buffers stay.
#[derive(Debug, Default)]
pub(super) struct PartialHeap {
    cnt: u64,
    len: usize,
    /// Room for all of it: pages that no packet has reached are not touched, however long a heap says
    /// it is.
    payload: Buffer,
    /// Which of them are there: disjoint, not even adjacent, in order.
    pieces: Vec<Range<usize>>,
    pointers: Vec<ItemPointer>,
    /// The same, once there are too many to look for one of them in turn.
    known: HashSet<u64>,
    /// Whether it names more items than it may.
    is_overfull: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Its heap has it now.
    New,
    /// It adds nothing.
    Again,
    /// It says another length than its heap.
    Contradiction,
    /// Its heap names more items than any may.
    TooManyItems,
}

impl PartialHeap {
    /// Starts over with another heap. False if there is no memory for `len` bytes.
    pub(super) fn restart(&mut self, cnt: u64, len: usize) -> bool {
        self.cnt = cnt;
        self.len = len;
        self.pieces.clear();
        self.pointers.clear();
        self.known.clear();
        self.is_overfull = false;
        self.payload.make_room(len)
    }

    pub(super) fn cnt(&self) -> u64 {
        self.cnt
    }

    /// Takes what a packet carries.
    pub(super) fn add(&mut self, packet: &Packet<'_>) -> Taken {
        let taken = self.adopt(packet.head());
        if taken == Taken::New {
            // A range that was claimed lies within.
            let start = packet.header().payload_offset as usize;
            let bytes = packet.payload();
            self.payload.bytes_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        }
        taken
    }

    /// Like [`PartialHeap::add`], for payload that lies in its place already.
    pub(super) fn adopt(&mut self, head: &PacketHead<'_>) -> Taken {
        let header = head.header();
        // A packet need not say how long its heap is, so its end is not known to be within.
        let end = header.payload_offset + header.payload_length;
        let agrees = head.heap_length().is_none_or(|len| len == self.len as u64);
        if !agrees || end > self.len as u64 {
            return Taken::Contradiction;
        }
        if header.payload_length > 0 && !self.claim(header.payload_offset as usize..end as usize) {
            return Taken::Again;
        }
        // Item pointers may need more packets than the payload does.
        self.note(head.item_pointers())
    }

    /// The place of what is missing from `start` on, as far as it goes without a break; empty if that
    /// is there. What is written there counts only once it is adopted.
    pub(super) fn gap(&mut self, start: usize) -> &mut [u8] {
        let at = self.pieces.partition_point(|piece| piece.end <= start);
        let end = self.pieces.get(at).map_or(self.len, |piece| piece.start);
        self.payload.bytes_mut().get_mut(start..end).unwrap_or_default()
    }

    /// Takes note of item pointers, which may be repeated in every packet, in the same order then.
    fn note(&mut self, pointers: impl Iterator<Item = ItemPointer>) -> Taken {
        for (at, pointer) in pointers.enumerate() {
            if self.pointers.get(at) == Some(&pointer) || self.is_known(pointer) {
                continue;
            }
            if self.pointers.len() == MAX_POINTERS {
                self.is_overfull = true;
                return Taken::TooManyItems;
            }
            self.pointers.push(pointer);
            if self.pointers.len() > FEW_POINTERS {
                if self.known.is_empty() {
                    self.known.extend(self.pointers.iter().map(key));
                }
                self.known.insert(key(&pointer));
            }
        }
        Taken::New
    }

    fn is_known(&self, pointer: ItemPointer) -> bool {
        match self.pointers.len() {
            0..=FEW_POINTERS => self.pointers.contains(&pointer),
            _ => self.known.contains(&key(&pointer)),
        }
    }

    /// Holds all of a heap that came in one packet.
    pub(super) fn copy(&mut self, pointers: &[ItemPointer], payload: &[u8]) {
        self.pointers.extend_from_slice(pointers);
        self.payload.bytes_mut()[..payload.len()].copy_from_slice(payload);
    }

    fn claim(&mut self, range: Range<usize>) -> bool {
        // The first piece that does not end before the range.
        let at = self.pieces.partition_point(|piece| piece.end < range.start);
        let joins_left = self.pieces.get(at).is_some_and(|piece| piece.end == range.start);
        let right = at + usize::from(joins_left);
        let next = self.pieces.get(right).map_or(usize::MAX, |piece| piece.start);
        if range.is_empty() || next < range.end {
            return false;
        }
        match (joins_left, next == range.end) {
            (true, true) => {
                self.pieces[at].end = self.pieces[right].end;
                self.pieces.remove(right);
            }
            (true, false) => self.pieces[at].end = range.end,
            (false, true) => self.pieces[right].start = range.start,
            (false, false) if self.pieces.len() < MAX_PIECES => self.pieces.insert(at, range),
            (false, false) => return false,
        }
        true
    }

    pub(super) fn is_whole(&self) -> bool {
        !self.is_overfull && (self.len == 0 || self.pieces.first() == Some(&(0..self.len)))
    }

    /// Its bytes; those that are missing are whatever.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload.bytes()[..self.len]
    }

    /// Bytes of memory that it holds, whatever of it is in use.
    pub(super) fn allocated(&self) -> usize {
        let many = match self.known.capacity() {
            0 => 0,
            known => self.pointers.capacity() * size_of::<ItemPointer>() + known * HASHED,
        };
        self.payload.len() + many
    }

    pub(super) fn pointers(&self) -> &[ItemPointer] {
        &self.pointers
    }
}

fn key(pointer: &ItemPointer) -> u64 {
    u64::from_be_bytes(pointer.to_be_bytes())
}

/// A heap that names more is refused; each packet may name thousands.
pub(super) const MAX_POINTERS: usize = 1 << 16;
/// So few are compared in less time than one is hashed.
const FEW_POINTERS: usize = 32;
/// Bytes of an entry of a set, and of its control.
const HASHED: usize = 9;
/// A heap of 64 MiB in packets of 1472 bytes has 46,000 packets, and fewer gaps.
const MAX_PIECES: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set of bytes: a range is taken if and only if none of its bytes is there.
        #[test]
        fn pieces_are_the_union_of_ranges(ranges in prop::collection::vec((0_usize..40, 0_usize..8), 0..40)) {
            let mut heap = PartialHeap::default();
            heap.restart(1, 48);
            let mut bytes = [false; 48];
            for (start, len) in ranges {
                let free = len > 0 && !bytes[start..start + len].contains(&true);
                prop_assert_eq!(heap.claim(start..start + len), free);
                if free {
                    bytes[start..start + len].fill(true);
                }
                let mut pieces = [false; 48];
                let mut end = None;
                for piece in &heap.pieces {
                    prop_assert!(end < Some(piece.start), "in order, and not adjacent");
                    pieces[piece.clone()].fill(true);
                    end = Some(piece.end);
                }
                prop_assert_eq!(pieces, bytes);
                prop_assert_eq!(heap.is_whole(), !bytes.contains(&false));
            }
        }
    }
}
