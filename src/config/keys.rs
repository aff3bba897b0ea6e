//! The keys that errors name.

use super::Key;

pub(super) const TO: Key = Key("stream.to");
pub(super) const PACKET_SIZE: Key = Key("stream.packet_size");
pub(super) const MTU: Key = Key("stream.mtu");
pub(super) const FLAVOUR: Key = Key("stream.flavour");
pub(super) const CNT_START: Key = Key("stream.cnt_start");
pub(super) const CNT_STEP: Key = Key("stream.cnt_step");
pub(super) const TTL: Key = Key("stream.ttl");
pub(super) const VLAN: Key = Key("stream.vlan");
pub(super) const DST_MAC: Key = Key("stream.dst_mac");
pub(super) const SOURCE_PORT: Key = Key("stream.source_port");
pub(super) const HEAP_SIZE: Key = Key("heap.size");
pub(super) const HEAPS: Key = Key("heap.count");
pub(super) const ITEMS: Key = Key("heap.items");
pub(super) const DESCRIPTORS_EVERY: Key = Key("heap.descriptors_every");
pub(super) const SOURCE: Key = Key("source.kind");
pub(super) const DTYPE: Key = Key("source.dtype");
pub(super) const SHAPE: Key = Key("source.shape");
pub(super) const REPEAT: Key = Key("source.repeat");
pub(super) const PACK: Key = Key("source.pack");
pub(super) const RANGE: Key = Key("source.range");
pub(super) const BATCH_HEAPS: Key = Key("batch.heaps");
pub(super) const IN_FLIGHT: Key = Key("batch.in_flight");
pub(super) const RATE: Key = Key("pacing.rate");
pub(super) const BURST: Key = Key("pacing.burst");
pub(super) const PACING: Key = Key("pacing.mode");
pub(super) const BACKEND: Key = Key("backend.kind");
pub(super) const INTERFACE: Key = Key("backend.interface");
pub(super) const DEVICE: Key = Key("backend.device");
pub(super) const QP: Key = Key("backend.qp");
pub(super) const PCAP: Key = Key("backend.pcap");
pub(super) const SHARE: Key = Key("senders.share");
pub(super) const RANK: Key = Key("senders.rank");
pub(super) const RANKS: Key = Key("senders.ranks");
