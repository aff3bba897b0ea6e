//! A region as a device knows it: memory registered, frames stamped, work requests linked.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use ibverbs_dl as sys;

use super::chain::Chain;
use super::context::Context;
use super::datagram::AddressHandle;
use super::memory::MemoryRegion;
use super::queue_address::QueueAddress;
use crate::region::{InFlight, Layout, MappedBytes, Memory, Region};

/// A region as a device knows it.
pub(super) struct Registered {
    pub(super) region: Arc<Region>,
    /// One for each batch.
    pub(super) chains: Vec<Chain>,
    /// What each heap of each batch was attached to at the last post.
    attached: Vec<*const u8>,
    /// How the device reaches what heaps are attached to; empty unless they are.
    sources: Vec<Source>,
    _headers: MemoryRegion,
}

// SAFETY: the pointers in `attached` are compared, never read.
unsafe impl Send for Registered {}

/// How the device reaches a source.
enum Source {
    /// Where it lies.
    Direct(MemoryRegion),
    /// By a copy of what is sent: kernels before 6.2 pin read-only mappings of files only for reading
    /// *and* writing, and so refuse them.
    Copied(Staging),
}

/// Memory for one copy of the payload of each batch.
struct Staging {
    memory: Arc<Memory>,
    registered: MemoryRegion,
    bytes_per_batch: usize,
}

impl Registered {
    /// Registers all memory, and links the work requests: those of the first batch have the
    /// identifiers from `id` on, those of each further batch start 2^32 after.
    pub(super) fn new(
        context: &Arc<Context>,
        region: &Arc<Region>,
        id: u64,
        flags: u32,
    ) -> io::Result<Self> {
        let memory = region.memory();
        // SAFETY: the region owns the mapping, and is kept.
        let headers = unsafe {
            MemoryRegion::register(context, memory.as_ptr(), memory.len(), region.clone())?
        };
        let sources = region
            .sources()
            .iter()
            .map(|source| Source::register(context, source, region))
            .collect::<io::Result<Vec<_>>>()?;
        let key = headers.key();
        let chains = (0..region.batches())
            .map(|batch| {
                let (pieces, per_request) = pieces(region, batch, key);
                let id = id | u64::from(batch) << BATCH_SHIFT;
                Chain::link(pieces, per_request, id, flags)
            })
            .collect();
        let attachments = match region.layout() {
            Layout::Attached => (region.plan().heaps() * region.batches()) as usize,
            Layout::Packed | Layout::Split => 0,
        };
        Ok(Self {
            region: region.clone(),
            chains,
            attached: vec![std::ptr::null(); attachments],
            sources,
            _headers: headers,
        })
    }

    /// Addresses the work requests, those of each flow to its queue.
    pub(super) fn address(&mut self, handles: &[AddressHandle], queues: &[QueueAddress]) {
        for chain in &mut self.chains {
            for (request, packet) in self.region.plan().packets().iter().enumerate() {
                let flow = packet.flow as usize;
                chain.address(request, handles[flow].as_ptr(), &queues[flow]);
            }
        }
    }

    /// Points the work requests of attached heaps at their payload, where that is not as it was.
    pub(super) fn follow_attachments(&mut self, batch: &InFlight) {
        if self.region.layout() != Layout::Attached {
            return;
        }
        let plan = self.region.plan();
        let slot = batch.slot().batch;
        let mut staged = 0;
        for heap in 0..batch.heaps() {
            let payload = batch.source(heap);
            let (start, key) = match &mut self.sources[batch.source_index(heap) as usize] {
                Source::Direct(memory) => (payload.as_ptr(), memory.key()),
                Source::Copied(staging) => {
                    let start = staging.copy(slot, staged, payload);
                    (start, staging.registered.key())
                }
            };
            staged += payload.len();
            let known = &mut self.attached[(slot * plan.heaps() + heap) as usize];
            if *known == start {
                continue;
            }
            *known = start;
            for &packet in plan.packets_of(heap) {
                let offset = plan.packets()[packet as usize].payload_offset;
                let chain = &mut self.chains[slot as usize];
                chain.point(packet as usize, start.wrapping_add(offset), key);
            }
        }
    }
}

