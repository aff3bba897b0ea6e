//! A capture file in place of a wire: what would have gone out, byte for byte.
//!
//! Classic pcap of whole Ethernet frames, time stamps in nanoseconds: see pcap-savefile(5). For dry
//! runs, for tests, and to look at with Wireshark.

use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::wait::Wait;
use super::{
    Backend, Caps, Counters, Done, MAX_UDP_PAYLOAD, OpenError, SendError, anonymous_memory,
};
use crate::output::Output;
use crate::pacer::Rate;
use crate::region::{Arrangement, Batch, InFlight, Memory, PacketBytes, Placement, Region};
use crate::wire::{Endpoints, EtherType, FrameHeader, MacAddress, Vlan, default_ttl};

/// Whom frames are from and to.
#[derive(Clone, Debug)]
pub struct PcapConfig {
    /// Where frames go, one address for each flow, all of one family.
    pub destinations: Vec<SocketAddr>,
    /// Where they come from.
    pub source: SocketAddr,
    /// MAC address that they come from.
    pub source_mac: MacAddress,
    /// MAC address that unicast frames go to; that of a multicast group follows from the group.
    pub destination_mac: MacAddress,
    /// VLAN tag.
    pub vlan: Option<Vlan>,
    /// Time to live, or hop limit.
    pub ttl: u8,
}

impl PcapConfig {
    /// Each packet behind the headers of its frame.
    pub fn placement(&self) -> Placement {
        Placement::one_by_one(FrameHeader::len_for(EtherType::of(self.source.ip()), self.vlan))
    }

    /// Frames from a made-up host next to the destinations.
    pub fn to(destinations: Vec<SocketAddr>) -> Self {
        let port = destinations.first().map_or(0, SocketAddr::port);
        let source: SocketAddr = match destinations.first() {
            Some(SocketAddr::V6(_)) => (SOURCE_IPV6, port).into(),
            _ => (SOURCE_IPV4, port).into(),
        };
        let ttl = destinations.iter().chain([&source]).map(|to| default_ttl(to.ip())).min();
        Self {
            destinations,
            source,
            source_mac: SOURCE_MAC,
            destination_mac: DESTINATION_MAC,
            vlan: None,
            ttl: ttl.unwrap_or(1),
        }
    }
}

/// Writes frames to a capture file.
pub struct Pcap {
    out: Out,
    headers: Vec<FrameHeader>,
    caps: Caps,
    counters: Counters,
    done: Vec<Done>,
    dirty: bool,
    /// That of a packet, where it lies apart.
    payload: Vec<u8>,
}

/// Where a capture goes.
enum Out {
    /// A file that is not opened before there is a frame.
    Later(Output),
    Open(Box<dyn Write + Send>),
}

impl Pcap {
    /// Writes to a capture file, once there is a frame.
    ///
    /// # Errors
    ///
    /// If destinations and source are not of one family.
    pub fn create(output: Output, config: &PcapConfig) -> Result<Self, OpenError> {
        Self::of(Out::Later(output), config)
    }

    /// Starts a capture.
    ///
    /// # Errors
    ///
    /// If nothing can be written, or destinations and source are not of one family.
    pub fn new(mut out: Box<dyn Write + Send>, config: &PcapConfig) -> Result<Self, OpenError> {
        out.write_all(FILE_HEADER.as_flattened())
            .map_err(|source| OpenError::new("write the capture file", NAME, source))?;
        Self::of(Out::Open(out), config)
    }

    fn of(out: Out, config: &PcapConfig) -> Result<Self, OpenError> {
        let headers = config
            .destinations
            .iter()
            .map(|&to| {
                let endpoints = Endpoints::new(config.source, to)
                    .map_err(|source| OpenError::new("build frames", to, source))?;
                Ok(FrameHeader {
                    source_mac: config.source_mac,
                    destination_mac: MacAddress::of_multicast(to.ip())
                        .unwrap_or(config.destination_mac),
                    vlan: config.vlan,
                    endpoints,
                    ttl: config.ttl,
                })
            })
            .collect::<Result<Vec<_>, OpenError>>()?;
        let headroom = headers
            .first()
            .ok_or_else(|| OpenError::new("build frames", NAME, "there is no destination"))?
            .len();
        let caps = Caps {
            placement: config.placement(),
            overhead: headroom,
            flows: headers.len() as u32,
            ..Caps::new(NAME)
        };
        let counters = Counters::default();
        let payload = Vec::with_capacity(MAX_UDP_PAYLOAD as usize);
        Ok(Self { out, headers, caps, counters, done: Vec::new(), dirty: true, payload })
    }

