//! What a heap consists of.

use crate::wire::{Descriptor, StreamControl, item};

/// The items of a heap, in the order in which their pointers are sent.
///
/// ```
/// use doorbell::plan::HeapSpec;
///
/// let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, 8192);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeapSpec {
    items: Vec<Item>,
}

/// One item of a heap.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// A value inside the item pointer, which can be changed from heap to heap.
    Immediate {
        /// Identifier of the item.
        id: u64,
        /// Its value until another is set.
        value: u64,
    },
    /// Bytes that the owner of a batch fills in.
    Payload {
        /// Identifier of the item.
        id: u64,
        /// Bytes.
        size: usize,
        /// Whether the item becomes an immediate where it is no longer than an address of the
        /// flavour. Its value is then set like that of any immediate.
        allow_immediate: bool,
    },
    /// Bytes that are the same in every heap.
    Constant {
        /// Identifier of the item.
        id: u64,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// A descriptor, encoded in the plan's flavour.
    Descriptor(Descriptor),
}

impl HeapSpec {
    /// A heap without items.
    pub fn new() -> Self {
        Self::default()
    }

    /// A heap that says only this of its stream. [`StreamControl::Stop`] ends it.
    pub fn control(control: StreamControl) -> Self {
        Self::new().immediate(item::STREAM_CTRL, control as u64)
    }

    /// Adds a value that travels inside its item pointer.
    pub fn immediate(self, id: u64, value: u64) -> Self {
        self.with(Item::Immediate { id, value })
    }

    /// Adds `size` bytes that always travel as payload, to be filled in for each heap.
    pub fn payload(self, id: u64, size: usize) -> Self {
        self.with(Item::Payload { id, size, allow_immediate: false })
    }

    /// Adds a descriptor.
    pub fn descriptor(self, descriptor: Descriptor) -> Self {
        self.with(Item::Descriptor(descriptor))
    }

    /// Adds an item.
    pub fn with(mut self, item: Item) -> Self {
        self.items.push(item);
        self
    }

    /// The items, in order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }
}
