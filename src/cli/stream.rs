//! From a configuration to what a stream consists of: source, destinations, backend, plans.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use doorbell::backend::{Backend, OpenError};
use doorbell::config::{Config, DescriptorPlacement, HeapContent, LayoutKind, SourceKind};
use doorbell::plan::{HeapSpec, Item, PacketSize, Plan, PlanError};
use doorbell::receive::TIMESTAMP_ITEM as TIMESTAMP;
use doorbell::region::Layout;
use doorbell::source::{
    Npy, Packed, Pattern, Random, RawFile, Reader, Source, SourceError, SourceItem,
};
use doorbell::wire::{Descriptor, Field, StreamControl};

use super::exit::Failure;
use super::stdin::Stdin;
use super::way::Way;

/// A stream that is ready to be sent.
pub struct Stream {
    pub config: Config,
    pub source: Box<dyn Source>,
    pub destinations: Vec<SocketAddr>,
    pub way: Way,
    /// The largest packet that this leaves, in bytes of SPEAD.
    pub packet_limit: usize,
    /// How many data heaps there are, if that is known.
    pub heaps: Option<u64>,
    pub layout: Layout,
    /// Descriptors; with the payload of heap 0 if [`Stream::first_data_heap`] is 1.
    pub start: Arc<Plan>,
    pub data: Arc<Plan>,
    pub stop: Arc<Plan>,
    /// Index of the first data heap that the data plan sends.
    pub first_data_heap: u64,
}

impl Stream {
    /// Opens the source, finds the way, and plans. Sends nothing.
    ///
    /// `receiver` is where a stream goes that has no destination; `interrupted` ends standard input.
    pub fn prepare(
        config: Config,
        receiver: SocketAddr,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<Self, Failure> {
        let destinations = match config.stream.to.is_empty() {
            true => vec![receiver],
            false => resolve(&config)?,
        };
        let source = pack(&config, open_source(&config, interrupted)?)?;
        let way = Way::find(&config, &destinations)?;
        let heaps = match (config.heap.count, source.heaps()) {
            (Some(asked), Some(there)) if asked > there => {
                return Err(Failure::Usage(format!(
                    "heap.count (--heaps): {asked} heaps were asked for, the source has {there}"
                )));
            }
            (asked, there) => asked.or(there),
        };
        let layout = match (config.batch.layout, source.memory()) {
            (LayoutKind::Auto | LayoutKind::Split, Some(_)) => Layout::Attached,
            (LayoutKind::Auto, None) | (LayoutKind::Packed, _) => Layout::Packed,
            (LayoutKind::Split, None) => Layout::Split,
        };
        let flows = destinations.len() as u32;
        let together = config.heap.descriptors == DescriptorPlacement::First
            && flows == 1
            && layout != Layout::Attached
            && source.heap_len() > 0;
        let (size, packet_limit) = way.packet_size(&config.stream, destinations[0].ip())?;
        let planner = Planner { config: &config, size, flows };
        let timestamp = timestamp_descriptor(&config);
        let descriptors = source
            .items()
            .iter()
            .map(|item| &item.descriptor)
            .chain(source.constants().iter().map(|constant| &constant.descriptor))
            .cloned()
            .fold(HeapSpec::new().descriptor(timestamp), HeapSpec::descriptor);
        let batch_heaps = config.batch.heaps_of(source.heap_len() as u64, u64::from(flows), heaps);
        Ok(Self {
            start: match together {
                true => planner.plan(&data_heap(descriptors, source.as_ref()), 1)?,
                false => planner.plan(&descriptors, flows as usize)?,
            },
            data: planner
                .plan(&data_heap(HeapSpec::new(), source.as_ref()), batch_heaps as usize)?,
            stop: planner.plan(&HeapSpec::control(StreamControl::Stop), flows as usize)?,
            first_data_heap: u64::from(together),
            layout,
            config,
            source,
            destinations,
            way,
            packet_limit,
            heaps,
        })
    }

    /// Opens the backend.
    pub fn open(&self) -> Result<Box<dyn Backend>, OpenError> {
        let batches = self.config.batch.in_flight as usize;
        let others = self.start.packets().len() + self.stop.packets().len();
        let packets = self.data.packets().len() * batches + others;
        self.way.open(u32::try_from(packets).unwrap_or(u32::MAX), self.layout)
    }

    /// Heap cnt of data heap 0.
    pub fn first_data_cnt(&self) -> u64 {
        let stream = &self.config.stream;
        let before = match self.first_data_heap {
            0 => u64::from(self.start.heaps()),
            _ => 0,
        };
        stream.cnt_start.wrapping_add(stream.cnt_step.wrapping_mul(before))
    }
}

/// Where a stream without a destination seems to go before there is a receiver.
pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7148);

