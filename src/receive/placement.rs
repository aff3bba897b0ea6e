//! Where payload is to be received: in its place, if it is what comes next.

#[cfg(test)]
mod tests;

use std::array;
use std::io::IoSliceMut;
use std::mem;

use crate::wire::{Flavour, PacketHead};

/// What packets that follow those before would be like, and the place that their payload has in a heap.
/// The kernel is told to copy payload right there; whether it was that payload, heads say afterwards.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) next: NextPacket,
    /// What is missing of the heap from there on: nothing that was received is overwritten.
    pub(super) place: &'a mut [u8],
}

/// What comes next of a heap, packet by packet of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NextPacket {
    /// Of the heap in the stream.
    pub(super) position: i128,
    pub(super) flavour: Flavour,
    pub(super) heap_cnt: u64,
    /// Payload offset of the next packet.
    pub(super) offset: usize,
    /// Bytes of a packet before its payload.
    pub(super) head_len: usize,
    pub(super) payload_len: usize,
}

/// Where a message was received to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reception {
    /// In one piece.
    Whole,
    /// Payload in its place, and this many heads of `head_len` bytes.
    InPlace { heads: usize, head_len: usize },
}

/// A message: bytes in all, and of each of its datagrams but the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) len: usize,
    pub(super) segment: usize,
}

/// Memory for messages.
#[derive(Debug)]
pub(super) struct Scratch {
    /// A message in one piece.
    pub(super) bytes: Vec<u8>,
    /// Heads apart from their payload.
    pub(super) heads: Vec<u8>,
    /// What goes beyond the place.
    spill: Vec<u8>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let room = || vec![0; MAX_MESSAGE];
        Self { bytes: room(), heads: room(), spill: room() }
    }

    /// Has `receive` write a message to pieces of memory in turn, the payload to its place if that
    /// turns out to be right.
    pub(super) fn receive<E>(
        &mut self,
        target: Option<Target<'_>>,
        receive: impl FnOnce(&mut [IoSliceMut<'_>]) -> Result<Extent, E>,
    ) -> Result<(Extent, Reception), E> {
        let Some(Target { next, place }) = target else {
            let extent = receive(&mut [IoSliceMut::new(&mut self.bytes)])?;
            return Ok((extent, Reception::Whole));
        };
        let mut pieces: [IoSliceMut<'_>; 2 * MAX_HEADS + 1] =
            array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut used = 0;
        let places = place.chunks_mut(next.payload_len);
        let heads = self.heads.chunks_exact_mut(next.head_len);
        for (head, place) in heads.zip(places).take(next.most()) {
            pieces[used] = IoSliceMut::new(head);
            pieces[used + 1] = IoSliceMut::new(place);
            used += 2;
        }
        let scattered: usize = pieces[..used].iter().map(|piece| piece.len()).sum();
        pieces[used] = IoSliceMut::new(&mut self.spill);
        let extent = receive(&mut pieces[..=used])?;
        if extent.len <= scattered
            && let Some(heads) = next.count(&self.heads, extent)
        {
            return Ok((extent, Reception::InPlace { heads, head_len: next.head_len }));
        }
        self.gather(&next, place, scattered, extent.len);
        Ok((extent, Reception::Whole))
    }

    /// Brings a message together that does not belong where it was put.
    fn gather(&mut self, next: &NextPacket, place: &[u8], scattered: usize, len: usize) {
        let mut rest = &mut self.bytes[..len];
        let mut put = |bytes: &[u8]| {
            let count = bytes.len().min(rest.len());
            let (these, others) = mem::take(&mut rest).split_at_mut(count);
            these.copy_from_slice(&bytes[..count]);
            rest = others;
        };
        let heads = self.heads.chunks_exact(next.head_len);
        let mut left = scattered;
        for (head, place) in heads.zip(place.chunks(next.payload_len)).take(next.most()) {
            put(head);
            put(place);
            left -= head.len() + place.len();
            if left == 0 {
                break;
            }
        }
        put(&self.spill);
    }
}

impl NextPacket {
    /// How many packets a message may be.
    fn most(&self) -> usize {
        MAX_MESSAGE.div_ceil(self.head_len + self.payload_len)
    }

    /// How many packets a message is, if each of them is what was to come, in this order.
    fn count(&self, heads: &[u8], extent: Extent) -> Option<usize> {
        let packet_len = self.head_len + self.payload_len;
        if extent.len > packet_len && extent.segment != packet_len {
            return None;
        }
        let mut offset = self.offset as u64;
        let count = extent.len.div_ceil(packet_len);
        let mut left = extent.len;
        for head in heads.chunks_exact(self.head_len).take(count) {
            let payload_len = left.min(packet_len).checked_sub(self.head_len)? as u64;
            let (head, rest) = PacketHead::parse(head).ok()?;
            let header = head.header();
            if !rest.is_empty()
                || header.flavour != self.flavour
                || header.heap_cnt != self.heap_cnt
                || header.payload_offset != offset
                || header.payload_length != payload_len
                || payload_len == 0
            {
                return None;
            }
            offset += payload_len;
            left -= left.min(packet_len);
        }
        (count > 0 && left == 0).then_some(count)
    }
}

/// More than a UDP message can have: none is cut off.
pub(super) const MAX_MESSAGE: usize = 1 << 16;
/// Packets of a message that are received in place; the kernel merges no more than 64 KiB.
const MAX_HEADS: usize = MAX_MESSAGE / MIN_PAYLOAD;
/// Shorter payload is copied in less time than it takes to say where it belongs.
pub(super) const MIN_PAYLOAD: usize = 1024;
