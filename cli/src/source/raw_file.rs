//! A file of bytes, cut into heaps.

use std::path::Path;

use super::npy::MAGIC;
use super::{MappedHeaps, SourceError};
use doorbell::region::Memory;

/// Maps a file, cut from its start into heaps of `heap_len` bytes. What fills none at its end is not sent.
pub(super) fn open(path: &Path, heap_len: usize) -> Result<MappedHeaps, SourceError> {
    if heap_len == 0 {
        return Err(SourceError::NoPayload);
    }
    let numpys = |reason: &str| SourceError::Npy { path: path.into(), reason: reason.into() };
    if path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("npz")) {
        return Err(numpys(
            "this is an archive of arrays (.npz): unpack it, and send its .npy files",
        ));
    }
    let memory = Memory::file(path)?;
    let len = memory.len();
    if memory.file_bytes(0, MAGIC.len()).is_some_and(|start| start.equals(MAGIC)) {
        return Err(numpys(
            "numpy.save() wrote this, and as raw bytes its header would be sent as samples: give it \
             a name that ends in .npy",
        ));
    }
    if len == 0 {
        return Err(SourceError::Empty { path: path.into() });
    }
    let heaps = MappedHeaps::new(memory, 0, heap_len, u64::MAX)
        .ok_or_else(|| SourceError::Short { path: path.into(), len, heap_len })?;
    let rest = len % heap_len;
    if rest > 0 {
        tracing::warn!(
            "{}: the last {rest} bytes fill no heap of {heap_len}, and are not sent",
            path.display()
        );
    }
    Ok(heaps)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::tests::filled;
    use super::super::{Files, Filled, Source, SourceItem};
    use super::*;

    fn file(len: usize) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&(0..len).map(|byte| (byte % 251) as u8).collect::<Vec<_>>()).unwrap();
        file
    }

    #[test]
    fn heaps_are_cut_from_the_start() {
        let file = file(2 * 5000 + 17);
        let bytes = std::fs::read(file.path()).unwrap();
        let items = [SourceItem::bytes(5000)];
        let mut source = Files::raw(&[file.path().into()], &items).unwrap();
        assert_eq!((source.heaps(), source.heap_len()), (Some(2), 5000));
        let mapped = source.mapped().unwrap();
        assert!(mapped.heap(1).unwrap().equals(&bytes[5000..10000]) && mapped.heap(2).is_none());
        assert_eq!(filled(&mut source, 1, 1472), (Filled::Whole, bytes[5000..10000].to_vec()));
        assert_eq!(filled(&mut source, 2, 1472).0, Filled::End);
        let verifier = source.verifier().unwrap();
        assert!(verifier.matches(1, &bytes[5000..10000]));
        assert!(!verifier.matches(0, &bytes[5000..10000]));
        assert!(!verifier.matches(1, &bytes[5000..9999]));
        assert!(!verifier.matches(u64::MAX, &bytes[..5000]));
    }

    #[test]
    fn arrays_are_not_taken_for_samples() {
        let directory = tempfile::tempdir().unwrap();
        for (name, start, hint) in [
            ("a.raw", MAGIC, "ends in .npy"),
            ("a", MAGIC, "ends in .npy"),
            ("a.npz", b"PK\x03\x04", "unpack it"),
            ("a.NPZ", b"", "unpack it"),
        ] {
            let path = directory.path().join(name);
            std::fs::write(&path, [start, &[0; 100]].concat()).unwrap();
            let error = open(&path, 4).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(hint), "{error}");
        }
        // An archive of something else, and what is no array after all.
        for start in [&b"PK\x03\x04"[..], &MAGIC[..5]] {
            std::fs::write(directory.path().join("b"), [start, &[0; 100]].concat()).unwrap();
            assert!(open(&directory.path().join("b"), 4).is_ok());
        }
    }

    #[test]
    fn a_file_that_holds_no_heap_is_refused() {
        let file = file(100);
        assert_eq!(open(file.path(), 100).unwrap().heaps(), Some(1));
        let error = open(file.path(), 101).unwrap_err().to_string();
        let name = file.path().display();
        assert_eq!(
            error,
            format!(
                "{name} has 100 bytes, fewer than one heap of 101: lower the heap size to 100 or less"
            )
        );
        assert!(matches!(open(file.path(), 0), Err(SourceError::NoPayload)));
        let empty = tempfile::NamedTempFile::new().unwrap();
        let error = open(empty.path(), 1).unwrap_err();
        assert!(matches!(error, SourceError::Empty { .. }), "{error}");
    }
}
