//! What IPv4 and IPv6 have in common.

use std::net::IpAddr;

use super::ethernet::EtherType;
use super::{ipv4, ipv6, udp};

/// Time to live, or hop limit, of packets to an address where nobody says otherwise: Linux's defaults, by
/// which multicast stays on the local network (ip(7), `net.ipv4.ip_default_ttl`).
pub(crate) fn default_ttl(to: IpAddr) -> u8 {
    if to.is_multicast() { 1 } else { 64 }
}

/// Bytes of the header of IP, without options.
pub(super) const fn ip_header_len(ethertype: EtherType) -> usize {
    match ethertype {
        EtherType::Ipv4 => ipv4::HEADER_LEN,
        EtherType::Ipv6 => ipv6::HEADER_LEN,
    }
}

/// Bytes of an IP header without options and a UDP header.
pub(crate) const fn ip_udp_header_len(ethertype: EtherType) -> usize {
    ip_header_len(ethertype) + udp::HEADER_LEN
}

/// The most bytes a datagram carries: the length in the IPv4 header counts that header, the one in the
/// IPv6 header does not.
pub(crate) const fn max_payload_len(ethertype: EtherType) -> usize {
    let headers = match ethertype {
        EtherType::Ipv4 => ipv4::HEADER_LEN + udp::HEADER_LEN,
        EtherType::Ipv6 => udp::HEADER_LEN,
    };
    u16::MAX as usize - headers
}
