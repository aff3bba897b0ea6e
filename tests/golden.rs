//! Packets are those of spead2, byte for byte: `tests/golden/heaps.jsonl`, which `generate.py` beside
//! it makes with spead2, says what they are. `README.md` there describes the fields.

mod capture;

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use doorbell::plan::{HeapSpec, Item, Order, PacketSize, Plan};
use doorbell::region::{Batch, Layout, Memory};
use doorbell::sender::Sender;
use doorbell::wire::{Descriptor, Field, Flavour, NumpyHeader, StreamControl, item};
use serde::Deserialize;

use self::capture::Capture;

#[test]
fn packed_heaps_are_those_of_spead2() {
    for record in records() {
        record.compare(Layout::Packed, Order::Serial);
    }
}

#[test]
fn split_heaps_are_those_of_spead2() {
    for record in records() {
        record.compare(Layout::Split, Order::RoundRobin);
    }
}

#[test]
fn attached_heaps_are_those_of_spead2() {
    let attached: Vec<Heap> = records().into_iter().filter(Heap::is_all_payload).collect();
    assert!(attached.len() > 50, "{} heaps that are all payload are too few", attached.len());
    for record in attached {
        record.compare(Layout::Attached, Order::Serial);
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heap {
    address_bits: u8,
    packet_size: usize,
    repeat_pointers: bool,
    cnt: u64,
    items: Vec<HeapItem>,
    packets: Vec<Expected>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "lowercase")]
enum HeapItem {
    Immediate {
        id: u64,
        value: u64,
    },
    Payload {
        id: u64,
        size: usize,
        seed: u64,
        allow_immediate: bool,
    },
    Descriptor {
        id: u64,
        name: String,
        description: String,
        format: Vec<(char, u32)>,
        shape: Vec<Option<u64>>,
        numpy_header: Option<String>,
    },
    Start,
    Stop,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    length: usize,
    header: String,
    fnv1a64: String,
}

impl Heap {
    fn flavour(&self) -> Flavour {
        Flavour::new(self.address_bits).unwrap()
    }

    /// Sends the heap through the public API, and compares what was sent.
    fn compare(&self, layout: Layout, order: Order) {
        let capture = Capture::default();
        let mut sender = Sender::new(capture.backend(&["192.0.2.7:7148"]));
        sender.set_cnts(self.cnt, 1);
        let plan = Plan::builder(self.flavour(), PacketSize::Exact(self.packet_size))
            .heaps(&self.spec(), 1)
            .repeat_pointers(self.repeat_pointers)
            .order(order)
            .build()
            .unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let payload = self.payload();
        let sources = match layout {
            Layout::Attached => vec![mapped(&payload)],
            Layout::Packed | Layout::Split => Vec::new(),
        };
        let mut batch =
            sender.allocate(&Arc::new(plan), layout, 1, sources).unwrap().pop().unwrap();
        match layout {
            Layout::Attached => assert!(batch.attach(0, 0, MARGIN)),
            Layout::Packed | Layout::Split => assert_eq!(batch.fill(0, &payload), payload.len()),
        }
        self.set_immediates(&mut batch);
        sender.submit(batch).unwrap();
        let completion = sender.wait().unwrap();
        assert_eq!((completion.sent(), completion.first_cnt), (1, self.cnt));

        let packets = capture.packets();
        assert_eq!(packets.len(), self.packets.len(), "packets of {self:?}");
        for (index, (packet, expected)) in packets.iter().zip(&self.packets).enumerate() {
            let header: String =
                packet[..expected.header.len() / 2].iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(header, expected.header, "header of packet {index} of {self:?}");
            assert_eq!(packet.len(), expected.length, "length of packet {index} of {self:?}");
            let hash = format!("{:016x}", fnv1a64(packet));
            assert_eq!(hash, expected.fnv1a64, "payload of packet {index} of {self:?}");
        }
    }

    fn spec(&self) -> HeapSpec {
        self.items.iter().fold(HeapSpec::new(), |heap, item| match item {
            HeapItem::Immediate { id, value } => heap.immediate(*id, *value),
            HeapItem::Payload { id, size, allow_immediate, .. } => match self.inline_value(item) {
                Some(value) if !self.is_settable(*id) => heap.immediate(*id, value),
                _ => heap.with(Item::Payload {
                    id: *id,
                    size: *size,
                    allow_immediate: *allow_immediate,
                }),
            },
            HeapItem::Descriptor { id, name, description, format, shape, numpy_header } => heap
                .descriptor(Descriptor {
                    id: *id,
                    name: name.clone(),
                    description: description.clone(),
                    format: format
                        .iter()
                        .map(|&(code, bits)| Field::new(code as u8, bits))
                        .collect(),
                    shape: shape.clone(),
                    numpy_header: numpy_header.as_deref().map(numpy),
                }),
            HeapItem::Start => heap.immediate(item::STREAM_CTRL, StreamControl::Start as u64),
            HeapItem::Stop => heap.immediate(item::STREAM_CTRL, StreamControl::Stop as u64),
        })
    }

    /// What a batch owner does with items that turned out to be immediates.
    fn set_immediates(&self, batch: &mut Batch) {
        for item in &self.items {
            if let (HeapItem::Payload { id, .. }, Some(value)) = (item, self.inline_value(item))
                && self.is_settable(*id)
            {
                batch.set_immediate(0, *id, value).unwrap();
            }
        }
    }

    /// The value of an item that travels in its pointer.
    fn inline_value(&self, item: &HeapItem) -> Option<u64> {
        match *item {
            HeapItem::Payload { size, seed, allow_immediate: true, .. }
                if size <= usize::from(self.address_bits) / 8 =>
            {
                Some(bytes(seed, size).iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
            }
            _ => None,
        }
    }

    /// Whether one item alone has this identifier: values are set by identifier.
    fn is_settable(&self, wanted: u64) -> bool {
        let ids = self.items.iter().filter(|item| match item {
            HeapItem::Immediate { id, .. } | HeapItem::Payload { id, .. } => *id == wanted,
            _ => false,
        });
        ids.count() == 1
    }

    fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        for item in &self.items {
            if let (&HeapItem::Payload { size, seed, .. }, None) = (item, self.inline_value(item)) {
                payload.extend(bytes(seed, size));
            }
        }
        payload
    }

    /// Whether there is neither a descriptor nor padding, so that the whole payload can lie in a file.
    fn is_all_payload(&self) -> bool {
        let heap_length = u64::from_str_radix(&self.packets[0].header[32..48], 16).unwrap();
        heap_length & self.flavour().max_value() == self.payload().len() as u64
    }
}

fn records() -> Vec<Heap> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/heaps.jsonl");
    let lines = std::fs::read_to_string(path).unwrap();
    let heaps: Vec<Heap> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let flavours: HashSet<u8> = heaps.iter().map(|heap| heap.address_bits).collect();
    assert!(heaps.len() > 300 && flavours.is_superset(&[24, 32, 40, 48, 56].into()));
    heaps
}

