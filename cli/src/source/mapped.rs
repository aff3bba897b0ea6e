//! Heaps that lie in mapped files, one after the other.

use std::ops::Range;
use std::sync::Arc;

use super::{Filled, SourceError, Verifier};
use doorbell::region::{MappedBytes, Memory, PayloadMut};

/// Heaps of one length in mapped files, with nothing between those of one file.
///
/// Should a file shrink meanwhile, what is gone reads as zeros, and [`MappedHeaps::check`] says so.
#[derive(Clone, Debug)]
pub struct MappedHeaps {
    memories: Vec<Arc<Memory>>,
    /// Of each file, where its heaps start in it, and the index of the first.
    starts: Vec<(usize, u64)>,
    heap_len: usize,
    /// Heaps in all files.
    once: u64,
    /// Heaps with all repetitions; none if there is no end of them.
    heaps: Option<u64>,
}

/// Where a heap lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which of [`MappedHeaps::memories`].
    pub memory: u32,
    /// Where in it the heap starts, in bytes.
    pub offset: usize,
}

impl MappedHeaps {
    /// As many whole heaps as there are from `start` on, but no more than `most`.
    ///
    /// `None` if not even one is whole, or heaps have no bytes.
    pub(super) fn new(memory: Memory, start: usize, heap_len: usize, most: u64) -> Option<Self> {
        let whole = memory.len().checked_sub(start)?.checked_div(heap_len)? as u64;
        let heaps = whole.min(most);
        (heaps > 0).then(|| Self {
            memories: vec![Arc::new(memory)],
            starts: vec![(start, 0)],
            heap_len,
            once: heaps,
            heaps: Some(heaps),
        })
    }

    /// These heaps, then the `other` ones, which must be as long.
    pub(super) fn append(&mut self, other: Self) {
        debug_assert_eq!(self.heap_len, other.heap_len);
        self.memories.extend(other.memories);
        self.starts.extend(other.starts.iter().map(|(start, first)| (*start, first + self.once)));
        self.once += other.once;
        self.heaps = Some(self.once);
    }

    /// These heaps `times` over; without end for `None`.
    pub(super) fn repeat(&mut self, times: Option<u64>) {
        self.heaps = times.map(|times| self.once.saturating_mul(times));
    }

    /// The files.
    pub fn memories(&self) -> &[Arc<Memory>] {
        &self.memories
    }

    /// How many heaps there are; `None` if there is no end of them.
    pub fn heaps(&self) -> Option<u64> {
        self.heaps
    }

    /// Where a heap lies; `None` if there are fewer heaps.
    pub fn place(&self, index: u64) -> Option<Position> {
        if self.heaps.is_some_and(|heaps| index >= heaps) {
            return None;
        }
        let index = index % self.once;
        let memory = self.starts.partition_point(|(_, first)| *first <= index) - 1;
        let (start, first) = self.starts[memory];
        // A heap that exists lies within its mapping, so nothing overflows.
        let offset = start + (index - first) as usize * self.heap_len;
        Some(Position { memory: memory as u32, offset })
    }

    /// The bytes of a heap.
    pub fn heap(&self, index: u64) -> Option<MappedBytes<'_>> {
        let Position { memory, offset } = self.place(index)?;
        self.memories[memory as usize].file_bytes(offset, self.heap_len)
    }

    /// Whether all bytes of these heaps are still there, of which one call for each file tells.
    ///
    /// # Errors
    ///
    /// If a file has shrunk.
    pub fn check(&self, heaps: Range<u64>) -> Result<(), SourceError> {
        let mut checked = Position { memory: u32::MAX, offset: 0 };
        // From the end: the last heap of a file is there only if those before it are.
        for place in heaps.rev().filter_map(|index| self.place(index)) {
            if place.memory != checked.memory || place.offset > checked.offset {
                self.memories[place.memory as usize].check(place.offset + self.heap_len)?;
                checked = place;
            }
        }
        Ok(())
    }

    pub(super) fn fill(&self, index: u64, payload: PayloadMut<'_>) -> Filled {
        let Some(heap) = self.heap(index) else { return Filled::End };
        let mut offset = 0;
        for chunk in payload.chunks() {
            let copied = heap.copy_to(offset, chunk);
            debug_assert!(copied, "a heap fills its payload");
            offset += chunk.len();
        }
        Filled::Whole
    }
}

impl Verifier for MappedHeaps {
    fn matches(&self, index: u64, payload: &[u8]) -> bool {
        self.heap(index).is_some_and(|heap| heap.equals(payload))
    }
}
