//! IPv6 headers of UDP datagrams ([RFC 8200](https://www.rfc-editor.org/rfc/rfc8200)).

use std::{net::Ipv6Addr, ops::Range};

use super::udp;

/// The IPv6 header of a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who sends the packet.
    pub source: Ipv6Addr,
    /// Who is to receive it.
    pub destination: Ipv6Addr,
    /// How many routers it may pass.
    pub hop_limit: u8,
    /// Length of what follows the header, in bytes.
    pub payload_len: u16,
}

impl Header {
    /// Writes the header, 40 bytes, to the start of `out`. Traffic class and flow label are 0.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than the header.
    pub fn emit(&self, out: &mut [u8]) {
        let out = &mut out[..HEADER_LEN];
        out.fill(0);
        out[VERSION_AND_CLASS] = VERSION << 4;
        out[PAYLOAD_LEN].copy_from_slice(&self.payload_len.to_be_bytes());
        out[NEXT_HEADER] = udp::PROTOCOL;
        out[HOP_LIMIT] = self.hop_limit;
        out[SOURCE].copy_from_slice(&self.source.octets());
        out[DESTINATION].copy_from_slice(&self.destination.octets());
    }
}

/// An IPv6 packet, taken apart. IPv6 has no header checksum: UDP's covers what matters.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What the header says.
    pub header: Header,
    /// What follows the header, to the end that it announces.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes the packet at the start of `bytes` apart; padding may follow it.
    ///
    /// # Errors
    ///
    /// If `bytes` is not a whole IPv6 packet, or something other than a UDP datagram, such as an
    /// extension header, follows the header.
    pub fn parse(bytes: &'a [u8]) -> Result<Packet<'a>, ParseError> {
        let truncated = |needed| ParseError::Truncated { length: bytes.len(), needed };
        let (fixed, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(truncated(HEADER_LEN))?;
        let version = fixed[VERSION_AND_CLASS] >> 4;
        if version != VERSION {
            return Err(ParseError::Version { version });
        }
        if fixed[NEXT_HEADER] != udp::PROTOCOL {
            return Err(ParseError::NextHeader { next_header: fixed[NEXT_HEADER] });
        }
        let payload_len =
            u16::from_be_bytes([fixed[PAYLOAD_LEN.start], fixed[PAYLOAD_LEN.start + 1]]);
        let payload = rest
            .get(..usize::from(payload_len))
            .ok_or(truncated(HEADER_LEN + usize::from(payload_len)))?;
        let address = |field: Range<usize>| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&fixed[field]);
            Ipv6Addr::from(octets)
        };
        let (source, destination) = (address(SOURCE), address(DESTINATION));
        let hop_limit = fixed[HOP_LIMIT];
        Ok(Packet { header: Header { source, destination, hop_limit, payload_len }, payload })
    }
}

/// Why bytes are not an IPv6 packet with a UDP datagram in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The bytes end before the packet does.
    #[error("the IPv6 packet is cut off after {length} bytes: it needs {needed}")]
    Truncated {
        /// Bytes there are.
        length: usize,
        /// Bytes the packet, or its header, takes.
        needed: usize,
    },
    /// The version is another.
    #[error("the IP version is {version}: expected 6, as the EtherType says")]
    Version {
        /// The version.
        version: u8,
    },
    /// The packet carries another protocol, a fragment, or options.
    #[error("the next header of the IPv6 packet is {next_header}: expected UDP (17)")]
    NextHeader {
        /// The next header's number.
        next_header: u8,
    },
}

/// Length of an IPv6 header in bytes.
pub const HEADER_LEN: usize = 40;

const VERSION_AND_CLASS: usize = 0;
const PAYLOAD_LEN: Range<usize> = 4..6;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
const SOURCE: Range<usize> = 8..24;
const DESTINATION: Range<usize> = 24..40;

const VERSION: u8 = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let header = Header {
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::LOCALHOST,
            hop_limit: 1,
            payload_len: 8,
        };
        let mut packet = [0xee; 48];
        header.emit(&mut packet);
        let error = |at: usize, byte: u8| {
            let mut bytes = packet;
            bytes[at] = byte;
            Packet::parse(&bytes).unwrap_err()
        };
        assert_eq!(error(0, 0x45), ParseError::Version { version: 4 });
        assert_eq!(error(6, 44), ParseError::NextHeader { next_header: 44 });
        assert_eq!(error(5, 9), ParseError::Truncated { length: 48, needed: 49 });
        let error = Packet::parse(&packet[..39]).unwrap_err();
        assert_eq!(error, ParseError::Truncated { length: 39, needed: 40 });
    }

    proptest! {
        #[test]
        fn parse_undoes_emit(
            source: [u8; 16],
            destination: [u8; 16],
            hop_limit: u8,
            len in 0..100usize,
            padding in 0..9usize,
        ) {
            let header = Header {
                source: source.into(),
                destination: destination.into(),
                hop_limit,
                payload_len: len as u16,
            };
            let mut bytes = vec![0xee; HEADER_LEN + len + padding];
            header.emit(&mut bytes);
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert_eq!(packet.header, header);
            prop_assert_eq!(packet.payload, vec![0xee; len]);
        }

        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), ours: bool) {
            if ours && bytes.len() >= HEADER_LEN {
                (bytes[VERSION_AND_CLASS], bytes[PAYLOAD_LEN.start], bytes[NEXT_HEADER]) = (0x60, 0, 17);
            }
            let _ = Packet::parse(&bytes);
        }
    }
}
