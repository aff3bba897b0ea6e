//! One item of a source's heaps.

use doorbell::wire::{Descriptor, NumpyHeader};

/// What an item is, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceItem {
    /// Identifier, name, meaning, element type and shape.
    pub descriptor: Descriptor,
    /// Bytes in each heap.
    pub size: usize,
}

impl SourceItem {
    /// `size` samples of an ADC, one byte each, as in the tutorial of spead2.
    pub fn samples(size: usize) -> Self {
        Self::new("adc_samples", "ADC converter output", "|i1", size)
    }

    /// `size` bytes that mean nothing we know of.
    pub fn bytes(size: usize) -> Self {
        Self::new("data", "raw bytes", "|u1", size)
    }

    fn new(name: &str, description: &str, dtype: &str, size: usize) -> Self {
        let header = NumpyHeader::new(dtype, &[size as u64]);
        let descriptor = Descriptor::numpy(DEFAULT_ITEM, name, description, header);
        Self { descriptor, size }
    }
}

/// An item with one value for the whole stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Identifier, name, meaning, and how its bytes are to be read.
    pub descriptor: Descriptor,
    /// Its value.
    pub bytes: Vec<u8>,
}

/// Bytes of all items together. A sum that no memory could hold stays one that no plan accepts.
pub(super) fn heap_len(items: &[SourceItem]) -> usize {
    items.iter().fold(0, |len, item| len.saturating_add(item.size))
}

/// Identifier of what counts heaps, where that is wanted.
pub const FRAME_NUMBER_ITEM: u64 = 0x1601;
/// Identifier of the only item of sources that have but one.
pub const DEFAULT_ITEM: u64 = 0x3300;
