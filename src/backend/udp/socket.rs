//! The socket: where it sends to, from where, and what it has been told.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

use super::config::UdpConfig;
use super::messages::send_unsendable;
use crate::backend::socket::{
    self as shared, ErrorQueue, Notice, ZeroCopy, ZeroCopySends, destinations, source_address,
};
use crate::backend::{Done, OpenError};

/// A socket that is bound, and connected if it has one destination.
#[derive(Debug)]
pub(super) struct Socket {
    socket: RawSocket,
    destinations: Vec<SocketAddr>,
    config: UdpConfig,
    errors: ErrorQueue,
    /// Messages that are sent without copying.
    pub(super) zero_copy: ZeroCopySends,
    /// Errors that came back about packets that were sent.
    icmp_errors: u64,
    /// Which of them have been logged.
    logged: Vec<(Errno, Option<SocketAddr>)>,
}

impl Socket {
    pub(super) fn open(config: &UdpConfig) -> Result<Self, OpenError> {
        let destinations = destinations(&config.destinations, config.interface.as_ref())?;
        // The socket of several destinations is not connected: say now which cannot be reached.
        smallest_mtu(config, &destinations)?;
        let socket = bind(config, config.source_port, &destinations)?;
        let set = |step, result: io::Result<()>| {
            result.map_err(|source| OpenError::new(step, destinations[0], source))
        };
        if setsockopt(&socket, sockopt::SndBufForce, &config.send_buffer).is_err() {
            set("enlarge the send buffer", socket.set_send_buffer_size(config.send_buffer))?;
        }
        // Fragments cost a receiver dearly, and one that is lost loses the packet: rather be told.
        // And what a full device queue drops is reported with IP_RECVERR only: ip(7), and
        // udp_send_skb() in Linux's net/ipv4/udp.c.
        let fd = socket.as_fd();
        set(
            "forbid fragmentation, and ask for errors",
            match destinations[0] {
                SocketAddr::V4(_) => {
                    let discover = (libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO);
                    shared::set_option(fd, libc::IPPROTO_IP, discover.0, discover.1)
                        .and_then(|()| Ok(setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?))
                }
                SocketAddr::V6(_) => {
                    let discover = (libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO);
                    shared::set_option(fd, libc::IPPROTO_IPV6, discover.0, discover.1)
                        .and_then(|()| Ok(setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?))
                }
            },
        )?;
        if let [destination] = destinations[..] {
            connect(&socket, destination)?;
        }
        if config.ttl == Some(0) {
            // Packets to groups that nobody on this host has joined do leave it, whatever their TTL:
            // ip_mc_output() of Linux's net/ipv4/ip_output.c is not asked then.
            for destination in &destinations {
                let joined = shared::join(&socket, destination.ip(), config.interface.as_ref());
                joined.map_err(|source| {
                    let source: Box<dyn Error + Send + Sync> = match source.raw_os_error() {
                        Some(libc::ENOBUFS) => {
                            "a socket joins no more groups than net.ipv4.igmp_max_memberships: raise that, \
                             or send to fewer"
                                .into()
                        }
                        _ => source.into(),
                    };
                    OpenError::new(
                        "join the group, so that packets of TTL 0 stay on this host",
                        destination,
                        source,
                    )
                })?;
            }
        }
        let mut zero_copy = ZeroCopySends::new(config.zero_copy);
        if config.zero_copy != ZeroCopy::Off
            && let Err(error) = shared::set_option(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)
        {
            // UDP has it since Linux 5.0.
            if config.zero_copy == ZeroCopy::On {
                return Err(OpenError::new("send without copying", destinations[0], error));
            }
            tracing::info!("packets are copied: the kernel cannot do without ({error})");
            zero_copy.turn_off();
        }
        Ok(Self {
            socket,
            destinations,
            config: config.clone(),
            errors: ErrorQueue::new(),
            zero_copy,
            icmp_errors: 0,
            logged: Vec::new(),
        })
    }

    pub(super) fn destinations(&self) -> &[SocketAddr] {
        &self.destinations
    }

    /// What messages name as their destinations, one for each flow; none if connected.
    pub(super) fn names(&self) -> Vec<SockAddr> {
        match self.destinations.len() {
            1 => Vec::new(),
            _ => self.destinations.iter().map(|&destination| destination.into()).collect(),
        }
    }

    /// The MTU of the route of a flow now, if there is one.
    pub(super) fn mtu(&self, flow: u32) -> Option<u32> {
        let destination = self.destinations.get(flow as usize)?;
        smallest_mtu(&self.config, &[*destination]).ok()
    }

    /// Errors that came back about packets that were sent: ICMP.
    pub(super) fn icmp_errors(&self) -> u64 {
        self.icmp_errors
    }

    /// Takes note of what the kernel says about packets that were sent: which of them it no longer
    /// reads, and what came back about them, which is logged once. True if that explains `errno`:
    /// the kernel reports such an error once, in place of sending something else.
    pub(super) fn read_errors(&mut self, errno: Errno, done: &mut Vec<Done>) -> bool {
        // Nothing but ICMP makes UDP say that: udp(7).
        let mut explained = errno == Errno::ECONNREFUSED;
        // Notifications that follow each other are one entry: mostly, that is all there is.
        let mut most = if self.zero_copy.outstanding() > 0 { 1 } else { ErrorQueue::ENTRIES };
        loop {
            let before = self.zero_copy.outstanding();
            let taken = self.errors.take(self.socket.as_fd(), most);
            for entry in 0..taken {
                match self.errors.notice(entry) {
                    Notice::Released { first, last, copied } => {
                        self.zero_copy.release(first, last, copied, done);
                    }
                    Notice::Icmp { errno: error, destination } => {
                        explained |= error == errno;
                        self.came_back(error, destination);
                    }
                    Notice::Known => {}
                }
            }
            let all_released = before > 0 && self.zero_copy.outstanding() == 0;
            if taken < most || (all_released && errno == Errno::UnknownErrno) {
                return explained;
            }
            most = ErrorQueue::ENTRIES;
        }
    }

