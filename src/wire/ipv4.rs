//! IPv4 headers of UDP datagrams ([RFC 791](https://www.rfc-editor.org/rfc/rfc791)).

use std::{net::Ipv4Addr, ops::Range};

use super::{checksum::Checksum, udp};

/// The IPv4 header of a UDP datagram that is never fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Who sends the packet.
    pub(super) source: Ipv4Addr,
    /// Who is to receive it.
    pub(super) destination: Ipv4Addr,
    /// How many routers it may pass.
    pub(super) ttl: u8,
    /// Length of header and payload in bytes.
    pub(super) total_len: u16,
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
    pub(super) fn emit(&self, out: &mut [u8]) {
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

/// Length of an IPv4 header without options, in bytes.
pub(super) const HEADER_LEN: usize = 20;

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
