//! What must hold whatever arrives: bodies of fuzz targets, which the tests run, too.

use super::catalogue::Catalogue;
use super::heap::Content;
use super::item_type::ItemType;
use super::landing::{Extent, Lies, Scratch};
use super::window::{Window, WindowConfig};
use crate::wire::Descriptor;

/// Takes `bytes` for packets, each after two bytes that say how long it is, and reads all that comes
/// of them. Every other packet is offered its place in a heap.
///
/// # Panics
///
/// If what a packet says is trusted: memory beyond the bounds of the window, or a heap handed out
/// twice.
pub fn arbitrary_packets(bytes: &[u8]) {
    let config = WindowConfig { heaps: 4, max_heap_len: 1 << 16, substreams: 2 };
    let mut window = Window::new(config);
    let mut catalogue = Catalogue::default();
    let mut scratch = Scratch::new();
    let mut held = Vec::new();
    let mut rest = bytes;
    while let Some((&len, after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes(len));
        let (packet, after) = after.split_at(len.min(after.len()));
        match rest.len() % 2 {
            0 => window.datagram(len % 2, packet),
            _ => land(&mut window, &mut scratch, len % 2, packet, packet.len().max(1)),
        }
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

/// Does what the kernel does with a message, and the listener after it: bytes go to the pieces of memory
/// in turn.
fn land(
    window: &mut Window,
    scratch: &mut Scratch,
    substream: usize,
    message: &[u8],
    segment: usize,
) {
    let landing = window.landing(substream);
    let received = scratch.receive(landing, |pieces| {
        let mut rest = message;
        for piece in pieces {
            let (these, others) = rest.split_at(piece.len().min(rest.len()));
            piece[..these.len()].copy_from_slice(these);
            rest = others;
        }
        Ok::<_, std::convert::Infallible>(Extent { len: message.len(), segment })
    });
    let Ok((extent, lies)) = received;
    match lies {
        Lies::Landed { heads, head_len } => scratch
            .heads
            .chunks_exact(head_len)
            .take(heads)
            .for_each(|it| window.landed(substream, it)),
        Lies::Whole if extent.len == 0 => window.datagram(substream, &[]),
        Lies::Whole => {
            let datagrams = scratch.bytes[..extent.len].chunks(extent.segment);
            datagrams.for_each(|bytes| window.datagram(substream, bytes));
        }
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

    /// The packets of a few heaps, `payload` bytes each but the last of a heap.
    fn stream(heaps: u64, len: usize, payload: usize) -> Vec<Vec<u8>> {
        let flavour = Flavour::SPEAD_64_40;
        let packet = |cnt: u64, offset: usize| {
            let data = payload.min(len - offset);
            let mut packet = vec![0; HEADER_LEN];
            PacketHeader {
                flavour,
                item_pointers: 1,
                heap_cnt: cnt,
                heap_length: len as u64,
                payload_offset: offset as u64,
                payload_length: data as u64,
            }
            .emit(&mut packet);
            packet.extend(ItemPointer::addressed(flavour, 0x3300, 0).to_be_bytes());
            packet.extend((offset..offset + data).map(|at| (at / 7) as u8 ^ cnt as u8));
            packet
        };
        (1..=heaps)
            .flat_map(|cnt| (0..len).step_by(payload).map(move |offset| packet(cnt, offset)))
            .collect()
    }

    /// Whether it lands in its place or is copied there makes no difference, in order or out of it,
    /// merged by the kernel or not, twice or never.
    fn check_landing(packets: &[Vec<u8>], merges: &[usize]) -> usize {
        let config = WindowConfig { heaps: 2, max_heap_len: 1 << 20, substreams: 1 };
        let (mut copied, mut landed) = (Window::new(config), Window::new(config));
        let mut scratch = Scratch::new();
        let (mut rest, mut merges, mut in_place) = (packets, merges.iter().cycle(), 0);
        while let Some(first) = rest.first() {
            // As the kernel does it: of equal lengths, but for the last, and no more than it may be.
            let room = (super::super::landing::MAX_MESSAGE / first.len())
                .min(merges.next().map_or(1, |it| 1 + it));
            let equal = rest.iter().take(room).take_while(|it| it.len() == first.len()).count();
            let shorter = rest.get(equal).is_some_and(|it| equal < room && it.len() < first.len());
            let (these, others) = rest.split_at(equal + usize::from(shorter));
            these.iter().for_each(|bytes| copied.datagram(0, bytes));
            let whole = landed.landing(0).is_some();
            land(&mut landed, &mut scratch, 0, &these.concat(), first.len());
            in_place += usize::from(whole);
            rest = others;
            while let Some(heap) = copied.take() {
                let other = landed.take().expect("as many heaps");
                assert_eq!(heap.cnt(), other.cnt());
                assert!(heap.items().eq(other.items()), "heap {} has other bytes", heap.cnt());
                copied.give_back(heap);
                landed.give_back(other);
            }
            assert!(landed.take().is_none());
        }
        copied.finish();
        landed.finish();
        assert_eq!(copied.tally(), landed.tally());
        in_place
    }

    proptest! {
        #[test]
        fn landing_is_as_good_as_copying(
            payload in 1024_usize..9000, len in 1_usize..60_000,
            merges in prop::collection::vec(0_usize..9, 1..8),
            // What happens to which packet: it is lost, comes twice, or changes places with another.
            accidents in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..4), 0..6),
        ) {
            let mut packets = stream(5, len, payload);
            for (at, other, kind) in accidents {
                let (at, other) = (at.index(packets.len()), other.index(packets.len()));
                match kind {
                    0 if packets.len() > 1 => drop(packets.remove(at)),
                    1 => packets.insert(other, packets[at].clone()),
                    2 => packets[at][9 + other % 40] ^= 1,
                    _ => packets.swap(at, other),
                }
            }
            check_landing(&packets, &merges);
        }
    }

    #[test]
    fn what_comes_in_order_lands() {
        let packets = stream(4, 100_000, 2000);
        assert!(check_landing(&packets, &[0]) >= 4 * 48, "all but the first two of a heap");
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
