//! Ethernet II framing, with or without an 802.1Q tag.

use std::{net::IpAddr, ops::Range};

use super::{MacAddress, Vlan};

/// What follows the Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub(crate) enum EtherType {
    /// An IPv4 packet.
    Ipv4 = 0x0800,
    /// An IPv6 packet.
    Ipv6 = 0x86dd,
}

impl EtherType {
    /// The one that carries packets to `address`; an IPv4-mapped IPv6 address counts as IPv4, as it
    /// does for the kernel.
    pub(crate) fn of(address: IpAddr) -> EtherType {
        match address.to_canonical() {
            IpAddr::V4(_) => EtherType::Ipv4,
            IpAddr::V6(_) => EtherType::Ipv6,
        }
    }
}

/// The Ethernet header of a frame. The preamble and the frame check sequence are the hardware's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Who sends the frame.
    pub(super) source: MacAddress,
    /// Who is to receive it.
    pub(super) destination: MacAddress,
    /// The virtual LAN it belongs to, if it is tagged.
    pub(super) vlan: Option<Vlan>,
    /// What it carries.
    pub(super) ethertype: EtherType,
}

impl Header {
    /// Length in bytes: 14, or 18 with a VLAN tag.
    pub(super) const fn len_for(vlan: Option<Vlan>) -> usize {
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
    pub(super) fn emit(&self, out: &mut [u8]) {
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

/// Length of an untagged Ethernet header in bytes.
pub(super) const HEADER_LEN: usize = 14;
/// What a VLAN tag adds to it, in bytes.
pub(super) const VLAN_LEN: usize = 4;

const DESTINATION: Range<usize> = 0..6;
const SOURCE: Range<usize> = 6..12;
const ETHERTYPE: Range<usize> = 12..14;
const VLAN_CONTROL: Range<usize> = 14..16;
const TAGGED_ETHERTYPE: Range<usize> = 16..18;

const VLAN_ETHERTYPE: u16 = 0x8100;

#[cfg(test)]
mod tests {
    use super::*;

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
}
