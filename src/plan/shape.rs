//! How one heap is cut into packets.

use std::ops::Range;

use super::error::PlanError;
use super::heap::{HeapSpec, Item};
use crate::wire::{
    Flavour, HEADER_LEN, ITEM_POINTER_LEN, ItemPointer, MIN_PACKET_SIZE, PacketHeader, item,
};

/// A heap cut into packets, with all bytes that no fill changes.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Payload bytes, padding included.
    pub(crate) payload_len: usize,
    /// The packets, in order of payload.
    pub(crate) packets: Vec<ShapePacket>,
    /// Headers of all packets, one after the other, heap cnt 0.
    pub(crate) headers: Vec<u8>,
    /// Immediates that can be set.
    pub(crate) immediates: Vec<Immediate>,
    /// Payload that is the same in every heap: where it starts, and what it is.
    pub(crate) constants: Vec<(usize, Vec<u8>)>,
    /// Payload that is filled in, an item each.
    pub(crate) fills: Vec<(u64, Range<usize>)>,
}

/// One packet of a heap.
#[derive(Clone, Debug)]
pub(crate) struct ShapePacket {
    /// Its header in [`Shape::headers`].
    pub(crate) header: Range<usize>,
    /// Its part of the heap's payload.
    pub(crate) payload: Range<usize>,
}

/// An immediate that can be set, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Immediate {
    /// Identifier of the item.
    pub(crate) id: u64,
    /// Packet of the heap, and offset of the item pointer in it; several with `repeat_pointers`.
    pub(crate) places: Vec<(usize, usize)>,
}

/// How the pointers of a heap are spread over packets of which size.
pub(crate) struct Cut {
    /// Bytes of SPEAD a packet has at most.
    size: usize,
    /// How many of the last packets carry one padding pointer.
    padded: usize,
    /// How many packets there are; only with padding.
    count: usize,
}

impl Shape {
    /// Cuts a heap by the rule of spead2: each packet takes as many pointers as fit, then payload,
    /// up to `size` rounded down to a multiple of 8.
    pub(crate) fn exact(
        spec: &HeapSpec,
        flavour: Flavour,
        size: usize,
        repeat_pointers: bool,
    ) -> Result<Self, PlanError> {
        let items = Items::lay_out(spec, flavour)?.padded(flavour, size, repeat_pointers)?;
        Ok(items.cut(
            flavour,
            &Cut { size: round_down(size), padded: 0, count: 0 },
            repeat_pointers,
        ))
    }

    /// Cuts a heap into packets of one size, no larger than `limit`, so that runs of equal packets
    /// span heaps.
    ///
    /// In order of preference: the fewest packets if they come out equal and a multiple of 8; one
    /// packet more; the fewest, with a padding pointer in some of the last; either count of an odd
    /// size; what [`Shape::exact`] does.
    pub(crate) fn uniform(
        spec: &HeapSpec,
        flavour: Flavour,
        limit: usize,
        repeat_pointers: bool,
    ) -> Result<Self, PlanError> {
        let items = Items::lay_out(spec, flavour)?.padded(flavour, limit, repeat_pointers)?;
        let limit = round_down(limit);
        let cut =
            items.equal(limit, repeat_pointers).unwrap_or(Cut { size: limit, padded: 0, count: 0 });
        Ok(items.cut(flavour, &cut, repeat_pointers))
    }
}

/// The items of a heap with their pointers, before it is cut.
struct Items {
    pointers: Vec<ItemPointer>,
    /// Pointers that can be set: index and identifier.
    settable: Vec<(usize, u64)>,
    constants: Vec<(usize, Vec<u8>)>,
    fills: Vec<(u64, Range<usize>)>,
    payload_len: usize,
}

