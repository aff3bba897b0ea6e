//! A capture in memory: what a sender sent, taken apart by the frame.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use doorbell::backend::pcap::{Pcap, PcapConfig};
use doorbell::wire::frame::{Frame, FrameHeader};

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

    /// The frames: what is before the payload of each datagram, and that payload.
    pub(crate) fn frames(&self) -> Vec<(FrameHeader, Vec<u8>)> {
        let capture = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (file_header, mut rest) = capture.split_at(24);
        assert_eq!(file_header[..4], 0xa1b2_3c4d_u32.to_le_bytes());
        let mut frames = Vec::new();
        while let Some((record, after)) = rest.split_at_checked(16) {
            let captured = u32::from_le_bytes(record[8..12].try_into().unwrap());
            let original = u32::from_le_bytes(record[12..].try_into().unwrap());
            assert_eq!(captured, original, "a frame was cut short");
            let (frame, after) = after.split_at(captured as usize);
            let frame = Frame::parse(frame).unwrap();
            frames.push((frame.header, frame.payload.to_vec()));
            rest = after;
        }
        assert!(rest.is_empty(), "{} bytes after the last frame", rest.len());
        frames
    }

    /// The payload of each datagram.
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        self.frames().into_iter().map(|(_, payload)| payload).collect()
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
