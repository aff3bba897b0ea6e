//! A batch in flight: anyone may read it, nobody may write it.

use std::ops::Range;
use std::sync::Arc;

use super::batch::{Batch, Slot};
use super::layout::Layout;
use super::mapped_bytes::MappedBytes;
use super::memory::Truncated;
use super::placement::Placement;
use super::region::Region;

/// A batch whose bytes a backend may read until it is taken back.
///
/// It cannot be written: the [`Batch`] that could is inside, and out of reach.
#[derive(Debug)]
pub struct InFlight {
    batch: Batch,
    heaps: u32,
}

/// One packet in memory.
#[derive(Clone, Copy, Debug)]
pub struct PacketBytes<'a> {
    /// The backend's own bytes before it: none but before the first of a run.
    pub headroom: &'a [u8],
    /// SPEAD header, then, if packed, payload.
    pub head: &'a [u8],
    /// Payload, if it lies elsewhere; else empty.
    pub tail: MappedBytes<'a>,
}

impl PacketBytes<'_> {
    /// A copy of the whole packet, headroom first.
    pub fn to_vec(self) -> Vec<u8> {
        [self.headroom, self.head, &self.tail.to_vec()].concat()
    }
}

impl Batch {
    /// Stamps the heap cnts, `cnt_step` apart, and gives the bytes away: what [`Sender::submit`]
    /// does before it posts, for those who drive a [`Backend`] themselves.
    ///
    /// [`Sender::submit`]: crate::sender::Sender::submit
    /// [`Backend`]: crate::backend::Backend
    pub fn stamp(mut self, heaps: u32, first_cnt: u64, cnt_step: u64) -> InFlight {
        self.write_cnts(heaps, first_cnt, cnt_step);
        InFlight::new(self, heaps)
    }
}

impl InFlight {
    pub(super) fn new(batch: Batch, heaps: u32) -> Self {
        Self { batch, heaps }
    }

    /// The region it lies in.
    pub fn region(&self) -> &Arc<Region> {
        self.batch.region()
    }

    /// Which batch it is.
    pub fn slot(&self) -> Slot {
        self.batch.slot()
    }

    /// How many of its heaps are to be sent, the first ones.
    pub fn heaps(&self) -> u32 {
        self.heaps
    }

    /// A packet's bytes.
    ///
    /// # Panics
    ///
    /// If the plan has no such packet.
    pub fn packet(&self, packet: u32) -> PacketBytes<'_> {
        let region = self.region();
        let arrangement = region.arrangement();
        let planned = &region.plan().packets()[packet as usize];
        let header = arrangement.headers()[packet as usize] as usize;
        let header_end = header + planned.header_len as usize;
        let payload = planned.payload_offset..planned.payload_offset + planned.payload_len;
        let (end, tail) = match region.layout() {
            Layout::Packed => (header_end + planned.payload_len, MappedBytes::EMPTY),
            Layout::Split => {
                let heap = arrangement.payload_of_heap(planned.heap);
                let tail = self.bytes(heap + payload.start..heap + payload.end);
                (header_end, MappedBytes::of(tail))
            }
            Layout::Attached => {
                let tail = self.source(planned.heap).get(payload);
                (header_end, tail.expect("a packet's payload is the heap's"))
            }
        };
        let headroom = self.bytes(header - arrangement.headroom_of(packet)..header);
        PacketBytes { headroom, head: self.bytes(header..end), tail }
    }

    /// The bytes of packets that follow each other, where those are adjacent: of one run, or of several where
    /// nothing is between runs.
    ///
    /// # Panics
    ///
    /// If the plan has no such packets, or they are not adjacent.
    pub fn adjacent(&self, packets: Range<u32>) -> &[u8] {
        if packets.is_empty() {
            return &[];
        }
        let region = self.region();
        let arrangement = region.arrangement();
        let start = |packet: u32| arrangement.headers()[packet as usize] as usize;
        let last = packets.end - 1;
        let is_one_run = || arrangement.run_of(packets.start) == arrangement.run_of(last);
        let Placement { headroom, slots, .. } = arrangement.placement();
        let has_no_gaps = headroom == 0 && slots.is_none();
        assert!(
            region.layout() == Layout::Packed && (has_no_gaps || is_one_run()),
            "there are gaps"
        );
        let len = region.plan().packets()[last as usize].len();
        self.bytes(start(packets.start)..start(last) + len)
    }

    /// The payload that a heap is attached to.
    ///
    /// # Panics
    ///
    /// If the layout is not [`Layout::Attached`], or there is no such heap among those to be sent.
    pub fn source(&self, heap: u32) -> MappedBytes<'_> {
        let region = self.region();
        let attachment = self.batch.attachment(heap).expect("submit() has checked");
        region.sources()[attachment.source as usize]
            .file_bytes(attachment.offset, region.plan().heap_len(heap))
            .expect("attach() has checked the range")
    }

    /// The heaps whose payload is no longer in the file that they are attached to, and why.
    pub(crate) fn truncated(&self) -> Vec<(u32, Truncated)> {
        let region = self.region();
        if region.layout() != Layout::Attached {
            return Vec::new();
        }
        let end = |heap| {
            let attachment = self.batch.attachment(heap).expect("submit() has checked");
            (attachment.source, attachment.offset + region.plan().heap_len(heap))
        };
        // From the end: where a heap is there, those before it in the file are, too.
        let (mut whole, mut gone) = ((u32::MAX, 0), Vec::new());
        for heap in (0..self.heaps).rev() {
            let (source, end) = end(heap);
            if whole.0 == source && end <= whole.1 {
                continue;
            }
            match region.sources()[source as usize].check(end) {
                Ok(()) => whole = (source, end),
                Err(error) => gone.push((heap, error)),
            }
        }
        gone
    }

    /// The bytes before a packet that are the backend's own, to be changed before it is posted: none but before
    /// the first of a run.
    ///
    /// # Panics
    ///
    /// If the plan has no such packet.
    pub fn headroom(&mut self, packet: u32) -> &mut [u8] {
        self.batch.headroom(packet)
    }

    /// Which of [`Region::sources`] a heap is attached to.
    ///
    /// # Panics
    ///
    /// If the layout is not [`Layout::Attached`], or there is no such heap.
    pub fn source_index(&self, heap: u32) -> u32 {
        self.batch.attachment(heap).expect("submit() has checked").source
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        let region = self.region();
        region.check(&range);
        // SAFETY: the range lies within the batch. Writing takes `&mut Batch`, which is inside this
        // very object, and so behind `&mut self`, until `reclaim` takes it by value: nobody writes
        // while the borrow lasts.
        unsafe {
            let start = region.start(self.slot().batch).add(range.start);
            std::slice::from_raw_parts(start, range.len())
        }
    }

    /// Takes the batch back.
    ///
    /// # Safety
    ///
    /// Every backend that it was posted to is done with all packets posted, or was dropped: nothing
    /// reads the memory any more.
    pub unsafe fn reclaim(self) -> Batch {
        self.batch
    }
}
