//! Why there is no path to a destination.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

/// Why frames to a destination cannot be addressed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The destination is a link-local address, and there may be several links.
    #[error(
        "{destination} is a link-local address, which says nothing of the link: name the interface \
         to send from"
    )]
    NeedsInterface {
        /// The destination.
        destination: IpAddr,
    },
    /// There is no such interface.
    #[error("no interface has the index {index}: `ip link` lists those that there are")]
    NoInterface {
        /// The index.
        index: u32,
    },
    /// The interface is not Ethernet: a loopback, a tunnel.
    #[error(
        "{interface} is not an Ethernet interface (link layer: {link_layer}), so it takes no \
         Ethernet frames: name one that does, or send through sockets, by udp"
    )]
    NotEthernet {
        /// The interface's name.
        interface: String,
        /// What it is instead, the kernel's `ARPHRD_` name for it.
        link_layer: String,
    },
    /// The interface is down.
    #[error("{interface} is down: bring it up with `ip link set {interface} up`")]
    Down {
        /// The interface's name.
        interface: String,
    },
    /// The kernel knows no way to the destination, or refuses it.
    #[error(
        "no route to {destination}{}: {source}; see `ip route get {destination}`, and add a route \
         or name the interface to send from",
        through(.interface)
    )]
    NoRoute {
        /// The destination.
        destination: IpAddr,
        /// The name of the interface that was asked for, if any.
        interface: Option<String>,
        /// The kernel's word.
        source: io::Error,
    },
    /// The destination is this machine.
    #[error(
        "{destination} is an address of this machine, to which no frame leaves it; sockets reach it, \
         by udp"
    )]
    Local {
        /// The destination.
        destination: IpAddr,
    },
    /// The destination is everybody on the link.
    #[error("{destination} is a broadcast address: send to a multicast group, or to one receiver")]
    Broadcast {
        /// The destination.
        destination: IpAddr,
    },
    /// There is no address to send from.
    #[error(
        "{interface} has no {} address to send to {destination} from: give it one with \
         `ip address add`",
        family(.destination)
    )]
    NoSource {
        /// The destination.
        destination: IpAddr,
        /// The interface's name.
        interface: String,
    },
    /// The next hop's hardware address is not known, and nobody answers for it.
    #[error(
        "no hardware address is known for {next_hop} on {interface}, the next hop to {destination}, \
         and none was learnt within {limit:?}: see `ip neigh show {next_hop} dev {interface}`, check \
         that the receiver is up and on this network, or give the address that frames are to go to"
    )]
    NoNeighbour {
        /// The destination.
        destination: IpAddr,
        /// The destination itself, or the gateway to it.
        next_hop: IpAddr,
        /// The interface's name.
        interface: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The datagram that makes the kernel look for the next hop could not be sent.
    #[error(
        "cannot make the kernel look for {next_hop} on {interface}: {source}; see `ip neigh show \
         {next_hop} dev {interface}`, or give its hardware address"
    )]
    Solicit {
        /// The next hop.
        next_hop: IpAddr,
        /// The interface's name.
        interface: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The kernel does not answer, or answers what it should not.
    #[error("{request} (rtnetlink): {source}")]
    Netlink {
        /// What was asked for, as a phrase: `look up the route`.
        request: &'static str,
        /// What went wrong.
        source: io::Error,
    },
}

fn through(interface: &Option<String>) -> String {
    interface.as_ref().map_or(String::new(), |interface| format!(" through {interface}"))
}

fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