/// A file with a margin of other bytes on both sides.
fn mapped(payload: &[u8]) -> Arc<Memory> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for bytes in [&[0x55; MARGIN], payload, &[0x55; MARGIN]] {
        file.write_all(bytes).unwrap();
    }
    Arc::new(Memory::file(file.path()).unwrap())
}

/// Reads the text that Python makes of a numpy header.
fn numpy(text: &str) -> NumpyHeader {
    let parts = text
        .strip_prefix("{'descr': ")
        .and_then(|rest| rest.strip_suffix(")}"))
        .and_then(|rest| rest.split_once(", 'fortran_order': "))
        .and_then(|(descr, rest)| Some((descr, rest.split_once(", 'shape': (")?)));
    let (descr, (order, shape)) = parts.unwrap_or_else(|| panic!("{text}"));
    NumpyHeader {
        descr: descr.into(),
        fortran_order: match order {
            "True" => true,
            "False" => false,
            _ => panic!("{text}"),
        },
        shape: shape
            .split(", ")
            .map(|dimension| dimension.trim_end_matches(','))
            .filter(|dimension| !dimension.is_empty())
            .map(|dimension| dimension.parse().unwrap())
            .collect(),
    }
}

/// `SplitMix64`, by its outputs in little-endian order.
fn bytes(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn fnv1a64(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

const MARGIN: usize = 100;
