//! Standard input, or anything else that is read once.

use std::io::{self, BufRead, BufReader, Read};

use super::npy::MAGIC;
use super::{Filled, Source, SourceError, SourceItem, Verifier, item};
use doorbell::region::PayloadMut;

/// Bytes that come when they come.
pub trait Live: Read + Send {
    /// Whether a read would not have to wait: there are bytes, or their end.
    fn has_bytes(&self) -> bool;
}

/// A stream of bytes, cut into heaps as it is read, straight into their payload.
pub struct Reader {
    items: Vec<SourceItem>,
    /// Passes reads of whole pages through, and saves system calls where packets are small.
    reader: BufReader<Box<dyn Live>>,
    /// What was read of a heap that could not be read to its end, and how much of it was given out again.
    kept: Vec<u8>,
    given: usize,
    ended: bool,
    /// Whether it is known how it begins.
    begun: bool,
}

/// Why there are no more bytes for a heap.
pub(super) enum Stopped {
    End,
    Stall,
}

impl Reader {
    /// Reads heaps that consist of these items.
    ///
    /// # Errors
    ///
    /// If heaps have no bytes: there would be no end of them.
    pub fn new(reader: impl Live + 'static, items: Vec<SourceItem>) -> Result<Self, SourceError> {
        if item::heap_len(&items) == 0 {
            return Err(SourceError::NoPayload);
        }
        let reader = BufReader::with_capacity(BUFFER, Box::new(reader) as Box<dyn Live>);
        Ok(Self { items, reader, kept: Vec::new(), given: 0, ended: false, begun: false })
    }

    /// Looks at how it begins, once there is something to look at.
    fn begin(&mut self, index: u64, may_wait: bool) -> Result<(), SourceError> {
        while !self.begun && (may_wait || self.reader.get_ref().has_bytes()) {
            match self.reader.fill_buf() {
                Ok(start) if start.starts_with(MAGIC) => return Err(SourceError::NumpyStream),
                Ok(_) => self.begun = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(SourceError::Read { index, source }),
            }
        }
        Ok(())
    }

    /// Reads until `bytes` are full, and returns how many there were, and why not more.
    pub(super) fn read(
        &mut self,
        bytes: &mut [u8],
        may_wait: bool,
    ) -> io::Result<(usize, Option<Stopped>)> {
        let kept = (self.kept.len() - self.given).min(bytes.len());
        bytes[..kept].copy_from_slice(&self.kept[self.given..self.given + kept]);
        self.given += kept;
        let mut len = kept;
        while len < bytes.len() {
            // A terminal can be read again after its end, and a heap is not to start there.
            if self.ended {
                return Ok((len, Some(Stopped::End)));
            }
            if !may_wait && self.reader.buffer().is_empty() && !self.reader.get_ref().has_bytes() {
                return Ok((len, Some(Stopped::Stall)));
            }
            match self.reader.read(&mut bytes[len..]) {
                Ok(0) => self.ended = true,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((len, None))
    }
}

impl Source for Reader {
    fn items(&self) -> &[SourceItem] {
        &self.items
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
        self.begin(index, may_wait)?;
        let mut filled = 0;
        for chunk in payload.chunks() {
            let read = self.read(chunk, may_wait);
            let (read, stopped) = read.map_err(|source| SourceError::Read { index, source })?;
            filled += read;
            match stopped {
                None => {}
                Some(Stopped::Stall) => {
                    self.kept.clear();
                    self.given = 0;
                    return Ok(Filled::Stalled(filled));
                }
                Some(Stopped::End) if filled == 0 => return Ok(Filled::End),
                Some(Stopped::End) => return Ok(Filled::Partial(filled)),
            }
        }
        Ok(Filled::Whole)
    }

    fn put_back(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
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

    /// What never has to be waited for.
    struct Ready<R>(R);

    impl<R: Read> Read for Ready<R> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl<R: Read + Send> Live for Ready<R> {
        fn has_bytes(&self) -> bool {
            true
        }
    }

    /// Reads in pieces of given lengths, with an interruption before each. Every other look finds nothing.
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
        assert!(matches!(Reader::new(Ready(io::empty()), Vec::new()), Err(SourceError::NoPayload)));
    }

    #[test]
    fn a_failing_read_names_the_heap() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut reader = Reader::new(Ready(Broken), vec![SourceItem::bytes(8)]).unwrap();
        let error = reader.fill(7, batch(8, 1472).payload(0), true).unwrap_err().to_string();
        assert!(error.starts_with("cannot read heap 7 "), "{error}");
    }

    impl Live for Pieces {
        fn has_bytes(&self) -> bool {
            self.calls % 4 < 2
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_between_short_reads_and_stalls(
            bytes: Vec<u8>,
            heap_len in 1_usize..60,
            lens in prop::collection::vec(1_usize..20, 1..5),
            patience in prop::collection::vec(any::<bool>(), 1..7),
        ) {
            let pieces = Pieces { bytes: bytes.clone(), at: 0, lens, calls: 0 };
            let mut reader = Reader::new(pieces, vec![SourceItem::bytes(heap_len)]).unwrap();
            let mut patience = patience.into_iter().cycle();
            let mut next = || {
                let mut batch = batch(heap_len, 64);
                let may_wait = patience.next().unwrap();
                let mut filled = reader.fill(9, batch.payload(0), may_wait).unwrap();
                if let Filled::Stalled(mut left) = filled {
                    assert!(!may_wait);
                    for chunk in batch.payload(0).chunks() {
                        let kept = left.min(chunk.len());
                        reader.put_back(&chunk[..kept]);
                        left -= kept;
                        chunk.fill(0xee);
                    }
                    filled = reader.fill(9, batch.payload(0), true).unwrap();
                }
                let payload = batch.payload(0).chunks().flat_map(|it| it.to_vec());
                (filled, payload.collect::<Vec<u8>>())
            };
            let heaps = bytes.chunks_exact(heap_len);
            let rest = heaps.remainder().len();
            for heap in heaps {
                let (filled, payload) = next();
                prop_assert_eq!(filled, Filled::Whole);
                prop_assert_eq!(&payload[..], heap);
            }
            let last = if rest == 0 { Filled::End } else { Filled::Partial(rest) };
            prop_assert_eq!(next().0, last);
            prop_assert_eq!(next().0, Filled::End);
        }
    }
}
