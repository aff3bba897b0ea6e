//! Where the bytes of a batch lie.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use super::batch::{Batch, Slot};
use super::memory::{Memory, MemoryError};
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
    plan: Arc<Plan>,
    layout: Layout,
    sources: Vec<Arc<Memory>>,
    headroom: usize,
    batches: u32,
    places: Places,
}

impl Region {
    /// Lays out `batches` batches of a plan, and writes all that does not change from send to send.
    ///
    /// Before each packet there are `headroom` bytes for the headers of lower protocols; without,
    /// packets are adjacent. `sources` is what heaps can be attached to: for [`Layout::Attached`].
    ///
    /// # Errors
    ///
    /// If there is no memory, a batch exceeds 4 GiB, or heaps that are to be attached have constant
    /// payload.
    pub fn allocate(
        plan: &Arc<Plan>,
        layout: Layout,
        batches: u32,
        headroom: usize,
        sources: Vec<Arc<Memory>>,
    ) -> Result<(Arc<Self>, Vec<Batch>), RegionError> {
        if layout == Layout::Attached
            && let Some(heap) =
                (0..plan.heaps()).find(|&heap| !plan.shape(heap).constants.is_empty())
        {
            return Err(RegionError::Constant { heap });
        }
        let places = Places::of(plan, layout, headroom)?;
        let memory = Memory::anonymous(places.stride.saturating_mul(batches as usize))?;
        let region = Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            memory,
            plan: plan.clone(),
            layout,
            sources,
            headroom,
            batches,
            places,
        });
        let batches = (0..batches)
            .map(|batch| {
                let mut batch = Batch::new(region.clone(), Slot { region: region.id, batch });
                batch.write_headers();
                batch.write_constants();
                batch
            })
            .collect();
        Ok((region, batches))
    }

    /// Bytes of memory that [`Region::allocate`] would ask for.
    ///
    /// # Errors
    ///
    /// If a batch exceeds 4 GiB.
    pub fn size(
        plan: &Plan,
        layout: Layout,
        batches: u32,
        headroom: usize,
    ) -> Result<usize, RegionError> {
        Ok(Places::of(plan, layout, headroom)?.stride.saturating_mul(batches as usize))
    }

    /// Tells regions apart.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The geometry of each batch.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// How packets lie.
    pub fn layout(&self) -> Layout {
        self.layout
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

    /// Bytes before each packet that are a backend's own.
    pub fn headroom(&self) -> usize {
        self.headroom
    }

    /// Where a packet of a batch starts, headroom left out, and where its payload does if that lies
    /// elsewhere: null unless the layout is split.
    ///
    /// # Panics
    ///
    /// If there is no such packet.
    pub(crate) fn packet_addresses(&self, batch: u32, packet: u32) -> (*const u8, *const u8) {
        let start = self.start(batch).cast_const();
        let header = start.wrapping_add(self.places.headers[packet as usize] as usize);
        let payload = match self.layout {
            Layout::Split => {
                let planned = &self.plan.packets()[packet as usize];
                start.wrapping_add(self.payload_of_heap(planned.heap) + planned.payload_offset)
            }
            Layout::Packed | Layout::Attached => std::ptr::null(),
        };
        (header, payload)
    }

    /// The first byte of a batch.
    pub(super) fn start(&self, batch: u32) -> *mut u8 {
        debug_assert!(batch < self.batches);
        self.memory.as_mut_ptr().wrapping_add(batch as usize * self.places.stride)
    }

    /// Panics unless a range lies within a batch.
    #[inline]
    pub(super) fn check(&self, range: &Range<usize>) {
        assert!(
            range.start <= range.end && range.end <= self.places.stride,
            "{range:?} is not in a batch"
        );
    }

    /// Where the SPEAD header of each packet is, from the start of its batch.
    pub(super) fn headers(&self) -> &[u32] {
        &self.places.headers
    }

    /// How the headers lie, if evenly.
    pub(super) fn spacing(&self) -> Option<Spacing> {
        self.places.spacing
    }

    /// Where the payload of a heap is, from the start of its batch; only split.
    pub(super) fn payload_of_heap(&self, heap: u32) -> usize {
        self.places.payloads[heap as usize] as usize
    }
}

/// Where the bytes of a batch lie, from its start.
#[derive(Debug)]
struct Places {
    /// The SPEAD header of each packet.
    headers: Vec<u32>,
    /// The payload of each heap; only split.
    payloads: Vec<u32>,
    /// Bytes from one batch to the next.
    stride: usize,
    spacing: Option<Spacing>,
}

/// Headers that lie equally far apart, heap after heap: where they are need not be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spacing {
    /// The first header, from the start of its batch.
    pub(super) first: u32,
    /// Bytes from one header to the next.
    pub(super) stride: u32,
    /// Packets of each heap.
    pub(super) packets: u32,
}

impl Spacing {
    fn of(plan: &Plan, headers: &[u32]) -> Option<Self> {
        let first = *headers.first()?;
        let stride = headers.get(1).map_or(0, |second| second - first);
        let packets = plan.packets_of_heap(0);
        // The last heap may have fewer.
        let all = u64::from(packets) * u64::from(plan.heaps()) == headers.len() as u64;
        let even = headers.iter().zip(plan.heap_of_packet()).zip(0_u32..).all(
            |((&header, &heap), packet)| {
                u64::from(header) == u64::from(first) + u64::from(stride) * u64::from(packet)
                    && heap == packet / packets
            },
        );
        (all && even).then_some(Self { first, stride, packets })
    }
}

impl Places {
    fn of(plan: &Plan, layout: Layout, headroom: usize) -> Result<Self, RegionError> {
        let mut end = 0_usize;
        let mut headers = Vec::with_capacity(plan.packets().len());
        for packet in plan.packets() {
            // With headroom there are gaps anyway, and 8-byte fields may as well be aligned.
            let header = match headroom {
                0 => end,
                _ => (end + headroom).next_multiple_of(FIELD_ALIGN),
            };
            headers.push(offset(header)?);
            let payload = if layout == Layout::Packed { packet.payload_len } else { 0 };
            end = header + packet.header_len as usize + payload;
        }
        let mut payloads = Vec::new();
        if layout == Layout::Split {
            for heap in 0..plan.heaps() {
                let start = end.next_multiple_of(PAYLOAD_ALIGN);
                payloads.push(offset(start)?);
                end = start + plan.heap_len(heap);
            }
        }
        let stride = end.next_multiple_of(BATCH_ALIGN);
        offset(stride)?;
        Ok(Self { spacing: Spacing::of(plan, &headers), headers, payloads, stride })
    }
}

fn offset(bytes: usize) -> Result<u32, RegionError> {
    u32::try_from(bytes).map_err(|_| RegionError::BatchSize)
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
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);
const FIELD_ALIGN: usize = 8;
/// A cache line: what vectorised fills and DMA like.
const PAYLOAD_ALIGN: usize = 64;
/// A page: batches share none, so that pinning one touches no other.
const BATCH_ALIGN: usize = 4096;
