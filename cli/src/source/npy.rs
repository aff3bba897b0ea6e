//! A numpy array in a file: `.npy`.
//!
//! Source: NEP 1, *A Simple File Format for NumPy Arrays*, and `numpy.lib.format`, versions 1 to 3.

use std::path::Path;

use super::{DEFAULT_ITEM, MappedHeaps, SourceError, SourceItem};
use doorbell::region::{MappedBytes, Memory};
use doorbell::wire::{Descriptor, NumpyHeader, Printable};

/// How arrays are cut into heaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// At each index of the leading axis.
    Axis,
    /// Into parts of this shape, which that of the array ends in; an array of one axis is read in C order.
    Shape(Vec<u64>),
    /// Into so many bytes, which takes an array of one axis.
    Bytes(u64),
}

/// Maps an array, and says what item each of its heaps is. The item is named after the file.
pub(super) fn open(path: &Path, cut: &Cut) -> Result<(SourceItem, MappedHeaps), SourceError> {
    let memory = Memory::file(path)?;
    let wrong = |reason| SourceError::Npy { path: path.into(), reason };
    let head = memory.file_bytes(0, memory.len().min(MAX_HEAD)).map(MappedBytes::to_vec);
    let array = Array::parse(&head.unwrap_or_default(), cut).map_err(wrong)?;
    let heap_len = array.heap_len;
    let there = memory.len() - array.start;
    let too_short = || {
        wrong(format!(
            "the array has {} heaps of {heap_len} bytes, of which the file holds but {there} \
             bytes: it was truncated, save it anew",
            array.heaps
        ))
    };
    let heaps = MappedHeaps::new(memory, array.start, heap_len, array.heaps)
        .filter(|mapped| mapped.heaps() == Some(array.heaps))
        .ok_or_else(too_short)?;
    if array.rest > 0 {
        tracing::warn!(
            "{}: the last {} elements fill no heap of {heap_len} bytes, and are not sent",
            path.display(),
            array.rest
        );
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Receivers decode nothing but ASCII.
    let description = name.replace(|c: char| !c.is_ascii() || c.is_ascii_control(), "?");
    let descriptor = Descriptor::numpy(DEFAULT_ITEM, "data", &description, array.item);
    Ok((SourceItem { descriptor, size: heap_len }, heaps))
}

/// What the head of a file says.
#[derive(Debug)]
struct Array {
    /// Where the elements start.
    start: usize,
    heaps: u64,
    heap_len: usize,
    /// Elements at the end that fill no heap.
    rest: u64,
    /// The part of the array that makes one heap.
    item: NumpyHeader,
}

/// Takes `bytes` for a file.
///
/// # Panics
///
/// If the array begins beyond the end of the file, or has heaps of nothing.
pub fn arbitrary_npy(bytes: &[u8]) {
    for cut in [Cut::Axis, Cut::Shape(vec![2, 1]), Cut::Bytes(8)] {
        if let Ok(array) = Array::parse(bytes, &cut) {
            assert!(array.start <= bytes.len(), "{array:?}");
            assert!(array.heap_len > 0 && array.heaps > 0, "{array:?}");
        }
    }
}

impl Array {
    fn parse(file: &[u8], cut: &Cut) -> Result<Self, String> {
        let (text, start) = head(file)?;
        let header: NumpyHeader = text.parse().map_err(|_| {
            format!(
                "`{}` is not a numpy header: expected {{'descr': ..., 'fortran_order': ..., \
                 'shape': ...}}",
                Printable(text.trim_ascii_end())
            )
        })?;
        let NumpyHeader { descr, shape, .. } = &header;
        let element = header.element_size().map_err(|reason| format!("dtype {descr}: {reason}"))?;
        let too_large =
            || format!("an array of shape {shape:?} and dtype {descr} exceeds all memory");
        let size = |shape: &[u64]| {
            shape.iter().try_fold(element as u64, |size, &axis| size.checked_mul(axis))
        };
        let all = size(shape).filter(|&all| usize::try_from(all).is_ok()).ok_or_else(too_large)?;
        if all == 0 {
            return Err(format!(
                "the array is empty, its shape being {shape:?} and its dtype {descr}: a source \
                 needs at least one element"
            ));
        }
        // With no more than one axis that counts, both orders are the same.
        if header.fortran_order && shape.iter().filter(|&&axis| axis > 1).count() > 1 {
            return Err("the array is in Fortran order, in which no heap lies in one piece: save \
                        numpy.ascontiguousarray(array)"
                .into());
        }
        let item_shape = heap_shape(shape, element as u64, cut)?;
        let heap_len = size(&item_shape).ok_or_else(too_large)?;
        let heaps = all.checked_div(heap_len).filter(|&heaps| heaps > 0).ok_or_else(|| {
            format!("the array has {all} bytes, and a heap of {item_shape:?} has {heap_len}")
        })?;
        Ok(Self {
            start,
            heaps,
            // It is no longer than the array.
            heap_len: heap_len as usize,
            rest: (all - heaps * heap_len) / element as u64,
            item: NumpyHeader { fortran_order: false, shape: item_shape, ..header },
        })
    }
}

/// The shape of a heap of an array.
fn heap_shape(shape: &[u64], element: u64, cut: &Cut) -> Result<Vec<u64>, String> {
    match (cut, shape) {
        (Cut::Axis, [_, rest @ ..]) => Ok(rest.into()),
        (Cut::Axis, []) => Err("the array has no axis along which to cut it into heaps: save \
                                array.reshape(1, 1)"
            .into()),
        (Cut::Shape(heap), _) if shape.ends_with(heap) || shape.len() == 1 => Ok(heap.clone()),
        (Cut::Shape(heap), _) => {
            Err(format!("the array has shape {shape:?}, which does not end in {heap:?}"))
        }
        (Cut::Bytes(bytes), [_]) if bytes.is_multiple_of(element) => Ok(vec![bytes / element]),
        (Cut::Bytes(bytes), [_]) => Err(format!(
            "a heap of {bytes} bytes is no multiple of {element}, the bytes of an element"
        )),
        (Cut::Bytes(_), _) => Err(format!(
            "the array has shape {shape:?}, which itself says how large a heap is: drop --heap-size, \
             or give --shape"
        )),
    }
}

/// The text of the header, and where the elements start.
fn head(file: &[u8]) -> Result<(&str, usize), String> {
    let version = file.strip_prefix(MAGIC).ok_or_else(|| match file.starts_with(b"PK") {
        true => "this is an archive of arrays (.npz): unpack it, and send its .npy files".into(),
        false => String::from(
            "this is not a numpy array: expected a file that numpy.save() wrote; send a file of \
             another format under a name that does not end in .npy, as raw bytes",
        ),
    })?;
    let ends = || String::from("the file ends within its header: it was truncated, save it anew");
    let (&[major, minor], rest) = version.split_first_chunk().ok_or_else(ends)?;
    let (len, start) = match (major, minor) {
        (1, 0) => {
            let (&len, _) = rest.split_first_chunk().ok_or_else(ends)?;
            (usize::from(u16::from_le_bytes(len)), MAGIC.len() + 4)
        }
        (2 | 3, 0) => {
            let (&len, _) = rest.split_first_chunk().ok_or_else(ends)?;
            (u32::from_le_bytes(len) as usize, MAGIC.len() + 6)
        }
        _ => {
            return Err(format!(
                "version {major}.{minor} of the format is not known: expected 1.0, 2.0 or 3.0"
            ));
        }
    };
    if len > MAX_HEADER {
        return Err(format!(
            "the header has {len} bytes, more than the {MAX_HEADER} that a dtype can need"
        ));
    }
    let header = file.get(start..start + len).ok_or_else(ends)?;
    // What is in the header goes into a descriptor, of which receivers decode nothing but ASCII.
    let text = str::from_utf8(header).ok().filter(|text| text.is_ascii()).ok_or(
        "the header is not ASCII, which SPEAD's descriptors are: rename the fields of the dtype",
    )?;
    Ok((text, start + len))
}

/// What a file that numpy saved begins with.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// Numpy itself refuses headers of more than 10,000 bytes from files that it does not trust.
const MAX_HEADER: usize = 1 << 20;
/// What comes before it: magic, version, and length.
const MAX_HEAD: usize = MAGIC.len() + 6 + MAX_HEADER;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::super::tests::filled;
    use super::super::{Files, Filled, Source};
    use super::*;

    /// Files that numpy 2 wrote: see cli/tests/data/make_npy.py.
    fn data(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
    }

    fn opened(name: &str) -> (Files, NumpyHeader) {
        let npy = Files::npy(&[data(name)], &Cut::Axis).unwrap();
        let header = npy.items()[0].descriptor.numpy_header.clone().unwrap();
        (npy, header)
    }

    /// What is wrong with a file of these bytes.
    fn error(bytes: &[u8]) -> String {
        let mut file = tempfile::Builder::new().suffix(".npy").tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let error = open(file.path(), &Cut::Axis).unwrap_err().to_string();
        let name = format!("{}: ", file.path().display());
        error.strip_prefix(&name).expect("the file is named").to_owned()
    }

    /// A file of version 1.0 with any header.
    fn with_header(header: &str, elements: usize) -> Vec<u8> {
        let mut file = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes()].concat();
        file.extend_from_slice(header.as_bytes());
        file.resize(file.len() + elements, 1);
        file
    }

    #[test]
    fn the_leading_axis_counts_heaps() {
        let (mut npy, header) = opened("c_order.npy");
        assert_eq!(header, NumpyHeader::new("<f4", &[3, 4]));
        assert_eq!(npy.items()[0].descriptor.description, "c_order.npy");
        assert_eq!((npy.heaps(), npy.heap_len()), (Some(2), 48));
        let expected: Vec<u8> = (12..24).flat_map(|n| (n as f32).to_le_bytes()).collect();
        assert_eq!(filled(&mut npy, 1, 64), (Filled::Whole, expected.clone()));
        let mapped = npy.mapped().unwrap();
        assert!(mapped.heap(1).unwrap().equals(&expected) && mapped.heap(2).is_none());
    }

    #[test]
    fn a_heap_has_the_shape_that_was_given() {
        let heaps = |heap: &[u64]| {
            let (item, heaps) = open(&data("c_order.npy"), &Cut::Shape(heap.into())).unwrap();
            (item.descriptor.numpy_header.unwrap().shape, item.size, heaps.heaps())
        };
        assert_eq!(heaps(&[2, 3, 4]), (vec![2, 3, 4], 96, Some(1)));
        assert_eq!(heaps(&[3, 4]), (vec![3, 4], 48, Some(2)));
        assert_eq!(heaps(&[4]), (vec![4], 16, Some(6)));
        assert_eq!(heaps(&[]), (vec![], 4, Some(24)));
        for other in [&[2, 3][..], &[1, 2, 3, 4], &[5]] {
            let error = open(&data("c_order.npy"), &Cut::Shape(other.into()));
            let error = error.unwrap_err().to_string();
            let reason = format!("the array has shape [2, 3, 4], which does not end in {other:?}");
            assert!(error.contains(&reason), "{error}");
        }
    }

    #[test]
    fn one_axis_is_cut_as_is_said() {
        let file = with_header("{'descr': u'>i2', 'fortran_order': True, 'shape': (10L,), }", 20);
        let cut = |cut| {
            Array::parse(&file, &cut)
                .map(|it| (it.item.descr, it.item.shape, it.heap_len, it.heaps, it.rest))
        };
        let found = |shape: &[u64], heap_len, heaps, rest| {
            Ok(("'>i2'".to_owned(), shape.to_vec(), heap_len, heaps, rest))
        };
        assert_eq!(cut(Cut::Axis), found(&[], 2, 10, 0));
        assert_eq!(cut(Cut::Shape(vec![10])), found(&[10], 20, 1, 0));
        assert_eq!(cut(Cut::Shape(vec![1])), found(&[1], 2, 10, 0));
        assert_eq!(cut(Cut::Shape(vec![3])), found(&[3], 6, 3, 1));
        assert_eq!(cut(Cut::Shape(vec![2, 2])), found(&[2, 2], 8, 2, 2));
        assert_eq!(cut(Cut::Bytes(20)), found(&[10], 20, 1, 0));
        assert_eq!(cut(Cut::Bytes(6)), found(&[3], 6, 3, 1));
        assert!(
            cut(Cut::Shape(vec![11])).unwrap_err().contains("20 bytes, and a heap of [11] has 22")
        );
        assert!(cut(Cut::Bytes(7)).unwrap_err().contains("no multiple of 2"));
        assert!(cut(Cut::Bytes(1)).unwrap_err().contains("no multiple of 2"));
        let error = open(&data("c_order.npy"), &Cut::Bytes(48)).unwrap_err().to_string();
        assert!(error.contains("[2, 3, 4]") && error.contains("drop --heap-size"), "{error}");
    }

    #[test]
    fn all_versions_and_dtypes_are_read() {
        let (npy, header) = opened("version_2.npy");
        assert_eq!((header, npy.heaps()), (NumpyHeader::new(">i2", &[]), Some(5)));
        let (npy, header) = opened("version_3.npy");
        assert_eq!((header, npy.heaps()), (NumpyHeader::new("|u1", &[2]), Some(3)));
        let (npy, header) = opened("times.npy");
        assert_eq!((header, npy.heap_len()), (NumpyHeader::new("<M8[25us]", &[]), 8));
        let (npy, header) = opened("text.npy");
        assert_eq!((header, npy.heap_len()), (NumpyHeader::new("<U3", &[]), 12));
        let (npy, header) = opened("structured.npy");
        assert_eq!(
            header.descr,
            "[('shape', '<f4'), ('', '|V4'), ('iq', [('i', '<i2'), ('q', '<i2')], (2, 3)), \
             (('a title', 'flag'), '|b1')]"
        );
        assert_eq!((npy.heap_len(), npy.heaps()), (4 + 4 + 4 * 6 + 1, Some(2)));
        // Numpy saves one axis as C order; a file that says otherwise has the same bytes.
        let file = with_header("{'descr':'<i4','fortran_order':True,'shape':(2,)}", 8);
        assert_eq!(Array::parse(&file, &Cut::Axis).unwrap().heap_len, 4);
    }

    #[test]
    fn what_cannot_be_cut_into_heaps_is_refused() {
        let file = |name| std::fs::read(data(name)).unwrap();
        assert!(error(&file("fortran_order.npy")).contains("numpy.ascontiguousarray(array)"));
        assert!(error(&file("zero_dimensional.npy")).contains("array.reshape(1, 1)"));
        assert!(error(&file("objects.npy")).starts_with("dtype '|O': Python objects"));
        assert!(error(&file("empty.npy")).contains("empty, its shape being [0, 4]"));
        let whole = file("c_order.npy");
        assert!(error(&whole[..whole.len() - 1]).contains("but 95 bytes: it was truncated"));
        assert!(error(&whole[..100]).contains("within its header"));
        assert!(error(&whole[..8]).contains("within its header"));
        assert!(error(b"").contains("not a numpy array"));
        assert!(error(b"\x89PNG").contains("not a numpy array"));
        assert!(error(b"PK\x03\x04").contains(".npz"));
        assert!(error(b"\x93NUMPY\x04\x00\x10\x00").contains("version 4.0"));
        assert!(error(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").contains("4294967295 bytes"));
    }

    #[test]
    fn hostile_headers_are_refused() {
        let shape = |shape| {
            error(&with_header(
                &format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}"),
                64,
            ))
        };
        let huge = u64::MAX;
        assert!(shape(format!("(1, {huge})")).contains("exceeds all memory"));
        assert!(shape(format!("({huge}, {huge})")).contains("exceeds all memory"));
        assert!(shape("(4294967296, 4294967296)".into()).contains("exceeds all memory"));
        assert!(shape(format!("(1, {huge}, 0)")).contains("exceeds all memory"));
        assert!(shape("(1152921504606846975,)".into()).contains("truncated"));
        assert!(shape("(-1,)".into()).contains("not a numpy header"));
        assert!(shape("3".into()).contains("not a numpy header"));
        assert!(shape("(0,)".into()).contains("empty"));
        assert!(
            shape("((((((((((((((((((((((((((((((((((((".into()).contains("not a numpy header")
        );
        let dtype = |descr| {
            error(&with_header(
                &format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,)}}"),
                64,
            ))
        };
        assert!(dtype("''").contains("not a type string"));
        assert!(dtype("'<f3'").contains("not a type string"));
        assert!(dtype("'<c4'").contains("not a type string"));
        assert!(dtype("[('a', '<i3')]").contains("not a type string"));
        assert!(dtype("[('a', '<i2'), ('a', '<i4')]").contains("two fields have the name `a`"));
        assert!(dtype("'<q8'").contains("not a type string"));
        assert!(dtype("'<U9223372036854775807'").contains("not a type string"));
        assert!(dtype("'|V0'").contains("empty"));
        assert!(dtype("[('a', '<f4'), 'b']").contains("a field is not"));
        assert!(dtype("[('a', '<f4', (9223372036854775807,))]").contains("exceeds all memory"));
        assert!(dtype("[('a', '|O')]").contains("Python objects"));
        assert!(dtype("[('é', '<f4')]").contains("rename the fields"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(
            version in 1_u8..=3, header in "[]\\[(){}'\",: 0-9<fUOdescrshapTFlnot_]{0,80}",
        ) {
            let text = format!("{{'descr': {header}, 'fortran_order': False, 'shape': ({header})}}");
            let mut file = [MAGIC, &[version, 0], &(text.len() as u16).to_le_bytes()].concat();
            if version > 1 {
                file.extend([0, 0]);
            }
            file.extend_from_slice(text.as_bytes());
            arbitrary_npy(&file);
        }

        #[test]
        fn a_damaged_file_does_not_panic(at in 0_usize..176, byte: u8) {
            let mut file = std::fs::read(data("c_order.npy")).unwrap();
            file[at] = byte;
            arbitrary_npy(&file);
        }
    }
}
