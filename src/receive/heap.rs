//! A heap that is whole.

use super::partial::PartialHeap;
use crate::wire::{Flavour, ItemPointer, StreamControl, item};

/// A heap that is whole, as it came: what its item pointers say is not believed yet.
#[derive(Debug)]
pub struct Heap {
    pub(super) flavour: Flavour,
    pub(super) substream: usize,
    pub(super) parts: PartialHeap,
}

/// What a heap has under an item's identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// The value inside the item pointer.
    Immediate(u64),
    /// Bytes of the payload, perhaps with padding after them if the item is the heap's last.
    Addressed(&'a [u8]),
}

impl Heap {
    /// Its number in the stream.
    pub fn cnt(&self) -> u64 {
        self.parts.cnt()
    }

    /// How its item pointers are divided.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Which of the endpoints it came to.
    pub fn substream(&self) -> usize {
        self.substream
    }

    /// Whether it says that the stream ends.
    pub fn is_stop(&self) -> bool {
        self.pointers().any(|(pointer, id)| {
            id == item::STREAM_CTRL
                && pointer.is_immediate()
                && pointer.value(self.flavour) == StreamControl::Stop as u64
        })
    }

    /// Whether it has items of its own, and not only descriptors and stream control.
    pub fn is_data(&self) -> bool {
        self.pointers().any(|(_, id)| is_data(id))
    }

    /// The bytes of the descriptors in it, in order.
    pub fn descriptors(&self) -> impl Iterator<Item = &[u8]> {
        self.contents().into_iter().filter_map(|(id, content)| match content {
            Content::Addressed(bytes) if id == item::DESCRIPTOR => Some(bytes),
            _ => None,
        })
    }

    /// The items in it, in the order of their addresses, immediates first.
    pub fn items(&self) -> impl Iterator<Item = (u64, Content<'_>)> {
        self.contents().into_iter().filter(|(id, _)| is_data(*id))
    }

    /// Everything in it. An item ends where the next one starts, and the last with the heap, as in
    /// spead2; of those that start at one place, all but the last are empty.
    fn contents(&self) -> Vec<(u64, Content<'_>)> {
        let payload = self.parts.payload();
        let mut contents = Vec::new();
        let mut addressed = Vec::new();
        for (pointer, id) in self.pointers() {
            let value = pointer.value(self.flavour);
            match usize::try_from(value) {
                _ if pointer.is_immediate() => contents.push((id, Content::Immediate(value))),
                Ok(start) if start <= payload.len() => addressed.push((start, id)),
                // Outside of the heap there is nothing.
                _ => {}
            }
        }
        // Stable: items of one address stay in the order of their pointers.
        addressed.sort_by_key(|(start, _)| *start);
        let ends: Vec<usize> =
            addressed.iter().skip(1).map(|(start, _)| *start).chain([payload.len()]).collect();
        contents.extend(
            addressed
                .into_iter()
                .zip(ends)
                .map(|((start, id), end)| (id, Content::Addressed(&payload[start..end]))),
        );
        contents
    }

    fn pointers(&self) -> impl Iterator<Item = (ItemPointer, u64)> {
        self.parts.pointers().iter().map(|&pointer| (pointer, pointer.id(self.flavour)))
    }
}

/// Whether an identifier is a stream's own: those up to stream control are the protocol's.
fn is_data(id: u64) -> bool {
    id > item::STREAM_CTRL
}
