//! Whole frames: what lies in front of the SPEAD bytes of a packet, from Ethernet to UDP.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::ip::{ip_header_len, max_payload_len};
use super::{MacAddress, Vlan, checksum::Checksum, ethernet, ethernet::EtherType, ipv4, ipv6, udp};

/// Everything before the SPEAD bytes: stamped in front of a packet by whoever puts frames, not
/// datagrams, on the wire.
///
/// ```
/// use doorbell::wire::{Endpoints, FrameHeader, MacAddress};
///
/// let header = FrameHeader {
///     source_mac: "02:00:00:00:00:01".parse()?,
///     destination_mac: MacAddress::of_multicast([239, 1, 2, 3].into()).unwrap(),
///     vlan: None,
///     endpoints: Endpoints::new("192.0.2.1:7148".parse()?, "239.1.2.3:7148".parse()?)?,
///     ttl: 4,
/// };
/// assert_eq!(header.len(), 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The MAC address of the interface that sends.
    pub source_mac: MacAddress,
    /// The MAC address of the next hop, or of the multicast group.
    pub destination_mac: MacAddress,
    /// The virtual LAN, if frames are tagged.
    pub vlan: Option<Vlan>,
    /// Addresses and ports.
    pub endpoints: Endpoints,
    /// How many routers the packet may pass: IPv4's time to live, IPv6's hop limit.
    pub ttl: u8,
}

impl FrameHeader {
    /// Length in bytes of the header of a frame that carries `ethertype`: 42 for IPv4, 62 for IPv6, and
    /// 4 more with a VLAN tag.
    pub(crate) const fn len_for(ethertype: EtherType, vlan: Option<Vlan>) -> usize {
        ethernet::Header::len_for(vlan) + ip_header_len(ethertype) + udp::HEADER_LEN
    }

    /// Length in bytes of this header.
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub const fn len(&self) -> usize {
        FrameHeader::len_for(self.endpoints.ethertype(), self.vlan)
    }

    /// Writes the header of a packet of `payload_len` SPEAD bytes to the start of `out`, [`len`] bytes.
    ///
    /// The UDP checksum is left 0. On IPv4 that is a whole header: the Ethernet checksum and the IPv4
    /// header's suffice there. IPv6 requires more, and [`udp_checksum`] must follow, by way of
    /// [`set_udp_checksum`].
    ///
    /// [`len`]: FrameHeader::len
    /// [`udp_checksum`]: FrameHeader::udp_checksum
    /// [`set_udp_checksum`]: FrameHeader::set_udp_checksum
    ///
    /// # Errors
    ///
    /// If the payload is longer than a datagram's may be, or `out` shorter than the header. Nothing is
    /// written then.
    pub(crate) fn emit(&self, payload_len: usize, out: &mut [u8]) -> Result<(), EmitError> {
        let out = self.room_in(out)?;
        let ethertype = self.endpoints.ethertype();
        let maximum = max_payload_len(ethertype);
        if payload_len > maximum {
            return Err(EmitError::PayloadTooLong { length: payload_len, maximum });
        }
        let udp_len = (udp::HEADER_LEN + payload_len) as u16;
        let (link, rest) = out.split_at_mut(ethernet::Header::len_for(self.vlan));
        let (ip, transport) = rest.split_at_mut(ip_header_len(ethertype));
        ethernet::Header {
            source: self.source_mac,
            destination: self.destination_mac,
            vlan: self.vlan,
            ethertype,
        }
        .emit(link);
        match self.endpoints {
            Endpoints::V4 { source, destination } => ipv4::Header {
                source: *source.ip(),
                destination: *destination.ip(),
                ttl: self.ttl,
                total_len: ipv4::HEADER_LEN as u16 + udp_len,
            }
            .emit(ip),
            Endpoints::V6 { source, destination } => ipv6::Header {
                source: *source.ip(),
                destination: *destination.ip(),
                hop_limit: self.ttl,
                payload_len: udp_len,
            }
            .emit(ip),
        }
        udp::Header {
            source_port: self.endpoints.source().port(),
            destination_port: self.endpoints.destination().port(),
            len: udp_len,
            checksum: 0,
        }
        .emit(transport);
        Ok(())
    }

