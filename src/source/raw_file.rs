//! A file of bytes, cut into heaps.

use std::path::Path;

use super::{Filled, MappedHeaps, Source, SourceError, SourceItem, Verifier, item};
use crate::region::{Memory, PayloadMut};

/// A file, mapped, cut into heaps from its start.
///
/// Should it be truncated while it is sent, [`Source::check`] tells.
#[derive(Clone, Debug)]
pub struct RawFile {
    items: Vec<SourceItem>,
    pub(super) heaps: MappedHeaps,
    rest: u64,
}

impl RawFile {
    /// Maps a file, each heap of which consists of `items`.
    ///
    /// # Errors
    ///
    /// If the file cannot be mapped, or holds no whole heap, or if heaps have no bytes.
    pub fn open(path: &Path, items: Vec<SourceItem>) -> Result<Self, SourceError> {
        let heap_len = item::heap_len(&items);
        if heap_len == 0 {
            return Err(SourceError::NoPayload);
        }
        let memory = Memory::file(path)?;
        let len = memory.len();
        if len == 0 {
            return Err(SourceError::Empty { path: path.into() });
        }
        let heaps = MappedHeaps::new(memory, 0, heap_len, u64::MAX)
            .ok_or_else(|| SourceError::Short { path: path.into(), len, heap_len })?;
        let rest = (len % heap_len) as u64;
        if rest > 0 {
            tracing::warn!(
                "{}: the last {rest} bytes fill no heap of {heap_len}, and are not sent",
                path.display()
            );
        }
        Ok(Self { items, heaps, rest })
    }

    /// Bytes at the end that fill no heap, and are not sent.
    pub fn rest(&self) -> u64 {
        self.rest
    }
}

impl Source for RawFile {
    fn items(&self) -> &[SourceItem] {
        &self.items
    }

    fn heaps(&self) -> Option<u64> {
        self.heaps.heaps()
    }

    fn mapped(&self) -> Option<&MappedHeaps> {
        Some(&self.heaps)
    }

    fn fill(&mut self, index: u64, payload: PayloadMut<'_>) -> Result<Filled, SourceError> {
        Ok(self.heaps.fill(index, payload))
    }

    fn verifier(&self) -> Option<Box<dyn Verifier>> {
        Some(Box::new(self.heaps.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::tests::filled;
    use super::*;

    fn file(len: usize) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&(0..len).map(|byte| (byte % 251) as u8).collect::<Vec<_>>()).unwrap();
        file
    }

    #[test]
    fn heaps_are_cut_from_the_start_and_the_rest_is_reported() {
        let file = file(2 * 5000 + 17);
        let bytes = std::fs::read(file.path()).unwrap();
        let mut source = RawFile::open(file.path(), vec![SourceItem::bytes(5000)]).unwrap();
        assert_eq!((source.heaps(), source.rest(), source.heap_len()), (Some(2), 17, 5000));
        let mapped = source.mapped().unwrap();
        assert_eq!((mapped.heap(1), mapped.heap(2)), (Some(&bytes[5000..10000]), None));
        assert_eq!(filled(&mut source, 1, 1472), (Filled::Whole, bytes[5000..10000].to_vec()));
        assert_eq!(filled(&mut source, 2, 1472).0, Filled::End);
        let verifier = source.verifier().unwrap();
        assert!(verifier.matches(1, &bytes[5000..10000]));
        assert!(!verifier.matches(0, &bytes[5000..10000]));
        assert!(!verifier.matches(1, &bytes[5000..9999]));
        assert!(!verifier.matches(u64::MAX, &bytes[..5000]));
    }

    #[test]
    fn a_file_that_holds_no_heap_is_refused() {
        let file = file(100);
        let open = |heap_len| RawFile::open(file.path(), vec![SourceItem::bytes(heap_len)]);
        assert_eq!(open(100).unwrap().heaps(), Some(1));
        let error = open(101).unwrap_err().to_string();
        let name = file.path().display();
        assert_eq!(
            error,
            format!(
                "{name} has 100 bytes, fewer than one heap of 101: lower the heap size to 100 or less"
            )
        );
        assert!(matches!(open(0), Err(SourceError::NoPayload)));
        let empty = tempfile::NamedTempFile::new().unwrap();
        let error = RawFile::open(empty.path(), vec![SourceItem::bytes(1)]).unwrap_err();
        assert!(matches!(error, SourceError::Empty { .. }), "{error}");
    }
}
