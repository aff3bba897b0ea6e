//! Where each packet of a batch lies, from the start of the batch.

use std::ops::Range;
use std::sync::Arc;

use super::error::RegionError;
use super::layout::Layout;
use super::placement::{Placement, Slots};
use crate::plan::{Order, Plan, Run, RunLimits, runs};

/// Where each packet of a batch lies: what a [`Region`](super::Region) needs memory for.
#[derive(Debug)]
pub struct Arrangement {
    plan: Arc<Plan>,
    layout: Layout,
    placement: Placement,
    runs: Vec<Run>,
    /// The SPEAD header of each packet.
    headers: Vec<u32>,
    /// The payload of each heap; only split.
    payloads: Vec<u32>,
    /// Bytes from one batch to the next.
    stride: usize,
    spacing: Option<Spacing>,
    grid: Option<SlotGrid>,
}

/// The slots of a batch: see [`Slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotGrid {
    /// Bytes of a slot.
    pub len: usize,
    /// Bytes of a block.
    pub block: usize,
    /// Blocks of a batch.
    pub blocks: usize,
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

impl Arrangement {
    /// Arranges the packets of a plan.
    ///
    /// # Errors
    ///
    /// If a batch exceeds 4 GiB, or payload is to lie apart where runs have slots.
    pub fn new(
        plan: &Arc<Plan>,
        layout: Layout,
        placement: Placement,
    ) -> Result<Self, RegionError> {
        if placement.slots.is_some() && layout != Layout::Packed {
            return Err(RegionError::Slots { layout });
        }
        // The first heaps alone may leave gaps in a run of interleaved heaps, and its rest would have nothing
        // before it.
        let limits = match placement.is_divisible() || plan.order() == Order::Serial {
            true => placement.run,
            false => RunLimits { segments: 1, ..placement.run },
        };
        let runs: Vec<Run> = runs(plan.packets(), limits).collect();
        let in_arena = |packet: u32| {
            let packet = &plan.packets()[packet as usize];
            match layout {
                Layout::Packed => packet.len(),
                Layout::Split | Layout::Attached => packet.header_len as usize,
            }
        };
        let grid = placement.slots.map(|slots| SlotGrid::of(slots, placement.headroom, &runs));
        let (mut headers, mut end) = (Vec::with_capacity(plan.packets().len()), 0);
        for (index, run) in runs.iter().enumerate() {
            end = match (&grid, placement.headroom) {
                (Some(grid), headroom) => grid.slot(index) + headroom,
                (None, 0) => end,
                // There are gaps anyway, and 8-byte fields may as well be aligned.
                (None, headroom) => (end + headroom).next_multiple_of(FIELD_ALIGN),
            };
            for packet in run.packets.clone() {
                headers.push(offset(end)?);
                end += in_arena(packet);
            }
        }
        let mut payloads = Vec::new();
        if layout == Layout::Split {
            for heap in 0..plan.heaps() {
                let start = end.next_multiple_of(PAYLOAD_ALIGN);
                payloads.push(offset(start)?);
                end = start + plan.heap_len(heap);
            }
        }
        let stride = match &grid {
            Some(grid) => grid.blocks * grid.block,
            None => end.next_multiple_of(BATCH_ALIGN),
        };
        offset(stride)?;
        let spacing = Spacing::of(plan, &headers);
        let plan = plan.clone();
        Ok(Self { plan, layout, placement, runs, headers, payloads, stride, spacing, grid })
    }

    /// The packets.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Where headers and payload lie to each other.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What the backend asked for.
    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// The packets that go together, in order: all packets are in one.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The slots that runs are in, one each, if they are.
    pub fn slots(&self) -> Option<SlotGrid> {
        self.grid
    }

    /// Bytes of a batch: whole pages.
    pub fn batch_len(&self) -> usize {
        self.stride
    }

    /// The run that a packet is in.
    pub fn run_of(&self, packet: u32) -> usize {
        match self.runs.len() == self.plan.packets().len() {
            true => packet as usize,
            false => self.runs.partition_point(|run| run.packets.end <= packet),
        }
    }

    /// How many of these packets, from the first on, must go at once; they start where a run does, and may end
    /// in one.
    pub(crate) fn least(&self, packets: &Range<u32>) -> u32 {
        match self.placement.is_divisible() {
            true => 1,
            false => {
                let run = &self.runs[self.run_of(packets.start)].packets;
                run.end.min(packets.end) - packets.start
            }
        }
    }

    /// The last place, at or before packet `end`, where a post of these packets may end.
    pub(crate) fn post_end(&self, packets: &Range<u32>, end: u32) -> u32 {
        if end >= packets.end || self.placement.is_divisible() {
            return end.min(packets.end);
        }
        self.runs[self.run_of(end)].packets.start
    }

    /// Bytes before a packet that are the backend's own: none but before the first of a run.
    pub(super) fn headroom_of(&self, packet: u32) -> usize {
        match self.placement.headroom {
            0 => 0,
            headroom if self.runs[self.run_of(packet)].packets.start == packet => headroom,
            _ => 0,
        }
    }

    /// Where the SPEAD header of each packet is, from the start of its batch.
    pub(super) fn headers(&self) -> &[u32] {
        &self.headers
    }

    /// How the headers lie, if evenly.
    pub(super) fn spacing(&self) -> Option<Spacing> {
        self.spacing
    }

    /// Where the payload of a heap is, from the start of its batch; only split.
    pub(super) fn payload_of_heap(&self, heap: u32) -> usize {
        self.payloads[heap as usize] as usize
    }
}

impl SlotGrid {
    fn of(slots: Slots, headroom: usize, runs: &[Run]) -> Self {
        let longest = runs.iter().map(|run| run.bytes as usize).max().unwrap_or(0);
        let len = (headroom + longest).next_multiple_of(slots.multiple);
        let block = slots.block.max(len.next_power_of_two());
        Self { len, block, blocks: runs.len().div_ceil(block / len) }
    }

    /// Where a slot starts, from the start of its batch.
    pub fn slot(&self, index: usize) -> usize {
        let per_block = self.per_block();
        index / per_block * self.block + index % per_block * self.len
    }

    /// Slots of a block.
    pub fn per_block(&self) -> usize {
        self.block / self.len
    }
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

fn offset(bytes: usize) -> Result<u32, RegionError> {
    u32::try_from(bytes).map_err(|_| RegionError::BatchSize)
}

const FIELD_ALIGN: usize = 8;
/// A cache line: what vectorised fills and DMA like.
const PAYLOAD_ALIGN: usize = 64;
/// A page: batches share none, so that pinning one touches no other.
const BATCH_ALIGN: usize = 4096;
