//! A capture in memory: what a sender sent, taken apart by the frame.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use doorbell::backend::pcap::{Pcap, PcapConfig};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// What was written so far; clones see the same bytes.
#[derive(Clone, Default)]
pub(crate) struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    /// A backend that writes here.
    pub(crate) fn backend(&self, destinations: &[&str]) -> Box<Pcap> {
        let destinations: Vec<SocketAddr> =
            destinations.iter().map(|to| to.parse().unwrap()).collect();
        Box::new(Pcap::new(Box::new(self.clone()), &PcapConfig::to(destinations)).unwrap())
    }

    /// The datagrams, once all is written: where each goes, and its payload.
    pub(crate) fn datagrams(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        let (datagrams, rest) = self.so_far();
        assert_eq!(rest, 0, "bytes after the last frame");
        datagrams
    }

    /// The datagrams of frames that are whole, and how many bytes there are of the next one.
    pub(crate) fn so_far(&self) -> (Vec<(SocketAddr, Vec<u8>)>, usize) {
        let capture = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut datagrams = Vec::new();
        let Some((file_header, mut rest)) = capture.split_at_checked(24) else {
            return (datagrams, capture.len());
        };
        assert_eq!(file_header[..4], 0xa1b2_3c4d_u32.to_le_bytes());
        while let Some((record, after)) = rest.split_at_checked(16) {
            let captured = u32::from_le_bytes(record[8..12].try_into().unwrap());
            let original = u32::from_le_bytes(record[12..].try_into().unwrap());
            assert_eq!(captured, original, "a frame was cut short");
            let Some((frame, after)) = after.split_at_checked(captured as usize) else { break };
            datagrams.push(datagram(frame));
            rest = after;
        }
        (datagrams, rest.len())
    }

    /// The payload of each datagram.
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        self.datagrams().into_iter().map(|(_, payload)| payload).collect()
    }
}

impl io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the datagram in a frame goes, and its payload. Checksums must be right, but over IPv4, UDP needs
/// none.
fn datagram(frame: &[u8]) -> (SocketAddr, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(frame).expect("a frame");
    let Some(TransportSlice::Udp(udp)) = &packet.transport else {
        panic!("no datagram: {packet:?}")
    };
    let (found, payload) = (udp.checksum(), udp.payload());
    let (destination, checksum) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "{ip:?}");
            let checksum = match found {
                0 => 0,
                _ => udp.to_header().calc_checksum_ipv4(&ip, payload).unwrap(),
            };
            (ip.destination.into(), checksum)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let ip = ip.header().to_header();
            let checksum = udp.to_header().calc_checksum_ipv6(&ip, payload).unwrap();
            (ip.destination.into(), checksum)
        }
        _ => panic!("no IP packet: {packet:?}"),
    };
    assert_eq!(found, checksum, "{udp:?}");
    (SocketAddr::new(destination, udp.destination_port()), payload.to_vec())
}
