//! Where a frame to an IP address goes: through which interface, from which addresses, and to which
//! neighbour.
//!
//! Whoever builds Ethernet frames has to know what the kernel otherwise finds out for each packet. It
//! is asked over [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html): for the
//! route, and for the next hop's entry in its table of neighbours. The kernel alone speaks ARP
//! ([RFC 826](https://www.rfc-editor.org/rfc/rfc826)) and IPv6 neighbour discovery
//! ([RFC 4861](https://www.rfc-editor.org/rfc/rfc4861)); a datagram to a neighbour it does not know
//! makes it.

mod entry;
mod error;
mod link;
mod netlink;
mod route;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

pub use error::ResolveError;

use netlink_packet_route::RouteNetlinkMessage;

use super::interface::is_link_local;
use crate::wire::MacAddress;
use entry::Entry;
use link::Link;
use netlink::Netlink;
use route::Route;

/// Takes `bytes` for a reply of the kernel.
#[doc(hidden)]
pub fn arbitrary_reply(bytes: &[u8]) {
    let sequence = bytes.get(8..12).and_then(<[u8]>::first_chunk);
    let sequence = sequence.map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    match netlink::parse(bytes, sequence) {
        Some(Ok(RouteNetlinkMessage::NewLink(reply))) => drop(Link::from_reply(reply)),
        Some(Ok(RouteNetlinkMessage::NewRoute(reply))) => drop(Route::from_reply(reply)),
        Some(Ok(RouteNetlinkMessage::NewNeighbour(reply))) => drop(Entry::from_reply(&reply)),
        _ => {}
    }
}

/// What the headers of frames to a destination say, and the interface that they leave through.
///
/// It holds for now. The kernel follows when routes change, or when another machine takes over an
/// address; whoever has written a path into headers does not, and resolves it anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The kernel's number for the interface, at least 1.
    pub interface_index: u32,
    /// The interface's name: `eth0`.
    pub interface_name: String,
    /// The IP address to send from: the one that the route prefers, of the destination's family.
    pub source: IpAddr,
    /// The interface's hardware address.
    pub source_mac: MacAddress,
    /// The hardware address of the next hop, or of the multicast group.
    pub destination_mac: MacAddress,
    /// Bytes of the largest IP packet on this path, IP and UDP headers included: the interface's MTU,
    /// or the route's if that is smaller.
    pub mtu: u32,
}

impl Path {
    /// The path to `destination`, through `interface` if one is named by its index.
    ///
    /// A multicast group's hardware address follows from the group. A unicast destination's is that
    /// of the next hop, the destination itself or a gateway. If the kernel does not know it, it is
    /// made to ask the network with an empty datagram to the next hop's discard port
    /// ([RFC 863](https://www.rfc-editor.org/rfc/rfc863)), and looked up again until it is known or
    /// `limit` is over. The kernel repeats its question after a second, so 3 s are a sensible limit;
    /// with [`Duration::ZERO`], nothing is sent. An IPv4-mapped IPv6 address counts as IPv4.
    ///
    /// # Errors
    ///
    /// If there is no such interface or no route, if the route leads to this machine or through an
    /// interface that is not Ethernet, or if no neighbour answers. Each error says what to do.
    pub fn resolve(
        destination: IpAddr,
        interface: Option<u32>,
        limit: Duration,
    ) -> Result<Path, ResolveError> {
        UnresolvedPath::find(destination, interface)?.neighbour(limit)
    }

    /// The path to `destination` as [`Path::resolve`] finds it, but with `destination_mac` as it is
    /// given. No neighbour is looked for.
    ///
    /// # Errors
    ///
    /// As [`Path::resolve`], except for those of neighbours.
    pub fn with_destination_mac(
        destination: IpAddr,
        interface: Option<u32>,
        destination_mac: MacAddress,
    ) -> Result<Path, ResolveError> {
        Ok(UnresolvedPath::find(destination, interface)?.into_path(destination_mac))
    }
}

/// A path whose destination MAC is not known yet.
struct UnresolvedPath {
    netlink: Netlink,
    destination: IpAddr,
    next_hop: IpAddr,
    source: IpAddr,
    link: Link,
    mtu: u32,
}

impl UnresolvedPath {
    fn find(destination: IpAddr, interface: Option<u32>) -> Result<Self, ResolveError> {
        let destination = destination.to_canonical();
        if interface.is_none() && needs_interface(destination) {
            return Err(ResolveError::NeedsInterface { destination });
        }
        let mut netlink = Netlink::open()?;
        // First, so that what is wrong with the named interface is not reported as a missing route.
        let named = interface.map(|index| Link::find(&mut netlink, index)).transpose()?;
        let route = Route::find(&mut netlink, destination, named.as_ref())?;
        let link = match named {
            Some(link) => link,
            None => Link::find(&mut netlink, route.interface)?,
        };
        let Some(source) = route.source else {
            return Err(ResolveError::NoSource { destination, interface: link.name });
        };
        let next_hop = route.gateway.unwrap_or(destination);
        let mtu = route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu));
        Ok(Self { netlink, destination, next_hop, source, link, mtu })
    }

    fn neighbour(mut self, limit: Duration) -> Result<Path, ResolveError> {
        if let Some(mac) = MacAddress::of_multicast(self.destination) {
            return Ok(self.into_path(mac));
        }
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let entry = Entry::find(&mut self.netlink, self.next_hop, &self.link)?;
            if let Entry::Known(mac) = entry {
                return Ok(self.into_path(mac));
            }
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                let Self { destination, next_hop, link, .. } = self;
                let interface = link.name;
                return Err(ResolveError::NoNeighbour { destination, next_hop, interface, limit });
            }
            // While an entry is incomplete, the kernel is asking already: RFC 4861, section 7.2.2.
            if entry == Entry::Unknown {
                entry::solicit(self.next_hop, &self.link)?;
            }
            thread::sleep(pause.min(left));
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    fn into_path(self, destination_mac: MacAddress) -> Path {
        Path {
            interface_index: self.link.index,
            interface_name: self.link.name,
            source: self.source,
            source_mac: self.link.mac,
            destination_mac,
            mtu: self.mtu,
        }
    }
}

/// Whether an address means something on one link only, and there is no telling which:
/// [RFC 4007, section 6](https://www.rfc-editor.org/rfc/rfc4007#section-6). The kernel would take
/// any.
fn needs_interface(destination: IpAddr) -> bool {
    destination.is_ipv6() && is_link_local(destination)
}

/// A neighbour on the same link answers well within a millisecond.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