impl Items {
    fn lay_out(spec: &HeapSpec, flavour: Flavour) -> Result<Self, PlanError> {
        let mut items = Self {
            pointers: Vec::new(),
            settable: Vec::new(),
            constants: Vec::new(),
            fills: Vec::new(),
            payload_len: 0,
        };
        for item in spec.items() {
            match item {
                Item::Immediate { id, value } => items.immediate(flavour, *id, *value)?,
                Item::Payload { id, size, allow_immediate: true }
                    if *size <= flavour.address_bytes() =>
                {
                    items.immediate(flavour, *id, 0)?;
                }
                Item::Payload { id, size, .. } => {
                    let range = items.address(flavour, *id, *size)?;
                    if !range.is_empty() {
                        items.fills.push((*id, range));
                    }
                }
                Item::Constant { id, bytes } => items.constant(flavour, *id, bytes.clone())?,
                Item::Descriptor(descriptor) => {
                    items.constant(flavour, item::DESCRIPTOR, descriptor.encode(flavour)?)?;
                }
            }
        }
        Ok(items)
    }

    fn immediate(&mut self, flavour: Flavour, id: u64, value: u64) -> Result<(), PlanError> {
        check_id(flavour, id)?;
        if value > flavour.max_value() {
            return Err(PlanError::Immediate { id, value, flavour });
        }
        self.settable.push((self.pointers.len(), id));
        self.pointers.push(ItemPointer::immediate(flavour, id, value));
        Ok(())
    }

    fn constant(&mut self, flavour: Flavour, id: u64, bytes: Vec<u8>) -> Result<(), PlanError> {
        let range = self.address(flavour, id, bytes.len())?;
        self.constants.push((range.start, bytes));
        Ok(())
    }

    fn address(
        &mut self,
        flavour: Flavour,
        id: u64,
        len: usize,
    ) -> Result<Range<usize>, PlanError> {
        check_id(flavour, id)?;
        let start = self.payload_len;
        let end = start.saturating_add(len);
        check_len(flavour, end)?;
        self.pointers.push(ItemPointer::addressed(flavour, id, start as u64));
        self.payload_len = end;
        Ok(start..end)
    }

    /// Adds the padding that gives every packet with item pointers a part of the payload, so that
    /// offsets tell packets apart, and the NULL item that marks it.
    fn padded(
        mut self,
        flavour: Flavour,
        size: usize,
        repeat_pointers: bool,
    ) -> Result<Self, PlanError> {
        if !(MIN_PACKET_SIZE..=MAX_PACKET_SIZE).contains(&size) {
            return Err(PlanError::PacketSize { size });
        }
        let item_packets = self.pointers.len() / max_pointers(round_down(size)) + 1;
        if repeat_pointers && item_packets > 1 {
            let items = self.pointers.len();
            let needed = MIN_PACKET_SIZE + items * ITEM_POINTER_LEN;
            return Err(PlanError::RepeatPointers { items, size, needed });
        }
        let least = (item_packets - 1) * ITEM_POINTER_LEN + 1;
        if self.payload_len < least {
            let padding = vec![0; least - self.payload_len];
            let end = ItemPointer::addressed(flavour, item::NULL, self.payload_len as u64);
            self.pointers.push(end);
            self.constants.push((self.payload_len, padding));
            self.payload_len = least;
            check_len(flavour, least)?;
        }
        // Before they are cut: the list of packets might not fit memory.
        match self.payload_len / size > MAX_PACKETS {
            true => Err(PlanError::TooManyPackets),
            false => Ok(self),
        }
    }

    /// The best cut into equal packets, if there is one that keeps all pointers in one packet.
    fn equal(&self, limit: usize, repeat_pointers: bool) -> Option<Cut> {
        let pointer_bytes = self.pointers.len() * ITEM_POINTER_LEN;
        let (once, each) = if repeat_pointers { (0, pointer_bytes) } else { (pointer_bytes, 0) };
        let per_packet = HEADER_LEN + each;
        let total = |count: usize| self.payload_len + once + count * per_packet;
        // A packet takes limit - per_packet bytes of all but the headers.
        let fewest = (self.payload_len + once).div_ceil(limit.checked_sub(per_packet)?);
        if fewest == 1 {
            // Equal to itself, whatever its size.
            return None;
        }
        let fits = |size: usize| size <= limit && size >= MIN_PACKET_SIZE + pointer_bytes;
        let counts = [fewest, fewest + 1];
        let whole = |aligned: bool| {
            counts.into_iter().find_map(|count| {
                let size = total(count) / count;
                let equal = total(count).is_multiple_of(count)
                    && (!aligned || size.is_multiple_of(ITEM_POINTER_LEN));
                (equal && fits(size)).then_some(Cut { size, padded: 0, count })
            })
        };
        let with_padding = || {
            let size = total(fewest).div_ceil(fewest).next_multiple_of(ITEM_POINTER_LEN);
            let excess = fewest * size - total(fewest);
            (excess.is_multiple_of(ITEM_POINTER_LEN) && fits(size)).then_some(Cut {
                size,
                padded: excess / ITEM_POINTER_LEN,
                count: fewest,
            })
        };
        whole(true).or_else(with_padding).or_else(|| whole(false))
    }

