//! Payload that is received in its place, and payload that is not.

use proptest::prelude::*;

use super::*;
use crate::receive::{Window, WindowConfig};
use crate::wire::{HEADER_LEN, ItemPointer, PacketHeader};

/// Does what the kernel does with a message, and the listener after it: bytes go to the pieces of memory
/// in turn.
fn receive(
    window: &mut Window,
    scratch: &mut Scratch,
    substream: usize,
    message: &[u8],
    segment: usize,
) {
    let target = window.target(substream);
    let received = scratch.receive(target, |pieces| {
        let mut rest = message;
        for piece in pieces {
            let (these, others) = rest.split_at(piece.len().min(rest.len()));
            piece[..these.len()].copy_from_slice(these);
            rest = others;
        }
        Ok::<_, std::convert::Infallible>(Extent { len: message.len(), segment })
    });
    let Ok((extent, placement)) = received;
    match placement {
        Reception::InPlace { heads, head_len } => scratch
            .heads
            .chunks_exact(head_len)
            .take(heads)
            .for_each(|it| window.placed(substream, it)),
        Reception::Whole if extent.len == 0 => window.datagram(substream, &[]),
        Reception::Whole => {
            let datagrams = scratch.bytes[..extent.len].chunks(extent.segment);
            datagrams.for_each(|bytes| window.datagram(substream, bytes));
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
fn check_placement(packets: &[Vec<u8>], merges: &[usize]) -> usize {
    let config = WindowConfig { heaps: 2, max_heap_len: 1 << 20, substreams: 1 };
    let (mut copied, mut placed) = (Window::new(config), Window::new(config));
    let mut scratch = Scratch::new();
    let (mut rest, mut merges, mut in_place) = (packets, merges.iter().cycle(), 0);
    while let Some(first) = rest.first() {
        // As the kernel does it: of equal lengths, but for the last, and no more than it may be.
        let room = (MAX_MESSAGE / first.len()).min(merges.next().map_or(1, |it| 1 + it));
        let equal = rest.iter().take(room).take_while(|it| it.len() == first.len()).count();
        let shorter = rest.get(equal).is_some_and(|it| equal < room && it.len() < first.len());
        let (these, others) = rest.split_at(equal + usize::from(shorter));
        these.iter().for_each(|bytes| copied.datagram(0, bytes));
        let whole = placed.target(0).is_some();
        receive(&mut placed, &mut scratch, 0, &these.concat(), first.len());
        in_place += usize::from(whole);
        rest = others;
        while let Some(heap) = copied.take() {
            let other = placed.take().expect("as many heaps");
            assert_eq!(heap.cnt(), other.cnt());
            assert!(heap.items().eq(other.items()), "heap {} has other bytes", heap.cnt());
            copied.give_back(heap);
            placed.give_back(other);
        }
        assert!(placed.take().is_none());
    }
    copied.finish();
    placed.finish();
    assert_eq!(copied.tally(), placed.tally());
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
        check_placement(&packets, &merges);
    }
}

#[test]
fn what_comes_in_order_lands() {
    let packets = stream(4, 100_000, 2000);
    assert!(check_placement(&packets, &[0]) >= 4 * 48, "all but the first two of a heap");
}
