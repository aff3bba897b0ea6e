//! What the heaps of a stream hold.

use std::sync::Arc;

use thiserror::Error;

use crate::plan::{HeapSpec, Item};
use crate::region::Memory;
use crate::wire::{Descriptor, Field, Flavour, NumpyHeader, canonical_dtype};

/// What each heap of a stream holds, item by item, with what receivers are told of it.
///
/// ```
/// use doorbell::stream::Heap;
///
/// let heap = Heap::new()
///     .immediate("timestamp", 0x1600)
///     .array("adc_samples", 0x3300, "i1", [8192])
///     .describe("ADC converter output");
/// assert_eq!(heap.payload_len(), 8192);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Heap {
    items: Vec<HeapItem>,
    /// Where payload lies already, if it is attached.
    sources: Option<Vec<Arc<Memory>>>,
    /// The first thing that is wrong.
    error: Option<HeapError>,
}

#[derive(Clone, Debug)]
struct HeapItem {
    descriptor: Descriptor,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// Set anew in each heap, inside the item pointer.
    Immediate,
    /// Filled in anew in each heap: this many bytes.
    Payload(usize),
    /// The same in every heap.
    Constant(Vec<u8>),
}

/// What is wrong with a [`Heap`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeapError {
    /// An element type that numpy does not have, or an array that no memory holds.
    #[error("item {name}: {reason}")]
    Array {
        /// The item.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Two items have one id or name.
    #[error("items {first} and {second} have the same id or name: each needs its own")]
    Twice {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// More payload than a batch holds, in memory of its own.
    #[error(
        "a heap of {bytes} bytes is too large: batches end at {most}, and so do heaps that are not attached"
    )]
    Size {
        /// Bytes of payload.
        bytes: u64,
        /// The most that there may be.
        most: u64,
    },
    /// A description of nothing.
    #[error("a description comes after the item that it describes")]
    Describe,
}

impl Heap {
    /// A heap without items.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an unsigned number inside its item pointer, as wide as the addresses of the flavour: 40 bits
    /// unless settings say otherwise.
    #[must_use]
    pub fn immediate(self, name: &str, id: u64) -> Self {
        let descriptor = Descriptor { id, name: name.into(), ..Descriptor::default() };
        self.with(descriptor, Content::Immediate)
    }

    /// Adds an array of elements that numpy knows, in C order: `f4`, `<i2`, `>c8`, `|S4`. Without a byte order
    /// it is this machine's. No dimension makes a scalar.
    #[must_use]
    pub fn array(self, name: &str, id: u64, dtype: &str, shape: impl Into<Vec<u64>>) -> Self {
        let shape = shape.into();
        let array = || {
            let (dtype, size) =
                canonical_dtype(dtype).map_err(|hint| format!("`{dtype}` is no dtype: {hint}"))?;
            let total = shape.iter().try_fold(size, |total, &axis| total.checked_mul(axis));
            let total = total.and_then(|total| usize::try_from(total).ok());
            Ok((NumpyHeader::new(&dtype, &shape), total.ok_or("it is larger than any memory")?))
        };
        match array() {
            Ok((header, size)) => self.item(Descriptor::numpy(id, name, "", header), size),
            Err(reason) => self.wrong(HeapError::Array { name: name.into(), reason }),
        }
    }

    /// Adds an item of `bytes` bytes in each heap, whatever the descriptor says they are: SPEAD's own formats,
    /// which may be of any number of bits, among them.
    #[must_use]
    pub fn item(self, descriptor: Descriptor, bytes: usize) -> Self {
        self.with(descriptor, Content::Payload(bytes))
    }

    /// Adds an item that is the same in every heap, so that whoever joins late knows it. Where payload is
    /// attached it goes with the descriptors instead.
    #[must_use]
    pub fn constant(self, descriptor: Descriptor, bytes: Vec<u8>) -> Self {
        self.with(descriptor, Content::Constant(bytes))
    }

    /// Says what the item added last means, in ASCII.
    #[must_use]
    pub fn describe(mut self, description: &str) -> Self {
        match self.items.last_mut() {
            Some(item) => item.descriptor.description = description.into(),
            None => return self.wrong(HeapError::Describe),
        }
        self
    }

    /// The payload of all heaps lies in these memories, mapped files for example, and is sent from there:
    /// heaps are attached ([`Batch::attach`](crate::region::Batch::attach)), not filled in.
    #[must_use]
    pub fn attached(self, sources: Vec<Arc<Memory>>) -> Self {
        Self { sources: Some(sources), ..self }
    }

    /// Bytes that are filled in, of each heap.
    pub fn payload_len(&self) -> usize {
        self.items.iter().fold(0, |len: usize, item| match item.content {
            Content::Payload(bytes) => len.saturating_add(bytes),
            Content::Immediate | Content::Constant(_) => len,
        })
    }

