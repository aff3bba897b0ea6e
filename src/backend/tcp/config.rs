//! Where a TCP backend sends to, and how it connects.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::backend::OpenError;
use crate::backend::interface::Interface;
use crate::backend::socket::{self, ZeroCopy};

/// Where a TCP backend sends to, and how.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Destinations, one connection and one flow each: all IPv4, or all IPv6.
    pub destinations: Vec<SocketAddr>,
    /// The interface whose address connections come from; the kernel's choice if `None`.
    pub interface: Option<Interface>,
    /// Time to live, or hop limit, of all packets; the kernel's if `None`.
    pub ttl: Option<u8>,
    /// Source port; 0 for any that is free.
    pub source_port: u16,
    /// Bytes that the kernel may hold for each connection, which without privilege are no more than
    /// `net.core.wmem_max`; `None` leaves that to the kernel, which adapts it to the route
    /// (`net.ipv4.tcp_wmem`).
    pub send_buffer: Option<usize>,
    /// Whether packets are sent from where they lie.
    pub zero_copy: ZeroCopy,
    /// For how long to try to connect to a destination that is not there yet, or again to one whose
    /// connection is lost, before its heaps fail; zero for not at all.
    pub reconnect: Duration,
}

impl TcpConfig {
    /// Sends to `destinations`, leaves all else to the kernel, and does not connect again.
    pub fn new(destinations: Vec<SocketAddr>) -> Self {
        Self {
            destinations,
            interface: None,
            ttl: None,
            source_port: 0,
            send_buffer: None,
            zero_copy: ZeroCopy::Auto,
            reconnect: Duration::ZERO,
        }
    }

    /// A socket to be connected to one of the destinations.
    pub(super) fn socket(&self, destination: SocketAddr) -> Result<Socket, OpenError> {
        let socket =
            Socket::new(Domain::for_address(destination), Type::STREAM, Some(Protocol::TCP))
                .map_err(|source| OpenError::new("open a socket", "TCP", source))?;
        let set = |step, result: io::Result<()>| {
            result.map_err(|source| OpenError::new(step, destination, source))
        };
        if let Some(ttl) = self.ttl.map(u32::from) {
            let result = match destination {
                SocketAddr::V4(_) => socket.set_ttl_v4(ttl),
                SocketAddr::V6(_) => socket.set_unicast_hops_v6(ttl),
            };
            set("set the time to live", result)?;
        }
        // A post is whole packets, and often the last for a while: its end must not wait for an
        // acknowledgement, as Nagle's algorithm would have it.
        set("send without delay", socket.set_tcp_nodelay(true))?;
        // Before connecting, since the window that is offered follows from it: tcp(7).
        if let Some(bytes) = self.send_buffer
            && setsockopt(&socket, sockopt::SndBufForce, &bytes).is_err()
        {
            set("set the send buffer", socket.set_send_buffer_size(bytes))?;
        }
        if self.zero_copy != ZeroCopy::Off {
            let result = socket::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1);
            // TCP has it since Linux 4.14, which is older than what else is needed.
            set("send without copying", result)?;
        }
        if let Some(source) = self.source(destination)? {
            // One port for several connections, and for one after the other.
            set("share the source port", socket.set_reuse_address(self.source_port != 0))?;
            socket
                .bind(&source.into())
                .map_err(|error| OpenError::new("bind the socket to", source, error))?;
        }
        Ok(socket)
    }

    /// What to bind to, if there is a wish.
    fn source(&self, destination: SocketAddr) -> Result<Option<SocketAddr>, OpenError> {
        if let Some(interface) = &self.interface {
            return socket::source_address(interface, self.source_port, &[destination]);
        }
        let any = match destination {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Ok((self.source_port != 0).then(|| SocketAddr::new(any, self.source_port)))
    }
}

/// As in `--backend`.
pub(crate) const NAME: &str = "tcp";
