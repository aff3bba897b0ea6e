//! Entries of the kernel's neighbour table, its ARP cache.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::link::Link;
use super::netlink::{Netlink, invalid};
use super::{MacAddress, ResolveError};

/// What the kernel knows of a neighbour: the states of
/// [RFC 4861, section 7.3.2](https://www.rfc-editor.org/rfc/rfc4861#section-7.3.2), and some of its
/// own, which it has for ARP as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The hardware address. It may have been confirmed a while ago (stale, delay, probe), or be
    /// fixed (permanent, noarp): the kernel sends to it all the same.
    Known(MacAddress),
    /// The neighbour is being asked.
    Incomplete,
    /// It was never asked, or did not answer.
    Unknown,
}

impl Entry {
    pub(super) fn find(
        netlink: &mut Netlink,
        neighbour: IpAddr,
        link: &Link,
    ) -> Result<Self, ResolveError> {
        let mut request = NeighbourMessage::default();
        request.header.family = match neighbour {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        request.header.ifindex = link.index;
        request.attributes.push(NeighbourAttribute::Destination(neighbour.into()));
        let entry = match netlink.ask(RouteNetlinkMessage::GetNeighbour(request)) {
            Ok(RouteNetlinkMessage::NewNeighbour(reply)) => Self::from_reply(&reply),
            Ok(_) => Err(invalid("the reply is about something else")),
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(Entry::Unknown),
            Err(error) => Err(error),
        };
        entry.map_err(|source| ResolveError::Netlink { request: "look up the neighbour", source })
    }

    pub(super) fn from_reply(reply: &NeighbourMessage) -> io::Result<Self> {
        match reply.header.state {
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Noarp
            | NeighbourState::Permanent => {
                let mac = reply.attributes.iter().find_map(|attribute| match attribute {
                    NeighbourAttribute::LinkLayerAddress(it) => it.as_slice().try_into().ok(),
                    _ => None,
                });
                let mac = mac.ok_or_else(|| invalid("it has no hardware address of 6 bytes"))?;
                Ok(Entry::Known(MacAddress(mac)))
            }
            NeighbourState::Incomplete => Ok(Entry::Incomplete),
            _ => Ok(Entry::Unknown),
        }
    }
}

/// Makes the kernel look for a neighbour. Asking it outright (NTF_USE) would take CAP_NET_ADMIN, which
/// sending does not.
pub(super) fn solicit(neighbour: IpAddr, link: &Link) -> Result<(), ResolveError> {
    let address: SocketAddr = match neighbour {
        IpAddr::V4(_) => (neighbour, DISCARD).into(),
        IpAddr::V6(it) => SocketAddrV6::new(it, DISCARD, 0, link.index).into(),
    };
    let send = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind_device(Some(link.name.as_bytes()))?;
        socket.send_to(&[], &address.into())
    };
    match send() {
        Ok(_) => Ok(()),
        Err(source) => {
            Err(ResolveError::Solicit { next_hop: neighbour, interface: link.name.clone(), source })
        }
    }
}

/// What arrives there is thrown away: RFC 863.
const DISCARD: u16 = 9;
