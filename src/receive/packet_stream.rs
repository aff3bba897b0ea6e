//! Packets out of a stream of bytes, as TCP has them: one after the other, nothing in between.

use crate::wire::{HEADER_LEN, ITEM_POINTER_LEN, PacketError, PacketHead};

/// Bytes of a stream, until they are packets.
#[derive(Debug)]
pub(super) struct PacketStream {
    bytes: Vec<u8>,
    /// Of those in use.
    start: usize,
    end: usize,
    max_packet: usize,
}

/// Where in the stream no packet begins that can be taken: nothing says where the next one would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutOfStep;

impl PacketStream {
    /// A stream of packets of `max_payload` bytes at most.
    pub(super) fn new(max_payload: usize) -> Self {
        let max_packet = max_payload.saturating_add(MAX_HEAD);
        Self { bytes: vec![0; ROOM.min(max_packet)], start: 0, end: 0, max_packet }
    }

    /// Where to put what comes next: never empty.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            // A packet that is longer than all those before; no longer than it may be.
            self.bytes.resize((2 * self.end).min(self.max_packet).max(self.end + 1), 0);
        }
        &mut self.bytes[self.end..]
    }

    /// This much was put there.
    pub(super) fn filled(&mut self, len: usize) {
        self.end = (self.end + len).min(self.bytes.len());
    }

    /// The next packet, if it is there.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, OutOfStep> {
        let bytes = &self.bytes[self.start..self.end];
        let (head, _) = match PacketHead::parse(bytes) {
            Ok(parsed) => parsed,
            Err(PacketError::Short { .. }) if bytes.len() < MAX_HEAD => return Ok(None),
            Err(_) => return Err(OutOfStep),
        };
        let len = usize::try_from(head.header().payload_length)
            .ok()
            .and_then(|len| len.checked_add(head.len()))
            .filter(|&len| len <= self.max_packet)
            .ok_or(OutOfStep)?;
        if bytes.len() < len {
            return Ok(None);
        }
        let start = self.start;
        self.start += len;
        Ok(Some(&self.bytes[start..start + len]))
    }

    /// Whether part of a packet is there.
    pub(super) fn is_within_packet(&self) -> bool {
        self.start < self.end
    }
}

/// Takes `bytes` for a stream, in pieces of any length that `pieces` say, and in one.
///
/// # Panics
///
/// If that makes a difference, or packets are not what the stream has.
#[doc(hidden)]
pub fn arbitrary_stream(bytes: &[u8], pieces: &[u8]) {
    let cut = |mut pieces: Box<dyn Iterator<Item = usize>>| {
        let mut stream = PacketStream::new(MAX_ARBITRARY);
        let (mut rest, mut packets) = (bytes, Vec::new());
        while !rest.is_empty() {
            let room = stream.room();
            assert!(!room.is_empty() && room.len() <= MAX_ARBITRARY + MAX_HEAD);
            let len = pieces.next().unwrap_or(usize::MAX).clamp(1, room.len()).min(rest.len());
            room[..len].copy_from_slice(&rest[..len]);
            stream.filled(len);
            rest = &rest[len..];
            loop {
                match stream.next() {
                    Ok(Some(packet)) => packets.push(packet.to_vec()),
                    Ok(None) => break,
                    Err(OutOfStep) => return (packets, false),
                }
            }
        }
        (packets, true)
    };
    let pieces: Vec<usize> = pieces.iter().map(|&len| len.into()).collect();
    let (packets, in_step) = cut(Box::new(std::iter::empty()));
    assert_eq!(cut(Box::new(pieces.into_iter().cycle())), (packets.clone(), in_step));
    assert!(bytes.starts_with(&packets.concat()));
    assert!(packets.iter().all(|packet| crate::wire::Packet::parse(packet).is_ok()));
}

/// The longest head of a packet: its item pointers are counted in 16 bits.
const MAX_HEAD: usize = HEADER_LEN + (u16::MAX as usize) * ITEM_POINTER_LEN;
/// What a read takes at once.
const ROOM: usize = 1 << 20;
const MAX_ARBITRARY: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Flavour, PacketHeader};

    proptest! {
        #[test]
        fn packets_come_out_as_they_went_in(
            lens in prop::collection::vec(0_usize..2000, 0..20), pieces in prop::collection::vec(any::<u8>(), 1..20),
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut bytes = Vec::new();
            for len in &lens {
                let mut packet = vec![0; HEADER_LEN];
                PacketHeader {
                    flavour: Flavour::SPEAD_64_48,
                    item_pointers: 0,
                    heap_cnt: 1,
                    heap_length: *len as u64,
                    payload_offset: 0,
                    payload_length: *len as u64,
                }
                .emit(&mut packet);
                packet.resize(HEADER_LEN + len, 7);
                bytes.extend(packet);
            }
            if let Some((at, byte)) = damage && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            arbitrary_stream(&bytes, &pieces);
        }
    }
}
