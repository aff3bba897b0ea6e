//! Several files, one after the other, as often as wanted.

use std::path::PathBuf;

use super::{
    Cut, Filled, MappedHeaps, Source, SourceError, SourceItem, Verifier, item, npy, raw_file,
};
use doorbell::region::PayloadMut;
use doorbell::wire::Descriptor;

/// The heaps of one or several files, mapped, in their order.
///
/// Should a file be truncated while it is sent, [`Source::check`] tells.
#[derive(Clone, Debug)]
pub struct Files {
    items: Vec<SourceItem>,
    heaps: MappedHeaps,
}

impl Files {
    /// Maps arrays that numpy saved, at least one: all of the dtype of the first, and with heaps of the same
    /// shape, in C order.
    ///
    /// # Errors
    ///
    /// If a file cannot be mapped, is no array that numpy saved, or ends before the array does; if an
    /// array has no such heaps, no elements, Python objects for elements, or Fortran order, or differs
    /// from the first; if there is no file.
    pub fn npy(paths: &[PathBuf], cut: &Cut) -> Result<Self, SourceError> {
        let open = |path: &PathBuf| npy::open(path, cut).map(|(item, heaps)| (vec![item], heaps));
        let files = Self::join(paths, open)?;
        let is_scalar = files.items[0].descriptor.shape.is_empty();
        if *cut == Cut::Axis && is_scalar && files.heap_len() <= LARGEST_NUMBER {
            tracing::warn!(
                "{}: of one axis, each element is sent as a heap of {} bytes, {} heaps in all; \
                 --shape or --heap-size cut it into longer ones",
                paths[0].display(),
                files.heap_len(),
                files.heaps.heaps().unwrap_or(0)
            );
        }
        Ok(files)
    }

    /// Maps files, at least one, each heap of which consists of `items`. Bytes at the end of a file that
    /// fill no heap are not sent, of which a warning tells.
    ///
    /// # Errors
    ///
    /// If a file cannot be mapped, or holds no whole heap; if heaps have no bytes, or there is no file.
    pub fn raw(paths: &[PathBuf], items: &[SourceItem]) -> Result<Self, SourceError> {
        let heap_len = item::heap_len(items);
        Self::join(paths, |path| {
            raw_file::open(path, heap_len).map(|heaps| (items.to_vec(), heaps))
        })
    }

    fn join(
        paths: &[PathBuf],
        open: impl Fn(&PathBuf) -> Result<(Vec<SourceItem>, MappedHeaps), SourceError>,
    ) -> Result<Self, SourceError> {
        let (first, others) = paths.split_first().ok_or(SourceError::NoFile)?;
        let (items, mut heaps) = open(first)?;
        for path in others {
            let (found, more) = open(path)?;
            if !alike(&found, &items) {
                return Err(SourceError::Unlike {
                    path: path.clone(),
                    found: describe(&found),
                    first: first.clone(),
                    expected: describe(&items),
                });
            }
            heaps.append(more);
        }
        Ok(Self { items, heaps })
    }

    /// All files `times` over; without end for `None`.
    #[must_use]
    pub fn repeat(mut self, times: Option<u64>) -> Self {
        self.heaps.repeat(times);
        self
    }
}

/// Whether receivers can take one for the other: by what they decode, not by how it is described.
fn alike(found: &[SourceItem], expected: &[SourceItem]) -> bool {
    let decoding = |item: &SourceItem| (item.size, item.descriptor.numpy_header.clone());
    found.iter().map(decoding).eq(expected.iter().map(decoding))
}

/// Bytes of complex256: what has more is a record, or text, and fit for a heap.
const LARGEST_NUMBER: usize = 32;

fn describe(items: &[SourceItem]) -> String {
    let header = |item: &SourceItem| match &item.descriptor {
        Descriptor { numpy_header: Some(header), .. } => {
            format!("frames of shape {:?} and dtype {}", header.shape, header.descr)
        }
        _ => format!("{} bytes", item.size),
    };
    items.iter().map(header).collect::<Vec<_>>().join(", ")
}

impl Source for Files {
    fn items(&self) -> &[SourceItem] {
        &self.items
    }

    fn heaps(&self) -> Option<u64> {
        self.heaps.heaps()
    }

    fn mapped(&self) -> Option<&MappedHeaps> {
        Some(&self.heaps)
    }

    fn fill(
        &mut self,
        index: u64,
        payload: PayloadMut<'_>,
        _may_wait: bool,
    ) -> Result<Filled, SourceError> {
        Ok(self.heaps.fill(index, payload))
    }

    fn verifier(&self) -> Option<Box<dyn Verifier>> {
        Some(Box::new(self.heaps.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::filled;
    use super::*;

    proptest! {
        /// One file after the other, cut short nowhere but at the end of each, over and over.
        #[test]
        fn heaps_are_those_of_the_files_in_turn(
            lens in prop::collection::vec(1_usize..5, 1..6),
            heap_len in 1_usize..50,
            rest in 0_usize..3,
            times in 1_u64..4,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let (mut paths, mut expected) = (Vec::new(), Vec::new());
            for (file, len) in lens.iter().enumerate() {
                let bytes: Vec<u8> =
                    (0..len * heap_len + rest.min(heap_len - 1)).map(|at| (at + 31 * file) as u8).collect();
                expected.extend(bytes.chunks_exact(heap_len).map(<[u8]>::to_vec));
                paths.push(directory.path().join(file.to_string()));
                std::fs::write(paths.last().unwrap(), bytes).unwrap();
            }
            let once = expected.len() as u64;
            let files = Files::raw(&paths, &[SourceItem::bytes(heap_len)]).unwrap();
            prop_assert_eq!(files.heaps(), Some(once));
            let mut files = files.repeat(Some(times));
            prop_assert_eq!(files.heaps(), Some(once * times));
            let verifier = files.verifier().unwrap();
            for index in 0..once * times {
                let (state, bytes) = filled(&mut files, index, 64);
                prop_assert_eq!(state, Filled::Whole);
                prop_assert_eq!(&bytes, &expected[(index % once) as usize]);
                prop_assert!(verifier.matches(index, &bytes));
            }
            prop_assert_eq!(filled(&mut files, once * times, 64).0, Filled::End);
            prop_assert!(files.check(0..once * times).is_ok());
            let endless = files.repeat(None);
            prop_assert_eq!(endless.heaps(), None);
            let far = u64::MAX - u64::MAX % once;
            prop_assert!(endless.mapped().unwrap().heap(far).unwrap().equals(&expected[0]));
        }
    }

    #[test]
    fn a_shorter_file_is_found_whatever_the_turn() {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = ["a", "b"].map(|name| directory.path().join(name)).into();
        paths.iter().for_each(|path| std::fs::write(path, [1; 80]).unwrap());
        let files = Files::raw(&paths, &[SourceItem::bytes(8)]).unwrap().repeat(Some(2));
        std::fs::File::options().write(true).open(&paths[1]).unwrap().set_len(30).unwrap();
        // Heaps 10 to 19 are of b, of which three are left, and so are 30 to 39.
        for (range, whole) in
            [(0..13, true), (0..14, false), (16..33, false), (20..33, true), (33..34, false)]
        {
            assert_eq!(files.check(range.clone()).is_ok(), whole, "{range:?}");
        }
        let error = files.check(14..15).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} ", paths[1].display())), "{error}");
    }
}
