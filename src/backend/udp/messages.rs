//! Message arrays for `sendmmsg(2)`, built once.
#![allow(unsafe_code, reason = "message arrays hold pointers, and the calls that read them are C")]

use std::ffi::{c_int, c_uint};
use std::mem;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::slice;
use std::sync::Arc;

use libc::{cmsghdr, iovec, mmsghdr};
use nix::errno::Errno;
use socket2::SockAddr;

use crate::backend::socket::{MAX_PER_CALL, Pinned, ZeroCopy};
use crate::page::PAGE;
use crate::plan::{Order, Run};
use crate::region::{InFlight, Layout, Pages, Region};

/// The messages of one batch: an array that is built once, and then handed to the kernel as it is.
pub(super) struct Messages {
    /// All iovecs point into it or its sources, which it keeps alive.
    region: Arc<Region>,
    batch: u32,
    runs: Vec<Run>,
    /// Bytes of a message, on average.
    mean_bytes: u32,
    /// Whether messages may be sent without copying.
    zero_copies: bool,
    headers: Pinned<mmsghdr>,
    /// Packed: one a run. Else two a packet, header and payload.
    iovecs: Pinned<iovec>,
    /// One a run.
    controls: Pinned<Control>,
    destinations: Arc<[SockAddr]>,
    /// Attached: what the iovecs of each heap point into.
    sources: Vec<*const u8>,
}

/// What a call took.
#[derive(Debug)]
pub(super) struct Sent {
    /// Messages.
    pub(super) messages: u32,
    /// The packet after the last.
    pub(super) end: u32,
    /// Whether it took fewer messages than it was offered: then something was wrong with the next.
    pub(super) short: bool,
}

impl Messages {
    /// Builds the messages of a batch. `destinations` has one for each flow, or is empty if the
    /// socket is connected.
    pub(super) fn new(
        region: &Arc<Region>,
        batch: u32,
        destinations: &Arc<[SockAddr]>,
        zero_copy: ZeroCopy,
    ) -> Self {
        let plan = region.plan();
        let zero_copies = suits(zero_copy, region);
        let runs = region.arrangement().runs();
        let runs: Vec<Run> = match zero_copies {
            true => runs.iter().flat_map(|run| pinnable(region, batch, run.clone())).collect(),
            false => runs.to_vec(),
        };
        let bytes: u64 = runs.iter().map(|run| u64::from(run.bytes)).sum();
        let (iovecs, sources) = match region.layout() {
            Layout::Packed => (runs.len(), 0),
            Layout::Split => (2 * plan.packets().len(), 0),
            Layout::Attached => (2 * plan.packets().len(), plan.heaps() as usize),
        };
        // SAFETY: structures of integers and pointers, all three.
        let (headers, iovecs, controls) = unsafe {
            (Pinned::zeroed(runs.len()), Pinned::zeroed(iovecs), Pinned::zeroed(runs.len()))
        };
        let mut messages = Self {
            headers,
            iovecs,
            controls,
            sources: vec![ptr::null(); sources],
            region: region.clone(),
            batch,
            mean_bytes: bytes.checked_div(runs.len() as u64).unwrap_or(0) as u32,
            runs,
            zero_copies,
            destinations: destinations.clone(),
        };
        if region.layout() != Layout::Packed {
            for (packet, planned) in plan.packets().iter().enumerate() {
                let (header, payload) = region.packet_addresses(batch, packet as u32);
                messages.iovecs.set(2 * packet, piece(header, planned.header_len as usize));
                messages.iovecs.set(2 * packet + 1, piece(payload, planned.payload_len));
            }
        }
        for message in 0..messages.runs.len() {
            messages.cut(message, messages.runs[message].packets.clone());
        }
        messages
    }

