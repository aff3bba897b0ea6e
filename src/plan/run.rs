//! Runs: packets that go as one message.

use std::ops::Range;

use super::packets::PlannedPacket;

/// Packets that follow each other, go to one flow and have one size, but for the last of them, which
/// may be shorter: what segmentation offload takes as one message (`UDP_SEGMENT` of udp(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which packets.
    pub packets: Range<u32>,
    /// Where they go.
    pub flow: u32,
    /// Bytes of each packet but the last.
    pub segment: u32,
    /// Bytes of all packets together.
    pub bytes: u32,
}

/// How much a run may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// Packets; 1 where there is no segmentation offload.
    pub segments: u32,
    /// Bytes of SPEAD.
    pub bytes: u32,
}

impl RunLimits {
    /// Each packet goes by itself.
    pub const ONE_PACKET: Self = Self { segments: 1, bytes: u32::MAX };
}

/// Cuts packets into runs, each as long as can be.
pub fn runs(packets: &[PlannedPacket], limits: RunLimits) -> impl Iterator<Item = Run> + '_ {
    let mut next = 0;
    std::iter::from_fn(move || {
        let first = packets.get(next)?;
        let start = next;
        let segment = first.len() as u32;
        let mut bytes = segment;
        next += 1;
        while let Some(packet) = packets.get(next) {
            let len = packet.len() as u32;
            let full = (next - start) as u32 >= limits.segments || bytes + len > limits.bytes;
            // A message ends with its first short packet.
            let after_short = packets[next - 1].len() as u32 != segment;
            if full || after_short || len > segment || packet.flow != first.flow {
                break;
            }
            bytes += len;
            next += 1;
        }
        Some(Run { packets: start as u32..next as u32, flow: first.flow, segment, bytes })
    })
}