/// Plans heaps by the settings of one stream.
struct Planner<'a> {
    config: &'a Config,
    size: PacketSize,
    flows: u32,
}

impl Planner<'_> {
    fn plan(&self, heap: &HeapSpec, count: usize) -> Result<Arc<Plan>, PlanError> {
        let plan = Plan::builder(self.config.stream.flavour, self.size)
            .heaps(heap, count)
            .flows(self.flows)
            .repeat_pointers(self.config.stream.repeat_pointers)
            .order(self.config.stream.group)
            .build()?;
        Ok(Arc::new(plan))
    }
}

fn data_heap(heap: HeapSpec, source: &dyn Source) -> HeapSpec {
    let heap = source.constants().iter().fold(heap.immediate(TIMESTAMP, 0), |heap, constant| {
        heap.with(Item::Constant { id: constant.descriptor.id, bytes: constant.bytes.clone() })
    });
    source.items().iter().fold(heap, |heap, item| heap.payload(item.descriptor.id, item.size))
}

fn timestamp_descriptor(config: &Config) -> Descriptor {
    Descriptor {
        id: TIMESTAMP,
        name: "timestamp".into(),
        description: "Index of the first sample".into(),
        format: vec![Field::new(b'u', u32::from(config.stream.flavour.address_bits()))],
        ..Descriptor::default()
    }
}

fn open_source(config: &Config, interrupted: &Arc<AtomicBool>) -> Result<Box<dyn Source>, Failure> {
    // Items that were named, else one that is as long as a heap.
    let items = |whole: fn(usize) -> SourceItem| match &config.heap.content {
        HeapContent::Items(items) => items
            .iter()
            .map(|item| SourceItem {
                descriptor: item.descriptor(),
                size: item.array().bytes() as usize,
            })
            .collect(),
        content => vec![whole(content.bytes().unwrap_or(0) as usize)],
    };
    Ok(match &config.source {
        SourceKind::Pattern => Box::new(Pattern::new(items(SourceItem::samples))),
        SourceKind::Random { seed } => Box::new(Random::new(*seed, items(SourceItem::samples))),
        SourceKind::Npy(path) => Box::new(Npy::open(path)?),
        SourceKind::File(path) => Box::new(RawFile::open(path, items(SourceItem::bytes))?),
        SourceKind::Stdin => {
            let stdin = Stdin::until(interrupted)
                .map_err(|error| Failure::Usage(format!("cannot read standard input: {error}")))?;
            Box::new(Reader::new(stdin, items(SourceItem::samples))?)
        }
    })
}

/// Packs the source's samples, if that is asked for.
fn pack(config: &Config, source: Box<dyn Source>) -> Result<Box<dyn Source>, Failure> {
    let Some(pack) = config.pack else { return Ok(source) };
    match Packed::new(source.as_ref(), pack.format, pack.range.interval()) {
        Ok(packed) => Ok(Box::new(packed)),
        Err(error @ SourceError::Unpackable { .. }) => {
            Err(Failure::Usage(format!("source.pack (--pack): {error}")))
        }
        Err(error @ SourceError::NoInterval { .. }) => {
            Err(Failure::Usage(format!("source.range (--range): {error}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// Looks the destinations up, and sees to it that they are of one family: that of the first.
fn resolve(config: &Config) -> Result<Vec<SocketAddr>, Failure> {
    let mut resolved: Vec<SocketAddr> = Vec::new();
    for endpoint in config.stream.destinations() {
        if let Some(queue) = endpoint.queue() {
            resolved.push(SocketAddr::new(queue.ip(), 0));
            continue;
        }
        let host = endpoint.host().to_string();
        let error = |why: String| Failure::Open(OpenError::new("look up", &host, why));
        let found: Vec<SocketAddr> = (host.as_str(), endpoint.port())
            .to_socket_addrs()
            .map_err(|source| error(source.to_string()))?
            .collect();
        let family = resolved.first().map(SocketAddr::is_ipv4);
        let fitting = found.iter().find(|to| family.is_none_or(|ipv4| to.is_ipv4() == ipv4));
        resolved.push(
            *fitting.ok_or_else(|| {
                error(format!("it has no address of the family of {}", resolved[0]))
            })?,
        );
    }
    Ok(resolved)
}
