//! What Linux is told through raw pointers: message arrays for `sendmmsg(2)`, built once, and the
//! socket options that the crates in use lack.
#![allow(unsafe_code, reason = "message arrays hold pointers, and the calls that read them are C")]

use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::mem;
use std::net::UdpSocket;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use libc::{cmsghdr, iovec, mmsghdr};
use nix::errno::Errno;
use socket2::SockAddr;

use crate::plan::{Order, Run, RunLimits, runs};
use crate::region::{InFlight, Layout, Region};

/// The messages of one batch: an array that is built once, and then handed to the kernel as it is.
pub(super) struct Messages {
    /// All iovecs point into it or its sources, which it keeps alive.
    region: Arc<Region>,
    batch: u32,
    runs: Vec<Run>,
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
        limits: RunLimits,
        destinations: &Arc<[SockAddr]>,
    ) -> Self {
        let plan = region.plan();
        let runs: Vec<Run> = runs(plan.packets(), limits).collect();
        let (iovecs, sources) = match region.layout() {
            Layout::Packed => (runs.len(), 0),
            Layout::Split => (2 * plan.packets().len(), 0),
            Layout::Attached => (2 * plan.packets().len(), plan.heaps() as usize),
        };
        let mut messages = Self {
            headers: Pinned::zeroed(runs.len()),
            iovecs: Pinned::zeroed(iovecs),
            controls: Pinned::zeroed(runs.len()),
            sources: vec![ptr::null(); sources],
            region: region.clone(),
            batch,
            runs,
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

    /// Hands a range of packets, not empty, over in one call. Does not block.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, packets: Range<u32>) -> Outcome {
        let first = self.index(packets.start);
        let last = self.index(packets.end - 1).min(first + MAX_MESSAGES - 1);
        for message in [first, last] {
            let run = &self.runs[message].packets;
            let within = run.start.max(packets.start)..run.end.min(packets.end);
            if within != *run {
                self.cut(message, within);
            }
        }
        let outcome = send(socket, &mut self.headers, first..last + 1);
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
        Self { headers: Pinned::zeroed(MAX_MESSAGES), iovecs: Pinned::zeroed(MAX_MESSAGES) }
    }

    /// Hands a range of packets, not empty, over packet by packet in one call. Does not block.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        of: &Messages,
        packets: Range<u32>,
    ) -> Outcome {
        let count = MAX_MESSAGES.min((packets.end - packets.start) as usize);
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
        let sent = send(socket, &mut self.headers, 0..count)?;
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
) -> Result<usize, Errno> {
    let count = messages.len() as c_uint;
    // SAFETY: the headers are initialised and in bounds, and ours alone: the kernel writes `msg_len`
    // of each. What they point to outlives the call: iovecs, control messages and addresses are in
    // allocations of the arrays that the caller borrows, and the bytes are in the region that these
    // keep alive. The kernel only reads those, and has copied them when the call returns.
    let sent =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.at(messages), count, SEND_FLAGS) };
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

/// An array that stays where it is. It is held by a raw pointer, since a `Box` that is moved
/// asserts that nothing else points into it.
struct Pinned<T>(NonNull<[T]>);

impl<T> Pinned<T> {
    /// An array of zeros: for plain C structures.
    fn zeroed(len: usize) -> Self {
        // SAFETY: private to this file, where `T` is made of integers and pointers.
        let array: Box<[T]> = (0..len).map(|_| unsafe { mem::zeroed() }).collect();
        Self(NonNull::from(Box::leak(array)))
    }

    /// The start of a part of the array.
    fn at(&self, range: Range<usize>) -> *mut T {
        assert!(
            range.start <= range.end && range.end <= self.0.len(),
            "{range:?} is out of bounds"
        );
        self.0.cast::<T>().as_ptr().wrapping_add(range.start)
    }

    fn set(&mut self, index: usize, value: T) {
        // SAFETY: in bounds, and `&mut self` makes it the only access.
        unsafe { self.at(index..index + 1).write(value) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        // SAFETY: it comes from `Box::leak`, and no pointer into it is used any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Sets a socket option.
pub(super) fn set_option(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    set(socket, level, name, &value)
}

/// Reads a socket option.
pub(super) fn option(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `value` has the length that `len` says.
    let result = unsafe {
        let value: *mut c_void = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), level, name, value, &mut len)
    };
    Ok(Errno::result(result).map(|_| value)?)
}

/// Chooses the interface that IPv4 multicast leaves through, by its index: ip(7).
pub(super) fn set_multicast_interface(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let any = libc::in_addr { s_addr: libc::INADDR_ANY };
    let request =
        libc::ip_mreqn { imr_multiaddr: any, imr_address: any, imr_ifindex: index as c_int };
    set(socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &request)
}

fn set<T: Copy>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    let start = ptr::from_ref(value).cast();
    // SAFETY: the kernel reads `len` bytes of `value`, which is as long.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, start, len) };
    Ok(Errno::result(result).map(drop)?)
}

/// The MTU of an interface, from netdevice(7): unlike sysfs, it knows the caller's namespace.
pub(in crate::backend) fn interface_mtu(name: &str) -> io::Result<u32> {
    // SAFETY: a structure of integers, and a union of such and pointers.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays 0 and ends the name.
    for (to, &from) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.as_bytes()) {
        *to = from as _;
    }
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: SIOCGIFMTU reads the name and writes the MTU of a `struct ifreq`.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) };
    Errno::result(result)?;
    // SAFETY: the call has succeeded, and so written this member.
    Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
}

/// Messages that `sendmmsg(2)` takes in a call: UIO_MAXIOV.
const MAX_MESSAGES: usize = 1024;
const SEND_FLAGS: c_int = libc::MSG_DONTWAIT;