    /// Has a message carry these of its packets, at least one.
    fn cut(&mut self, message: usize, packets: Range<u32>) {
        let run = &self.runs[message];
        let count = packets.end - packets.start;
        let (iovecs, pieces) = match self.region.layout() {
            Layout::Packed => {
                let (start, _) = self.region.packet_addresses(self.batch, packets.start);
                let end = if packets.end == run.packets.end {
                    run.bytes
                } else {
                    (packets.end - run.packets.start) * run.segment
                };
                let bytes = end - (packets.start - run.packets.start) * run.segment;
                self.iovecs.set(message, piece(start, bytes as usize));
                (self.iovecs.at(message..message + 1), 1)
            }
            Layout::Split | Layout::Attached => {
                let iovecs = 2 * packets.start as usize..2 * packets.end as usize;
                (self.iovecs.at(iovecs), 2 * count as usize)
            }
        };
        let mut header = header(&self.destinations, run.flow, iovecs, pieces);
        // A message of one packet is an ordinary one, and cheaper without.
        if count > 1 {
            self.controls.set(message, Control::segment(run.segment));
            header.msg_hdr.msg_control = self.controls.at(message..message + 1).cast();
            header.msg_hdr.msg_controllen = size_of::<Control>() as _;
        }
        self.headers.set(message, header);
    }

    /// Points the iovecs of those heaps of a range that were attached anew to where they are now.
    pub(super) fn follow(&mut self, batch: &InFlight, packets: &Range<u32>) {
        if self.sources.is_empty() || packets.is_empty() {
            return;
        }
        let plan = self.region.plan().clone();
        let heap = |packet: u32| plan.packets()[packet as usize].heap;
        let heaps = match plan.order() {
            Order::Serial => heap(packets.start)..heap(packets.end - 1) + 1,
            Order::RoundRobin => 0..plan.heaps(),
        };
        for heap in heaps.start..heaps.end.min(batch.heaps()) {
            let source = batch.source(heap).as_ptr();
            if mem::replace(&mut self.sources[heap as usize], source) != source {
                for &packet in plan.packets_of(heap) {
                    let planned = &plan.packets()[packet as usize];
                    let payload = source.wrapping_add(planned.payload_offset);
                    let piece = piece(payload, planned.payload_len);
                    self.iovecs.set(2 * packet as usize + 1, piece);
                }
            }
        }
    }

    /// The part of a range, not empty, that is in the message of its first packet.
    pub(super) fn message_at(&self, packets: &Range<u32>) -> Range<u32> {
        let run = &self.runs[self.index(packets.start)];
        packets.start..packets.end.min(run.packets.end)
    }

    fn index(&self, packet: u32) -> usize {
        self.runs.partition_point(|run| run.packets.end <= packet)
    }

    /// Bytes of a message that carries packets of this range, not empty, on average; `None` if it
    /// must be copied.
    pub(super) fn zero_copy_bytes(&self, packets: &Range<u32>) -> Option<u32> {
        let segment = self.runs[self.index(packets.start)].segment;
        let count = packets.end - packets.start;
        self.zero_copies.then(|| self.mean_bytes.min(segment.saturating_mul(count)))
    }

    /// Hands a range of packets, not empty, over in one call. Does not block.
    ///
    /// With `zero_copy`, that is the number of messages it may be, at least one, which the kernel
    /// reads until it says otherwise.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        packets: Range<u32>,
        zero_copy: Option<u32>,
    ) -> Outcome {
        let most = zero_copy.map_or(MAX_PER_CALL, |most| MAX_PER_CALL.min(most as usize));
        let first = self.index(packets.start);
        let last = self.index(packets.end - 1).min(first + most - 1);
        for message in [first, last] {
            let run = &self.runs[message].packets;
            let within = run.start.max(packets.start)..run.end.min(packets.end);
            if within != *run {
                self.cut(message, within);
            }
        }
        let flags = if zero_copy.is_some() { libc::MSG_ZEROCOPY } else { 0 };
        let outcome = send(socket, &mut self.headers, first..last + 1, flags);
        for message in [first, last] {
            let run = &self.runs[message].packets;
            if run.start < packets.start || run.end > packets.end {
                self.cut(message, run.clone());
            }
        }
        outcome.map(|sent| {
            let run = &self.runs[first + sent - 1].packets;
            Sent {
                messages: sent as u32,
                end: run.end.min(packets.end),
                short: first + sent <= last,
            }
        })
    }
}

