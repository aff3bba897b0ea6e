//! What the kernel takes at most: messages made ready once, handed to `sendmmsg(2)` again and again, with
//! no protocol work at all.
//!
//! `cargo bench --bench ceiling -- packed 192.0.2.1:7148 8192 1472 1` sends the packets of heaps of 8192
//! bytes, of at most 1472 bytes each, for a second, and prints GB/s of payload as JSON. The packets are
//! those of a plan, so that `benches/cost.rs` sends the same ones.
#![allow(unsafe_code, reason = "sendmmsg and recvmmsg take pointers")]
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbell::backend::MAX_UDP_PAYLOAD;
use doorbell::plan::{HeapSpec, PacketSize, Plan, RunLimits, runs};
use doorbell::wire::Flavour;
use libc::{c_int, c_void, cmsghdr, iovec, mmsghdr};
use memmap2::{Advice, MmapMut, MmapOptions};
use nix::sys::resource::{UsageWho, getrusage};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [layout, to, heap_len, limit, seconds, segments @ ..] = arguments.as_slice() else {
        // `cargo bench` and `cargo test --benches` run it without arguments.
        println!(
            "usage: ceiling split|packed[-zerocopy] HOST:PORT HEAP-SIZE PACKET-LIMIT SECONDS [PACKETS-PER-MESSAGE]"
        );
        return Ok(());
    };
    let (packed, zero_copy) = match layout.as_str() {
        "packed" => (true, false),
        "packed-zerocopy" => (true, true),
        "split" => (false, false),
        "split-zerocopy" => (false, true),
        other => return Err(format!("no such layout: {other}").into()),
    };
    let segments = segments.first().map_or(Ok(MAX_SEGMENTS), |segments| segments.parse())?;
    let (heap_len, limit): (usize, usize) = (heap_len.parse()?, limit.parse()?);
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let to: SocketAddr = to.parse()?;
    let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, heap_len);
    let heaps = (BATCH_BYTES / heap_len).max(1);
    let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Uniform { limit })
        .heaps(&heap, heaps)
        .build()
        .map(Arc::new)?;

    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(to)?;
    let any_size = 4 << 20;
    // Without privilege, the limit of the system stands.
    let _ = set(&socket, libc::SO_SNDBUFFORCE, any_size);
    if zero_copy {
        set(&socket, libc::SO_ZEROCOPY, 1)?;
    }
    let mut messages = Messages::new(&plan, packed, zero_copy, segments)?;
    let flags = if zero_copy { libc::MSG_ZEROCOPY } else { 0 };

    // Until caches and clocks are warm.
    messages.send_for(&socket, flags, seconds / 10)?;
    let (start, cpu) = (Instant::now(), cpu_time()?);
    let batches = messages.send_for(&socket, flags, seconds)?;
    let (elapsed, cpu) = (start.elapsed(), cpu_time()? - cpu);
    let bytes = batches * (heaps * heap_len) as u64;
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
    println!(
        "{}",
        serde_json::json!({
            "layout": layout, "heap": heap_len, "limit": limit,
            "gb_per_s": rate(elapsed), "gb_per_cpu_s": rate(cpu),
            "packets": batches * plan.packets().len() as u64,
            "messages": batches * messages.headers.len() as u64,
            "packet": plan.packets()[0].len(),
        })
    );
    Ok(())
}

/// The messages of a batch.
struct Messages {
    headers: Vec<mmsghdr>,
    /// What the headers point to.
    _pieces: Vec<iovec>,
    _controls: Vec<Segment>,
    _bytes: MmapMut,
    outstanding: u32,
}

impl Messages {
    fn new(
        plan: &Plan,
        packed: bool,
        zero_copy: bool,
        segments: u32,
    ) -> Result<Self, Box<dyn Error>> {
        let packets = plan.packets();
        let total: usize = packets.iter().map(|packet| packet.len()).sum();
        let header_bytes: usize = packets.iter().map(|packet| packet.header_len as usize).sum();
        let mut bytes = map(total)?;
        bytes.fill(7);
        // An skb has room for 17 fragments, MAX_SKB_FRAGS, each of a page: header and payload of a
        // packet take at least two.
        let fragments = 2 + packets[0].payload_len.div_ceil(PAGE);
        let segments = match zero_copy && !packed {
            true => segments.min((MAX_FRAGMENTS / fragments).max(1) as u32),
            false => segments,
        };
        let limits = RunLimits { segments, bytes: MAX_UDP_PAYLOAD };
        let start = bytes.as_mut_ptr();
        let (mut at, mut header_at) = (if packed { 0 } else { header_bytes }, 0);
        let (mut pieces, mut controls, mut lens) = (Vec::new(), Vec::new(), Vec::new());
        let piece =
            |at: usize, len| iovec { iov_base: start.wrapping_add(at).cast(), iov_len: len };
        for run in runs(packets, limits) {
            let before = pieces.len();
            if packed {
                pieces.push(piece(at, run.bytes as usize));
                at += run.bytes as usize;
            } else {
                for packet in run.packets.clone() {
                    let packet = &packets[packet as usize];
                    pieces.push(piece(header_at, packet.header_len as usize));
                    pieces.push(piece(at, packet.payload_len));
                    header_at += packet.header_len as usize;
                    at += packet.payload_len;
                }
            }
            lens.push(pieces.len() - before);
            let several = run.packets.len() > 1;
            controls.push(Segment::of(if several { run.segment as u16 } else { 0 }));
        }
        let mut next = 0;
        let headers = lens.iter().zip(&mut controls).map(|(&len, control)| {
            // SAFETY: a structure of integers and pointers.
            let mut header: mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_iov = pieces[next..].as_mut_ptr();
            header.msg_hdr.msg_iovlen = len as _;
            // One packet is an ordinary message.
            if control.bytes > 0 {
                header.msg_hdr.msg_control = (&raw mut *control).cast();
                header.msg_hdr.msg_controllen = size_of::<Segment>() as _;
            }
            next += len;
            header
        });
        let headers = headers.collect();
        Ok(Self { headers, _pieces: pieces, _controls: controls, _bytes: bytes, outstanding: 0 })
    }

