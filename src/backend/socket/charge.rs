//! What a packet costs the socket that is to receive it.

use crate::page::PAGE;

/// What the kernel charges a socket's receive buffer with for a packet of `packet_len` bytes of UDP payload, at
/// most, in bytes.
///
/// That is all memory that the packet takes (`truesize`): up to 16 KiB one buffer, which comes in powers of
/// two (`kmalloc`), beyond, pages.
pub(crate) const fn charge(packet_len: usize) -> usize {
    let bytes = match packet_len {
        0..=MAX_LINEAR => (packet_len + SHARED_INFO).next_power_of_two(),
        _ => packet_len.saturating_add(PAGE),
    };
    bytes.saturating_add(OVERHEAD)
}

/// How much of a receive buffer can be filled at any time. A quarter stays free: what is read is given back
/// in portions of that size (`udp_rmem_release` in `net/ipv4/udp.c`).
pub(crate) const fn usable(buffer: usize) -> usize {
    buffer / 4 * 3
}

/// `SKB_MAX_ALLOC`: longer packets are put together from pages.
const MAX_LINEAR: usize = 16 << 10;
/// Headers and `struct skb_shared_info`, which lie in the same buffer as the packet.
const SHARED_INFO: usize = 512;
/// `struct sk_buff`, and some more.
const OVERHEAD: usize = 1024;

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};

    use super::*;
    use crate::backend::socket::Diagnosis;

    #[test]
    fn the_kernel_charges_no_more() {
        // Where there is no IPv6 there is nothing to find out about it.
        let v6 = UdpSocket::bind("[::1]:0").is_ok().then_some("[::1]:0");
        for address in ["127.0.0.1:0"].into_iter().chain(v6) {
            let mut diagnosis = Diagnosis::open().unwrap();
            let sender = UdpSocket::bind(address).unwrap();
            let powers = (3..=15).map(|exponent| 1_usize << exponent);
            let near = powers
                .flat_map(|len| [len.saturating_sub(512), len.saturating_sub(64), len, len + 1]);
            for len in near.chain([1472, 8972, 16_064, 65_000]).filter(|len| *len < 1 << 16) {
                let receiver = UdpSocket::bind(address).unwrap();
                let to = receiver.local_addr().unwrap();
                sender.send_to(&vec![0; len], to).unwrap();
                let charged = diagnosis.backlog(to).unwrap().unwrap().bytes as usize;
                assert!((1..=charge(len)).contains(&charged), "{len} bytes: {charged}");
            }
        }
    }

    #[test]
    fn nor_for_packets_that_it_has_cut_out_of_a_message() {
        let mut diagnosis = Diagnosis::open().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for len in [8_u16, 500, 1472, 4000, 8972] {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = receiver.local_addr().unwrap();
            sender.connect(to).unwrap();
            let count = (65_000 / usize::from(len)).min(32);
            let bytes = vec![0; count * usize::from(len)];
            let control = [ControlMessage::UdpGsoSegments(&len)];
            let (flags, pieces) = (MsgFlags::empty(), [IoSlice::new(&bytes)]);
            sendmsg::<SockaddrIn>(sender.as_raw_fd(), &pieces, &control, flags, None).unwrap();
            let charged = diagnosis.backlog(to).unwrap().unwrap().bytes as usize;
            let most = count * charge(len.into());
            assert!((1..=most).contains(&charged), "{count} of {len} bytes: {charged}");
        }
    }
}
