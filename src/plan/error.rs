//! Why heaps cannot be planned.

use thiserror::Error;

use super::shape::{MAX_PACKET_SIZE, MAX_PACKETS, MIN_ID};
use crate::wire::{DescriptorError, Flavour, MIN_PACKET_SIZE};

/// Why heaps cannot be planned. Each error names the item or the setting at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A batch of no heaps.
    #[error("a batch needs at least one heap")]
    NoHeaps,
    /// A plan without destinations.
    #[error("a plan needs at least one flow")]
    NoFlows,
    /// A packet must hold a header, an item pointer and some payload, and fit a UDP datagram.
    #[error("packet size {size} is not in {MIN_PACKET_SIZE}..={MAX_PACKET_SIZE}, what UDP carries")]
    PacketSize {
        /// The size asked for, in bytes of SPEAD.
        size: usize,
    },
    /// All pointers in every packet, and they do not fit.
    #[error(
        "{items} item pointers do not fit a packet of {size} bytes, as repeat_pointers asks for: \
         the packet size must be at least {needed}"
    )]
    RepeatPointers {
        /// Item pointers of the heap.
        items: usize,
        /// The packet size, in bytes of SPEAD.
        size: usize,
        /// The smallest size that would do.
        needed: usize,
    },
    /// An identifier that the flavour cannot express, or that is of each packet's header.
    #[error("item {id:#x}: the identifiers of items in SPEAD-{flavour} are {MIN_ID:#x} to {max:#x}", max = flavour.max_id())]
    Id {
        /// The identifier.
        id: u64,
        /// The flavour.
        flavour: Flavour,
    },
    /// An immediate that the flavour cannot express.
    #[error("item {id:#x}: {value} exceeds the immediates of SPEAD-{flavour}, which end at {max}", max = flavour.max_value())]
    Immediate {
        /// The item.
        id: u64,
        /// Its value.
        value: u64,
        /// The flavour.
        flavour: Flavour,
    },
    /// A descriptor cannot be encoded.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// A heap longer than the flavour's addresses reach.
    #[error("a heap of {size} bytes exceeds the addresses of SPEAD-{flavour}, which end at {max}", max = flavour.max_value())]
    HeapSize {
        /// Payload bytes of the heap.
        size: u64,
        /// The flavour.
        flavour: Flavour,
    },
    /// More packets than are counted.
    #[error("the batch has more than {MAX_PACKETS} packets: put fewer heaps into it")]
    TooManyPackets,
}