    fn with(mut self, descriptor: Descriptor, content: Content) -> Self {
        let alike = |it: &&HeapItem| {
            it.descriptor.id == descriptor.id || it.descriptor.name == descriptor.name
        };
        if let Some(other) = self.items.iter().find(alike) {
            let said = |it: &Descriptor| format!("{:#x}={}", it.id, it.name);
            let (first, second) = (said(&other.descriptor), said(&descriptor));
            return self.wrong(HeapError::Twice { first, second });
        }
        self.items.push(HeapItem { descriptor, content });
        self
    }

    fn wrong(self, error: HeapError) -> Self {
        Self { error: self.error.or(Some(error)), ..self }
    }

    pub(super) fn sources(&self) -> Option<&[Arc<Memory>]> {
        self.sources.as_deref()
    }

    pub(super) fn check(&self) -> Result<(), HeapError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        // A type that numpy has not is one that receivers cannot decode.
        for Descriptor { name, numpy_header, .. } in self.items.iter().map(|it| &it.descriptor) {
            let size = numpy_header.as_ref().map_or(Ok(0), NumpyHeader::element_size);
            size.map_err(|reason| HeapError::Array { name: name.clone(), reason })?;
        }
        Ok(())
    }

    /// What receivers are told; where payload is attached, the constant items, too.
    pub(super) fn descriptors(&self, flavour: Flavour) -> HeapSpec {
        let width = Field::new(b'u', u32::from(flavour.address_bits()));
        let described = self.items.iter().map(|item| match item.content {
            Content::Immediate => Descriptor { format: vec![width], ..item.descriptor.clone() },
            Content::Payload(_) | Content::Constant(_) => item.descriptor.clone(),
        });
        let heap = described.fold(HeapSpec::new(), HeapSpec::descriptor);
        match self.sources {
            Some(_) => self.constants().fold(heap, HeapSpec::with),
            None => heap,
        }
    }

    /// Adds the items of a heap with data to `heap`.
    pub(super) fn data(&self, heap: HeapSpec) -> HeapSpec {
        let of = |content: fn(&Content) -> bool| {
            self.items.iter().filter(move |item| content(&item.content))
        };
        let immediates = of(|it| matches!(it, Content::Immediate));
        let heap = immediates.fold(heap, |heap, item| heap.immediate(item.descriptor.id, 0));
        let heap = match self.sources {
            Some(_) => heap,
            None => self.constants().fold(heap, HeapSpec::with),
        };
        self.items.iter().fold(heap, |heap, item| match item.content {
            Content::Payload(bytes) => heap.payload(item.descriptor.id, bytes),
            Content::Immediate | Content::Constant(_) => heap,
        })
    }

    fn constants(&self) -> impl Iterator<Item = Item> {
        self.items.iter().filter_map(|item| match &item.content {
            Content::Constant(bytes) => {
                Some(Item::Constant { id: item.descriptor.id, bytes: bytes.clone() })
            }
            Content::Immediate | Content::Payload(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_numpys() {
        let heap = Heap::new()
            .immediate("timestamp", 0x1600)
            .array("a", 0x3300, "f4", [3, 5])
            .array("b", 0x3301, ">c16", [])
            .describe("one number")
            .array("c", 0x3302, "|S3", [2]);
        assert_eq!((heap.check(), heap.payload_len()), (Ok(()), 60 + 16 + 6));
        let native = if cfg!(target_endian = "little") { "'<f4'" } else { "'>f4'" };
        let header = heap.items[1].descriptor.numpy_header.as_ref().unwrap();
        assert_eq!((header.descr.as_str(), header.shape.as_slice()), (native, [3, 5].as_slice()));
        assert_eq!(heap.items[2].descriptor.description, "one number");
    }

    #[test]
    fn the_first_mistake_is_named() {
        let error = |heap: Heap| heap.check().unwrap_err().to_string();
        let wrong = Heap::new().array("a", 0x3300, "u10", [8]);
        assert!(error(wrong).starts_with("item a: `u10` is no dtype: numpy dtypes are i u f c"));
        let header = NumpyHeader::new("<f3", &[8]);
        let wrong = Heap::new().item(Descriptor::numpy(0x3300, "a", "", header), 24);
        assert!(error(wrong).starts_with("item a: `<f3` is not a type string"));
        let huge = Heap::new().array("a", 0x3300, "f8", [u64::MAX, 2]);
        assert_eq!(error(huge), "item a: it is larger than any memory");
        let twice = Heap::new().immediate("a", 1).immediate("a", 2).array("b", 3, "x", []);
        assert_eq!(
            error(twice),
            "items 0x1=a and 0x2=a have the same id or name: each needs its own"
        );
        assert_eq!(error(Heap::new().describe("nothing")), HeapError::Describe.to_string());
    }
}