    /// Sends all of them as often as time allows, and says how often.
    fn send_for(&mut self, socket: &UdpSocket, flags: c_int, time: Duration) -> io::Result<u64> {
        let start = Instant::now();
        let mut batches = 0;
        while start.elapsed() < time {
            let mut next = 0;
            while next < self.headers.len() {
                let count = MESSAGES_PER_CALL.min(self.headers.len() - next);
                let first = &raw mut self.headers[next];
                // SAFETY: `count` headers are in bounds, and all that they point to is alive.
                let sent =
                    unsafe { libc::sendmmsg(socket.as_raw_fd(), first, count as u32, flags) };
                if sent < 0 {
                    return Err(io::Error::last_os_error());
                }
                next += sent as usize;
                if flags & libc::MSG_ZEROCOPY != 0 {
                    self.outstanding += sent as u32;
                    while self.outstanding > MAX_OUTSTANDING {
                        self.outstanding -= notified(socket)?;
                    }
                }
            }
            batches += 1;
        }
        Ok(batches)
    }
}

/// Takes a notification, if there is one, and says of how many messages it tells.
fn notified(socket: &UdpSocket) -> io::Result<u32> {
    // SAFETY: structures of integers and pointers.
    let (mut header, mut control): (libc::msghdr, [u64; 16]) = unsafe { mem::zeroed() };
    header.msg_control = control.as_mut_ptr().cast::<c_void>();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the control buffer is as long as said, and there are no others.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) } < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) };
    }
    // SAFETY: the kernel has filled the control buffer in: a header, and a sock_extended_err.
    let error = unsafe {
        let control = libc::CMSG_FIRSTHDR(&header);
        assert!(!control.is_null(), "an entry of the error queue says what it is about");
        libc::CMSG_DATA(control).cast::<libc::sock_extended_err>().read_unaligned()
    };
    assert_eq!(error.ee_origin, ORIGIN_ZEROCOPY);
    assert_eq!(error.ee_code & COPIED, 0, "the kernel copies here");
    Ok(error.ee_data - error.ee_info + 1)
}

/// On huge pages if the kernel gives any, as the regions of the library.
fn map(len: usize) -> io::Result<MmapMut> {
    let huge = len.next_multiple_of(2 << 20);
    if let Ok(map) = MmapOptions::new().len(huge).huge(Some(21)).populate().map_anon() {
        return Ok(map);
    }
    let map = MmapOptions::new().len(huge).map_anon()?;
    // Without transparent huge pages, ordinary ones will do.
    let _ = map.advise(Advice::HugePage);
    map.advise(Advice::PopulateWrite)?;
    Ok(map)
}

fn set(socket: &UdpSocket, name: c_int, value: c_int) -> io::Result<()> {
    let value: *const c_int = &value;
    // SAFETY: the kernel reads as many bytes as an integer has.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value.cast(), 4) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What this process has used of the processor.
fn cpu_time() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let [user, system] = [usage.user_time(), usage.system_time()]
        .map(|time| Duration::new(time.tv_sec() as u64, 1000 * time.tv_usec() as u32));
    Ok(user + system)
}

/// The control message of UDP_SEGMENT.
#[repr(C)]
struct Segment {
    header: cmsghdr,
    bytes: u16,
}

impl Segment {
    fn of(bytes: u16) -> Self {
        // SAFETY: a structure of integers.
        let mut segment: Self = unsafe { mem::zeroed() };
        segment.header.cmsg_len = (size_of::<cmsghdr>() + 2) as _;
        segment.header.cmsg_level = libc::SOL_UDP;
        segment.header.cmsg_type = libc::UDP_SEGMENT;
        segment.bytes = bytes;
        segment
    }
}

/// SO_EE_ORIGIN_ZEROCOPY and SO_EE_CODE_ZEROCOPY_COPIED of `linux/errqueue.h`.
const ORIGIN_ZEROCOPY: u8 = 5;
const COPIED: u8 = 1;
/// What the library's batches are by default.
const BATCH_BYTES: usize = 512 << 10;
const MAX_SEGMENTS: u32 = 128;
const MAX_FRAGMENTS: usize = 17;
const PAGE: usize = 4096;
const MESSAGES_PER_CALL: usize = 16;
/// Fewer than what net.core.optmem_max has room for.
const MAX_OUTSTANDING: u32 = 64;
