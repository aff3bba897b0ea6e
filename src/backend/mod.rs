//! Ways onto the wire.
//!
//! A backend is chosen at run time, so the trait is object-safe: a call through it costs under a
//! nanosecond, and there is one for each batch. What is done for each packet is inside `post`.

mod error;
pub mod fault;
pub mod interface;
pub mod neighbour;
pub mod null;
pub mod pcap;
pub(crate) mod socket;
pub mod tcp;
pub mod udp;
pub mod verbs;
pub mod wait;

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

pub use self::error::{OpenError, SendError};
use self::wait::Wait;
#[doc(hidden)]
pub use self::{neighbour::arbitrary_reply, socket::arbitrary_notice};
use crate::pacer::Rate;
use crate::region::{Arrangement, Batch, InFlight, Memory, Placement, Region, Slot};
use crate::wire::{EtherType, FrameHeader, ip_udp_header_len, max_payload_len};

/// A way onto the wire.
///
/// # Safety
///
/// An implementation reads the memory of a batch that was posted to it only until it has said
/// [`Done`], exactly once, for all packets posted, and not after it is dropped. It never writes it, except for the
/// headroom of packets that are not posted.
#[expect(unsafe_code, reason = "memory safety rests on when a backend stops reading")]
pub unsafe trait Backend: Send {
    /// What the backend needs of a region, and what it can do.
    fn caps(&self) -> Caps;

    /// Memory for `batches` batches that lie so: [`Memory::anonymous`], unless the backend has its own.
    ///
    /// # Errors
    ///
    /// If there is none.
    fn allocate(&mut self, arrangement: &Arrangement, batches: u32) -> Result<Memory, OpenError>;

    /// Prepares for the batches of a region, which are all idle, whatever sending needs, once:
    /// headers of lower protocols, message arrays, work requests. Keeps the region alive.
    ///
    /// # Errors
    ///
    /// If the region does not suit the backend, or the device has no room.
    fn register(&mut self, region: &Arc<Region>, batches: &mut [Batch]) -> Result<(), OpenError>;

    /// Hands packets over, with one doorbell, and returns how many, counted from the first.
    ///
    /// They start where a run of [`Caps::placement`] does, wherever there is something between runs, and end within
    /// one only if its rest is not to be sent at all: a part of a batch. None may be left over in the middle of
    /// such a run.
    ///
    /// That may be fewer than asked for, or none: then [`Backend::prepare_wait`] says what the rest is to
    /// wait for. All that were handed over will be [`Done`], in whatever outcome.
    ///
    /// # Errors
    ///
    /// If nothing more can be sent at all. Errors of single packets come with their [`Done`].
    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError>;

    /// Adds what is done since the last call to `done`. Does not block.
    ///
    /// # Errors
    ///
    /// If nothing more will be done.
    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError>;

    /// Says what ends a wait for a post or a poll that may do something: [`Wait::block`], which follows
    /// before anything else is asked of the backend. Does not block.
    ///
    /// - Where the last post was short, something that is said here ends the wait once the rest may go;
    ///   where packets are not done, once some may be.
    /// - What comes between this call and the wait ends the wait, too: a descriptor stays ready until it
    ///   is looked at, and whatever is announced but once is armed here, then looked for once more.
    /// - What a poll would tell at once is a reason for [`Wait::not_at_all`], except of the batch whose
    ///   post was short: that cannot be complete.
    /// - The next poll takes in whatever ended the wait, then a post finds the room that there is; or the
    ///   next call of this looks. No descriptor stays ready for what nobody takes off it.
    /// - If nothing is said, nothing changes by itself: the wait may take for ever.
    ///
    /// # Errors
    ///
    /// As [`Backend::poll`].
    fn prepare_wait(&mut self, wait: &mut Wait) -> Result<(), SendError>;

    /// Asks that the hardware keep to a rate. True if it does from now on; false if it has no pacing.
    ///
    /// # Errors
    ///
    /// If the hardware has pacing, and refuses this rate.
    fn pace(&mut self, rate: Rate) -> Result<bool, SendError>;

    /// Bytes that were sent and that the other side has yet to acknowledge, where the protocol has it say so;
    /// 0 where it does not. What has gone down with a connection is no part of them. Takes note of whatever
    /// else has come back. Does not block.
    ///
    /// # Errors
    ///
    /// As [`Backend::poll`].
    fn unacknowledged(&mut self) -> Result<u64, SendError>;

    /// What was done since the backend was opened.
    fn counters(&self) -> Counters;
}

