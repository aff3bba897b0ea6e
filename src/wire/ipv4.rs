//! IPv4 headers of UDP datagrams ([RFC 791](https://www.rfc-editor.org/rfc/rfc791)).

use std::{net::Ipv4Addr, ops::Range};

use super::{checksum::Checksum, udp};

/// The IPv4 header of a UDP datagram that is never fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who sends the packet.
    pub source: Ipv4Addr,
    /// Who is to receive it.
    pub destination: Ipv4Addr,
    /// How many routers it may pass.
    pub ttl: u8,
    /// Length of header and payload in bytes.
    pub total_len: u16,
}

impl Header {
    /// Writes the header, 20 bytes with its checksum, to the start of `out`.
    ///
    /// Type of service and identification are 0: as the packet must not be fragmented, no receiver
    /// looks at its identification ([RFC 6864, section 4.1](https://www.rfc-editor.org/rfc/rfc6864#section-4.1)).
    ///
    /// # Panics
    ///
    /// If `out` is shorter than the header.
    pub fn emit(&self, out: &mut [u8]) {
        let out = &mut out[..HEADER_LEN];
        out.fill(0);
        out[VERSION_AND_IHL] = VERSION << 4 | (HEADER_LEN / 4) as u8;
        out[TOTAL_LEN].copy_from_slice(&self.total_len.to_be_bytes());
        out[FRAGMENT].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
        out[TTL] = self.ttl;
        out[PROTOCOL] = udp::PROTOCOL;
        out[SOURCE].copy_from_slice(&self.source.octets());
        out[DESTINATION].copy_from_slice(&self.destination.octets());
        let mut sum = Checksum::new();
        sum.add(out);
        out[CHECKSUM].copy_from_slice(&sum.finish().to_be_bytes());
    }
}

/// An IPv4 packet, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What the header says.
    pub header: Header,
    /// What follows the header and its options, to the end that the header announces.
    pub payload: &'a [u8],
    header_bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes the packet at the start of `bytes` apart; padding may follow it. Options are stepped over.
    /// The checksum is left to [`Packet::verify_checksum`].
    ///
    /// # Errors
    ///
    /// If `bytes` is not a whole IPv4 packet with a whole UDP datagram in it.
    pub fn parse(bytes: &'a [u8]) -> Result<Packet<'a>, ParseError> {
        let truncated = |needed| ParseError::Truncated { length: bytes.len(), needed };
        let fixed = bytes.first_chunk::<HEADER_LEN>().ok_or(truncated(HEADER_LEN))?;
        let u16_at =
            |field: Range<usize>| u16::from_be_bytes([fixed[field.start], fixed[field.start + 1]]);
        let version = fixed[VERSION_AND_IHL] >> 4;
        if version != VERSION {
            return Err(ParseError::Version { version });
        }
        let header_len = usize::from(fixed[VERSION_AND_IHL] & 0x0f) * 4;
        let total_len = u16_at(TOTAL_LEN);
        if header_len < HEADER_LEN || usize::from(total_len) < header_len {
            return Err(ParseError::Lengths { header_len, total_len });
        }
        let packet = bytes.get(..usize::from(total_len)).ok_or(truncated(total_len.into()))?;
        if u16_at(FRAGMENT) & MORE_FRAGMENTS_OR_OFFSET != 0 {
            return Err(ParseError::Fragment);
        }
        if fixed[PROTOCOL] != udp::PROTOCOL {
            return Err(ParseError::Protocol { protocol: fixed[PROTOCOL] });
        }
        let [.., a, b, c, d, e, f, g, h] = *fixed;
        let source = Ipv4Addr::new(a, b, c, d);
        let destination = Ipv4Addr::new(e, f, g, h);
        let header = Header { source, destination, ttl: fixed[TTL], total_len };
        let (header_bytes, payload) = packet.split_at(header_len);
        Ok(Packet { header, payload, header_bytes })
    }

    /// Compares the header's checksum with its bytes.
    ///
    /// # Errors
    ///
    /// [`ParseError::Checksum`] if they do not belong together.
    pub fn verify_checksum(&self) -> Result<(), ParseError> {
        let mut sum = Checksum::new();
        sum.add(self.header_bytes);
        if sum.finish() == 0 {
            return Ok(());
        }
        let field = &self.header_bytes[CHECKSUM];
        sum.replace(field, &[0, 0]);
        let found = u16::from_be_bytes([field[0], field[1]]);
        Err(ParseError::Checksum { found, computed: sum.finish() })
    }
}

