//! Packets out of a capture file, in place of a wire.
//!
//! Classic pcap, of either byte order and either resolution of time stamps: pcap-savefile(5).

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::listener::SourceFilter;
use super::window::Window;

/// Reads the UDP datagrams of a capture: each address and port that SPEAD was sent to is a substream.
pub struct Capture {
    file: Box<dyn Read + Send>,
    is_big_endian: bool,
    link: Link,
    substreams: HashMap<SocketAddr, usize>,
    names: Vec<String>,
    filter: Option<SourceFilter>,
    filtered: u64,
    frame: Vec<u8>,
    is_over: bool,
}

/// What a frame begins with: the link-layer header types of tcpdump.org.
#[derive(Clone, Copy, Debug)]
enum Link {
    Ethernet,
    Raw,
    /// Of tcpdump's `any` interface, and its second edition.
    Cooked,
    Cooked2,
}

struct Datagram<'a> {
    source: SocketAddr,
    destination: SocketAddr,
    payload: &'a [u8],
}

impl Capture {
    /// Reads the head of a capture; what is not from where the filter says is left out.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is no capture of a kind that is known, in words.
    pub fn new(
        mut file: Box<dyn Read + Send>,
        filter: Option<SourceFilter>,
    ) -> Result<Self, CaptureError> {
        let mut head = [0; FILE_HEAD];
        file.read_exact(&mut head).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => CaptureError::NotPcap,
            _ => CaptureError::Read(error),
        })?;
        let magic = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let is_big_endian = match magic {
            MICROSECONDS | NANOSECONDS => false,
            _ if [MICROSECONDS, NANOSECONDS].contains(&magic.swap_bytes()) => true,
            PCAPNG => return Err(CaptureError::PcapNg),
            _ => return Err(CaptureError::NotPcap),
        };
        // The upper bits may say how long a frame's check sequence is.
        let link = match number(&head[20..24], is_big_endian) & 0x0fff_ffff {
            1 => Link::Ethernet,
            12 | 101 => Link::Raw,
            113 => Link::Cooked,
            276 => Link::Cooked2,
            other => return Err(CaptureError::Link(other)),
        };
        Ok(Self {
            file,
            is_big_endian,
            link,
            substreams: HashMap::new(),
            names: Vec::new(),
            filter,
            filtered: 0,
            frame: Vec::new(),
            is_over: false,
        })
    }

    /// Where each substream was sent to.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Datagrams that came from elsewhere than from where they may.
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Whether all of it was read.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Reads some frames, and gives the datagrams in them to `window`. Returns how many; 0 at the end.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or what it says makes no sense.
    pub fn receive(&mut self, window: &mut Window) -> Result<usize, CaptureError> {
        let mut datagrams = 0;
        for _ in 0..TURN {
            let mut head = [0; FRAME_HEAD];
            if !read(&mut self.file, &mut head)? {
                self.is_over = true;
                break;
            }
            let len = number(&head[8..12], self.is_big_endian) as usize;
            if len > MAX_FRAME {
                return Err(CaptureError::Frame(len));
            }
            self.frame.resize(len, 0);
            if !read(&mut self.file, &mut self.frame)? {
                tracing::warn!("the capture ends within a frame");
                self.is_over = true;
                break;
            }
            let Some(datagram) = self.link.datagram(&self.frame) else { continue };
            datagrams += 1;
            if self.filter.is_some_and(|filter| !filter.takes(Some(datagram.source))) {
                self.filtered += 1;
                continue;
            }
            let substream = match self.substreams.get(&datagram.destination) {
                Some(&substream) => substream,
                None if !datagram.payload.starts_with(SPEAD) => {
                    window.not_spead();
                    continue;
                }
                None => {
                    let substream = window.add_substream();
                    self.substreams.insert(datagram.destination, substream);
                    self.names.push(datagram.destination.to_string());
                    substream
                }
            };
            window.datagram_from(substream, Some(datagram.source), datagram.payload);
        }
        Ok(datagrams)
    }
}

impl Link {
    /// The UDP datagram in a frame, if there is a whole one.
    fn datagram(self, frame: &[u8]) -> Option<Datagram<'_>> {
        let (kind, packet) = match self {
            Self::Ethernet => {
                let (mut kind, mut rest) = (word(frame, 12)?, frame.get(14..)?);
                while [0x8100, 0x88a8].contains(&kind) {
                    (kind, rest) = (word(rest, 2)?, rest.get(4..)?);
                }
                (kind, rest)
            }
            Self::Raw => match frame.first()? >> 4 {
                4 => (IPV4, frame),
                _ => (IPV6, frame),
            },
            Self::Cooked => (word(frame, 14)?, frame.get(16..)?),
            Self::Cooked2 => (word(frame, 0)?, frame.get(20..)?),
        };
        let (source, destination, datagram): (IpAddr, IpAddr, &[u8]) = match kind {
            IPV4 => {
                let head = packet.get(..20)?;
                let head_len = usize::from(head[0] & 0xf) * 4;
                let len = usize::from(word(head, 2)?);
                // The first fragment and all others are none that anybody could read.
                if head[9] != UDP || word(head, 6)? & 0x3fff != 0 {
                    return None;
                }
                let address = |at: usize| head[at..].first_chunk().copied().map(Ipv4Addr::from);
                (address(12)?.into(), address(16)?.into(), within(packet, head_len, len)?)
            }
            IPV6 => {
                let head = packet.get(..40)?;
                let len = usize::from(word(head, 4)?);
                if head[6] != UDP {
                    return None;
                }
                let address =
                    |at: usize| head[at..].first_chunk::<16>().copied().map(Ipv6Addr::from);
                (address(8)?.into(), address(24)?.into(), within(packet, 40, 40 + len)?)
            }
            _ => return None,
        };
        let (source_port, port) = (word(datagram, 0)?, word(datagram, 2)?);
        let payload = within(datagram, 8, word(datagram, 4)?.into())?;
        let source = (source, source_port).into();
        Some(Datagram { source, destination: (destination, port).into(), payload })
    }
}

/// What lies from `start` to `end`, as far as it was captured.
fn within(bytes: &[u8], start: usize, end: usize) -> Option<&[u8]> {
    bytes.get(start..end.min(bytes.len()))
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

fn number(bytes: &[u8], is_big_endian: bool) -> u32 {
    let bytes = bytes.first_chunk().copied().unwrap_or_default();
    if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

/// Fills `buffer`; false if the file ends before.
fn read(file: &mut impl Read, buffer: &mut [u8]) -> Result<bool, CaptureError> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(CaptureError::Read(error)),
    }
}

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The file cannot be read.
    #[error("{0}")]
    Read(io::Error),
    /// It has another format.
    #[error("this is no pcap file")]
    NotPcap,
    /// It has the newer format.
    #[error("this is a pcapng file: make a pcap file of it, with `editcap -F pcap`")]
    PcapNg,
    /// Its frames are none that are known.
    #[error(
        "its frames are of link type {0}: expected Ethernet, raw IP, or those of tcpdump's `any`"
    )]
    Link(u32),
    /// A frame is longer than any.
    #[error("it has a frame of {0} bytes, which no link carries: the file is damaged")]
    Frame(usize),
}

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const PCAPNG: u32 = 0x0a0d_0d0a;
const FILE_HEAD: usize = 24;
const FRAME_HEAD: usize = 16;
/// What libpcap takes for the longest: MAXIMUM_SNAPLEN.
const MAX_FRAME: usize = 262_144;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
/// Magic and version of a packet.
const SPEAD: &[u8] = &[0x53, 4];
/// Frames between looks at what else there is to do.
const TURN: usize = 64;
