//! UDP datagrams ([RFC 768](https://www.rfc-editor.org/rfc/rfc768)).

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use super::checksum::Checksum;

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// Length of header and payload in bytes.
    pub len: u16,
    /// What [`checksum_field`] makes of the datagram's sum; 0 for none, which only IPv4 allows.
    pub checksum: u16,
}

impl Header {
    /// Writes the header, 8 bytes, to the start of `out`.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than the header.
    pub fn emit(&self, out: &mut [u8]) {
        out[SOURCE_PORT].copy_from_slice(&self.source_port.to_be_bytes());
        out[DESTINATION_PORT].copy_from_slice(&self.destination_port.to_be_bytes());
        out[LEN].copy_from_slice(&self.len.to_be_bytes());
        out[CHECKSUM].copy_from_slice(&self.checksum.to_be_bytes());
    }
}

/// The field's value for a datagram whose pseudo-header, header and payload add up to `sum`: a
/// checksum of zero is transmitted as all ones, its equal in ones' complement, as zero says that there
/// is none (RFC 768).
pub fn checksum_field(sum: Checksum) -> u16 {
    match sum.finish() {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// A UDP datagram, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// What the header says.
    pub header: Header,
    /// What follows it, to the end that it announces.
    pub payload: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Takes the datagram at the start of `bytes` apart. The checksum is left to
    /// [`Datagram::verify_ipv4`] and [`Datagram::verify_ipv6`].
    ///
    /// # Errors
    ///
    /// If the datagram is cut off, or its length shorter than its own header.
    pub fn parse(bytes: &'a [u8]) -> Result<Datagram<'a>, ParseError> {
        let truncated = |needed| ParseError::Truncated { length: bytes.len(), needed };
        let fixed = bytes.first_chunk::<HEADER_LEN>().ok_or(truncated(HEADER_LEN))?;
        let u16_at =
            |field: Range<usize>| u16::from_be_bytes([fixed[field.start], fixed[field.start + 1]]);
        let header = Header {
            source_port: u16_at(SOURCE_PORT),
            destination_port: u16_at(DESTINATION_PORT),
            len: u16_at(LEN),
            checksum: u16_at(CHECKSUM),
        };
        if usize::from(header.len) < HEADER_LEN {
            return Err(ParseError::Length { len: header.len });
        }
        let bytes = bytes.get(..usize::from(header.len)).ok_or(truncated(header.len.into()))?;
        Ok(Datagram { header, payload: &bytes[HEADER_LEN..], bytes })
    }

    /// Compares the checksum, if there is one, with the datagram and the addresses of the IPv4 packet
    /// it came in.
    ///
    /// # Errors
    ///
    /// [`ParseError::Checksum`] if they do not belong together.
    pub fn verify_ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Result<(), ParseError> {
        if self.header.checksum == 0 {
            return Ok(());
        }
        self.verify(Checksum::pseudo_ipv4(source, destination, PROTOCOL, self.header.len))
    }

    /// Compares the checksum with the datagram and the addresses of the IPv6 packet it came in.
    ///
    /// # Errors
    ///
    /// [`ParseError::Checksum`] if they do not belong together, [`ParseError::NoChecksum`] if there is
    /// none.
    pub fn verify_ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Result<(), ParseError> {
        if self.header.checksum == 0 {
            return Err(ParseError::NoChecksum);
        }
        self.verify(Checksum::pseudo_ipv6(source, destination, PROTOCOL, self.header.len.into()))
    }

    fn verify(&self, mut sum: Checksum) -> Result<(), ParseError> {
        sum.add(self.bytes);
        if sum.finish() == 0 {
            return Ok(());
        }
        sum.replace(&self.bytes[CHECKSUM], &[0, 0]);
        Err(ParseError::Checksum { found: self.header.checksum, computed: checksum_field(sum) })
    }
}

/// Why bytes are not a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The bytes end before the datagram does.
    #[error("the UDP datagram is cut off after {length} bytes: it needs {needed}")]
    Truncated {
        /// Bytes there are.
        length: usize,
        /// Bytes the datagram, or its header, takes.
        needed: usize,
    },
    /// The length does not even hold the header.
    #[error("the UDP length is {len}: expected 8 or more, as it counts the header")]
    Length {
        /// The length in the header.
        len: u16,
    },
    /// The datagram was damaged, or its checksum never filled in.
    #[error("the UDP datagram has checksum {found:#06x}: its bytes make it {computed:#06x}")]
    Checksum {
        /// The checksum in the header.
        found: u16,
        /// What it would be.
        computed: u16,
    },
    /// The datagram came over IPv6, where it must have a checksum
    /// ([RFC 8200, section 8.1](https://www.rfc-editor.org/rfc/rfc8200#section-8.1)).
    #[error("the UDP datagram has no checksum: IPv6 requires one")]
    NoChecksum,
}

/// Length of a UDP header in bytes.
pub const HEADER_LEN: usize = 8;
/// UDP's number among the protocols of IP.
pub const PROTOCOL: u8 = 17;
/// Where in the header the checksum lies.
pub const CHECKSUM: Range<usize> = 6..8;

const SOURCE_PORT: Range<usize> = 0..2;
const DESTINATION_PORT: Range<usize> = 2..4;
const LEN: Range<usize> = 4..6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let error = |bytes: &[u8]| Datagram::parse(bytes).unwrap_err();
        assert_eq!(error(&[0; 7]), ParseError::Truncated { length: 7, needed: 8 });
        assert_eq!(error(&[0, 1, 0, 2, 0, 7, 0, 0, 0]), ParseError::Length { len: 7 });
        assert_eq!(
            error(&[0, 1, 0, 2, 0, 10, 0, 0, 0]),
            ParseError::Truncated { length: 9, needed: 10 }
        );
    }

    #[test]
    fn no_checksum_is_fine_on_ipv4_only() {
        let datagram = Datagram::parse(&[0, 1, 0, 2, 0, 9, 0, 0, 0xee]).unwrap();
        assert_eq!(datagram.verify_ipv4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST), Ok(()));
        assert_eq!(
            datagram.verify_ipv6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            Err(ParseError::NoChecksum)
        );
    }

    proptest! {
        #[test]
        fn parse_undoes_emit(
            source_port: u16,
            destination_port: u16,
            checksum: u16,
            len in 8..100u16,
            padding in 0..9usize,
        ) {
            let header = Header { source_port, destination_port, len, checksum };
            let mut bytes = vec![0xee; usize::from(len) + padding];
            header.emit(&mut bytes);
            let datagram = Datagram::parse(&bytes).unwrap();
            prop_assert_eq!(datagram.header, header);
            prop_assert_eq!(datagram.payload, vec![0xee; usize::from(len) - 8]);
        }

        #[test]
        fn the_right_checksum_is_named_and_accepted(
            source: [u8; 4],
            destination: [u8; 4],
            found in 1..=0xffffu16,
            payload in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let (source, destination) = (source.into(), destination.into());
            let len = (HEADER_LEN + payload.len()) as u16;
            let header = Header { source_port: 1, destination_port: 2, len, checksum: found };
            let mut bytes = vec![0; HEADER_LEN];
            header.emit(&mut bytes);
            bytes.extend(payload);
            if let Err(error) = Datagram::parse(&bytes).unwrap().verify_ipv4(source, destination) {
                let ParseError::Checksum { found: named, computed } = error else {
                    panic!("{error}")
                };
                prop_assert_eq!(named, found);
                bytes[CHECKSUM].copy_from_slice(&computed.to_be_bytes());
            }
            let datagram = Datagram::parse(&bytes).unwrap();
            prop_assert_eq!(datagram.verify_ipv4(source, destination), Ok(()));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), len in 0..50u8) {
            let mut ours = bytes.clone();
            if ours.len() >= HEADER_LEN {
                ours[LEN].copy_from_slice(&[0, len]);
            }
            for bytes in [bytes, ours] {
                if let Ok(datagram) = Datagram::parse(&bytes) {
                    let _ = datagram.verify_ipv4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
                    let _ = datagram.verify_ipv6(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
                }
            }
        }
    }
}
