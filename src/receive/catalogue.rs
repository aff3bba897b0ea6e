//! What a stream has said of its items.

use std::collections::BTreeMap;

use super::heap::Heap;
use super::item_type::{ItemType, ItemTypeError};
use crate::wire::{Descriptor, DescriptorError, Printable};

/// The items of a stream, as its descriptors have introduced them so far.
#[derive(Debug, Default)]
pub struct Catalogue {
    items: BTreeMap<u64, Described>,
    /// Bytes of the descriptors that were read.
    bytes: usize,
    /// Why the first descriptor that could not be read could not.
    first_error: Option<DescriptorError>,
}

/// An item with a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// What the stream says of it.
    pub descriptor: Descriptor,
    /// How its bytes are to be read, if that makes sense.
    pub item_type: Result<ItemType, ItemTypeError>,
}

impl Catalogue {
    /// Takes over the descriptors in a heap, which may replace earlier ones. Those that cannot be
    /// read are logged and left out.
    pub fn learn(&mut self, heap: &Heap) {
        for bytes in heap.descriptors() {
            if bytes.len() > MAX_DESCRIPTOR {
                tracing::warn!(
                    cnt = heap.cnt(),
                    "a descriptor of {} bytes is left out",
                    bytes.len()
                );
                continue;
            }
            match Descriptor::decode(bytes) {
                Ok(descriptor) => self.insert(descriptor, bytes.len()),
                Err(error) => {
                    tracing::warn!(cnt = heap.cnt(), "{error}");
                    self.first_error.get_or_insert(error);
                }
            }
        }
    }

    /// Why the first descriptor that could not be read could not, if there was one.
    pub fn first_error(&self) -> Option<&DescriptorError> {
        self.first_error.as_ref()
    }

    /// The item with this identifier.
    pub fn item(&self, id: u64) -> Option<&Described> {
        self.items.get(&id)
    }

    /// The item with this name.
    pub fn named(&self, name: &str) -> Option<&Described> {
        self.items.values().find(|item| item.descriptor.name == name)
    }

    /// All items, by identifier.
    pub fn items(&self) -> impl Iterator<Item = &Described> {
        self.items.values()
    }

    fn insert(&mut self, descriptor: Descriptor, bytes: usize) {
        let known = self.items.get(&descriptor.id);
        if known.is_some_and(|known| known.descriptor == descriptor) {
            return;
        }
        if known.is_none() {
            if self.bytes + bytes > MAX_BYTES {
                tracing::warn!("the descriptor of item {:#x} is one too many", descriptor.id);
                return;
            }
            self.bytes += bytes;
        }
        let item_type = ItemType::of(&descriptor);
        if let Err(error) = &item_type {
            let name = Printable(&descriptor.name);
            tracing::warn!("item {:#x} `{name}`: {error}", descriptor.id);
        }
        self.items.insert(descriptor.id, Described { descriptor, item_type });
    }
}

/// Longer than any structure that somebody would name the fields of.
const MAX_DESCRIPTOR: usize = 1 << 16;
/// Of the first descriptor of each item: with the above, a bound on memory.
const MAX_BYTES: usize = 64 << 20;