/// Why bytes are not an IPv4 packet with a UDP datagram in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The bytes end before the packet does.
    #[error("the IPv4 packet is cut off after {length} bytes: it needs {needed}")]
    Truncated {
        /// Bytes there are.
        length: usize,
        /// Bytes the packet, or its header, takes.
        needed: usize,
    },
    /// The version is another.
    #[error("the IP version is {version}: expected 4, as the EtherType says")]
    Version {
        /// The version.
        version: u8,
    },
    /// The two lengths in the header contradict each other.
    #[error(
        "the IPv4 header gives its own length as {header_len} and the packet's as {total_len}: \
         expected 20 or more, and no less than that"
    )]
    Lengths {
        /// Length of the header in bytes.
        header_len: usize,
        /// Length of header and payload in bytes.
        total_len: u16,
    },
    /// The packet is a part of a larger one.
    #[error("the IPv4 packet is a fragment: expected a whole UDP datagram")]
    Fragment,
    /// The packet carries another protocol.
    #[error("the IPv4 packet carries protocol {protocol}: expected UDP (17)")]
    Protocol {
        /// The protocol's number.
        protocol: u8,
    },
    /// The header was damaged, or its checksum never filled in.
    #[error("the IPv4 header has checksum {found:#06x}: its bytes make it {computed:#06x}")]
    Checksum {
        /// The checksum in the header.
        found: u16,
        /// What it would be.
        computed: u16,
    },
}

/// Length of an IPv4 header without options, in bytes.
pub const HEADER_LEN: usize = 20;

const VERSION_AND_IHL: usize = 0;
const TOTAL_LEN: Range<usize> = 2..4;
const FRAGMENT: Range<usize> = 6..8;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const CHECKSUM: Range<usize> = 10..12;
const SOURCE: Range<usize> = 12..16;
const DESTINATION: Range<usize> = 16..20;

const VERSION: u8 = 4;
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: Header = Header {
        source: Ipv4Addr::new(192, 0, 1, 1),
        destination: Ipv4Addr::new(192, 0, 1, 2),
        ttl: 64,
        total_len: 30,
    };

    fn packet() -> [u8; 30] {
        let mut bytes = [0xee; 30];
        HEADER.emit(&mut bytes);
        bytes
    }

    /// With options, as a router on the path might add them: they count for the checksum, not for us.
    #[test]
    fn options_and_padding_are_stepped_over() {
        let mut bytes = [packet().as_slice(), b"padding"].concat();
        bytes.splice(20..20, [1, 1, 1, 0]);
        bytes[VERSION_AND_IHL] = 0x46;
        bytes[TOTAL_LEN].copy_from_slice(&34u16.to_be_bytes());
        let parsed = Packet::parse(&bytes).unwrap();
        assert_eq!(parsed.payload, [0xee; 10]);
        let Err(ParseError::Checksum { computed, .. }) = parsed.verify_checksum() else {
            panic!("a stale checksum passed")
        };
        bytes[CHECKSUM].copy_from_slice(&computed.to_be_bytes());
        assert_eq!(Packet::parse(&bytes).unwrap().verify_checksum(), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |at: usize, byte: u8| {
            let mut bytes = packet();
            bytes[at] = byte;
            Packet::parse(&bytes).unwrap_err()
        };
        assert_eq!(error(0, 0x65), ParseError::Version { version: 6 });
        assert_eq!(error(0, 0x44), ParseError::Lengths { header_len: 16, total_len: 30 });
        assert_eq!(error(3, 19), ParseError::Lengths { header_len: 20, total_len: 19 });
        assert_eq!(error(3, 31), ParseError::Truncated { length: 30, needed: 31 });
        assert_eq!(error(6, 0x20), ParseError::Fragment);
        assert_eq!(error(7, 1), ParseError::Fragment);
        assert_eq!(error(9, 6), ParseError::Protocol { protocol: 6 });
        let error = Packet::parse(&packet()[..19]).unwrap_err();
        assert_eq!(error, ParseError::Truncated { length: 19, needed: 20 });
    }

    proptest! {
        #[test]
        fn parse_undoes_emit(source: [u8; 4], destination: [u8; 4], ttl: u8, len in 0..100usize) {
            let header = Header {
                source: source.into(),
                destination: destination.into(),
                ttl,
                total_len: (HEADER_LEN + len) as u16,
            };
            let mut bytes = vec![0xee; HEADER_LEN + len];
            header.emit(&mut bytes);
            let packet = Packet::parse(&bytes).unwrap();
            prop_assert_eq!(packet.verify_checksum(), Ok(()));
            prop_assert_eq!(packet.header, header);
            prop_assert_eq!(packet.payload, vec![0xee; len]);
        }

        #[test]
        fn a_damaged_header_is_noticed(at in 0..HEADER_LEN, flip in 1..=255u8) {
            let mut bytes = packet();
            bytes[at] ^= flip;
            prop_assert!(Packet::parse(&bytes).and_then(|packet| packet.verify_checksum()).is_err());
        }

        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), ihl in 0..16u8) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION << 4 | ihl;
            }
            let _ = Packet::parse(&bytes).and_then(|packet| packet.verify_checksum());
        }
    }
}
