//! UDP datagrams ([RFC 768](https://www.rfc-editor.org/rfc/rfc768)).

use std::ops::Range;

use super::checksum::Checksum;

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The sender's port.
    pub(super) source_port: u16,
    /// The receiver's port.
    pub(super) destination_port: u16,
    /// Length of header and payload in bytes.
    pub(super) len: u16,
    /// What [`checksum_field`] makes of the datagram's sum; 0 for none, which only IPv4 allows.
    pub(super) checksum: u16,
}

impl Header {
    /// Writes the header, 8 bytes, to the start of `out`.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than the header.
    pub(super) fn emit(&self, out: &mut [u8]) {
        out[SOURCE_PORT].copy_from_slice(&self.source_port.to_be_bytes());
        out[DESTINATION_PORT].copy_from_slice(&self.destination_port.to_be_bytes());
        out[LEN].copy_from_slice(&self.len.to_be_bytes());
        out[CHECKSUM].copy_from_slice(&self.checksum.to_be_bytes());
    }
}

/// The field's value for a datagram whose pseudo-header, header and payload add up to `sum`: a
/// checksum of zero is transmitted as all ones, its equal in ones' complement, as zero says that there
/// is none (RFC 768).
pub(super) fn checksum_field(sum: Checksum) -> u16 {
    match sum.finish() {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// Length of a UDP header in bytes.
pub(super) const HEADER_LEN: usize = 8;
/// UDP's number among the protocols of IP.
pub(super) const PROTOCOL: u8 = 17;
/// Where in the header the checksum lies.
pub(super) const CHECKSUM: Range<usize> = 6..8;

const SOURCE_PORT: Range<usize> = 0..2;
const DESTINATION_PORT: Range<usize> = 2..4;
const LEN: Range<usize> = 4..6;
