//! RDMA: one doorbell for each batch.
//!
//! The device takes whole Ethernet frames from registered memory, to ordinary UDP receivers, by raw packet
//! queue pairs; or messages to other queues, by those for unreliable datagrams. Work
//! requests are linked when a region is registered; a post cuts the chain where it ends, and hands
//! it over with one `ibv_post_send(3)`.
#![allow(unsafe_code, reason = "verbs are C, and take pointers")]

mod chain;
mod completions;
mod config;
mod context;
mod datagram;
pub mod device;
mod device_list;
mod error;
mod memory;
mod presence;
mod queue;
mod queue_address;
mod receive;
mod registered;
mod resolve;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ibverbs_dl as sys;

pub(crate) use self::config::NAME;
pub use self::config::{CompletionMode, Datagrams, Flows, VerbsConfig};
use self::context::Context;
pub use self::context::DeviceCaps;
use self::datagram::AddressHandle;
use self::error::{Failure, explain};
use self::presence::Presence;
use self::queue::{QueueKind, QueuePair};
pub use self::queue_address::QueueAddress;
pub use self::receive::{DatagramReceiver, DatagramRequest};
use self::registered::{REGION_SHIFT, Registered};
pub use self::resolve::VerbsRequest;
use super::wait::Wait;
use super::{
    Backend, Caps, Counters, Done, MAX_UDP_PAYLOAD, OpenError, SendError, anonymous_memory,
};
use crate::pacer::Rate;
use crate::region::{Arrangement, Batch, InFlight, Memory, Region, Slot};
use crate::wire::Endpoints;

/// Sends frames through a raw packet queue pair, or messages through one for unreliable datagrams.
pub struct Verbs {
    /// First, so that it is dropped first: from then on the device reads no memory.
    pair: QueuePair,
    /// The ways to the queues of datagrams.
    handles: Vec<AddressHandle>,
    /// Then the memory is deregistered, and let go.
    registered: Vec<Registered>,
    context: Arc<Context>,
    config: VerbsConfig,
    device_caps: DeviceCaps,
    caps: Caps,
    counters: Counters,
    /// What was posted, in order, and is not done.
    posted: VecDeque<Posted>,
    /// What came back unsent after an error, to be posted again.
    flushed: VecDeque<Posted>,
    health: Health,
    /// How often the queue pair was restarted since a packet was last sent, and what a post that
    /// was refused was told.
    restarts: u32,
    refused: Option<i32>,
    /// Whether the last post was short.
    is_short: bool,
    /// Payload that was looked at for a checksum and lies in no frame.
    payload: Vec<u8>,
    link_is_up: bool,
    presence: Presence,
    done: Vec<Done>,
    completions: Box<[sys::ibv_wc; COMPLETIONS]>,
    last_progress: Instant,
}

/// Packets of one post.
#[derive(Clone, Debug)]
struct Posted {
    registered: usize,
    slot: Slot,
    packets: Range<u32>,
    /// Why it may be lost whatever the device reports: the link went down.
    doubt: Option<SendError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Sending,
    /// The queue pair is in error: what is queued comes back, then it is restarted.
    Draining,
    /// As `Draining`, but what comes back is given up: the device did not answer for too long.
    GivingUp,
}

impl Verbs {
    /// Opens a device, and makes a queue on it.
    ///
    /// # Errors
    ///
    /// If there is no libibverbs, no such device, no permission, or the device has no raw packet
    /// queue pairs; the error says which.
    pub fn open(config: VerbsConfig) -> Result<Self, OpenError> {
        let step = |step| {
            let device = config.device.clone();
            move |error: io::Error| OpenError::new(step, device, explain(error))
        };
        sys::load().map_err(|error| OpenError::new("load libibverbs", &config.device, error))?;
        let context = Context::open(&config.device).map_err(step("open the device"))?;
        let device_caps = context.caps().map_err(step("query the device"))?;
        if !context.port_is_active(config.port).map_err(step("query the port"))? {
            let down = "the link is down; is the cable plugged in, and the interface up?";
            return Err(OpenError::new("query the port", &config.device, down));
        }
        if config.flows.is_empty() {
            return Err(OpenError::new("find the way", &config.device, "no destination"));
        }
        let (kind, most, overhead, creating) = match &config.flows {
            Flows::Frames(_) => (
                QueueKind::Raw,
                device_caps.depth(config.pieces),
                config.flows.placement().headroom,
                "create a raw packet queue pair",
            ),
            Flows::Datagrams(datagrams) => (
                QueueKind::Datagram,
                device_caps.datagram_depth(),
                datagrams.overhead,
                "create a datagram queue pair",
            ),
        };
        let depth = config.depth.clamp(1, most);
        let pair = QueuePair::new(&context, config.port, kind, depth, config.pieces)
            .map_err(step(creating))?;
        let handles = match &config.flows {
            Flows::Frames(_) => Vec::new(),
            Flows::Datagrams(datagrams) => AddressHandle::all(&context, config.port, datagrams)?,
        };
        let presence = Presence::of(&context);
        let caps = Caps {
            placement: config.flows.placement(),
            overhead,
            max_in_flight: depth,
            flows: config.flows.len() as u32,
            ..Caps::new(NAME)
        };
        Ok(Self {
            pair,
            handles,
            registered: Vec::new(),
            context,
            device_caps,
            caps,
            counters: Counters::default(),
            posted: VecDeque::with_capacity(depth as usize),
            flushed: VecDeque::new(),
            health: Health::Sending,
            restarts: 0,
            refused: None,
            is_short: false,
            payload: Vec::with_capacity(MAX_UDP_PAYLOAD as usize),
            link_is_up: true,
            presence,
            done: Vec::with_capacity(DONE),
            // SAFETY: plain data, for which zeros are valid.
            completions: Box::new(unsafe { std::mem::zeroed() }),
            last_progress: Instant::now(),
            config,
        })
    }

