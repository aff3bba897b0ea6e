//! Checksums as the NIC fills them in where it is asked to: IPv4 headers (RFC 791), and UDP over IPv4
//! (RFC 768) and IPv6 (RFC 8200, section 8.1). Whatever stands in the fields is replaced.

/// Fills in the checksums of an Ethernet frame. Frames that hold neither, and fragments, whose UDP
/// checksum covers bytes of other frames, are left alone.
pub(crate) fn fill(frame: &mut [u8]) {
    let tagged = frame.get(12..14) == Some(&ETHERTYPE_VLAN);
    let start = if tagged { 18 } else { 14 };
    let Some((ethernet, packet)) = frame.split_at_mut_checked(start) else { return };
    match ethernet[start - 2..] {
        [0x08, 0x00] => ipv4(packet),
        [0x86, 0xdd] => ipv6(packet),
        _ => {}
    }
}

fn ipv4(packet: &mut [u8]) {
    let header_length = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    if header_length < 20 || packet.len() < header_length {
        return;
    }
    let (header, payload) = packet.split_at_mut(header_length);
    header[10..12].fill(0);
    let checksum = finish(sum(header));
    header[10..12].copy_from_slice(&checksum);
    let fragment = header[6] & 0x3f != 0 || header[7] != 0;
    if header[9] == UDP && !fragment {
        let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let Some(payload) = payload.get_mut(..total.saturating_sub(header_length)) else { return };
        udp(sum(&header[12..20]), payload);
    }
}

fn ipv6(packet: &mut [u8]) {
    let Some((header, payload)) = packet.split_at_mut_checked(40) else { return };
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[6] == UDP
        && let Some(payload) = payload.get_mut(..length)
    {
        udp(sum(&header[8..40]), payload);
    }
}

/// `addresses` is the sum of what the pseudo-header has of the IP header.
fn udp(addresses: u64, datagram: &mut [u8]) {
    if datagram.len() < 8 {
        return;
    }
    datagram[6..8].fill(0);
    let pseudo = addresses + u64::from(UDP) + datagram.len() as u64;
    let checksum = match finish(pseudo + sum(datagram)) {
        // Zero would mean that there is none.
        [0, 0] => [0xff, 0xff],
        checksum => checksum,
    };
    datagram[6..8].copy_from_slice(&checksum);
}

fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks();
    let pairs: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    pairs + rest.first().map_or(0, |last| u64::from(*last) << 8)
}

fn finish(mut sum: u64) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
const UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of RFC 1071's usual worked example: its checksum is 0xb861.
    const HEADER: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];

    #[test]
    fn an_ipv4_header_gets_its_checksum_behind_a_tag_too() {
        for prefix in
            [[&[0; 12][..], &[8, 0]].concat(), [&[0; 12][..], &[0x81, 0, 0, 5, 8, 0]].concat()]
        {
            let mut frame = [&prefix[..], &HEADER, &[0; 95]].concat();
            fill(&mut frame);
            let header = &frame[prefix.len()..][..20];
            assert_eq!(header[10..12], [0xb8, 0x61]);
            let datagram = &frame[prefix.len() + 20..];
            assert_eq!(datagram[6..8], finish(sum(&header[12..20]) + 17 + 95));
        }
    }

    #[test]
    fn frames_that_are_cut_short_are_left_alone() {
        let whole = [&[0; 12][..], &[8, 0], &HEADER, &[0; 95]].concat();
        for length in 0..whole.len() {
            fill(&mut whole[..length].to_vec());
        }
    }
}
