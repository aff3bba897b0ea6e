use etherparse::{IpHeaders, Ipv4Header, Ipv6Header, PacketBuilder, SingleVlanHeader, VlanHeader};
use proptest::prelude::*;

use super::*;

/// Frames as Linux 6.18 emits them: datagrams sent from Python sockets with IP_PMTUDISC_DO over a TAP
/// device in a network namespace of its own, read from the device. TAP offers no checksum offload, so
/// the kernel filled all checksums in; `net.ipv6.auto_flowlabels` was 0; "unchecked" ones had
/// SO_NO_CHECK set.
const FROM_THE_KERNEL: [(&str, &str, &str, u8, &str, &str); 7] = [
    (
        "IPv4",
        "192.0.1.1:29000",
        "192.0.1.2:7148",
        64,
        "02000000000202000000000108004500002600004000\
         4011b8c3c0000101c000010271481bec00124a0a53504541442068656170",
        "SPEAD heap",
    ),
    (
        "IPv4, unchecked, odd length",
        "192.0.1.1:29000",
        "192.0.1.2:7148",
        64,
        "02000000000202000000000108004500002700004000\
         4011b8c2c0000101c000010271481bec001300005350454144206865617073",
        "SPEAD heaps",
    ),
    (
        "IPv4 multicast, unchecked",
        "192.0.1.1:29000",
        "239.129.2.3:7148",
        4,
        "01005e01020302000000000108004500002600004000\
         0411c441c0000101ef81020371481bec0012000053504541442068656170",
        "SPEAD heap",
    ),
    (
        "IPv6",
        "[2001:db8:1::1]:29000",
        "[2001:db8:1::2]:7148",
        64,
        "02000000000202000000000186dd6000000000121140\
         20010db800010000000000000000000120010db8000100000000000000000002\
         71481bec0012709753504541442068656170",
        "SPEAD heap",
    ),
    (
        "IPv6, odd length",
        "[2001:db8:1::1]:29000",
        "[2001:db8:1::2]:7148",
        64,
        "02000000000202000000000186dd6000000000131140\
         20010db800010000000000000000000120010db8000100000000000000000002\
         71481bec0013fd945350454144206865617073",
        "SPEAD heaps",
    ),
    (
        "IPv6 multicast",
        "[2001:db8:1::1]:29000",
        "[ff15::1:2:3]:7148",
        4,
        "33330002000302000000000186dd6000000000121104\
         20010db8000100000000000000000001ff150000000000000000000100020003\
         71481bec00129f3753504541442068656170",
        "SPEAD heap",
    ),
    (
        "IPv6, checksum of zero",
        "[2001:db8:1::1]:29000",
        "[2001:db8:1::2]:7148",
        64,
        "02000000000202000000000186dd6000000000141140\
         20010db800010000000000000000000120010db8000100000000000000000002\
         71481bec0014ffff535045414420686561707093",
        "SPEAD heap\u{70}\u{93}",
    ),
];

const UDP_CHECKSUM_FROM_END_OF_HEADER: usize = 2;

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect()
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|character| character as u8).collect()
}

fn header(source: &str, destination: &str, ttl: u8) -> FrameHeader {
    let destination: SocketAddr = destination.parse().unwrap();
    FrameHeader {
        source_mac: MacAddress([2, 0, 0, 0, 0, 1]),
        destination_mac: MacAddress::of_multicast(destination.ip())
            .unwrap_or(MacAddress([2, 0, 0, 0, 0, 2])),
        vlan: None,
        endpoints: Endpoints::new(source.parse().unwrap(), destination).unwrap(),
        ttl,
    }
}

/// A whole frame with a checksum, which over IPv4 is the sender's choice.
fn frame(header: &FrameHeader, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xee; header.len()];
    header.emit(payload.len(), &mut frame).unwrap();
    header.set_udp_checksum(header.udp_checksum(&[payload]), &mut frame).unwrap();
    frame.extend(payload);
    frame
}

