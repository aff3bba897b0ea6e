//! A heap that is whole.

use super::partial::PartialHeap;
use crate::wire::{Flavour, ItemPointer, StreamControl, item};

/// A heap that is whole, as it came: what its item pointers say is not believed yet.
#[derive(Debug)]
pub struct Heap {
    pub(super) flavour: Flavour,
    pub(super) substream: usize,
    pub(super) stream: u32,
    pub(super) parts: PartialHeap,
}

/// A heap that is whole, where it lies: in memory of its own, or in the packet that it came in.
#[derive(Clone, Copy, Debug)]
pub struct HeapView<'a> {
    pub(super) flavour: Flavour,
    pub(super) cnt: u64,
    pub(super) substream: usize,
    pub(super) pointers: &'a [ItemPointer],
    pub(super) payload: &'a [u8],
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
    /// What is in it.
    pub fn view(&self) -> HeapView<'_> {
        HeapView {
            flavour: self.flavour,
            cnt: self.parts.cnt(),
            substream: self.substream,
            pointers: self.parts.pointers(),
            payload: self.parts.payload(),
        }
    }

    /// Its number in the stream.
    pub fn cnt(&self) -> u64 {
        self.parts.cnt()
    }

    /// Which of the endpoints it came to.
    pub fn substream(&self) -> usize {
        self.substream
    }

    /// Which of the streams that came there it is of: 0 is the first. A sender that starts again may use
    /// cnts a second time, and is another stream.
    pub fn stream(&self) -> u32 {
        self.stream
    }

    /// Whether it has items of its own, and not only descriptors and stream control.
    pub fn is_data(&self) -> bool {
        self.view().is_data()
    }

    /// The bytes of the descriptors in it, in order.
    pub fn descriptors(&self) -> impl Iterator<Item = &[u8]> {
        self.view().descriptors()
    }

    /// The items in it, in the order of their addresses, immediates first.
    pub fn items(&self) -> impl Iterator<Item = (u64, Content<'_>)> {
        self.view().items()
    }
}

impl<'a> HeapView<'a> {
    /// Its number in the stream.
    pub fn cnt(&self) -> u64 {
        self.cnt
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
        self.identified().any(|(pointer, id)| {
            id == item::STREAM_CTRL
                && pointer.is_immediate()
                && pointer.value(self.flavour) == StreamControl::Stop as u64
        })
    }

    /// Whether it has items of its own, and not only descriptors and stream control.
    pub fn is_data(&self) -> bool {
        self.identified().any(|(_, id)| is_data(id))
    }

    /// The bytes of the descriptors in it, in order.
    pub fn descriptors(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.contents().into_iter().filter_map(|(id, content)| match content {
            Content::Addressed(bytes) if id == item::DESCRIPTOR => Some(bytes),
            _ => None,
        })
    }

    /// The items in it, in the order of their addresses, immediates first.
    pub fn items(&self) -> impl Iterator<Item = (u64, Content<'a>)> + use<'a> {
        self.contents().into_iter().filter(|(id, _)| is_data(*id))
    }

    /// Everything in it. An item ends where the next one starts, and the last with the heap, as in
    /// spead2; of those that start at one place, all but the last are empty.
    fn contents(&self) -> Vec<(u64, Content<'a>)> {
        let payload = self.payload;
        let mut contents = Vec::with_capacity(self.pointers.len());
        let mut addressed = Vec::with_capacity(self.pointers.len());
        for (pointer, id) in self.identified() {
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
        let ends = addressed.iter().skip(1).map(|(start, _)| *start).chain([payload.len()]);
        contents.extend(
            addressed
                .iter()
                .zip(ends)
                .map(|(&(start, id), end)| (id, Content::Addressed(&payload[start..end]))),
        );
        contents
    }

    fn identified(&self) -> impl Iterator<Item = (ItemPointer, u64)> {
        self.pointers.iter().map(|&pointer| (pointer, pointer.id(self.flavour)))
    }
}

/// Whether an identifier is a stream's own: those up to stream control are the protocol's.
fn is_data(id: u64) -> bool {
    id > item::STREAM_CTRL
}
