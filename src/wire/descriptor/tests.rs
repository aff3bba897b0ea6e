//! Descriptors as spead2 makes them, and of any bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What spead2 4.5.1 makes of the descriptor (a heap of flavour 64-48, its header cut off).
#[test]
fn format_descriptor_is_that_of_spead2() {
    let descriptor = Descriptor {
        id: 0x3300,
        name: "adc".into(),
        description: "desc".into(),
        format: vec![Field::new(b'u', 10), Field::new(b'c', 8)],
        shape: vec![Some(3), None],
        numpy_header: None,
    };
    let expected = b"S\x04\x02\x06\0\0\0\x09\x80\x01\0\0\0\0\0\x01\x80\x02\0\0\0\0\0\x1b\
        \x80\x03\0\0\0\0\0\0\x80\x04\0\0\0\0\0\x1b\x80\x14\0\0\0\0\x33\0\0\x10\0\0\0\0\0\0\
        \0\x11\0\0\0\0\0\x03\0\x13\0\0\0\0\0\x07\0\x12\0\0\0\0\0\x0d\
        adcdescu\0\x0ac\0\x08\0\0\0\0\0\0\x03\x01\0\0\0\0\0\0";
    assert_eq!(descriptor.encode(Flavour::SPEAD_64_48).unwrap(), expected);
    assert_eq!(Descriptor::decode(expected).unwrap(), descriptor);
}

/// As above, of flavour 64-40.
#[test]
fn numpy_descriptor_is_that_of_spead2() {
    let descriptor = Descriptor {
        id: 0x3300,
        name: "adc".into(),
        description: "desc".into(),
        numpy_header: Some(NumpyHeader::new("|i1", &[3])),
        ..Descriptor::default()
    };
    let encoded = descriptor.encode(Flavour::SPEAD_64_40).unwrap();
    let header = b"adcdesc{'descr': '|i1', 'fortran_order': False, 'shape': (3,)}";
    assert!(encoded.ends_with(header));
    assert_eq!(Descriptor::decode(&encoded).unwrap(), descriptor);
}

#[test]
fn numpy_headers_are_read_whatever_their_order() {
    let header = parse_numpy(
        b"{'shape': (2, 3), 'fortran_order': True, 'descr': [('a', '<f4'), ('b', '|u1')]}",
    );
    assert_eq!(
        header.unwrap(),
        NumpyHeader {
            descr: "[('a', '<f4'), ('b', '|u1')]".into(),
            fortran_order: true,
            shape: vec![2, 3],
        }
    );
    let fields = b"{'descr': [('shape', '<f4')], 'fortran_order': False, 'shape': (7,)}";
    assert_eq!(parse_numpy(fields).unwrap().shape, [7], "a field may have any name");
    for wrong in ["", "{}", "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", "{'descr':"] {
        assert!(parse_numpy(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let descriptor = Descriptor { id: 1 << 23, ..Descriptor::default() };
    let flavour = Flavour::SPEAD_64_40;
    assert!(matches!(descriptor.encode(flavour), Err(DescriptorError::Id { .. })));
    let narrow = Flavour::new(24).unwrap();
    let descriptor = Descriptor { id: 1 << 24, ..Descriptor::default() };
    assert!(matches!(descriptor.encode(narrow), Err(DescriptorError::Id { .. })));
    let descriptor = Descriptor { id: 1, name: "µ".into(), ..Descriptor::default() };
    assert!(matches!(descriptor.encode(flavour), Err(DescriptorError::NotAscii { .. })));
    for field in [Field::new(b'x', 8), Field::new(b'u', 0), Field::new(b'u', 1 << 24)] {
        let descriptor = Descriptor { id: 1, format: vec![field], ..Descriptor::default() };
        assert!(matches!(descriptor.encode(flavour), Err(DescriptorError::Format { .. })));
    }
    let descriptor = Descriptor { id: 1, shape: vec![Some(1 << 40)], ..Descriptor::default() };
    assert!(matches!(descriptor.encode(flavour), Err(DescriptorError::Shape { .. })));
}

proptest! {
    #[test]
    fn decode_reads_what_encode_wrote(
        bytes in 2_u8..=6,
        id in 1_u64..0x7fff,
        name in "[ -~]{0,20}",
        description in "[ -~]{0,40}",
        format in vec((prop::sample::select(b"uifbc".to_vec()), 1_u32..65536), 0..4),
        shape in vec(prop::option::of(0_u64..65536), 0..4),
        numpy in prop::option::of(vec(0_u64..1000, 0..4)),
    ) {
        let descriptor = Descriptor {
            id,
            name,
            description,
            format: format.into_iter().map(|(code, bits)| Field::new(code, bits)).collect(),
            shape,
            numpy_header: numpy.map(|shape| NumpyHeader::new("<f4", &shape)),
        };
        let encoded = descriptor.encode(Flavour::new(bytes * 8).unwrap()).unwrap();
        prop_assert_eq!(Descriptor::decode(&encoded).unwrap(), descriptor);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(mut payload in vec(any::<u8>(), 0..200), pointers in vec(any::<u64>(), 0..9)) {
        let mut packet = vec![0; HEADER_LEN];
        PacketHeader {
            flavour: Flavour::SPEAD_64_40,
            item_pointers: pointers.len() as u16,
            heap_cnt: 1,
            heap_length: payload.len() as u64,
            payload_offset: 0,
            payload_length: payload.len() as u64,
        }.emit(&mut packet);
        for (index, pointer) in pointers.iter().enumerate() {
            let id = 0x10 + index as u64 % 6;
            packet.extend((pointer & (1 << 63 | 0xff) | id << 40).to_be_bytes());
        }
        packet.append(&mut payload);
        let _ = Descriptor::decode(&packet);
    }
}