// SAFETY: the pointers lead to arrays of its own, and to memory that the region keeps alive and that
// any thread may read; nothing is bound to a thread.
unsafe impl Send for Messages {}

/// Messages of one packet each, filled in when needed: for packets whose own message the kernel did
/// not segment.
pub(super) struct Singles {
    headers: Pinned<mmsghdr>,
    iovecs: Pinned<iovec>,
}

impl Singles {
    pub(super) fn new() -> Self {
        // SAFETY: structures of integers and pointers, both.
        unsafe {
            Self { headers: Pinned::zeroed(MAX_PER_CALL), iovecs: Pinned::zeroed(MAX_PER_CALL) }
        }
    }

    /// Hands a range of packets, not empty, over packet by packet in one call. Does not block.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        of: &Messages,
        packets: Range<u32>,
    ) -> Outcome {
        let count = MAX_PER_CALL.min((packets.end - packets.start) as usize);
        for (message, packet) in (packets.start..packets.end).take(count).enumerate() {
            let planned = &of.region.plan().packets()[packet as usize];
            let (iovecs, pieces) = match of.region.layout() {
                Layout::Packed => {
                    let (start, _) = of.region.packet_addresses(of.batch, packet);
                    self.iovecs.set(message, piece(start, planned.len()));
                    (self.iovecs.at(message..message + 1), 1)
                }
                Layout::Split | Layout::Attached => {
                    (of.iovecs.at(2 * packet as usize..2 * packet as usize + 2), 2)
                }
            };
            self.headers.set(message, header(&of.destinations, planned.flow, iovecs, pieces));
        }
        let sent = send(socket, &mut self.headers, 0..count, 0)?;
        Ok(Sent { messages: sent as u32, end: packets.start + sent as u32, short: sent < count })
    }
}

// SAFETY: each call fills in the pointers that it uses.
unsafe impl Send for Singles {}

/// What was sent, at least one message, or why the first was not.
pub(super) type Outcome = Result<Sent, Errno>;

/// Sends messages, and says how many; at least one.
fn send(
    socket: BorrowedFd<'_>,
    headers: &mut Pinned<mmsghdr>,
    messages: Range<usize>,
    flags: c_int,
) -> Result<usize, Errno> {
    let count = messages.len() as c_uint;
    // SAFETY: the headers are initialised and in bounds, and ours alone: the kernel writes `msg_len`
    // of each. What they point to outlives the call: iovecs, control messages and addresses are in
    // allocations of the arrays that the caller borrows, and the bytes are in the region that these
    // keep alive. The kernel only reads those, and has copied all but the bytes when the call
    // returns; the bytes too, unless the flags say otherwise. Then it holds their pages itself.
    let sent = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), headers.at(messages), count, SEND_FLAGS | flags)
    };
    Errno::result(sent).map(|sent| sent as usize)
}

fn header(destinations: &[SockAddr], flow: u32, iovecs: *mut iovec, pieces: usize) -> mmsghdr {
    // SAFETY: a structure of integers and pointers, all of which may be zero.
    let mut header: mmsghdr = unsafe { mem::zeroed() };
    if let Some(destination) = destinations.get(flow as usize) {
        header.msg_hdr.msg_name = destination.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = destination.len();
    }
    header.msg_hdr.msg_iov = iovecs;
    header.msg_hdr.msg_iovlen = pieces as _;
    header
}

/// Sends, without copying, a message of more segments than the kernel takes, and says what that says
/// of it. If that is EINVAL, it has counted it, and notified of it.
///
/// `udp_send_skb()` of Linux's `net/ipv4/udp.c` finds that out when the message is made, and counted:
/// nothing is ever sent.
pub(super) fn send_unsendable(socket: BorrowedFd<'_>, name: Option<&SockAddr>) -> Errno {
    let mut piece = piece(UNSENDABLE.as_ptr(), UNSENDABLE.len());
    let destinations = name.map_or(&[][..], slice::from_ref);
    let mut header = header(destinations, 0, &raw mut piece, 1).msg_hdr;
    let mut control = Control::segment(1);
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<Control>() as _;
    let flags = SEND_FLAGS | libc::MSG_ZEROCOPY;
    // SAFETY: the header points to locals that outlive the call, and to bytes that never change.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &header, flags) };
    Errno::result(sent).err().unwrap_or(Errno::UnknownErrno)
}

