//! IPv6 headers of UDP datagrams ([RFC 8200](https://www.rfc-editor.org/rfc/rfc8200)).

use std::{net::Ipv6Addr, ops::Range};

use super::udp;

/// The IPv6 header of a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Who sends the packet.
    pub(super) source: Ipv6Addr,
    /// Who is to receive it.
    pub(super) destination: Ipv6Addr,
    /// How many routers it may pass.
    pub(super) hop_limit: u8,
    /// Length of what follows the header, in bytes.
    pub(super) payload_len: u16,
}

impl Header {
    /// Writes the header, 40 bytes, to the start of `out`. Traffic class and flow label are 0.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than the header.
    pub(super) fn emit(&self, out: &mut [u8]) {
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

/// Length of an IPv6 header in bytes.
pub(super) const HEADER_LEN: usize = 40;

const VERSION_AND_CLASS: usize = 0;
const PAYLOAD_LEN: Range<usize> = 4..6;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
const SOURCE: Range<usize> = 8..24;
const DESTINATION: Range<usize> = 24..40;

const VERSION: u8 = 6;
