//! What must hold whatever arrives: bodies of fuzz targets, which the tests run, too.

use super::catalogue::Catalogue;
use super::heap::Content;
use super::item_type::ItemType;
use super::picture::Picture;
use super::window::{Window, WindowConfig};
use crate::wire::Descriptor;

/// Takes `bytes` for packets, each after two bytes that say how long it is, and reads all that comes
/// of them.
///
/// # Panics
///
/// If what a packet says is trusted: memory beyond the bounds of the window, or a heap handed out
/// twice.
pub fn arbitrary_packets(bytes: &[u8]) {
    let config = WindowConfig { heaps: 4, max_heap_len: 1 << 16, substreams: 2 };
    let mut window = Window::new(config);
    let mut catalogue = Catalogue::default();
    let mut held = Vec::new();
    let mut rest = bytes;
    while let Some((&len, after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes(len));
        let (packet, after) = after.split_at(len.min(after.len()));
        window.datagram(len % 2, packet);
        rest = after;
        while let Some(heap) = window.take() {
            catalogue.learn(&heap);
            for (id, content) in heap.items() {
                read(&catalogue, id, content);
            }
            held.push(heap);
        }
        // Twice the longest heap in the window, twice handed out, and what one datagram lets out.
        let (memory, bound) = (window.memory(), 6 * config.max_heap_len);
        assert!(memory <= bound, "{memory} bytes are held, where {bound} may be");
        if window.is_exhausted() {
            held.drain(..).for_each(|heap| window.give_back(heap));
        }
    }
    window.finish();
    while let Some(heap) = window.take() {
        window.give_back(heap);
    }
    let tally = window.tally();
    assert!(tally.heaps + tally.incomplete <= tally.packets);
}

/// Takes the first bytes for a descriptor, and the rest for an item that it describes.
///
/// # Panics
///
/// If a frame is larger than eight times the item, which is what the widest element is to a bit.
pub fn arbitrary_descriptor(descriptor: &[u8], item: &[u8]) {
    let Ok(descriptor) = Descriptor::decode(descriptor) else { return };
    let Ok(item_type) = ItemType::of(&descriptor) else { return };
    for content in [Content::Addressed(item), Content::Immediate(item.len() as u64)] {
        check(&item_type, content);
    }
}

fn read(catalogue: &Catalogue, id: u64, content: Content<'_>) {
    if let Some(item) = catalogue.item(id)
        && let Ok(item_type) = &item.item_type
    {
        check(item_type, content);
    }
}

