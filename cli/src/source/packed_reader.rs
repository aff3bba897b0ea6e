//! Samples of standard input, or a FIFO, that are packed as they come.

use doorbell::pack::{Encoder, Interval, Loss, PackFormat};
use doorbell::receive::Verifier;
use doorbell::region::PayloadMut;

use super::packed::{constants, note, packed_item, sample_type};
use super::reader::{Reader, Stopped};
use super::{Constant, Filled, Source, SourceError, SourceItem};

/// What is read once, heap by heap, and packed from there into the payload of a batch.
pub struct PackedReader {
    reader: Reader,
    encoder: Encoder,
    items: [SourceItem; 1],
    constants: Vec<Constant>,
    /// A heap as it is read, and how much of it is there.
    heap: Vec<u8>,
    filled: usize,
    loss: Loss,
}

impl PackedReader {
    /// Packs what is read. Without an interval, integers stand for the values that the first heap has, which is
    /// waited for; if that does not come, they stand for any.
    ///
    /// # Errors
    ///
    /// If heaps are not one item of a numeric type, or the first has less than two values.
    pub fn new(
        mut reader: Reader,
        format: PackFormat,
        interval: Option<Interval>,
    ) -> Result<Self, SourceError> {
        let [item] = reader.items() else {
            let reason = "its heaps are not one item: give it, such as frame:<f4[2160x3840x3]";
            return Err(SourceError::Unpackable { reason: reason.into() });
        };
        let (item, samples) = (item.clone(), sample_type(item)?);
        let mut heap = vec![0; item.size];
        let mut filled = 0;
        let interval = match interval {
            Some(interval) => interval,
            None if format.is_float() => Interval::UNIT,
            None => {
                let read = reader.read(&mut heap, true);
                filled = read.map_err(|source| SourceError::Read { index: 0, source })?.0;
                if filled == heap.len() { Interval::of(samples, &heap)? } else { Interval::UNIT }
            }
        };
        let encoder = Encoder::new(samples, format, interval);
        let items = [packed_item(&item, samples, format, &encoder)];
        let constants = constants(format, &encoder);
        Ok(Self { reader, encoder, items, constants, heap, filled, loss: Loss::default() })
    }
}

impl Source for PackedReader {
    fn items(&self) -> &[SourceItem] {
        &self.items
    }

    fn taken_len(&self) -> usize {
        self.heap.len()
    }

    fn constants(&self) -> &[Constant] {
        &self.constants
    }

    fn heaps(&self) -> Option<u64> {
        None
    }

    fn fill(
        &mut self,
        index: u64,
        payload: PayloadMut<'_>,
        may_wait: bool,
    ) -> Result<Filled, SourceError> {
        let error = |source| SourceError::Read { index, source };
        let read = self.reader.read(&mut self.heap[self.filled..], may_wait).map_err(error)?;
        self.filled += read.0;
        match read.1 {
            None => {}
            // What was read is kept here.
            Some(Stopped::Stall) => return Ok(Filled::Stalled(0)),
            Some(Stopped::End) if self.filled == 0 => return Ok(Filled::End),
            Some(Stopped::End) => return Ok(Filled::Partial(self.filled)),
        }
        self.filled = 0;
        let loss = self.encoder.encode_into(&self.heap, payload).map_err(error)?;
        note(&mut self.loss, loss, index, &self.encoder);
        Ok(Filled::Whole)
    }

    fn loss(&self) -> Option<Loss> {
        Some(self.loss)
    }

    fn verifier(&self) -> Option<Box<dyn Verifier>> {
        None
    }
}
