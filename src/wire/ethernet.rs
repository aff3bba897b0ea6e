//! Ethernet II framing, with or without an 802.1Q tag.

use std::{fmt, net::IpAddr, ops::Range, str::FromStr};

/// A 48-bit MAC address, written `02:00:5e:10:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The address frames to a multicast `group` go to, with no neighbour to ask: `01:00:5e` and the
    /// low 23 bits of an IPv4 group ([RFC 1112, section 6.4](https://www.rfc-editor.org/rfc/rfc1112#section-6.4)),
    /// `33:33` and the low 32 bits of an IPv6 one
    /// ([RFC 2464, section 7](https://www.rfc-editor.org/rfc/rfc2464#section-7)). `None` if `group` is
    /// not a multicast address.
    pub fn of_multicast(group: IpAddr) -> Option<MacAddress> {
        match group.to_canonical() {
            IpAddr::V4(group) if group.is_multicast() => {
                let [_, b, c, d] = group.octets();
                Some(MacAddress([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
            }
            IpAddr::V6(group) if group.is_multicast() => {
                let [.., a, b, c, d] = group.octets();
                Some(MacAddress([0x33, 0x33, a, b, c, d]))
            }
            _ => None,
        }
    }

    /// Whether frames to this address go to a group, or to everybody.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    /// Reads six two-digit hexadecimal bytes with colons, or hyphens, between them.
    fn from_str(text: &str) -> Result<MacAddress, MacAddressError> {
        let error = || MacAddressError { text: text.to_owned() };
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut parts = text.split(separator);
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            let digits = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(error)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(MacAddress(bytes)) }
    }
}

/// A text that is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a MAC address: expected six two-digit hexadecimal bytes with colons between \
     them, such as 02:00:5e:10:00:01"
)]
#[non_exhaustive]
pub struct MacAddressError {
    /// The text.
    pub text: String,
}

/// An IEEE 802.1Q tag: which virtual LAN a frame belongs to, and its priority there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vlan {
    id: u16,
    priority: u8,
}

impl Vlan {
    /// A tag for VLAN `id` (1 to 4094) with `priority` (0 to 7, the tag's PCP).
    ///
    /// # Errors
    ///
    /// If either is out of range: 802.1Q gives ids 0 and 4095 other meanings.
    pub const fn new(id: u16, priority: u8) -> Result<Vlan, VlanError> {
        if id < 1 || id > 4094 {
            Err(VlanError::Id { id })
        } else if priority > 7 {
            Err(VlanError::Priority { priority })
        } else {
            Ok(Vlan { id, priority })
        }
    }

    /// The VLAN, 1 to 4094.
    pub const fn id(self) -> u16 {
        self.id
    }

    /// The priority, 0 to 7; 0 unless somebody asked for more.
    pub const fn priority(self) -> u8 {
        self.priority
    }

    const fn control(self) -> u16 {
        (self.priority as u16) << 13 | self.id
    }
}

/// A VLAN tag that 802.1Q does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VlanError {
    /// The VLAN id is reserved, or takes more than its 12 bits.
    #[error("VLAN id {id} is out of range: expected 1 to 4094")]
    Id {
        /// The id.
        id: u16,
    },
    /// The priority takes more than its 3 bits.
    #[error("VLAN priority {priority} is out of range: expected 0 to 7")]
    Priority {
        /// The priority.
        priority: u8,
    },
}

/// What follows the Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum EtherType {
    /// An IPv4 packet.
    Ipv4 = 0x0800,
    /// An IPv6 packet.
    Ipv6 = 0x86dd,
}

impl EtherType {
    /// The one that carries packets to `address`; an IPv4-mapped IPv6 address counts as IPv4, as it
    /// does for the kernel.
    pub fn of(address: IpAddr) -> EtherType {
        match address.to_canonical() {
            IpAddr::V4(_) => EtherType::Ipv4,
            IpAddr::V6(_) => EtherType::Ipv6,
        }
    }
}

/// The Ethernet header of a frame. The preamble and the frame check sequence are the hardware's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who sends the frame.
    pub source: MacAddress,
    /// Who is to receive it.
    pub destination: MacAddress,
    /// The virtual LAN it belongs to, if it is tagged.
    pub vlan: Option<Vlan>,
    /// What it carries.
    pub ethertype: EtherType,
}

impl Header {
    /// Length in bytes: 14, or 18 with a VLAN tag.
    pub const fn len_for(vlan: Option<Vlan>) -> usize {
        match vlan {
            None => HEADER_LEN,
            Some(_) => HEADER_LEN + VLAN_LEN,
        }
    }

