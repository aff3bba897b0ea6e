//! A batch: the right to touch its bytes.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

use super::arrangement::Spacing;
use super::layout::Layout;
use super::region::Region;
use crate::wire::{HEAP_CNT_OFFSET, ITEM_POINTER_LEN, ItemPointer, item};

/// Pre-built heaps in registered memory, idle and ours to fill.
#[derive(Debug)]
pub struct Batch {
    region: Arc<Region>,
    slot: Slot,
    /// What each heap is attached to, if it is; empty unless the layout is attached.
    attachments: Vec<Option<Attachment>>,
}

/// Names a batch to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// [`Region::id`] of its region.
    pub region: u64,
    /// Which batch of the region.
    pub batch: u32,
}

/// Why an immediate is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ImmediateError {
    /// The value has more bits than the flavour has for it.
    #[error("{value} does not fit immediate {id:#x}: the flavour's end at {most}")]
    TooLarge {
        /// The item.
        id: u64,
        /// The value.
        value: u64,
        /// The largest that fits.
        most: u64,
    },
    /// The heap has no such immediate.
    #[error("the heap has no immediate {id:#x}")]
    Missing {
        /// The item.
        id: u64,
    },
}

/// Where the payload of a heap lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attachment {
    pub(super) source: u32,
    pub(super) offset: usize,
}

impl Batch {
    pub(super) fn new(region: Arc<Region>, slot: Slot) -> Self {
        let attached = match region.layout() {
            Layout::Attached => region.plan().heaps() as usize,
            Layout::Packed | Layout::Split => 0,
        };
        Self { region, slot, attachments: vec![None; attached] }
    }

    /// The region it lies in.
    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// Which batch it is.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Heaps.
    pub fn heaps(&self) -> u32 {
        self.region.plan().heaps()
    }

    /// Changes an immediate of a heap.
    ///
    /// # Errors
    ///
    /// If the value has more bits than the flavour has for it, or the heap has no such immediate. Then the
    /// heap is as it was.
    ///
    /// # Panics
    ///
    /// If there is no such heap.
    #[inline]
    pub fn set_immediate(&mut self, heap: u32, id: u64, value: u64) -> Result<(), ImmediateError> {
        let mut bytes = self.bytes();
        let plan = bytes.region().plan();
        let most = plan.flavour().max_value();
        if value > most {
            return Err(ImmediateError::TooLarge { id, value, most });
        }
        let packets = plan.packets_of(heap);
        let pointer = ItemPointer::immediate(plan.flavour(), id, value).to_be_bytes();
        let mut found = false;
        for immediate in plan.shape(heap).immediates.iter().filter(|immediate| immediate.id == id) {
            found = true;
            for &(packet, place) in &immediate.places {
                let start = bytes.region().arrangement().headers()[packets[packet] as usize]
                    as usize
                    + place;
                bytes.slice(start..start + pointer.len()).copy_from_slice(&pointer);
            }
        }
        if found { Ok(()) } else { Err(ImmediateError::Missing { id }) }
    }

    /// Attaches the payload of a heap to `source`, one of [`Region::sources`], from `offset` bytes on.
    ///
    /// Returns false, and leaves the heap as it was, if there are fewer bytes than the heap needs, no
    /// such source or heap, or another layout.
    #[must_use = "a heap that could not be attached still has its former payload"]
    pub fn attach(&mut self, heap: u32, source: u32, offset: usize) -> bool {
        let Some(attachment) = self.attachments.get_mut(heap as usize) else { return false };
        let len = self.region.plan().heap_len(heap);
        let fits = self
            .region
            .sources()
            .get(source as usize)
            .is_some_and(|memory| memory.file_bytes(offset, len).is_some());
        if fits {
            *attachment = Some(Attachment { source, offset });
        }
        fits
    }

    /// The bytes before a packet that are the backend's own: none but before the first of a run.
    ///
    /// # Panics
    ///
    /// If the plan has no such packet.
    pub fn headroom(&mut self, packet: u32) -> &mut [u8] {
        let bytes = self.bytes();
        let header = bytes.region.arrangement().headers()[packet as usize] as usize;
        let range = header - bytes.region.arrangement().headroom_of(packet)..header;
        // SAFETY: the only slice there is.
        unsafe { { bytes }.split_off(range) }
    }

