//! The plan itself.

use std::ops::Range;

use super::order::Order;
use super::shape::Shape;
use crate::wire::Flavour;

/// The immutable geometry of a batch.
///
/// ```
/// use doorbell::plan::{HeapSpec, PacketSize, Plan};
/// use doorbell::wire::Flavour;
///
/// let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, 16384);
/// let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Uniform { limit: 8972 })
///     .heaps(&heap, 32)
///     .build()?;
/// assert_eq!(plan.packets().len(), 64);
/// assert!(plan.packets().iter().all(|packet| packet.len() == 8240));
/// # Ok::<(), doorbell::plan::PlanError>(())
/// ```
#[derive(Debug)]
pub struct Plan {
    flavour: Flavour,
    order: Order,
    flows: u32,
    shapes: Vec<Shape>,
    shape_of_heap: Vec<u32>,
    packets: Vec<PlannedPacket>,
    /// The heap of each packet once more, dense, for what is done at every send.
    heap_of_packet: Vec<u32>,
    /// The packets heap by heap, and where in that list each heap starts.
    packets_by_heap: Vec<u32>,
    first_of_heap: Vec<u32>,
    /// Bytes of SPEAD of all packets.
    bytes: u64,
}

fn bytes(packets: &[PlannedPacket]) -> u64 {
    packets.iter().map(|packet| packet.len() as u64).sum()
}

/// One packet of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedPacket {
    /// Which heap of the batch it is part of.
    pub heap: u32,
    /// Which packet of its heap it is.
    pub index: u32,
    /// Where it goes.
    pub flow: u32,
    /// Bytes of SPEAD header, item pointers included; a multiple of 8.
    pub header_len: u32,
    /// Where in the heap's payload its own starts, in bytes.
    pub payload_offset: usize,
    /// Bytes of payload, at least 1.
    pub payload_len: usize,
}

impl PlannedPacket {
    /// Bytes of SPEAD: header and payload. That is a UDP datagram's payload.
    #[expect(clippy::len_without_is_empty, reason = "a packet has a header, and is never empty")]
    pub fn len(&self) -> usize {
        self.header_len as usize + self.payload_len
    }
}

impl Plan {
    pub(super) fn new(
        flavour: Flavour,
        order: Order,
        flows: u32,
        shapes: Vec<Shape>,
        shape_of_heap: Vec<u32>,
        packets: Vec<PlannedPacket>,
    ) -> Self {
        let mut packets_by_heap: Vec<u32> = (0..packets.len() as u32).collect();
        packets_by_heap.sort_by_key(|&packet| packets[packet as usize].heap);
        let mut next = 0;
        let first_of_heap = shape_of_heap
            .iter()
            .map(|&shape| {
                let first = next;
                next += shapes[shape as usize].packets.len() as u32;
                first
            })
            .collect();
        Self {
            flavour,
            order,
            flows,
            heap_of_packet: packets.iter().map(|packet| packet.heap).collect(),
            bytes: bytes(&packets),
            shapes,
            shape_of_heap,
            packets,
            packets_by_heap,
            first_of_heap,
        }
    }

    /// How item pointers are divided.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// The order of the packets.
    pub fn order(&self) -> Order {
        self.order
    }

    /// Number of destinations.
    pub fn flows(&self) -> u32 {
        self.flows
    }

    /// Heaps of a whole batch.
    pub fn heaps(&self) -> u32 {
        self.shape_of_heap.len() as u32
    }

    /// The packets, in the order in which they go out.
    pub fn packets(&self) -> &[PlannedPacket] {
        &self.packets
    }

    /// Packets of one heap.
    pub fn packets_of_heap(&self, heap: u32) -> u32 {
        self.shape(heap).packets.len() as u32
    }

    /// Payload bytes of one heap, those that are the same in every heap and padding included.
    pub fn heap_len(&self, heap: u32) -> usize {
        self.shape(heap).payload_len
    }

    /// The packets of the first `heaps` heaps, as ranges of [`Plan::packets`].
    ///
    /// One range for each flow in serial order; round robin takes one for each round that the other
    /// heaps take part in.
    pub fn packets_of_first(&self, heaps: u32) -> impl Iterator<Item = Range<u32>> + '_ {
        std::iter::successors(self.next_packets(heaps, 0), move |range| {
            self.next_packets(heaps, range.end)
        })
    }

    /// Bytes of SPEAD that the first `heaps` heaps have, headers included.
    pub fn bytes_of_first(&self, heaps: u32) -> u64 {
        if heaps >= self.heaps() {
            return self.bytes;
        }
        let ranges = self.packets_of_first(heaps);
        ranges.map(|range| bytes(&self.packets[range.start as usize..range.end as usize])).sum()
    }

    /// The first range of packets of the first `heaps` heaps that is not before packet `from`.
    pub(crate) fn next_packets(&self, heaps: u32, from: u32) -> Option<Range<u32>> {
        let rest = &self.heap_of_packet[from as usize..];
        if heaps >= self.heaps() {
            return (!rest.is_empty()).then(|| from..from + rest.len() as u32);
        }
        let start = rest.iter().position(|&heap| heap < heaps)?;
        let len = rest[start..].iter().position(|&heap| heap >= heaps);
        let end = len.map_or(rest.len(), |len| start + len);
        Some(from + start as u32..from + end as u32)
    }

    #[inline]
    pub(crate) fn shape(&self, heap: u32) -> &Shape {
        &self.shapes[self.shape_of_heap[heap as usize] as usize]
    }

    /// Where in [`Plan::packets`] the packets of a heap are.
    #[inline]
    pub(crate) fn packets_of(&self, heap: u32) -> &[u32] {
        let first = self.first_of_heap[heap as usize] as usize;
        &self.packets_by_heap[first..first + self.shape(heap).packets.len()]
    }

    /// Header of a packet with heap cnt 0.
    pub(crate) fn header(&self, packet: &PlannedPacket) -> &[u8] {
        let shape = self.shape(packet.heap);
        &shape.headers[shape.packets[packet.index as usize].header.clone()]
    }

    pub(crate) fn heap_of_packet(&self) -> &[u32] {
        &self.heap_of_packet
    }
}