    /// Writes the header to the start of `out`.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than the header.
    pub fn emit(&self, out: &mut [u8]) {
        out[DESTINATION].copy_from_slice(&self.destination.0);
        out[SOURCE].copy_from_slice(&self.source.0);
        let ethertype = (self.ethertype as u16).to_be_bytes();
        match self.vlan {
            None => out[ETHERTYPE].copy_from_slice(&ethertype),
            Some(vlan) => {
                out[ETHERTYPE].copy_from_slice(&VLAN_ETHERTYPE.to_be_bytes());
                out[VLAN_CONTROL].copy_from_slice(&vlan.control().to_be_bytes());
                out[TAGGED_ETHERTYPE].copy_from_slice(&ethertype);
            }
        }
    }
}

/// A frame, taken apart at the end of its Ethernet header.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The Ethernet header.
    pub header: Header,
    /// What follows it, with any padding to the minimum frame of 60 bytes.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes `bytes`, a frame without its frame check sequence, apart.
    ///
    /// # Errors
    ///
    /// If the header is cut off, has a VLAN id that no VLAN has, or announces neither IPv4 nor IPv6.
    pub fn parse(bytes: &'a [u8]) -> Result<Frame<'a>, ParseError> {
        let truncated = |needed| ParseError::Truncated { length: bytes.len(), needed };
        let (header, payload) =
            bytes.split_first_chunk::<HEADER_LEN>().ok_or(truncated(HEADER_LEN))?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, outer @ ..] = *header;
        let (vlan, ethertype, payload) = match u16::from_be_bytes(outer) {
            VLAN_ETHERTYPE => {
                let (&[t, u, inner @ ..], payload) = payload
                    .split_first_chunk::<VLAN_LEN>()
                    .ok_or(truncated(HEADER_LEN + VLAN_LEN))?;
                let control = u16::from_be_bytes([t, u]);
                let vlan = Vlan::new(control & 0x0fff, (control >> 13) as u8)?;
                (Some(vlan), u16::from_be_bytes(inner), payload)
            }
            ethertype => (None, ethertype, payload),
        };
        let ethertype = match ethertype {
            IPV4 => EtherType::Ipv4,
            IPV6 => EtherType::Ipv6,
            other => return Err(ParseError::EtherType { ethertype: other }),
        };
        let destination = MacAddress([a, b, c, d, e, f]);
        let source = MacAddress([g, h, i, j, k, l]);
        Ok(Frame { header: Header { source, destination, vlan, ethertype }, payload })
    }
}

/// Why bytes are not an Ethernet frame with an IP packet in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The frame ends inside its header.
    #[error("the frame has {length} bytes: its Ethernet header needs {needed}")]
    Truncated {
        /// Bytes there are.
        length: usize,
        /// Bytes the header takes.
        needed: usize,
    },
    /// The tag is none that a VLAN has.
    #[error(transparent)]
    Vlan(#[from] VlanError),
    /// The frame carries another protocol.
    #[error("EtherType {ethertype:#06x} is neither IPv4 (0x0800) nor IPv6 (0x86dd)")]
    EtherType {
        /// The protocol it announces.
        ethertype: u16,
    },
}

/// Length of an untagged Ethernet header in bytes.
pub const HEADER_LEN: usize = 14;
/// What a VLAN tag adds to it, in bytes.
pub const VLAN_LEN: usize = 4;

const DESTINATION: Range<usize> = 0..6;
const SOURCE: Range<usize> = 6..12;
const ETHERTYPE: Range<usize> = 12..14;
const VLAN_CONTROL: Range<usize> = 14..16;
const TAGGED_ETHERTYPE: Range<usize> = 16..18;