/// What a backend needs of a region, and what it can do. Fields may be added: begin with [`Caps::new`].
///
/// ```
/// use doorbell::backend::Caps;
///
/// let caps = Caps { flows: 2, ..Caps::new("mine") };
/// assert_eq!(caps.placement.headroom, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Name, as in `--backend`.
    pub name: &'static str,
    /// How packets are to lie.
    pub placement: Placement,
    /// Bytes that Ethernet, IP and UDP headers add to each packet.
    pub overhead: usize,
    /// Packets that may be posted and not done, over all batches.
    pub max_in_flight: u32,
    /// Number of destinations.
    pub flows: u32,
    /// Whether the other side may hold packets back for as long as it likes, and is there all the same: then
    /// time alone is no reason to give them up.
    pub flow_control: bool,
}

impl Caps {
    /// The capabilities of a backend that sends packets one by one, over IPv4, to one destination,
    /// and needs no headroom.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            placement: Placement::ADJACENT,
            overhead: FrameHeader::len_for(EtherType::Ipv4, None),
            max_in_flight: u32::MAX,
            flows: 1,
            flow_control: false,
        }
    }

    /// Whether a region was made for such a backend: a step of [`Backend::register`].
    ///
    /// # Errors
    ///
    /// If its plan has more flows than there are destinations, or its packets lie in another way.
    pub fn check(&self, region: &Region) -> Result<(), OpenError> {
        let error = |source: String| Err(OpenError::new("register a region", self.name, source));
        let (flows, placement) = (region.plan().flows(), region.arrangement().placement());
        if flows > self.flows {
            return error(format!(
                "the plan has {flows} flows, and there are destinations for {}",
                self.flows
            ));
        }
        if placement != self.placement {
            return error(format!(
                "packets must lie as its `caps` have it, {:?}, and lie so: {placement:?}",
                self.placement
            ));
        }
        Ok(())
    }
}

/// Packets that a backend no longer reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The batch.
    pub slot: Slot,
    /// Which of its packets.
    pub packets: Range<u32>,
    /// Why they did not go out, if so.
    pub error: Option<SendError>,
}

impl Done {
    /// Adds this to a list, as a part of the last entry if it goes on from there: so that the list
    /// stays short however small the posts.
    pub(crate) fn join(self, list: &mut Vec<Self>) {
        match list.last_mut() {
            Some(last)
                if last.slot == self.slot
                    && last.packets.end == self.packets.start
                    && last.error == self.error =>
            {
                last.packets.end = self.packets.end;
            }
            _ => list.push(self),
        }
    }
}

/// What a backend has done so far. Fields may be added: begin with [`Counters::default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls that handed packets over: `sendmmsg(2)`, `sendmsg(2)`, `ibv_post_send(3)`.
    pub doorbells: u64,
    /// Messages: UDP segmentation offload makes several packets of one.
    pub messages: u64,
    /// Packets.
    pub packets: u64,
    /// Messages that the kernel refused to segment, and that were sent packet by packet instead.
    pub segmentation_refused: u64,
    /// Times that the backend had no room, and was waited for.
    pub waits: u64,
    /// Messages of ICMP that came back about packets sent, such as that nobody listens.
    pub icmp_errors: u64,
    /// Messages that were sent from where they lie: `MSG_ZEROCOPY`.
    pub uncopied: u64,
    /// Messages that were to be sent from there, and that the kernel copied anyway.
    pub copied: u64,
    /// Connections that were made anew: TCP.
    pub reconnects: u64,
    /// Bytes that the kernel took and the other side had not acknowledged at the last
    /// [`Backend::unacknowledged`], with those that have gone down with a connection: TCP.
    pub unacknowledged: u64,
}

/// Memory of the kernel's for batches, as most backends have it: see [`Backend::allocate`].
///
/// # Errors
///
/// If there is none.
pub fn anonymous_memory(
    backend: &str,
    arrangement: &Arrangement,
    batches: u32,
) -> Result<Memory, OpenError> {
    let len = arrangement.batch_len().saturating_mul(batches as usize);
    Memory::anonymous(len).map_err(|source| OpenError::new("allocate memory", backend, source))
}

/// The largest packet, in bytes of SPEAD, that goes to `destination` unfragmented where the MTU of
/// the route, which counts the headers of IP and UDP, is `mtu`.
pub fn max_packet_size(mtu: u32, destination: IpAddr) -> usize {
    let headers = ip_udp_header_len(EtherType::of(destination)) as u32;
    mtu.saturating_sub(headers).min(MAX_UDP_PAYLOAD) as usize
}

/// The payload of the largest UDP datagram over IPv4: 65,535 less 20 and 8 bytes of headers. The
/// kernel holds messages that it is to segment to the same bound.
pub const MAX_UDP_PAYLOAD: u32 = max_payload_len(EtherType::Ipv4) as u32;