/// Whether batches of a region may be sent without copying. Payload apart from its headers is at
/// least two fragments a packet: on ordinary pages, so few packets then fit a message that copying is
/// faster, and what pages a file is on is not known.
fn suits(zero_copy: ZeroCopy, region: &Region) -> bool {
    let packets = region.plan().packets();
    match (zero_copy, region.layout()) {
        (ZeroCopy::Off, _) => false,
        (ZeroCopy::On, _) | (ZeroCopy::Auto, Layout::Packed) => true,
        (ZeroCopy::Auto, Layout::Split) => {
            matches!(region.memory().pages(), Pages::Huge(_))
                && packets.first().is_some_and(|packet| packet.payload_len >= LONG_PAYLOAD)
        }
        (ZeroCopy::Auto, Layout::Attached) => false,
    }
}

/// Cuts a run into parts whose memory an skb has fragments for.
fn pinnable(region: &Region, batch: u32, run: Run) -> impl Iterator<Item = Run> {
    let page = match region.memory().pages() {
        Pages::Anonymous(size) | Pages::Huge(size) => size,
        // Those that are transparent may be split under memory pressure.
        Pages::Transparent(_) | Pages::File | Pages::Foreign => PAGE,
    };
    let touched = move |start: *const u8, len: usize| (start.addr() % page + len).div_ceil(page);
    let cost = move |packet: u32| {
        let planned = &region.plan().packets()[packet as usize];
        let (header, payload) = region.packet_addresses(batch, packet);
        let header = touched(header, planned.header_len as usize);
        match region.layout() {
            // One piece for all.
            Layout::Packed => 0,
            Layout::Split => header + touched(payload, planned.payload_len),
            // Wherever it will be.
            Layout::Attached => header + 1 + planned.payload_len.div_ceil(PAGE),
        }
    };
    let mut next = run.packets.start;
    std::iter::from_fn(move || {
        let start = next;
        if start == run.packets.end {
            return None;
        }
        let mut fragments = 0;
        while next < run.packets.end {
            fragments += cost(next);
            if fragments > MAX_FRAGMENTS && next > start {
                break;
            }
            next += 1;
        }
        let before = |packet: u32| match packet == run.packets.end {
            true => run.bytes,
            false => (packet - run.packets.start) * run.segment,
        };
        Some(Run { packets: start..next, bytes: before(next) - before(start), ..run.clone() })
    })
}

fn piece(start: *const u8, bytes: usize) -> iovec {
    iovec { iov_base: start.cast_mut().cast(), iov_len: bytes }
}

/// A control message that says how long the segments of a message are: udp(7), `UDP_SEGMENT`.
#[repr(C)]
struct Control {
    header: cmsghdr,
    segment: u16,
}

impl Control {
    fn segment(bytes: u32) -> Self {
        // SAFETY: a structure of integers.
        let mut control: Self = unsafe { mem::zeroed() };
        control.header.cmsg_len = (size_of::<cmsghdr>() + size_of::<u16>()) as _;
        control.header.cmsg_level = libc::SOL_UDP;
        control.header.cmsg_type = libc::UDP_SEGMENT;
        // A message is shorter than 64 KiB, and a segment than its message.
        control.segment = bytes as u16;
        control
    }
}

// CMSG_SPACE and CMSG_LEN of cmsg(3) round up to the alignment of `cmsghdr`, as `repr(C)` does.
const _: () = assert!(size_of::<Control>().is_multiple_of(align_of::<cmsghdr>()));
const _: () = assert!(mem::offset_of!(Control, segment) == size_of::<cmsghdr>());

const SEND_FLAGS: c_int = libc::MSG_DONTWAIT;
/// MAX_SKB_FRAGS, unless the kernel was made for more.
const MAX_FRAGMENTS: usize = 17;
/// Measured: see `docs/gso.md`.
const LONG_PAYLOAD: usize = 8000;
/// More segments of a byte than any kernel takes.
static UNSENDABLE: [u8; 4096] = [0; 4096];