fn check(item_type: &ItemType, content: Content<'_>) {
    let Ok(frame) = item_type.frame(content) else { return };
    let len = match content {
        Content::Addressed(bytes) => bytes.len(),
        Content::Immediate(_) => size_of::<u64>(),
    };
    assert!(frame.bytes.len() <= 8 * len, "{len} bytes became {}", frame.bytes.len());
    let _ = frame.scaled(2.0, 1.0);
    let _ = Picture::of(&frame);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Field, Flavour, HEADER_LEN, ItemPointer, NumpyHeader, PacketHeader, item};

    prop_compose! {
        /// Packets that are nearly right, so that something comes of them.
        fn packets()(
            cnt in 0_u64..6,
            heap_length in prop_oneof![0_u64..300, Just(1 << 16), any::<u64>()],
            offset in prop_oneof![0_u64..300, any::<u64>()],
            ids in prop::collection::vec((prop_oneof![Just(5_u64), Just(6), 0_u64..0x20], any::<bool>(), 0_u64..300), 0..6),
            payload in prop::collection::vec(any::<u8>(), 0..300),
            fits: bool,
        ) -> Vec<u8> {
            let flavour = Flavour::SPEAD_64_40;
            let (offset, heap_length) = match fits {
                true => (0, payload.len() as u64),
                false => (offset, heap_length),
            };
            let header = PacketHeader {
                flavour, item_pointers: ids.len() as u16, heap_cnt: cnt, heap_length,
                payload_offset: offset, payload_length: payload.len() as u64,
            };
            let mut packet = vec![0; HEADER_LEN];
            header.emit(&mut packet);
            for (id, immediate, value) in ids {
                let pointer = match immediate {
                    true => ItemPointer::immediate(flavour, id, value),
                    false => ItemPointer::addressed(flavour, id, value),
                };
                packet.extend(pointer.to_be_bytes());
            }
            packet.extend(payload);
            packet
        }
    }

    fn framed(packets: &[Vec<u8>]) -> Vec<u8> {
        packets.iter().flat_map(|it| [&(it.len() as u16).to_le_bytes()[..], it].concat()).collect()
    }

    proptest! {
        #[test]
        fn packets_of_any_kind(packets in prop::collection::vec(packets(), 0..40)) {
            arbitrary_packets(&framed(&packets));
        }

        #[test]
        fn bytes_of_any_kind(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            arbitrary_packets(&bytes);
        }

        /// A heap length may be missing, and everything else be wrong with a packet as well.
        #[test]
        fn packets_that_were_damaged(
            mut packets in prop::collection::vec(packets(), 1..20),
            damage in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..120, any::<u8>()), 0..40),
        ) {
            for (packet, at, byte) in damage {
                let packet = packet.get(&packets).clone().into_iter().enumerate()
                    .map(|(index, old)| if index == at { byte } else { old }).collect();
                packets.push(packet);
            }
            arbitrary_packets(&framed(&packets));
        }

        #[test]
        fn descriptors_of_any_kind(
            codes in prop::collection::vec((prop::sample::select(&b"uifbcx"[..]), prop_oneof![0_u32..70, any::<u32>()]), 0..4),
            shape in prop::collection::vec(prop_oneof![
                Just(None), (0_u64..5).prop_map(Some), any::<u64>().prop_map(Some)
            ], 0..4),
            numpy in prop::option::of((
                "'[<>|][uifbcSUVO][0-9]{1,3}'|\\[\\('a', '<f4'\\), \\('b', '\\|V[0-9]'\\)\\]",
                any::<bool>(),
                prop::collection::vec(prop_oneof![0_u64..5, any::<u64>()], 0..4),
            )),
            data in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let descriptor = Descriptor {
                id: 1,
                format: codes.into_iter().map(|(code, bits)| Field::new(code, bits)).collect(),
                shape,
                numpy_header: numpy.map(|(descr, fortran_order, shape)| NumpyHeader { descr, fortran_order, shape }),
                ..Descriptor::default()
            };
            // What is on the wire need not be what a sender of ours would encode.
            if let Ok(item_type) = ItemType::of(&descriptor) {
                check(&item_type, Content::Addressed(&data));
                check(&item_type, Content::Immediate(data.len() as u64));
            }
            if let Ok(bytes) = descriptor.encode(Flavour::SPEAD_64_40) {
                arbitrary_descriptor(&bytes, &data);
            }
        }
    }

    /// A packet without a heap length, which may claim any offset.
    #[test]
    fn no_heap_length_is_no_heap() {
        let mut packet = vec![0; HEADER_LEN];
        let flavour = Flavour::SPEAD_64_40;
        PacketHeader {
            flavour,
            item_pointers: 0,
            heap_cnt: 1,
            heap_length: 9,
            payload_offset: 9,
            payload_length: 0,
        }
        .emit(&mut packet);
        let other = ItemPointer::immediate(flavour, item::STREAM_CTRL, 0).to_be_bytes();
        packet[16..24].copy_from_slice(&other);
        let length = ItemPointer::immediate(flavour, item::PAYLOAD_LENGTH, 4).to_be_bytes();
        packet[32..40].copy_from_slice(&length);
        packet.extend([1, 2, 3, 4]);
        arbitrary_packets(&framed(&[packet.clone(), packet]));
    }
}