    fn write(&mut self, batch: &mut InFlight, packet: u32, at: Duration) -> io::Result<()> {
        let flow = batch.region().plan().packets()[packet as usize].flow;
        let header = &self.headers[flow as usize];
        let bytes = batch.packet(packet);
        // The checksum is that of the bytes written, should a file change meanwhile.
        bytes.tail.read_into(&mut self.payload);
        if matches!(header.endpoints, Endpoints::V6 { .. }) {
            let checksum = header.udp_checksum(&[bytes.head, &self.payload]);
            header.set_udp_checksum(checksum, batch.headroom(packet)).map_err(io::Error::other)?;
        }
        let PacketBytes { headroom, head, .. } = batch.packet(packet);
        let len = (headroom.len() + head.len() + self.payload.len()) as u32;
        let record = [at.as_secs() as u32, at.subsec_nanos(), len, len].map(u32::to_le_bytes);
        let out = self.out.open()?;
        out.write_all(record.as_flattened())?;
        out.write_all(headroom)?;
        out.write_all(head)?;
        out.write_all(&self.payload)
    }
}

impl Out {
    fn open(&mut self) -> io::Result<&mut Box<dyn Write + Send>> {
        if let Self::Later(output) = self {
            let mut out = BufWriter::with_capacity(BUFFER, output.create()?);
            out.write_all(FILE_HEADER.as_flattened())?;
            *self = Self::Open(Box::new(out));
        }
        match self {
            Self::Open(out) => Ok(out),
            Self::Later(_) => unreachable!("it was opened"),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Open(out) => out.flush(),
            Self::Later(_) => Ok(()),
        }
    }
}

#[expect(unsafe_code, reason = "the contract of the trait")]
// SAFETY: packets are read, and headroom is written, within `post` alone.
unsafe impl Backend for Pcap {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn allocate(&mut self, arrangement: &Arrangement, batches: u32) -> Result<Memory, OpenError> {
        anonymous_memory(NAME, arrangement, batches)
    }

    fn register(&mut self, region: &Arc<Region>, batches: &mut [Batch]) -> Result<(), OpenError> {
        self.caps.check(region)?;
        for batch in batches {
            for (index, packet) in region.plan().packets().iter().enumerate() {
                self.headers[packet.flow as usize]
                    .emit(packet.len(), batch.headroom(index as u32))
                    .map_err(|source| OpenError::new("build frames", NAME, source))?;
            }
        }
        Ok(())
    }

    fn post(&mut self, batch: &mut InFlight, packets: Range<u32>) -> Result<u32, SendError> {
        let at = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        for packet in packets.clone() {
            self.write(batch, packet, at).map_err(|error| failure(&error))?;
        }
        self.dirty = true;
        self.counters.doorbells += 1;
        self.counters.messages += packets.len() as u64;
        self.counters.packets += packets.len() as u64;
        let posted = packets.len() as u32;
        Done { slot: batch.slot(), packets, error: None }.join(&mut self.done);
        Ok(posted)
    }

    fn poll(&mut self, done: &mut Vec<Done>) -> Result<(), SendError> {
        if self.dirty {
            self.out.flush().map_err(|error| failure(&error))?;
            self.dirty = false;
        }
        done.append(&mut self.done);
        Ok(())
    }

    fn prepare_wait(&mut self, wait: &mut Wait) -> Result<(), SendError> {
        if !self.done.is_empty() {
            wait.not_at_all();
        }
        Ok(())
    }

    fn pace(&mut self, _: Rate) -> Result<bool, SendError> {
        Ok(false)
    }

    fn unacknowledged(&mut self) -> Result<u64, SendError> {
        Ok(0)
    }

    fn counters(&self) -> Counters {
        self.counters
    }
}

fn failure(error: &io::Error) -> SendError {
    SendError::Os { call: "write the capture file", errno: error.raw_os_error().unwrap_or(0) }
}

/// As in `--backend`.
pub(crate) const NAME: &str = "pcap";
/// Little-endian: magic of nanosecond resolution, version 2.4, no time zone, no accuracy, the longest
/// packet, and link type 1, Ethernet.
const FILE_HEADER: [[u8; 4]; 6] = [
    0xa1b2_3c4d_u32.to_le_bytes(),
    [2, 0, 4, 0],
    [0; 4],
    [0; 4],
    262_144_u32.to_le_bytes(),
    1_u32.to_le_bytes(),
];
const BUFFER: usize = 1 << 20;
/// Locally administered.
const SOURCE_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const DESTINATION_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
/// RFC 5737 and RFC 3849 set these aside for documentation.
const SOURCE_IPV4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 1);
const SOURCE_IPV6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