    fn came_back(&mut self, errno: Errno, destination: Option<SocketAddr>) {
        self.icmp_errors += 1;
        if self.logged.len() < MAX_LOGGED && !self.logged.contains(&(errno, destination)) {
            self.logged.push((errno, destination));
            let destination = destination.map_or("?".into(), |it| it.to_string());
            match errno {
                Errno::ECONNREFUSED => tracing::warn!("nobody listens at {destination}"),
                _ => tracing::warn!("packets to {destination} get lost: {}", errno.desc()),
            }
        }
    }

    /// Finds out how far the kernel has counted messages sent without copying, if that is in doubt:
    /// it counts some of those that it refuses, and not others. An error is why it does not say.
    pub(super) fn settle(&mut self, done: &mut Vec<Done>) -> Result<(), Errno> {
        if !self.zero_copy.is_doubtful() {
            return Ok(());
        }
        let name = match self.destinations.len() {
            1 => None,
            _ => Some(self.destinations[0].into()),
        };
        let answer = send_unsendable(self.socket.as_fd(), name.as_ref());
        if answer != Errno::EINVAL {
            return Err(answer);
        }
        let next = self.zero_copy.next();
        self.read_errors(Errno::UnknownErrno, done);
        if !self.zero_copy.settle(next) {
            tracing::warn!("packets are copied: the kernel no longer says what it reads");
            self.zero_copy.turn_off();
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The MTU of the route to the destinations, the smallest if they differ: the largest IP packet,
/// headers of IP and UDP included.
///
/// Nothing is sent, and no privilege needed: the kernel says it of a connected socket.
///
/// # Errors
///
/// As [`Udp::open`](super::Udp::open).
pub fn route_mtu(config: &UdpConfig) -> Result<u32, OpenError> {
    smallest_mtu(config, &destinations(&config.destinations, config.interface.as_ref())?)
}

fn smallest_mtu(config: &UdpConfig, destinations: &[SocketAddr]) -> Result<u32, OpenError> {
    let socket = bind(config, 0, destinations)?;
    let mut smallest = u32::MAX;
    for &destination in destinations {
        connect(&socket, destination)?;
        let (level, name) = match destination {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
        };
        let mtu = shared::option(socket.as_fd(), level, name).map_err(|source| {
            OpenError::new("find the MTU of the route to", destination, source)
        })?;
        smallest = smallest.min(mtu as u32);
    }
    Ok(smallest)
}

/// A socket for these destinations, at least one, that is not connected yet.
fn bind(
    config: &UdpConfig,
    port: u16,
    destinations: &[SocketAddr],
) -> Result<RawSocket, OpenError> {
    let domain = Domain::for_address(destinations[0]);
    let is_ipv4 = destinations[0].is_ipv4();
    let socket = RawSocket::new(domain, Type::DGRAM, Some(Protocol::UDP))
        .map_err(|source| OpenError::new("open a socket", "UDP", source))?;
    if let Some(ttl) = config.ttl.map(u32::from) {
        let unicast = destinations.iter().find(|it| !it.ip().is_multicast());
        let set =
            |result: io::Result<()>| result.map_err(|source| OpenError::new(SET_TTL, ttl, source));
        if let Some(destination) = unicast.filter(|_| ttl == 0) {
            let source = format!("{destination} is no multicast group, and needs 1 or more");
            return Err(OpenError::new(SET_TTL, ttl, source));
        }
        // That of unicast packets may not be 0 (ip(7)), and then there are none.
        if ttl > 0 {
            set(match is_ipv4 {
                true => socket.set_ttl_v4(ttl),
                false => socket.set_unicast_hops_v6(ttl),
            })?;
        }
        set(match is_ipv4 {
            true => socket.set_multicast_ttl_v4(ttl),
            false => socket.set_multicast_hops_v6(ttl),
        })?;
    }
    let any = if is_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut source = SocketAddr::new(any, port);
    if let Some(interface) = &config.interface {
        if is_ipv4 {
            shared::set_multicast_interface(socket.as_fd(), interface.index)
        } else {
            socket.set_multicast_if_v6(interface.index)
        }
        .map_err(|source| OpenError::new("choose the interface", interface, source))?;
        source = source_address(interface, port, destinations)?.unwrap_or(source);
    }
    socket
        .bind(&source.into())
        .map_err(|error| OpenError::new("bind the socket to", source, error))?;
    Ok(socket)
}

fn connect(socket: &RawSocket, destination: SocketAddr) -> Result<(), OpenError> {
    let name = destination.into();
    socket.connect(&name).map_err(|source| {
        let error = |source: Box<dyn Error + Send + Sync>| {
            OpenError::new("find a route to", destination, source)
        };
        // Which addresses are broadcast is for the routes to say: those it refuses without, socket(7).
        let is_refused = source.raw_os_error() == Some(libc::EACCES);
        match is_refused && socket.set_broadcast(true).and_then(|()| socket.connect(&name)).is_ok()
        {
            true => error(BROADCAST.into()),
            false => error(source.into()),
        }
    })
}

const SET_TTL: &str = "set the time to live";
const BROADCAST: &str = "it is a broadcast address, which every machine on that network would have to take in: \
     send to a multicast group, such as 239.1.0.0, or to each receiver by its own address";

/// Enough to see what is wrong, and a bound.
const MAX_LOGGED: usize = 64;
