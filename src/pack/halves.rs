//! Two threads pack a large heap, each its half.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::{mem, vec};

use super::{Encoder, Loss, Samples};
use crate::region::PayloadMut;

impl Encoder {
    /// Packs samples into payload; large ones on two threads, as one core packs less than half of what
    /// memory gives.
    ///
    /// # Errors
    ///
    /// If the payload has not room for all of them.
    pub fn encode_into<'a>(
        &self,
        samples: impl Into<Samples<'a>>,
        payload: PayloadMut<'_>,
    ) -> io::Result<Loss> {
        let samples = samples.into();
        match samples.len() {
            ..SHARED => self.encode(samples, &mut payload.writer()),
            _ => encode(self, samples, payload),
        }
    }
}

/// Packs samples into payload on two threads.
fn encode(encoder: &Encoder, samples: Samples<'_>, payload: PayloadMut<'_>) -> io::Result<Loss> {
    let half = encoder.half(samples.len() / encoder.size_of(1));
    let (first, second) = samples.split_at(encoder.size_of(half));
    let mut left = encoder.packed_len(half);
    let (mut front, mut back) = (Vec::new(), Vec::new());
    for chunk in payload.chunks() {
        let (before, after) = chunk.split_at_mut(left.min(chunk.len()));
        left -= before.len();
        front.push(before);
        back.push(after);
    }
    // Of whoever comes to it: the other thread, or this one where there is none to be had.
    let back = Mutex::new(Pieces::new(back));
    let encode_second =
        || encoder.encode(second, &mut *back.lock().unwrap_or_else(PoisonError::into_inner));
    thread::scope(|scope| {
        let other = thread::Builder::new().spawn_scoped(scope, encode_second);
        let mut loss = encoder.encode(first, &mut Pieces::new(front))?;
        loss.add(match other.map(ScopedJoinHandle::join) {
            Ok(Ok(others)) => others?,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => encode_second()?,
        });
        Ok(loss)
    })
}

/// Memory that is written from its start to its end.
struct Pieces<'a> {
    current: &'a mut [u8],
    rest: vec::IntoIter<&'a mut [u8]>,
}

impl<'a> Pieces<'a> {
    fn new(pieces: Vec<&'a mut [u8]>) -> Self {
        Self { current: &mut [], rest: pieces.into_iter() }
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.current.is_empty()
            && let Some(next) = self.rest.next()
        {
            self.current = next;
        }
        let count = bytes.len().min(self.current.len());
        let (here, after) = mem::take(&mut self.current).split_at_mut(count);
        here.copy_from_slice(&bytes[..count]);
        self.current = after;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes of samples that are worth a second thread.
const SHARED: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pack::{Interval, PackFormat, SampleType};
    use crate::plan::{HeapSpec, PacketSize, Plan};
    use crate::region::{Batch, Layout, Placement, Region};
    use crate::wire::{Descriptor, Flavour, NumpyHeader};

    /// A batch of one heap of `len` payload bytes, in packets of at most 1000.
    fn batch(len: usize) -> Batch {
        let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(1000))
            .heaps(&HeapSpec::new().payload(0x3300, len), 1)
            .build()
            .unwrap();
        let region =
            Region::allocate(&Arc::new(plan), Layout::Packed, 1, Placement::ADJACENT, Vec::new());
        region.unwrap().1.pop().unwrap()
    }

    #[test]
    fn two_halves_are_a_whole() {
        let item = Descriptor::numpy(1, "", "", NumpyHeader::new("<f8", &[]));
        let samples = SampleType::of(&item).unwrap();
        let interval: Interval = "0..1".parse().unwrap();
        for count in [1, 511, 512, 513, 5000, 12_345] {
            let values: Vec<u8> = (0..count)
                .flat_map(|index| (f64::from(index) * 0.618 % 1.01).to_le_bytes())
                .collect();
            for format in [PackFormat::U10, PackFormat::U14, PackFormat::F16] {
                let encoder = Encoder::new(samples, format, interval);
                let mut whole = Vec::new();
                let loss = encoder.encode(&values, &mut whole).unwrap();
                let mut batch = batch(whole.len());
                assert_eq!(encode(&encoder, (&values).into(), batch.payload(0)).unwrap(), loss);
                let halves: Vec<u8> =
                    batch.payload(0).chunks().flat_map(|chunk| chunk.to_vec()).collect();
                assert!(halves == whole, "{count} samples of {format:?}");
            }
        }
    }
}