/// The same frame by etherparse.
fn etherparses(header: &FrameHeader, payload: &[u8]) -> Vec<u8> {
    let ip = match header.endpoints {
        Endpoints::V4 { source, destination } => {
            let header = Ipv4Header {
                source: source.ip().octets(),
                destination: destination.ip().octets(),
                time_to_live: header.ttl,
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(header, Default::default())
        }
        Endpoints::V6 { source, destination } => {
            let header = Ipv6Header {
                source: source.ip().octets(),
                destination: destination.ip().octets(),
                hop_limit: header.ttl,
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, Default::default())
        }
    };
    let link = PacketBuilder::ethernet2(header.source_mac.0, header.destination_mac.0);
    let network = match header.vlan {
        None => link.ip(ip),
        Some(vlan) => {
            let tag = SingleVlanHeader {
                pcp: vlan.priority().try_into().unwrap(),
                vlan_id: vlan.id().try_into().unwrap(),
                ..SingleVlanHeader::default()
            };
            link.vlan(VlanHeader::Single(tag)).ip(ip)
        }
    };
    let [from, to] = [header.endpoints.source(), header.endpoints.destination()];
    let mut frame = Vec::new();
    network.udp(from.port(), to.port()).write(&mut frame, payload).unwrap();
    frame
}

#[test]
fn frames_equal_the_kernels() {
    for (name, source, destination, ttl, hex, payload) in FROM_THE_KERNEL {
        let (header, payload, kernels) =
            (header(source, destination, ttl), latin1(payload), bytes(hex));
        let mut ours = vec![0; header.len()];
        header.emit(payload.len(), &mut ours).unwrap();
        let checksum = header.len() - UDP_CHECKSUM_FROM_END_OF_HEADER;
        if kernels[checksum..][..2] != [0, 0] {
            let (start, end) = payload.split_at(3);
            header.set_udp_checksum(header.udp_checksum(&[start, end]), &mut ours).unwrap();
        }
        ours.extend(&payload);
        assert_eq!(ours, kernels, "{name}");
    }
}

#[test]
fn lengths_are_those_of_the_protocols() {
    let vlan = Vlan::new(1, 0).ok();
    assert_eq!(FrameHeader::len_for(EtherType::Ipv4, None), 42);
    assert_eq!(FrameHeader::len_for(EtherType::Ipv4, vlan), 46);
    assert_eq!(FrameHeader::len_for(EtherType::Ipv6, None), 62);
    assert_eq!(FrameHeader::len_for(EtherType::Ipv6, vlan), 66);
}

#[test]
fn the_longest_datagrams_are_whole_and_longer_ones_refused() {
    for (source, destination, maximum) in
        [("192.0.1.1:1", "192.0.1.2:2", 65_507), ("[2001:db8::1]:1", "[2001:db8::2]:2", 65_527)]
    {
        let header = header(source, destination, 1);
        let payload = vec![0xff; maximum];
        assert_eq!(frame(&header, &payload), etherparses(&header, &payload));

        let mut out = [0xee; 66];
        let error = EmitError::PayloadTooLong { length: maximum + 1, maximum };
        assert_eq!(header.emit(maximum + 1, &mut out), Err(error));
        let (length, needed) = (header.len() - 1, header.len());
        let error = EmitError::OutTooShort { length, needed };
        assert_eq!(header.emit(0, &mut out[..length]), Err(error));
        assert_eq!(header.set_udp_checksum(1, &mut out[..length]), Err(error));
        assert_eq!(out, [0xee; 66], "nothing is written");
    }
}

#[test]
fn families_do_not_mix() {
    let [v4, v6] = ["192.0.2.1:7148", "[2001:db8::1%3]:7148"].map(|a| a.parse().unwrap());
    assert_eq!(
        Endpoints::new(v4, v6).unwrap_err().to_string(),
        "no packet goes from 192.0.2.1:7148 to [2001:db8::1%3]:7148: both must be IPv4, or both IPv6"
    );
    assert!(Endpoints::new(v6, v4).is_err());
    let mapped = "[::ffff:192.0.2.2]:7148".parse().unwrap();
    let endpoints = Endpoints::new(v4, mapped).unwrap();
    assert_eq!(endpoints.destination().to_string(), "192.0.2.2:7148");
    assert_eq!(Endpoints::new(v6, v6).unwrap().source().to_string(), "[2001:db8::1]:7148");
}

fn headers() -> impl Strategy<Value = FrameHeader> {
    let v4 = any::<([u8; 4], u16, [u8; 4], u16)>().prop_map(|(from, from_port, to, to_port)| {
        Endpoints::V4 {
            source: SocketAddrV4::new(from.into(), from_port),
            destination: SocketAddrV4::new(to.into(), to_port),
        }
    });
    let v6 = any::<([u8; 16], u16, [u8; 16], u16)>().prop_map(|(from, from_port, to, to_port)| {
        Endpoints::V6 {
            source: SocketAddrV6::new(from.into(), from_port, 0, 0),
            destination: SocketAddrV6::new(to.into(), to_port, 0, 0),
        }
    });
    let vlan = proptest::option::of((1..4095u16, 0..8u8));
    (any::<[u8; 6]>(), any::<[u8; 6]>(), vlan, prop_oneof![v4, v6], any::<u8>()).prop_map(
        |(source, destination, vlan, endpoints, ttl)| FrameHeader {
            source_mac: MacAddress(source),
            destination_mac: MacAddress(destination),
            vlan: vlan.map(|(id, priority)| Vlan::new(id, priority).unwrap()),
            endpoints,
            ttl,
        },
    )
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..200)
}

proptest! {
    #[test]
    fn frames_equal_etherparses(header in headers(), payload in payloads()) {
        let theirs = etherparses(&header, &payload);
        prop_assert_eq!(frame(&header, &payload), theirs);
    }

    /// No checksum is ever 0, which would mean that there is none: the last word of the payload is such
    /// that the sum is all ones without it.
    #[test]
    fn a_checksum_of_zero_is_sent_as_ones(header in headers(), mut payload in payloads()) {
        payload.truncate(payload.len() / 2 * 2);
        let sum = header.udp_checksum(&[&payload, &[0, 0]]);
        payload.extend(sum.to_be_bytes());
        prop_assert_eq!(header.udp_checksum(&[&payload]), 0xffff);
        prop_assert_eq!(frame(&header, &payload), etherparses(&header, &payload));
    }

    #[test]
    fn a_payload_in_pieces_has_the_checksum_of_the_whole(
        header in headers(),
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..8),
    ) {
        let whole = header.udp_checksum(&[&pieces.concat()]);
        let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(header.udp_checksum(&pieces), whole);
    }
}
