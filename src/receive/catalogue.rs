//! What a stream has said of its items.

use std::collections::BTreeMap;

use super::heap::Heap;
use super::item_type::{ItemType, ItemTypeError};
use crate::wire::{Descriptor, Printable};

/// The items of a stream, as its descriptors have introduced them so far.
#[derive(Debug, Default)]
pub struct Catalogue {
    items: BTreeMap<u64, Described>,
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
                Ok(descriptor) => self.insert(descriptor),
                Err(error) => tracing::warn!(cnt = heap.cnt(), "{error}"),
            }
        }
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

    fn insert(&mut self, descriptor: Descriptor) {
        let known = self.items.get(&descriptor.id);
        if known.is_some_and(|known| known.descriptor == descriptor)
            || known.is_none() && self.items.len() == MAX_ITEMS
        {
            return;
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
/// With the above, a bound on memory.
const MAX_ITEMS: usize = 1024;
