//! Standard input, or anything else that is read once.

use std::io::{self, BufReader, Read};

use super::{Filled, Source, SourceError, SourceItem, Verifier, item};
use crate::region::PayloadMut;

/// A stream of bytes, cut into heaps as it is read, straight into their payload.
pub struct Reader {
    items: Vec<SourceItem>,
    /// Passes reads of whole pages through, and saves system calls where packets are small.
    reader: BufReader<Box<dyn Read + Send>>,
    ended: bool,
}

impl Reader {
    /// Reads heaps that consist of these items.
    ///
    /// # Errors
    ///
    /// If heaps have no bytes: there would be no end of them.
    pub fn new(
        reader: impl Read + Send + 'static,
        items: Vec<SourceItem>,
    ) -> Result<Self, SourceError> {
        if item::heap_len(&items) == 0 {
            return Err(SourceError::NoPayload);
        }
        let reader = BufReader::with_capacity(BUFFER, Box::new(reader) as Box<dyn Read + Send>);
        Ok(Self { items, reader, ended: false })
    }

    /// Reads until `bytes` are full or the stream ends, and returns how many there were.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut len = 0;
        while len < bytes.len() {
            match self.reader.read(&mut bytes[len..]) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(len)
    }
}

impl Source for Reader {
    fn items(&self) -> &[SourceItem] {
        &self.items
    }

    fn heaps(&self) -> Option<u64> {
        None
    }

    fn fill(&mut self, index: u64, payload: PayloadMut<'_>) -> Result<Filled, SourceError> {
        let mut filled = 0;
        for chunk in payload.chunks() {
            let wanted = chunk.len();
            // A terminal can be read again after its end, and a heap is not to start there.
            let read = match self.ended {
                true => 0,
                false => self.read(chunk).map_err(|source| SourceError::Read { index, source })?,
            };
            filled += read;
            if read < wanted {
                self.ended = true;
                return Ok(if filled == 0 { Filled::End } else { Filled::Partial(filled) });
            }
        }
        Ok(Filled::Whole)
    }

    fn verifier(&self) -> Option<Box<dyn Verifier>> {
        None
    }
}

/// What a pipe holds: pipe(7).
const BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::batch;
    use super::*;

    /// Reads in pieces of given lengths, with an interruption before each.
    struct Pieces {
        bytes: Vec<u8>,
        at: usize,
        lens: Vec<usize>,
        calls: usize,
    }

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls % 2 == 1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let len = self.lens[self.calls / 2 % self.lens.len()];
            let len = len.min(into.len()).min(self.bytes.len() - self.at);
            into[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
            self.at += len;
            Ok(len)
        }
    }

    #[test]
    fn heaps_without_bytes_are_refused() {
        assert!(matches!(Reader::new(io::empty(), Vec::new()), Err(SourceError::NoPayload)));
    }

    #[test]
    fn a_failing_read_names_the_heap() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut reader = Reader::new(Broken, vec![SourceItem::bytes(8)]).unwrap();
        let error = reader.fill(7, batch(8, 1472).payload(0)).unwrap_err().to_string();
        assert!(error.starts_with("cannot read heap 7 "), "{error}");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_between_short_reads(
            bytes: Vec<u8>,
            heap_len in 1_usize..60,
            lens in prop::collection::vec(1_usize..20, 1..5),
        ) {
            let pieces = Pieces { bytes: bytes.clone(), at: 0, lens, calls: 0 };
            let mut reader = Reader::new(pieces, vec![SourceItem::bytes(heap_len)]).unwrap();
            let heaps = bytes.chunks_exact(heap_len);
            let rest = heaps.remainder().len();
            for (index, heap) in heaps.enumerate() {
                let mut batch = batch(heap_len, 64);
                let filled = reader.fill(index as u64, batch.payload(0)).unwrap();
                prop_assert_eq!(filled, Filled::Whole);
                let payload: Vec<u8> =
                    batch.payload(0).chunks().flat_map(|chunk| chunk.to_vec()).collect();
                prop_assert_eq!(&payload[..], heap);
            }
            let last = if rest == 0 { Filled::End } else { Filled::Partial(rest) };
            let mut batch = batch(heap_len, 64);
            prop_assert_eq!(reader.fill(9, batch.payload(0)).unwrap(), last);
            prop_assert_eq!(reader.fill(9, batch.payload(0)).unwrap(), Filled::End);
        }
    }
}