    /// Packets of this many pieces that a queue on the device can hold.
    ///
    /// # Errors
    ///
    /// If the device cannot be opened.
    pub fn depth(config: &VerbsConfig, pieces: u32) -> io::Result<u32> {
        let caps = Context::open(&config.device)?.caps()?;
        Ok(match config.flows {
            Flows::Frames(_) => caps.depth(pieces),
            Flows::Datagrams(_) => caps.datagram_depth(),
        })
    }

    /// Writes checksums where they are needed. UDP over IPv6 needs one (RFC 8200, 8.1), and so a look
    /// at every byte, unless the NIC fills it in.
    fn write_checksums(&mut self, batch: &mut InFlight, packets: Range<u32>) {
        let Flows::Frames(headers) = &self.config.flows else { return };
        if self.device_caps.checksum_offload {
            return;
        }
        for packet in packets {
            let flow = batch.region().plan().packets()[packet as usize].flow;
            let header = &headers[flow as usize];
            // All flows are of one family.
            let Endpoints::V6 { .. } = header.endpoints else { return };
            let bytes = batch.packet(packet);
            bytes.tail.read_into(&mut self.payload);
            let checksum = header.udp_checksum(&[bytes.head, &self.payload]);
            header
                .set_udp_checksum(checksum, batch.headroom(packet))
                .expect("the header was emitted into the same headroom");
        }
    }

    /// Rings the doorbell for packets whose frames are complete. Returns how many were taken.
    fn ring(&mut self, post: Posted) -> u32 {
        let chain = &mut self.registered[post.registered].chains[post.slot.batch as usize];
        let pair = &mut self.pair;
        self.counters.doorbells += 1;
        let asked = post.packets.len() as u32;
        let start = post.packets.start;
        // SAFETY: the chain names memory of the region and its sources, registered until after the
        // queue pair is destroyed; and the batch is in flight until all of it is done, so that
        // nobody writes it.
        let taken = match chain.cut(post.packets.clone(), |first| unsafe { pair.post(first) }) {
            Ok(()) => asked,
            Err((bad, errno)) => {
                // Slots are counted above, so this is the device's trouble, not ours. If it has none
                // left and nothing is queued that would free one, waiting does not help.
                if errno != libc::ENOMEM || self.posted.is_empty() {
                    self.health = Health::Draining;
                    self.refused = Some(errno);
                }
                tracing::debug!(errno, "ibv_post_send took only some of a batch");
                chain.index_of(bad).map_or(0, |index| index.saturating_sub(start).min(asked))
            }
        };
        self.counters.waits += u64::from(taken < asked);
        if taken > 0 {
            self.counters.messages += u64::from(taken);
            self.counters.packets += u64::from(taken);
            let doubt = (!self.link_is_up).then(|| Failure::LinkDown.into());
            self.posted.push_back(Posted { packets: start..start + taken, doubt, ..post });
        }
        taken
    }
}

// SAFETY: packets are done when the device says so, and the queue pair, on whose behalf it reads
// memory, is destroyed first of all.
unsafe impl Backend for Verbs {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn allocate(&mut self, arrangement: &Arrangement, batches: u32) -> Result<Memory, OpenError> {
        anonymous_memory(NAME, arrangement, batches)
    }

