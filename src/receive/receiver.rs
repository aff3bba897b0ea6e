//! A socket, and the thread that empties it.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::assembler::Assembler;
use super::expectation::Expectation;
use super::progress::Progress;

/// Receives a stream and checks it.
#[derive(Debug)]
pub struct Receiver {
    socket: UdpSocket,
    addr: SocketAddr,
    buffer: usize,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Received {
    /// Heaps with data that arrived whole, each counted once.
    pub heaps: u64,
    /// Heaps that did not, of those expected; where no number was expected, of those up to the
    /// highest that arrived.
    pub incomplete: u64,
    /// Whole heaps that were not as expected: other bytes, lengths, timestamps, or an index that
    /// the stream does not have.
    pub mismatched: u64,
    /// SPEAD packets.
    pub packets: u64,
    /// Payload bytes in them.
    pub payload_bytes: u64,
    /// Packets that add nothing: duplicates, and those of heaps too long or of another flavour.
    pub ignored: u64,
    /// Datagrams that are no SPEAD packets.
    pub not_spead: u64,
}

impl Received {
    /// Whether every heap arrived, and was what was expected.
    pub fn is_intact(&self) -> bool {
        self.incomplete == 0 && self.mismatched == 0
    }
}

impl Receiver {
    /// Binds a UDP socket to `addr`, whose receive buffer holds `buffer` bytes if the kernel grants
    /// them: beyond `net.core.rmem_max` that takes CAP_NET_ADMIN.
    ///
    /// # Errors
    ///
    /// If there is no such address here, or it is taken.
    pub fn bind(addr: SocketAddr, buffer: usize) -> Result<Self, ReceiveError> {
        let error = |source| ReceiveError::Bind { addr, source };
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP));
        let socket = socket.map_err(error)?;
        // The kernel doubles what it is asked for, to make room for its own: socket(7).
        let ask = buffer.div_ceil(2).min(MAX_BUFFER);
        if setsockopt(&socket, sockopt::RcvBufForce, &ask).is_err() {
            socket.set_recv_buffer_size(ask).map_err(error)?;
        }
        // What was sent as one message with segmentation offload, or merged by a network card, then
        // arrives as one, too: udp(7). Kernels before 5.0 hand it over packet by packet.
        if let Err(errno) = setsockopt(&socket, sockopt::UdpGroSegment, &true) {
            tracing::debug!("no UDP_GRO: {errno}");
        }
        socket.bind(&addr.into()).map_err(error)?;
        let granted = socket.recv_buffer_size().map_err(error)?;
        if granted < buffer {
            tracing::debug!("a receive buffer of {buffer} bytes was asked for, {granted} granted");
        }
        let socket = UdpSocket::from(socket);
        let addr = socket.local_addr().map_err(error)?;
        Ok(Self { socket, addr, buffer: granted })
    }

    /// Where it is bound to, the port being what the kernel chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Bytes of the receive buffer that the kernel granted, its own included.
    pub fn buffer(&self) -> usize {
        self.buffer
    }

    /// How many packets of `packet_len` bytes of UDP payload may be on the way over loopback, and
    /// none is dropped; at least 1.
    pub fn window(&self, packet_len: usize) -> u64 {
        (self.buffer / 4 * 3 / charge(packet_len)).max(1) as u64
    }

    /// Receives until each flow has sent its stop heap, or [`Progress::stop`] was called and nothing
    /// arrives for a while. Ends early if the socket fails, which is logged as an error.
    pub fn run(self, expectation: Expectation, progress: &Progress) -> Received {
        // No timeout would mean to wait for ever.
        let idle = expectation.idle.max(Duration::from_millis(1));
        if let Err(error) = self.socket.set_read_timeout(Some(idle)) {
            tracing::error!("no time limit for receiving at {}: {error}", self.addr);
            return Assembler::new(expectation).finish();
        }
        let mut assembler = Assembler::new(expectation);
        let mut message = vec![0; MAX_MESSAGE];
        let mut control = cmsg_space!(i32);
        loop {
            // Flows may overtake each other: what is there already when the last one stops counts.
            let flags = match assembler.is_stopped() {
                true => MsgFlags::MSG_DONTWAIT,
                false => MsgFlags::empty(),
            };
            match self.receive(&mut message, &mut control, flags) {
                Ok((len, segment)) => {
                    progress.add(len.div_ceil(segment).max(1) as u64);
                    if len == 0 {
                        assembler.datagram(&[]);
                    }
                    message[..len].chunks(segment).for_each(|bytes| assembler.datagram(bytes));
                }
                Err(Errno::EAGAIN) if assembler.is_stopped() || progress.is_stopped() => break,
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => {
                    tracing::error!("cannot receive at {}: {errno}", self.addr);
                    break;
                }
            }
        }
        assembler.finish()
    }

    /// Receives one message, and returns its length and that of each of its datagrams but the last.
    fn receive(
        &self,
        message: &mut [u8],
        control: &mut [u8],
        flags: MsgFlags,
    ) -> Result<(usize, usize), Errno> {
        let mut pieces = [IoSliceMut::new(message)];
        let received = recvmsg::<()>(self.socket.as_raw_fd(), &mut pieces, Some(control), flags)?;
        let segment = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::UdpGroSegments(len) => usize::try_from(len).ok(),
            _ => None,
        });
        Ok((received.bytes, segment.unwrap_or(received.bytes).max(1)))
    }
}

/// What the kernel charges the receive buffer with for a packet, at most, in bytes.
///
/// That is all memory that the packet takes. Up to 16 KiB, that comes in powers of two (`kmalloc`),
/// beyond, in pages. A window leaves a quarter of the buffer free on top: what is read is given back
/// in portions of that size (`udp_rmem_release` in `net/ipv4/udp.c`).
const fn charge(packet_len: usize) -> usize {
    let bytes = match packet_len {
        0..=MAX_LINEAR => (packet_len + SHARED_INFO).next_power_of_two(),
        _ => packet_len.saturating_add(PAGE),
    };
    bytes.saturating_add(OVERHEAD)
}

/// Why a stream cannot be received.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The address cannot be had.
    #[error("cannot receive at {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The kernel takes a C `int`, and doubles it.
const MAX_BUFFER: usize = i32::MAX as usize / 2;
/// More than a UDP message can have: none is cut off.
const MAX_MESSAGE: usize = 1 << 16;
/// `SKB_MAX_ALLOC`: longer packets are put together from pages.
const MAX_LINEAR: usize = 16 << 10;
/// Headers and `struct skb_shared_info`, which lie in the same buffer as the packet.
const SHARED_INFO: usize = 512;
const PAGE: usize = 4096;
/// `struct sk_buff`, and some more.
const OVERHEAD: usize = 1024;
