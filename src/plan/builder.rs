//! From heap specifications to a plan.

use super::error::PlanError;
use super::heap::HeapSpec;
use super::order::Order;
use super::packets::{Plan, PlannedPacket};
use super::shape::{MAX_PACKETS, Shape};
use crate::wire::Flavour;

/// How large packets are, in bytes of SPEAD: Ethernet, IP and UDP headers come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketSize {
    /// The largest size within the limit for which all packets of a heap are equal.
    ///
    /// Equal packets make runs that span heaps, and the kernel takes 64 of them in one message. If
    /// no cut into the fewest packets or one more is equal, some of the last packets carry a padding
    /// item pointer of eight bytes, which receivers skip. Where the heap's length is no multiple of
    /// eight that does not help either: then packets are cut as by [`PacketSize::Exact`].
    Uniform {
        /// The largest packet; rounded down to a multiple of 8.
        limit: usize,
    },
    /// As spead2 cuts: every packet but the last is as large as can be, the size being rounded down
    /// to a multiple of 8.
    Exact(usize),
}

/// Collects what a [`Plan`] is made of.
#[derive(Clone, Debug)]
pub struct PlanBuilder {
    flavour: Flavour,
    packet_size: PacketSize,
    repeat_pointers: bool,
    order: Order,
    flows: u32,
    heaps: Vec<(HeapSpec, usize)>,
}

impl Plan {
    /// Starts a plan. See [`PlanBuilder`] for what else can be said.
    pub fn builder(flavour: Flavour, packet_size: PacketSize) -> PlanBuilder {
        PlanBuilder::new(flavour, packet_size)
    }
}

impl PlanBuilder {
    fn new(flavour: Flavour, packet_size: PacketSize) -> Self {
        Self {
            flavour,
            packet_size,
            repeat_pointers: false,
            order: Order::Serial,
            flows: 1,
            heaps: Vec::new(),
        }
    }

    /// Adds `count` heaps of one kind.
    pub fn heaps(mut self, spec: &HeapSpec, count: usize) -> Self {
        self.heaps.push((spec.clone(), count));
        self
    }

    /// Deals the heaps out to this many flows in turn: heap `i` of the batch goes to `i % flows`.
    pub fn flows(mut self, flows: u32) -> Self {
        self.flows = flows;
        self
    }

    /// Whether every packet carries all item pointers of its heap, so that a receiver which lost
    /// the first packet can still tell what the others are.
    pub fn repeat_pointers(mut self, repeat: bool) -> Self {
        self.repeat_pointers = repeat;
        self
    }

    /// In which order the packets of the batch go out.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Cuts the heaps into packets.
    ///
    /// # Errors
    ///
    /// If an item or the packet size is not what the flavour or the protocol allows; see
    /// [`PlanError`].
    pub fn build(self) -> Result<Plan, PlanError> {
        if self.flows == 0 {
            return Err(PlanError::NoFlows);
        }
        let mut shapes = Vec::with_capacity(self.heaps.len());
        let mut shape_of_heap = Vec::new();
        let mut packet_count = 0;
        for (spec, count) in &self.heaps {
            let shape = match self.packet_size {
                PacketSize::Uniform { limit } => {
                    Shape::uniform(spec, self.flavour, limit, self.repeat_pointers)
                }
                PacketSize::Exact(size) => {
                    Shape::exact(spec, self.flavour, size, self.repeat_pointers)
                }
            }?;
            packet_count = shape
                .packets
                .len()
                .checked_mul(*count)
                .and_then(|packets| packets.checked_add(packet_count))
                .filter(|&packets| packets <= MAX_PACKETS)
                .ok_or(PlanError::TooManyPackets)?;
            shape_of_heap.resize(shape_of_heap.len() + count, shapes.len() as u32);
            shapes.push(shape);
        }
        if shape_of_heap.is_empty() {
            return Err(PlanError::NoHeaps);
        }

        let mut packets = Vec::with_capacity(packet_count);
        let mut push = |heap: usize, index: usize| {
            let shape = &shapes[shape_of_heap[heap] as usize];
            let Some(packet) = shape.packets.get(index) else { return };
            packets.push(PlannedPacket {
                heap: heap as u32,
                index: index as u32,
                flow: heap as u32 % self.flows,
                header_len: packet.header.len() as u32,
                payload_offset: packet.payload.start,
                payload_len: packet.payload.len(),
            });
        };
        match self.order {
            Order::Serial => {
                // Packets to one destination share a message; those to several never do.
                for flow in 0..self.flows as usize {
                    for heap in (flow..shape_of_heap.len()).step_by(self.flows as usize) {
                        let packets = shapes[shape_of_heap[heap] as usize].packets.len();
                        (0..packets).for_each(|index| push(heap, index));
                    }
                }
            }
            Order::RoundRobin => {
                let rounds = shapes.iter().map(|shape| shape.packets.len()).max().unwrap_or(0);
                for index in 0..rounds {
                    (0..shape_of_heap.len()).for_each(|heap| push(heap, index));
                }
            }
        }
        Ok(Plan::new(self.flavour, self.order, self.flows, shapes, shape_of_heap, packets))
    }
}
