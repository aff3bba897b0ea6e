//! Heaps that lie in a mapped file, one after the other.

use std::sync::Arc;

use super::{Filled, Verifier};
use crate::region::{Memory, PayloadMut};

/// Heaps of one length in a mapped file, with nothing between them.
#[derive(Clone, Debug)]
pub(super) struct MappedHeaps {
    memory: Arc<Memory>,
    start: usize,
    heap_len: usize,
    heaps: u64,
}

impl MappedHeaps {
    /// As many whole heaps as there are from `start` on, but no more than `most`.
    ///
    /// `None` if not even one is whole, or heaps have no bytes.
    pub(super) fn new(memory: Memory, start: usize, heap_len: usize, most: u64) -> Option<Self> {
        let whole = memory.len().checked_sub(start)?.checked_div(heap_len)? as u64;
        let heaps = whole.min(most);
        (heaps > 0).then(|| Self { memory: Arc::new(memory), start, heap_len, heaps })
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    pub(super) fn heaps(&self) -> u64 {
        self.heaps
    }

    /// Where in the mapping a heap starts; `None` if there are fewer heaps.
    pub(super) fn offset(&self, index: u64) -> Option<usize> {
        // A heap that exists lies within the mapping, so nothing overflows.
        (index < self.heaps).then(|| self.start + index as usize * self.heap_len)
    }

    fn heap(&self, index: u64) -> Option<&[u8]> {
        self.memory.file_bytes(self.offset(index)?, self.heap_len)
    }

    pub(super) fn fill(&self, index: u64, payload: PayloadMut<'_>) -> Filled {
        match self.heap(index) {
            Some(bytes) => {
                payload.copy_from(bytes);
                Filled::Whole
            }
            None => Filled::End,
        }
    }
}

impl Verifier for MappedHeaps {
    fn matches(&self, index: u64, payload: &[u8]) -> bool {
        self.heap(index) == Some(payload)
    }
}