const IPV4: u16 = EtherType::Ipv4 as u16;
const IPV6: u16 = EtherType::Ipv6 as u16;
const VLAN_ETHERTYPE: u16 = 0x8100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn multicast(group: &str) -> Option<String> {
        MacAddress::of_multicast(group.parse().unwrap()).map(|mac| mac.to_string())
    }

    #[test]
    fn multicast_groups_have_addresses_of_their_own() {
        // The highest bit of the second byte is not carried over (RFC 1112): both share an address.
        assert_eq!(multicast("239.1.2.3").unwrap(), "01:00:5e:01:02:03");
        assert_eq!(multicast("239.129.2.3").unwrap(), "01:00:5e:01:02:03");
        assert_eq!(multicast("224.0.0.251").unwrap(), "01:00:5e:00:00:fb");
        assert_eq!(multicast("ff02::1:ff12:3456").unwrap(), "33:33:ff:12:34:56");
        assert_eq!(multicast("::ffff:239.1.2.3").unwrap(), "01:00:5e:01:02:03");
        for unicast in ["192.0.2.1", "255.255.255.255", "2001:db8::1", "240.0.0.1"] {
            assert_eq!(multicast(unicast), None, "{unicast}");
        }
        assert!(MacAddress([0x01, 0, 0x5e, 1, 2, 3]).is_multicast());
        assert!(!MacAddress([0x02, 0, 0x5e, 1, 2, 3]).is_multicast());
    }

    #[test]
    fn addresses_are_read_or_refused_with_the_reason() {
        let mac = MacAddress([0x02, 0x00, 0x5e, 0xab, 0xcd, 0xef]);
        for text in ["02:00:5e:ab:cd:ef", "02:00:5E:AB:CD:EF", "02-00-5e-ab-cd-ef"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        for text in [
            "",
            "02:00:5e:ab:cd",
            "02:00:5e:ab:cd:ef:01",
            "2:0:5e:ab:cd:ef",
            "02:00:5e:ab:cd:+f",
            "02:00:5e:ab-cd-ef",
            "02005eabcdef",
            "02:00:5e:ab:cd:e\u{e9}",
        ] {
            let error = text.parse::<MacAddress>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is not a MAC address")), "{error}");
        }
    }

    #[test]
    fn vlan_ids_and_priorities_have_limits() {
        assert_eq!(Vlan::new(0, 0), Err(VlanError::Id { id: 0 }));
        assert_eq!(Vlan::new(4095, 0), Err(VlanError::Id { id: 4095 }));
        assert_eq!(Vlan::new(1, 8), Err(VlanError::Priority { priority: 8 }));
        assert!(Vlan::new(1, 0).is_ok() && Vlan::new(4094, 7).is_ok());
    }

    /// TPID 8100, then priority 5, no drop eligibility, VLAN 100: IEEE 802.1Q-2018, 9.6.
    #[test]
    fn the_tag_lies_between_source_and_ethertype() {
        let header = Header {
            source: MacAddress([2, 0, 0, 0, 0, 1]),
            destination: MacAddress([2, 0, 0, 0, 0, 2]),
            vlan: Some(Vlan::new(100, 5).unwrap()),
            ethertype: EtherType::Ipv6,
        };
        let mut out = [0; 18];
        header.emit(&mut out);
        assert_eq!(out, *b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x81\x00\xa0\x64\x86\xdd");
    }

    #[test]
    fn other_protocols_and_tags_are_refused() {
        let mut frame = [0; 18];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        let error = Frame::parse(&frame).unwrap_err();
        assert_eq!(
            error.to_string(),
            "EtherType 0x0806 is neither IPv4 (0x0800) nor IPv6 (0x86dd)"
        );
        frame[12..].copy_from_slice(&[0x81, 0x00, 0x0f, 0xff, 0x08, 0x00]);
        assert_eq!(Frame::parse(&frame).unwrap_err(), VlanError::Id { id: 4095 }.into());
        let error = Frame::parse(&frame[..17]).unwrap_err();
        assert_eq!(error, ParseError::Truncated { length: 17, needed: 18 });
        let error = Frame::parse(&frame[..13]).unwrap_err();
        assert_eq!(error, ParseError::Truncated { length: 13, needed: 14 });
    }

    proptest! {
        #[test]
        fn parse_undoes_emit(
            source: [u8; 6],
            destination: [u8; 6],
            tag in proptest::option::of((1..4095u16, 0..8u8)),
            v6: bool,
            payload in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let header = Header {
                source: MacAddress(source),
                destination: MacAddress(destination),
                vlan: tag.map(|(id, priority)| Vlan::new(id, priority).unwrap()),
                ethertype: if v6 { EtherType::Ipv6 } else { EtherType::Ipv4 },
            };
            let mut bytes = vec![0xee; Header::len_for(header.vlan)];
            header.emit(&mut bytes);
            bytes.extend(&payload);
            let frame = Frame::parse(&bytes).unwrap();
            prop_assert_eq!(frame.header, header);
            prop_assert_eq!(frame.payload, payload);
        }

        #[test]
        fn from_str_undoes_display(bytes: [u8; 6]) {
            prop_assert_eq!(MacAddress(bytes).to_string().parse(), Ok(MacAddress(bytes)));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<MacAddress>();
        }

        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..30), tagged: bool) {
            if tagged && bytes.len() >= ETHERTYPE.end {
                bytes[ETHERTYPE].copy_from_slice(&VLAN_ETHERTYPE.to_be_bytes());
            }
            let _ = Frame::parse(&bytes);
        }
    }
}
