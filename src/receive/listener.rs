//! Sockets, one for each substream.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;

use super::error::ReceiveError;
use super::socket::{Message, Socket};
use super::window::Window;
use crate::backend::interface::Interface;
use crate::backend::socket::{charge, usable};

/// Whose packets are taken: an address, with a port or with any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceFilter {
    ip: IpAddr,
    port: Option<u16>,
}

impl SourceFilter {
    pub(super) fn takes(self, source: Option<SocketAddr>) -> bool {
        let is_it = |source: SocketAddr| {
            source.ip().to_canonical() == self.ip
                && self.port.is_none_or(|port| port == source.port())
        };
        source.is_some_and(is_it)
    }
}

/// `192.0.2.7`, `192.0.2.7:9000`, `2001:db8::7`, `[2001:db8::7]:9000`.
impl FromStr for SourceFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self { ip: ip.to_canonical(), port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(it) if it.port() != 0 => {
                Ok(Self { ip: it.ip().to_canonical(), port: Some(it.port()) })
            }
            _ => Err("expected ADDR or ADDR:PORT, such as 192.0.2.7 or [2001:db8::7]:9000".into()),
        }
    }
}

/// Sockets, one for each substream.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<Socket>,
    message: Message,
    /// Packets that found no room, by socket, as its counter last said.
    dropped: Vec<u32>,
    filter: Option<SourceFilter>,
    /// Datagrams that came from elsewhere.
    filtered: u64,
    latest_source: Option<SocketAddr>,
}

impl Listener {
    /// Binds a socket to each address, and joins those that are multicast groups, on `interface` or
    /// the one of the route; 0.0.0.0 and :: mean the interface's own address if one is given. The
    /// receive buffers hold `buffer` bytes each if the kernel grants them: beyond
    /// `net.core.rmem_max` that takes CAP_NET_ADMIN.
    ///
    /// # Errors
    ///
    /// If there is no such address here, it is taken, or a group cannot be joined.
    pub fn bind(
        addresses: &[SocketAddr],
        interface: Option<&Interface>,
        buffer: usize,
    ) -> Result<Self, ReceiveError> {
        let bind = |&addr: &SocketAddr| Socket::bind(addr, interface, buffer);
        let sockets = addresses.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            dropped: vec![0; sockets.len()],
            sockets,
            message: Message::new(),
            filter: None,
            filtered: 0,
            latest_source: None,
        })
    }

    /// Takes only what comes from there.
    #[must_use]
    pub fn only_from(self, filter: Option<SourceFilter>) -> Self {
        Self { filter, ..self }
    }

    /// Where each socket is bound to.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(Socket::local_addr)
    }

    /// Bytes of the smallest receive buffer that the kernel granted, its own included.
    pub fn buffer(&self) -> usize {
        self.sockets.iter().map(Socket::buffer).min().unwrap_or(0)
    }

    /// Packets that the kernel dropped for lack of room, as far as it has said: it does with packets
    /// that come after.
    pub fn dropped(&self) -> u64 {
        self.dropped.iter().map(|&dropped| u64::from(dropped)).sum()
    }

    /// How many packets of `packet_len` bytes of UDP payload may be on the way over loopback, and
    /// none is dropped; at least 1.
    pub fn room(&self, packet_len: usize) -> u64 {
        (usable(self.buffer()) / charge(packet_len)).max(1) as u64
    }

    /// Datagrams that came from elsewhere than from where they may.
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Who sent the last packet that was taken.
    pub fn latest_source(&self) -> Option<SocketAddr> {
        self.latest_source
    }

    /// Waits up to `patience` for packets, and gives some of what is there to `window`: from each
    /// socket in turn, so that none starves. Returns how many datagrams; 0 if there were none, or a
    /// signal came.
    ///
    /// # Errors
    ///
    /// If a socket fails.
    pub fn receive(
        &mut self,
        window: &mut Window,
        patience: Duration,
    ) -> Result<usize, ReceiveError> {
        let mut ready: Vec<PollFd<'_>> = self
            .sockets
            .iter()
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, patience) {
            Ok(0) | Err(Errno::EINTR) => return Ok(0),
            Ok(_) => {}
            Err(errno) => return Err(ReceiveError::Socket(errno.into())),
        }
        let mut datagrams = 0;
        for (substream, (socket, ready)) in self.sockets.iter().zip(&ready).enumerate() {
            if !ready.any().unwrap_or(true) {
                continue;
            }
            for _ in 0..TURN {
                let target = window.target(substream);
                match socket.receive(&mut self.message, target, MsgFlags::MSG_DONTWAIT) {
                    Ok(()) => {
                        let source = self.message.source();
                        if self.filter.is_none_or(|filter| filter.takes(source)) {
                            self.latest_source = source;
                            datagrams += self.message.deliver(window, substream);
                        } else {
                            self.filtered += self.message.count() as u64;
                        }
                    }
                    Err(Errno::EAGAIN | Errno::EINTR) => break,
                    Err(errno) => return Err(ReceiveError::Socket(errno.into())),
                }
                self.dropped[substream] = self.message.dropped();
            }
        }
        Ok(datagrams)
    }
}

/// Messages from one socket before it is another's turn: up to 2 MiB.
const TURN: usize = 32;