    /// The checksum of a datagram whose payload is `pieces`, laid end to end; never 0. It means nothing
    /// for a payload that [`FrameHeader::emit`] refuses.
    pub(crate) fn udp_checksum(&self, pieces: &[&[u8]]) -> u16 {
        let len = udp::HEADER_LEN + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let mut sum = match self.endpoints {
            Endpoints::V4 { source, destination } => {
                Checksum::pseudo_ipv4(*source.ip(), *destination.ip(), udp::PROTOCOL, len as u16)
            }
            Endpoints::V6 { source, destination } => {
                Checksum::pseudo_ipv6(*source.ip(), *destination.ip(), udp::PROTOCOL, len as u32)
            }
        };
        sum.add_u16(self.endpoints.source().port());
        sum.add_u16(self.endpoints.destination().port());
        sum.add_u16(len as u16);
        for piece in pieces {
            sum.add(piece);
        }
        udp::checksum_field(sum)
    }

    /// Writes `checksum` to its place in a header that [`FrameHeader::emit`] wrote to the start of
    /// `emitted`.
    ///
    /// # Errors
    ///
    /// If `emitted` is shorter than the header.
    pub(crate) fn set_udp_checksum(
        &self,
        checksum: u16,
        emitted: &mut [u8],
    ) -> Result<(), EmitError> {
        let header = self.room_in(emitted)?;
        let udp_header = header.len() - udp::HEADER_LEN;
        header[udp_header..][udp::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        Ok(())
    }

    fn room_in<'a>(&self, out: &'a mut [u8]) -> Result<&'a mut [u8], EmitError> {
        let (length, needed) = (out.len(), self.len());
        out.get_mut(..needed).ok_or(EmitError::OutTooShort { length, needed })
    }
}

/// Where packets come from and where they go: two addresses of one family.
///
/// Scope ids and flow information of IPv6 addresses are the kernel's business and do not go on the
/// wire; [`Endpoints::new`] drops them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoints {
    /// Over IPv4.
    V4 {
        /// The sender's address and port.
        source: SocketAddrV4,
        /// The receiver's address and port.
        destination: SocketAddrV4,
    },
    /// Over IPv6.
    V6 {
        /// The sender's address and port.
        source: SocketAddrV6,
        /// The receiver's address and port.
        destination: SocketAddrV6,
    },
}

impl Endpoints {
    /// Pairs two addresses; IPv4-mapped IPv6 addresses count as IPv4, as they do for the kernel.
    ///
    /// # Errors
    ///
    /// If one is IPv4 and the other IPv6.
    pub fn new(source: SocketAddr, destination: SocketAddr) -> Result<Endpoints, MixedFamilies> {
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Ok(Endpoints::V4 {
                source: SocketAddrV4::new(from, source.port()),
                destination: SocketAddrV4::new(to, destination.port()),
            }),
            (IpAddr::V6(from), IpAddr::V6(to)) => Ok(Endpoints::V6 {
                source: SocketAddrV6::new(from, source.port(), 0, 0),
                destination: SocketAddrV6::new(to, destination.port(), 0, 0),
            }),
            _ => Err(MixedFamilies { source_address: source, destination }),
        }
    }

    /// Where packets come from.
    pub const fn source(&self) -> SocketAddr {
        match *self {
            Endpoints::V4 { source, .. } => SocketAddr::V4(source),
            Endpoints::V6 { source, .. } => SocketAddr::V6(source),
        }
    }

    /// Where packets go.
    pub const fn destination(&self) -> SocketAddr {
        match *self {
            Endpoints::V4 { destination, .. } => SocketAddr::V4(destination),
            Endpoints::V6 { destination, .. } => SocketAddr::V6(destination),
        }
    }

    /// What a frame that carries them announces.
    pub(crate) const fn ethertype(&self) -> EtherType {
        match self {
            Endpoints::V4 { .. } => EtherType::Ipv4,
            Endpoints::V6 { .. } => EtherType::Ipv6,
        }
    }
}

/// Two addresses that no packet can have together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no packet goes from {source_address} to {destination}: both must be IPv4, or both IPv6")]
#[non_exhaustive]
pub struct MixedFamilies {
    /// The sender's.
    pub source_address: SocketAddr,
    /// The receiver's.
    pub destination: SocketAddr,
}

/// Why a header was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum EmitError {
    /// No UDP datagram carries that much.
    #[error(
        "a payload of {length} bytes does not fit a UDP datagram: it carries at most {maximum}"
    )]
    PayloadTooLong {
        /// Bytes of the payload.
        length: usize,
        /// The most that this family's datagrams carry.
        maximum: usize,
    },
    /// There is no room for the header.
    #[error("there are {length} bytes for a header of {needed}")]
    OutTooShort {
        /// Bytes there are.
        length: usize,
        /// Bytes the header takes.
        needed: usize,
    },
}

#[cfg(test)]
mod tests;
