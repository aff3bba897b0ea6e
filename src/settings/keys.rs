//! The keys that errors name.
#![allow(missing_docs, reason = "each is the setting of that key")]

use super::Key;

pub const TO: Key = Key::new("stream.to");
pub const PACKET_SIZE: Key = Key::new("stream.packet_size");
pub const MTU: Key = Key::new("stream.mtu");
pub const FLAVOUR: Key = Key::new("stream.flavour");
pub const CNT_START: Key = Key::new("stream.cnt_start");
pub const CNT_STEP: Key = Key::new("stream.cnt_step");
pub const TTL: Key = Key::new("stream.ttl");
pub const VLAN: Key = Key::new("stream.vlan");
pub const DST_MAC: Key = Key::new("stream.dst_mac");
pub const SOURCE_PORT: Key = Key::new("stream.source_port");
pub const HEAPS: Key = Key::new("heap.count");
pub const DESCRIPTORS_EVERY: Key = Key::new("heap.descriptors_every");
pub const BATCH_HEAPS: Key = Key::new("batch.heaps");
pub const IN_FLIGHT: Key = Key::new("batch.in_flight");
pub const RATE: Key = Key::new("pacing.rate");
pub const RATE_COUNTS: Key = Key::new("pacing.rate_counts");
pub const BURST_RATE_RATIO: Key = Key::new("pacing.burst_rate_ratio");
pub const BURST: Key = Key::new("pacing.burst");
pub const PACING: Key = Key::new("pacing.mode");
pub const HOLD_BACK: Key = Key::new("pacing.hold_back");
pub const BACKEND: Key = Key::new("backend.kind");
pub const INTERFACE: Key = Key::new("backend.interface");
pub const DEVICE: Key = Key::new("backend.device");
pub const QP: Key = Key::new("backend.qp");
pub const PCAP: Key = Key::new("backend.pcap");
pub const FORCE: Key = Key::new("backend.force");
pub const CPU: Key = Key::new("backend.cpu");
pub const SHARE: Key = Key::new("senders.share");
pub const RANK: Key = Key::new("senders.rank");
pub const RANKS: Key = Key::new("senders.ranks");