    fn register(&mut self, region: &Arc<Region>, batches: &mut [Batch]) -> Result<(), OpenError> {
        self.caps.check(region)?;
        let error =
            |source| OpenError::new("register memory", &self.config.device, explain(source));
        let mut flags = 0;
        if let Flows::Frames(headers) = &self.config.flows {
            for batch in batches {
                for (packet, planned) in (0..).zip(region.plan().packets()) {
                    headers[planned.flow as usize]
                        .emit(planned.len(), batch.headroom(packet))
                        .map_err(|source| {
                            OpenError::new("build frames", &self.config.device, source)
                        })?;
                }
            }
            if self.device_caps.checksum_offload {
                flags = sys::ibv_send_flags::IBV_SEND_IP_CSUM.0;
            }
        }
        if region.batches() > MOST_BATCHES || self.registered.len() >= MOST_REGIONS {
            let many = format!("{MOST_BATCHES} batches of {MOST_REGIONS} regions are the most");
            return Err(OpenError::new("register memory", &self.config.device, many));
        }
        let id = (self.registered.len() as u64) << REGION_SHIFT;
        let mut registered = Registered::new(&self.context, region, id, flags).map_err(error)?;
        if let Flows::Datagrams(datagrams) = &self.config.flows {
            registered.address(&self.handles, &datagrams.queues);
        }
        self.registered.push(registered);
        Ok(())
    }

    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError> {
        self.is_short = true;
        if self.health != Health::Sending || !self.flushed.is_empty() {
            self.collect()?;
            if self.health != Health::Sending || !self.flushed.is_empty() {
                return Ok(0);
            }
        }
        let slot = batch.slot();
        let of_slot = |known: &Registered| known.region.id() == slot.region;
        let Some(registered) = self.registered.iter().position(of_slot) else {
            return Err(SendError::Unregistered);
        };
        self.registered[registered].follow_attachments(batch);
        self.write_checksums(batch, packets.clone());
        if !self.link_is_up {
            self.check_link()?;
        }
        if !self.link_is_up {
            let posted = packets.len() as u32;
            self.is_short = false;
            Done { slot, packets, error: Some(Failure::LinkDown.into()) }.join(&mut self.done);
            return Ok(posted);
        }
        if self.posted.is_empty() {
            self.last_progress = Instant::now();
        }
        let asked = packets.len() as u32;
        let taken = self.ring(Posted { registered, slot, packets, doubt: None });
        self.is_short = taken < asked;
        Ok(taken)
    }

    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError> {
        self.collect()?;
        done.append(&mut self.done);
        Ok(())
    }

    fn prepare_wait(&mut self, wait: &mut Wait) -> Result<(), SendError> {
        self.check_progress()?;
        if self.posted.is_empty() {
            // Nothing comes back, so what can be done is done by the next poll or post.
            let can_do = self.health != Health::Sending || !self.flushed.is_empty();
            if can_do || self.is_short || !self.done.is_empty() {
                wait.not_at_all();
            }
            return Ok(());
        }
        let idle = self.last_progress.elapsed();
        match self.config.completion {
            CompletionMode::Event { spin } if idle >= spin => {}
            CompletionMode::Event { .. } | CompletionMode::Poll => {
                std::hint::spin_loop();
                wait.not_at_all();
                return Ok(());
            }
        }
        self.pair.completions.arm().map_err(failed("ibv_req_notify_cq"))?;
        // What came before the queue was armed wakes nobody.
        self.collect()?;
        if !self.done.is_empty() || self.posted.is_empty() {
            wait.not_at_all();
            return Ok(());
        }
        wait.descriptor(&self.pair.completions, libc::POLLIN);
        wait.at_most(STALL.saturating_sub(idle));
        Ok(())
    }

    fn pace(&mut self, rate: Rate) -> Result<bool, SendError> {
        let Some((min, max)) = self.device_caps.pacing_kbps else { return Ok(false) };
        let kbps = u32::try_from(rate.bits_per_second / 1000).unwrap_or(u32::MAX);
        if !(min..=max).contains(&kbps) {
            return Ok(false);
        }
        // A device that knows no bursts refuses them.
        self.pair
            .limit_rate(kbps, rate.burst)
            .or_else(|_| self.pair.limit_rate(kbps, 0))
            .map_err(failed("ibv_modify_qp_rate_limit"))?;
        Ok(true)
    }

    fn unacknowledged(&mut self) -> Result<u64, SendError> {
        Ok(0)
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

fn failed(call: &'static str) -> impl Fn(io::Error) -> SendError {
    move |error| SendError::Os { call, errno: error.raw_os_error().unwrap_or(0) }
}

/// Completions taken off the queue at once.
const COMPLETIONS: usize = 16;
/// Posts rarely come back in more parts.
const DONE: usize = 64;
/// Room that identifiers of work requests have.
const MOST_BATCHES: u32 = 1 << 16;
const MOST_REGIONS: usize = 1 << 16;
/// A device that refuses all packets will go on to.
const RESTARTS: u32 = 3;
/// With a link that is up, a queue drains in milliseconds.
const STALL: Duration = Duration::from_secs(5);