    /// Writes the heap cnts, `cnt_step` apart, into the packets of the first `heaps` heaps.
    pub(super) fn write_cnts(&mut self, heaps: u32, first_cnt: u64, cnt_step: u64) {
        let mut bytes = self.bytes();
        let region = bytes.region();
        let (plan, flavour) = (region.plan(), region.plan().flavour());
        let pointer = |heap: u32| {
            let cnt = first_cnt.wrapping_add(cnt_step.wrapping_mul(u64::from(heap)));
            ItemPointer::immediate(flavour, item::HEAP_CNT, cnt).to_be_bytes()
        };
        let stamped = heaps.min(plan.heaps());
        // Whether no cnt of these exceeds what the flavour holds.
        let is_straight = cnt_step
            .checked_mul(stamped.into())
            .and_then(|more| more.checked_add(first_cnt))
            .is_some_and(|end| end <= flavour.max_value());
        // SAFETY, of all writes: a region lays the header of each packet out within the batch, and
        // the borrow of the batch makes the access unique. They are made for every packet sent, so
        // the bounds, which never change, are not checked anew.
        match region.arrangement().spacing() {
            // What most programs send: a pointer and a place that go up in even steps.
            Some(Spacing { first, stride, packets: 1 }) if is_straight => {
                let mut value = u64::from_be_bytes(pointer(0));
                for heap in 0..stamped {
                    // SAFETY: see above.
                    unsafe { bytes.stamp(first + stride * heap, value.to_be_bytes()) };
                    value = value.wrapping_add(cnt_step);
                }
            }
            Some(Spacing { first, stride, packets }) => {
                for heap in 0..stamped {
                    let pointer = pointer(heap);
                    let first = first + stride * packets * heap;
                    for packet in 0..packets {
                        // SAFETY: see above.
                        unsafe { bytes.stamp(first + stride * packet, pointer) };
                    }
                }
            }
            None => {
                for (&header, &heap) in
                    region.arrangement().headers().iter().zip(plan.heap_of_packet())
                {
                    // SAFETY: see above.
                    unsafe { bytes.stamp(header, pointer(heap)) };
                }
            }
        }
    }

    #[inline]
    pub(super) fn bytes(&mut self) -> BatchBytes<'_> {
        BatchBytes {
            region: &self.region,
            start: self.region.start(self.slot.batch),
            batch: PhantomData,
        }
    }

    pub(super) fn attachment(&self, heap: u32) -> Option<Attachment> {
        self.attachments[heap as usize]
    }

    /// One of the first `heaps` heaps whose payload is to be attached, and is not.
    pub(crate) fn unattached(&self, heaps: u32) -> Option<u32> {
        let mut attachments = self.attachments.iter().take(heaps as usize);
        attachments.position(Option::is_none).map(|heap| heap as u32)
    }
}

/// The bytes of a batch, headers and payload alike, borrowed from it.
#[derive(Debug)]
pub(super) struct BatchBytes<'a> {
    region: &'a Region,
    start: *mut u8,
    batch: PhantomData<&'a mut Batch>,
}

// SAFETY: as good as a `&mut [u8]`, and a reference to a region, which is `Sync`.
unsafe impl Send for BatchBytes<'_> {}

impl<'a> BatchBytes<'a> {
    pub(super) fn region(&self) -> &'a Region {
        self.region
    }

    /// Writes the heap cnt of a packet.
    ///
    /// # Safety
    ///
    /// The SPEAD header of a packet is at `header`, counted from the start of the batch.
    #[inline]
    unsafe fn stamp(&mut self, header: u32, pointer: [u8; ITEM_POINTER_LEN]) {
        // SAFETY: the header is within the batch, which is borrowed mutably.
        unsafe {
            let place = self.start.add(header as usize + HEAP_CNT_OFFSET);
            place.cast::<[u8; ITEM_POINTER_LEN]>().write(pointer);
        }
    }

    /// Some of the bytes, counted from the start of the batch.
    pub(super) fn slice(&mut self, range: Range<usize>) -> &mut [u8] {
        // SAFETY: the slice borrows `self`, so there is no other meanwhile.
        unsafe { self.split_off(range) }
    }

    /// Some of the bytes, for as long as the batch is borrowed.
    ///
    /// # Safety
    ///
    /// No other slice that overlaps it is alive.
    #[inline]
    pub(super) unsafe fn split_off(&mut self, range: Range<usize>) -> &'a mut [u8] {
        self.region.check(&range);
        // SAFETY: the range lies within this batch's part of the mapping, which is disjoint from
        // those of others; there is one `Batch` for each part, and it is borrowed mutably for 'a.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
