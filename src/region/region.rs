//! The memory of a few batches.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::arrangement::Arrangement;
use super::layout::Layout;
use super::memory::Memory;
use crate::plan::Plan;

/// The packets of a few batches, laid out in one mapping.
#[derive(Debug)]
pub struct Region {
    id: u64,
    memory: Memory,
    arrangement: Arrangement,
    sources: Vec<Arc<Memory>>,
    batches: u32,
}

impl Region {
    /// Memory for `batches` batches.
    pub(super) fn new(
        arrangement: Arrangement,
        memory: Memory,
        batches: u32,
        sources: Vec<Arc<Memory>>,
    ) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self { id, memory, arrangement, sources, batches }
    }

    /// Tells regions apart.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where the packets of each batch lie.
    pub fn arrangement(&self) -> &Arrangement {
        &self.arrangement
    }

    /// The geometry of each batch.
    pub fn plan(&self) -> &Arc<Plan> {
        self.arrangement.plan()
    }

    /// Where headers and payload lie to each other.
    pub fn layout(&self) -> Layout {
        self.arrangement.layout()
    }

    /// The mapping that holds headers and, unless attached, payload.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What heaps can be attached to.
    pub fn sources(&self) -> &[Arc<Memory>] {
        &self.sources
    }

    /// Number of batches.
    pub fn batches(&self) -> u32 {
        self.batches
    }

    /// Where a packet of a batch starts, headroom left out, and where its payload does if that lies
    /// elsewhere: null unless the layout is split.
    ///
    /// # Panics
    ///
    /// If there is no such packet.
    pub(crate) fn packet_addresses(&self, batch: u32, packet: u32) -> (*const u8, *const u8) {
        let start = self.start(batch).cast_const();
        let header = start.wrapping_add(self.arrangement.headers()[packet as usize] as usize);
        let payload = match self.layout() {
            Layout::Split => {
                let planned = &self.plan().packets()[packet as usize];
                let heap = self.arrangement.payload_of_heap(planned.heap);
                start.wrapping_add(heap + planned.payload_offset)
            }
            Layout::Packed | Layout::Attached => std::ptr::null(),
        };
        (header, payload)
    }

    /// The first byte of a batch.
    pub(super) fn start(&self, batch: u32) -> *mut u8 {
        debug_assert!(batch < self.batches);
        self.memory.as_mut_ptr().wrapping_add(batch as usize * self.arrangement.batch_len())
    }

    /// Panics unless a range lies within a batch.
    #[inline]
    pub(super) fn check(&self, range: &Range<usize>) {
        assert!(
            range.start <= range.end && range.end <= self.arrangement.batch_len(),
            "{range:?} is not in a batch"
        );
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);