    fn cut(self, flavour: Flavour, cut: &Cut, repeat_pointers: bool) -> Shape {
        let mut packets = Vec::new();
        let mut headers = Vec::new();
        let mut immediates: Vec<Immediate> =
            self.settable.iter().map(|&(_, id)| Immediate { id, places: Vec::new() }).collect();
        let mut next_pointer = 0;
        let mut offset = 0;
        while offset < self.payload_len {
            if repeat_pointers {
                next_pointer = 0;
            }
            let padding = usize::from(packets.len() + cut.padded >= cut.count && cut.padded > 0);
            let room = max_pointers(cut.size) - padding;
            let end_pointer = self.pointers.len().min(next_pointer + room);
            let pointers = &self.pointers[next_pointer..end_pointer];
            let header_len = HEADER_LEN + (pointers.len() + padding) * ITEM_POINTER_LEN;
            let payload = offset..self.payload_len.min(offset + cut.size - header_len);

            let start = headers.len();
            headers.resize(start + HEADER_LEN, 0);
            PacketHeader {
                flavour,
                item_pointers: (pointers.len() + padding) as u16,
                heap_cnt: 0,
                heap_length: self.payload_len as u64,
                payload_offset: payload.start as u64,
                payload_length: payload.len() as u64,
            }
            .emit(&mut headers[start..]);
            for pointer in pointers.iter().chain(&[ItemPointer::PADDING][..padding]) {
                headers.extend(pointer.to_be_bytes());
            }
            for ((index, _), immediate) in self.settable.iter().zip(&mut immediates) {
                if (next_pointer..end_pointer).contains(index) {
                    let place = HEADER_LEN + (index - next_pointer) * ITEM_POINTER_LEN;
                    immediate.places.push((packets.len(), place));
                }
            }
            next_pointer = end_pointer;
            offset = payload.end;
            packets.push(ShapePacket { header: start..headers.len(), payload });
        }
        Shape {
            payload_len: self.payload_len,
            packets,
            headers,
            immediates,
            constants: self.constants,
            fills: self.fills,
        }
    }
}

fn check_id(flavour: Flavour, id: u64) -> Result<(), PlanError> {
    match (MIN_ID..=flavour.max_id()).contains(&id) {
        true => Ok(()),
        false => Err(PlanError::Id { id, flavour }),
    }
}

fn check_len(flavour: Flavour, len: usize) -> Result<(), PlanError> {
    match len as u64 > flavour.max_value() {
        true => Err(PlanError::HeapSize { size: len as u64, flavour }),
        false => Ok(()),
    }
}

/// Pointers that fit a packet beside a header and eight bytes of payload.
///
/// The number that a packet counts them with has 16 bits; no UDP datagram comes near.
const fn max_pointers(size: usize) -> usize {
    let room = size.saturating_sub(HEADER_LEN + ITEM_POINTER_LEN) / ITEM_POINTER_LEN;
    if room > MAX_POINTERS { MAX_POINTERS } else { room }
}

const fn round_down(size: usize) -> usize {
    size & !(ITEM_POINTER_LEN - 1)
}

const MAX_POINTERS: usize = u16::MAX as usize - 4;
/// Those before it are of each packet's header: given twice, they would contradict it.
pub(super) const MIN_ID: u64 = item::PAYLOAD_LENGTH + 1;
/// What a UDP datagram carries at most, by the length in its header (RFC 768), which counts itself.
pub(crate) const MAX_PACKET_SIZE: usize = u16::MAX as usize - 8;
/// Their headers alone are as much as a batch may have, 4 GiB.
pub(super) const MAX_PACKETS: usize = u32::MAX as usize / HEADER_LEN;
