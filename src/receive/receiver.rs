//! The verifying receiver: a socket, and the thread that empties it.

use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use serde::Serialize;

use super::assembler::Assembler;
use super::error::ReceiveError;
use super::expectation::Expectation;
use super::progress::Progress;
use super::socket::{Message, Socket};
use crate::backend::socket::{charge, usable};

/// Receives a stream and checks it.
#[derive(Debug)]
pub struct Receiver {
    socket: Socket,
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
        Ok(Self { socket: Socket::bind(addr, None, buffer)? })
    }

    /// Where it is bound to, the port being what the kernel chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// Bytes of the receive buffer that the kernel granted, its own included.
    pub fn buffer(&self) -> usize {
        self.socket.buffer()
    }

    /// How many packets of `packet_len` bytes of UDP payload may be on the way over loopback, and
    /// none is dropped; at least 1.
    pub fn window(&self, packet_len: usize) -> u64 {
        (usable(self.socket.buffer()) / charge(packet_len)).max(1) as u64
    }

    /// Receives until each flow has sent its stop heap, or [`Progress::stop`] was called and nothing
    /// arrives for a while. Ends early if the socket fails, which is logged as an error.
    pub fn run(self, expectation: Expectation, progress: &Progress) -> Received {
        // No timeout would mean to wait for ever.
        let idle = expectation.idle.max(Duration::from_millis(1));
        let addr = self.socket.local_addr();
        if let Err(error) = self.socket.set_patience(idle) {
            tracing::error!("no time limit for receiving at {addr}: {error}");
            return Assembler::new(expectation).finish();
        }
        let mut assembler = Assembler::new(expectation);
        let mut message = Message::new();
        loop {
            // Flows may overtake each other: what is there already when the last one stops counts.
            let flags = match assembler.is_stopped() {
                true => MsgFlags::MSG_DONTWAIT,
                false => MsgFlags::empty(),
            };
            match self.socket.receive(&mut message, None, flags) {
                Ok(()) => {
                    progress.add(message.datagrams().len() as u64);
                    message.datagrams().for_each(|bytes| assembler.datagram(bytes));
                }
                Err(Errno::EAGAIN) if assembler.is_stopped() || progress.is_stopped() => break,
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => {
                    tracing::error!("cannot receive at {addr}: {errno}");
                    break;
                }
            }
        }
        assembler.finish()
    }
}
