//! The memory of a few batches.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use super::arrangement::Arrangement;
use super::batch::{Batch, Slot};
use super::memory::{Memory, MemoryError, Pages};
use super::placement::Placement;
use crate::plan::Plan;

/// How the packets of a batch lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Header and payload of a packet adjacent, packets back to back: for payload that is written
    /// in place. A run of packets is one piece of memory.
    Packed,
    /// Headers in an arena of their own, the payload of each heap contiguous.
    Split,
    /// Headers in an arena of their own; the payload of each heap is attached from a source, such
    /// as a mapped file, and is never copied.
    Attached,
}

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
    /// Lays out `batches` batches of a plan in memory of their own, and writes all that does not change from
    /// send to send. `sources` is what heaps can be attached to: for [`Layout::Attached`].
    ///
    /// # Errors
    ///
    /// As [`Arrangement::new`] and [`Region::in_memory`]; or if there is no memory.
    pub fn allocate(
        plan: &Arc<Plan>,
        layout: Layout,
        batches: u32,
        placement: Placement,
        sources: Vec<Arc<Memory>>,
    ) -> Result<(Arc<Self>, Vec<Batch>), RegionError> {
        let arrangement = Arrangement::new(plan, layout, placement)?;
        let memory = Memory::anonymous(arrangement.batch_len().saturating_mul(batches as usize))?;
        Self::in_memory(arrangement, memory, batches, sources)
    }

    /// As [`Region::allocate`], in memory that a backend provides.
    ///
    /// # Errors
    ///
    /// If the memory is too small or a file, which is read-only; or if heaps that are to be attached have
    /// constant payload.
    pub fn in_memory(
        arrangement: Arrangement,
        memory: Memory,
        batches: u32,
        sources: Vec<Arc<Memory>>,
    ) -> Result<(Arc<Self>, Vec<Batch>), RegionError> {
        let plan = arrangement.plan();
        if arrangement.layout() == Layout::Attached
            && let Some(heap) =
                (0..plan.heaps()).find(|&heap| !plan.shape(heap).constants.is_empty())
        {
            return Err(RegionError::Constant { heap });
        }
        let needed = arrangement.batch_len().saturating_mul(batches as usize);
        if memory.pages() == Pages::File || memory.len() < needed {
            return Err(RegionError::Unsuitable {
                needed,
                len: memory.len(),
                pages: memory.pages(),
            });
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let region = Arc::new(Self { id, memory, arrangement, sources, batches });
        let batches = (0..batches)
            .map(|batch| {
                let mut batch = Batch::new(region.clone(), Slot { region: id, batch });
                batch.write_headers();
                batch.write_constants();
                batch
            })
            .collect();
        Ok((region, batches))
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

/// Why a region cannot be laid out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RegionError {
    /// There is no memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A batch is too large.
    #[error("a batch exceeds 4 GiB: put fewer heaps into it")]
    BatchSize,
    /// A heap with constant payload cannot be attached.
    #[error(
        "heap {heap} has constant payload, such as a descriptor, and cannot be attached: \
         send that in a heap of its own"
    )]
    Constant {
        /// Which heap of the batch.
        heap: u32,
    },
    /// Runs that have slots hold all that is sent.
    #[error("payload must lie in the packets where runs have slots; the layout is {layout:?}")]
    Slots {
        /// The layout asked for.
        layout: Layout,
    },
    /// The memory provided cannot hold the batches.
    #[error("batches need {needed} bytes that can be written, and there are {len}, of {pages}")]
    Unsuitable {
        /// Bytes of all batches.
        needed: usize,
        /// Bytes that there are.
        len: usize,
        /// What backs them.
        pages: Pages,
    },
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);