impl Source {
    fn register(
        context: &Arc<Context>,
        source: &Arc<Memory>,
        region: &Arc<Region>,
    ) -> io::Result<Self> {
        // SAFETY: the source owns the mapping, and is kept.
        let direct = unsafe {
            MemoryRegion::register(context, source.as_ptr(), source.len(), source.clone())
        };
        let refused = match direct {
            Ok(registered) => {
                tracing::debug!(bytes = source.len(), "a mapping is registered where it lies");
                return Ok(Self::Direct(registered));
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => return Err(error),
            Err(error) => error,
        };
        let plan = region.plan();
        let bytes_per_batch = (0..plan.heaps()).map(|heap| plan.heap_len(heap)).sum();
        let len = bytes_per_batch * region.batches() as usize;
        tracing::warn!(
            "a read-only mapping cannot be registered here ({refused}): payload is copied to {len} \
             bytes of memory that can"
        );
        let memory = Arc::new(Memory::anonymous(len).map_err(io::Error::other)?);
        // SAFETY: the memory owns its mapping, and is kept.
        let registered = unsafe {
            MemoryRegion::register(context, memory.as_ptr(), memory.len(), memory.clone())?
        };
        Ok(Self::Copied(Staging { memory, registered, bytes_per_batch }))
    }
}

impl Staging {
    /// Copies the payload of a heap to its place in a batch, and returns where that is.
    fn copy(&mut self, batch: u32, offset: usize, payload: MappedBytes<'_>) -> *const u8 {
        let place = batch as usize * self.bytes_per_batch + offset;
        assert!(place + payload.len() <= self.memory.len());
        let place = self.memory.as_ptr().wrapping_add(place);
        // SAFETY: the payload can be read, and its bytes are passed on whatever they are; the place is
        // within the mapping, which is anonymous, so writable, and used here alone. The batch is not in
        // flight yet, so the device does not read its part.
        unsafe { payload.as_ptr().copy_to_nonoverlapping(place.cast_mut(), payload.len()) };
        place
    }
}

/// The pieces of all packets of a batch, and how many each has.
fn pieces(region: &Region, batch: u32, key: u32) -> (Vec<sys::ibv_sge>, usize) {
    let headroom = region.arrangement().placement().headroom;
    let piece = |address: *const u8, length: usize| sys::ibv_sge {
        addr: address as u64,
        length: length as u32,
        lkey: key,
    };
    let packets = region.plan().packets().iter().zip(0..);
    let pieces = packets.flat_map(|(planned, packet)| {
        let (header, payload) = region.packet_addresses(batch, packet);
        let frame = header.wrapping_sub(headroom);
        let header_len = headroom + planned.header_len as usize;
        match region.layout() {
            Layout::Packed => [Some(piece(frame, header_len + planned.payload_len)), None],
            Layout::Split | Layout::Attached => {
                [Some(piece(frame, header_len)), Some(piece(payload, planned.payload_len))]
            }
        }
    });
    let pieces: Vec<_> = pieces.flatten().collect();
    let per_request = if region.layout() == Layout::Packed { 1 } else { 2 };
    (pieces, per_request)
}

/// Which packets of a plan go with an identifier.
pub(super) fn identify(id: u64) -> (usize, Range<u32>, u32) {
    let packet = id as u32;
    let batch = (id >> BATCH_SHIFT) as u16;
    ((id >> REGION_SHIFT) as usize, packet..packet + 1, u32::from(batch))
}

/// Identifiers of work requests: 16 bits for the region, 16 for the batch, 32 for the packet.
pub(super) const REGION_SHIFT: u32 = 48;
const BATCH_SHIFT: u32 = 32;
