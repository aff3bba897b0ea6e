//! Heaps of packed samples.

use std::io::Write;

use super::super::Files;
use super::super::tests::filled;
use super::*;
use doorbell::wire::NumpyHeader;

fn item(dtype: &str, count: usize, size: usize) -> SourceItem {
    let header = NumpyHeader::new(dtype, &[count as u64]);
    let descriptor = Descriptor::numpy(0x3300, "frame", "a ramp", header);
    SourceItem { descriptor, size }
}

/// Two heaps of ramps: 0 to 999, and the same plus 500.
fn ramps() -> (tempfile::NamedTempFile, Files) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let samples = (0..2).flat_map(|heap| (0..1000).map(move |sample| heap * 500 + sample));
    let bytes: Vec<u8> = samples.flat_map(|sample| (sample as f32).to_le_bytes()).collect();
    file.write_all(&bytes).unwrap();
    let source = Files::raw(&[file.path().into()], &[item("<f4", 1000, 4000)]).unwrap();
    (file, source)
}

fn integers(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks().0.iter().map(|bytes| u16::from_be_bytes(*bytes)).collect()
}

#[test]
fn the_first_heap_gives_the_range_and_later_ones_are_clipped() {
    let (_file, source) = ramps();
    let mut packed = Packed::new(&source, PackFormat::U16, None).unwrap();
    assert_eq!(packed.interval(), Interval::new(0.0, 999.0).unwrap());
    assert_eq!((packed.heaps(), packed.heap_len()), (Some(2), 2000));
    assert!(packed.mapped().is_none(), "there is nothing to attach");
    let (whole, first) = filled(&mut packed, 0, 1472);
    assert_eq!(whole, Filled::Whole);
    let expected: Vec<u16> =
        (0..1000).map(|n| (f64::from(n) * 65535.0 / 999.0).round_ties_even() as u16).collect();
    assert_eq!(integers(&first), expected);
    assert_eq!(packed.loss(), Some(Loss::default()));
    let (_, second) = filled(&mut packed, 1, 1472);
    assert_eq!(integers(&second)[499..], [65535; 501]);
    assert_eq!(packed.loss(), Some(Loss { clipped: 500, not_a_number: 0 }));
    assert_eq!(filled(&mut packed, 2, 1472).0, Filled::End);
}

/// Packets of all sizes: samples, and blocks of them, lie across their ends.
#[test]
fn packets_end_anywhere_in_a_sample() {
    let (_file, source) = ramps();
    for format in PackFormat::ALL {
        let mut packed = Packed::new(&source, format, None).unwrap();
        let whole = filled(&mut packed, 1, 9000).1;
        for packet_size in [57, 64, 72, 80, 336, 1472] {
            assert_eq!(filled(&mut packed, 1, packet_size).1, whole, "{format}, {packet_size}");
        }
    }
}

#[test]
fn the_verifier_knows_what_was_sent() {
    let (_file, source) = ramps();
    let mut packed = Packed::new(&source, PackFormat::U10, None).unwrap();
    let verifier = packed.verifier().unwrap();
    let mut heap = filled(&mut packed, 1, 1472).1;
    assert!(verifier.matches(1, &heap));
    assert!(!verifier.matches(0, &heap));
    assert!(!verifier.matches(2, &heap));
    assert!(!verifier.matches(u64::MAX, &heap));
    assert!(!verifier.matches(1, &heap[..heap.len() - 1]));
    heap[1249] ^= 1;
    assert!(!verifier.matches(1, &heap));
    heap[1249] ^= 1;
    heap.push(0);
    assert!(!verifier.matches(1, &heap));
}

#[test]
fn descriptors_say_how_to_read_the_samples() {
    let (_file, source) = ramps();
    let packed = |format| Packed::new(&source, format, None).unwrap();
    let ten = packed(PackFormat::U10);
    let descriptor = &ten.items()[0].descriptor;
    assert_eq!((descriptor.id, descriptor.name.as_str()), (0x3300, "frame"));
    assert_eq!(descriptor.format, [Field::new(b'u', 10)]);
    assert_eq!((&descriptor.shape, &descriptor.numpy_header), (&vec![Some(1000)], &None));
    let [scale, offset] = ten.constants() else { panic!("scale and offset") };
    assert_eq!((scale.descriptor.id, offset.descriptor.id), (SCALE_ITEM, OFFSET_ITEM));
    assert_eq!(scale.bytes, (999.0_f64 / 1023.0).to_be_bytes());
    assert_eq!(offset.bytes, 0.0_f64.to_be_bytes());
    let half = packed(PackFormat::F16);
    let header = half.items()[0].descriptor.numpy_header.clone();
    assert_eq!(header, Some(NumpyHeader::new(">f2", &[1000])));
    assert_eq!((half.heap_len(), half.constants().len()), (2000, 0));
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let (file, _) = ramps();
    let refusal = |items: Vec<SourceItem>| {
        let source = Files::raw(&[file.path().into()], &items).unwrap();
        Packed::new(&source, PackFormat::U10, None).err().unwrap().to_string()
    };
    let complex = refusal(vec![item("<c8", 500, 4000)]);
    assert!(complex.contains("the dtype of its samples is '<c8': packing takes"), "{complex}");
    let two = refusal(vec![item("<f4", 500, 2000), item("<f4", 500, 2000)]);
    assert!(two.contains("a raw file and its only item"), "{two}");
    let one = refusal(vec![item("<f4", 1, 4)]);
    assert!(one.contains("all finite samples of the first heap are 0"), "{one}");

    let mut nan = tempfile::NamedTempFile::new().unwrap();
    nan.write_all(&f32::NAN.to_le_bytes()).unwrap();
    let source = Files::raw(&[nan.path().into()], &[item("<f4", 1, 4)]).unwrap();
    let none = Packed::new(&source, PackFormat::U10, None).err().unwrap().to_string();
    assert!(none.contains("the first heap has no finite sample"), "{none}");
}
