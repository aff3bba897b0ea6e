//! Samples in as few bits as they need.

use std::io::{self, Write};
use std::ops::Range;

use doorbell::pack::{Encoder, Interval, Loss, PackFormat, SampleType};
use doorbell::region::PayloadMut;
use doorbell::wire::{Descriptor, Field};

use super::{Constant, Filled, MappedHeaps, Source, SourceError, SourceItem};
use doorbell::receive::Verifier;

/// A source whose samples are packed while heaps are filled in.
///
/// Integers come with two constant items, [`SCALE_ITEM`] and [`OFFSET_ITEM`], such that
/// `value = integer * scale + offset`.
pub struct Packed {
    heaps: Heaps,
    items: [SourceItem; 1],
    constants: Vec<Constant>,
    loss: Loss,
}

/// The heaps of a source as they lie in memory, and what packs them.
#[derive(Clone)]
struct Heaps {
    mapped: MappedHeaps,
    encoder: Encoder,
}

impl Packed {
    /// Packs the samples of a source.
    ///
    /// Without an interval, integers stand for those values that the finite samples of the first
    /// heap lie in: the least is 0, the greatest the largest integer.
    ///
    /// # Errors
    ///
    /// If heaps do not lie in memory, or are not one item of a numeric type ([`SampleType`]); if
    /// there is no interval and the first heap has less than two values.
    pub fn new(
        source: &dyn Source,
        format: PackFormat,
        interval: Option<Interval>,
    ) -> Result<Self, SourceError> {
        let wrong = |reason: &str| SourceError::Unpackable { reason: reason.into() };
        let ([item], Some(mapped)) = (source.items(), source.mapped()) else {
            return Err(wrong(
                "its heaps are not arrays in a file: give a .npy file, or a raw file and its only \
                 item",
            ));
        };
        let samples = sample_type(item)?;
        let heap = mapped.heap(0).ok_or_else(|| wrong("it has no heap"))?;
        let interval = match interval {
            Some(interval) => interval,
            None if format.is_float() => Interval::UNIT,
            None => Interval::of(samples, heap)?,
        };
        let encoder = Encoder::new(samples, format, interval);
        let items = [packed_item(item, samples, format, &encoder)];
        let constants = constants(format, &encoder);
        let heaps = Heaps { mapped: mapped.clone(), encoder };
        Ok(Self { heaps, items, constants, loss: Loss::default() })
    }

    /// The values that integers stand for.
    pub fn interval(&self) -> Interval {
        self.heaps.encoder.interval()
    }
}

impl Source for Packed {
    fn items(&self) -> &[SourceItem] {
        &self.items
    }

    fn constants(&self) -> &[Constant] {
        &self.constants
    }

    fn heaps(&self) -> Option<u64> {
        self.heaps.mapped.heaps()
    }

    fn check(&self, heaps: Range<u64>) -> Result<(), SourceError> {
        self.heaps.mapped.check(heaps)
    }

    fn fill(
        &mut self,
        index: u64,
        payload: PayloadMut<'_>,
        _may_wait: bool,
    ) -> Result<Filled, SourceError> {
        let Some(heap) = self.heaps.mapped.heap(index) else { return Ok(Filled::End) };
        let encoder = &self.heaps.encoder;
        let loss = encoder
            .encode_into(heap, payload)
            .map_err(|source| SourceError::Read { index, source })?;
        note(&mut self.loss, loss, index, encoder);
        Ok(Filled::Whole)
    }

    fn loss(&self) -> Option<Loss> {
        Some(self.loss)
    }

    fn verifier(&self) -> Option<Box<dyn Verifier>> {
        Some(Box::new(self.heaps.clone()))
    }
}

impl Verifier for Heaps {
    fn matches(&self, index: u64, payload: &[u8]) -> bool {
        let mut expected = Same { rest: payload };
        self.mapped.heap(index).is_some_and(|heap| self.encoder.encode(heap, &mut expected).is_ok())
            && expected.rest.is_empty()
    }
}

/// Takes the bytes that it has, and fails at others.
struct Same<'a> {
    rest: &'a [u8],
}

impl Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest = self.rest.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the samples of an item are.
pub(super) fn sample_type(item: &SourceItem) -> Result<SampleType, SourceError> {
    SampleType::of(&item.descriptor).ok_or_else(|| {
        let given = match &item.descriptor.numpy_header {
            Some(header) => header.descr.clone(),
            None => "SPEAD's own".into(),
        };
        SourceError::Unpackable {
            reason: format!(
                "the dtype of its samples is {given}: packing takes integers of 8 to 64 bits and \
                 floats of 16 to 64, such as '<f4'"
            ),
        }
    })
}

/// What the item is once it is packed.
pub(super) fn packed_item(
    item: &SourceItem,
    samples: SampleType,
    format: PackFormat,
    encoder: &Encoder,
) -> SourceItem {
    SourceItem {
        descriptor: format.describe(&item.descriptor),
        size: encoder.packed_len(item.size / samples.size()),
    }
}

/// What integers stand for, as items.
pub(super) fn constants(format: PackFormat, encoder: &Encoder) -> Vec<Constant> {
    match format.is_float() {
        true => vec![],
        false => vec![
            constant(SCALE_ITEM, "scale", "value = integer * scale + offset", encoder.step()),
            constant(OFFSET_ITEM, "offset", "value of integer 0", encoder.interval().low()),
        ],
    }
}

/// Counts samples that did not keep their values, and says so at the first.
pub(super) fn note(all: &mut Loss, loss: Loss, index: u64, encoder: &Encoder) {
    if all.is_none() && !loss.is_none() {
        tracing::warn!(
            clipped = loss.clipped,
            not_a_number = loss.not_a_number,
            "samples of heap {index} are not within {}; those of later heaps are only counted",
            encoder.interval()
        );
    }
    all.add(loss);
}

fn constant(id: u64, name: &str, description: &str, value: f64) -> Constant {
    Constant {
        descriptor: Descriptor {
            id,
            name: name.into(),
            description: description.into(),
            format: vec![Field::new(b'f', 64)],
            ..Descriptor::default()
        },
        bytes: value.to_be_bytes().to_vec(),
    }
}

/// Identifier of what a packed integer is to be multiplied by: a float of 64 bits.
pub const SCALE_ITEM: u64 = 0x3310;
/// Identifier of what is then to be added: a float of 64 bits.
pub const OFFSET_ITEM: u64 = 0x3311;

#[cfg(test)]
mod tests;
