//! From a configuration to what a stream consists of: source, destinations, backend, plans.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use doorbell::backend::{Backend, OpenError};
use doorbell::config::{Config, ConstantItem, DescriptorPlacement, LayoutKind, ShareKind};
use doorbell::plan::{HeapSpec, Item, PacketSize, Plan, PlanError};
use doorbell::region::Layout;
use doorbell::source::{Constant, FRAME_NUMBER_ITEM, Source, TIMESTAMP_ITEM};
use doorbell::wire::{Descriptor, Field, StreamControl};

use super::exit::Failure;
use super::plural;
use super::source;
use super::way::Way;

/// A stream that is ready to be sent.
pub struct Stream {
    pub config: Config,
    pub source: Box<dyn Source>,
    pub destinations: Vec<SocketAddr>,
    pub way: Way,
    /// The largest packet that this leaves, in bytes of SPEAD; `None` if any goes.
    pub packet_limit: Option<usize>,
    /// How many data heaps there are, if that is known.
    pub heaps: Option<u64>,
    pub layout: Layout,
    /// Descriptors; with the payload of heap 0 if [`Stream::first_data_heap`] is 1.
    pub start: Arc<Plan>,
    pub data: Arc<Plan>,
    pub stop: Arc<Plan>,
    /// What is sent before the stream begins, to no effect.
    pub warm_up: Option<Arc<Plan>>,
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
        let source = source::open(&config, interrupted)?;
        let way = Way::find(&config, &destinations)?;
        let heaps = match (config.heap.count, source.heaps()) {
            (Some(asked), Some(there)) if asked > there => {
                return Err(Failure::Usage(format!(
                    "heap.count (--heaps): {asked} heaps were asked for, the source has {there}"
                )));
            }
            (asked, there) => asked.or(there),
        };
        let heaps = own_heaps(&config, heaps)?;
        let layout = match (config.batch.layout, source.mapped()) {
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
        let own = config.constants.iter().map(ConstantItem::constant);
        let constants: Vec<Constant> = source.constants().iter().cloned().chain(own).collect();
        let numbers = numbers(&config);
        let described = numbers.iter();
        let described = described.chain(source.items().iter().map(|item| &item.descriptor));
        let described = described.chain(constants.iter().map(|constant| &constant.descriptor));
        let descriptors = described.cloned().fold(HeapSpec::new(), HeapSpec::descriptor);
        let with_constants = |heap: HeapSpec| {
            constants.iter().fold(heap, |heap, Constant { descriptor, bytes }| {
                heap.with(Item::Constant { id: descriptor.id, bytes: bytes.clone() })
            })
        };
        // The payload of a heap that is attached is what the file has: constants go with the descriptors.
        let attached = layout == Layout::Attached;
        let descriptors = if attached { with_constants(descriptors) } else { descriptors };
        let data_heap = |heap: HeapSpec| {
            let heap = numbers.iter().fold(heap, |heap, number| heap.immediate(number.id, 0));
            let heap = if attached { heap } else { with_constants(heap) };
            source
                .items()
                .iter()
                .fold(heap, |heap, item| heap.payload(item.descriptor.id, item.size))
        };
        let batch_heaps = config.batch.heaps_of(source.heap_len() as u64, u64::from(flows), heaps);
        Ok(Self {
            start: match together {
                true => planner.plan(&data_heap(descriptors), 1)?,
                false => planner.plan(&descriptors, flows as usize)?,
            },
            data: planner.plan(&data_heap(HeapSpec::new()), batch_heaps as usize)?,
            warm_up: match config.stream.warm_up {
                // A receiver finds no item in it, and goes on.
                Some(_) => {
                    Some(planner.plan(&HeapSpec::control(StreamControl::Start), flows as usize)?)
                }
                None => None,
            },
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
        let warm_up = self.warm_up.as_ref().map_or(0, |plan| plan.packets().len());
        let others = self.start.packets().len() + self.stop.packets().len() + warm_up;
        let packets = self.data.packets().len() * batches + others;
        self.way.open(u32::try_from(packets).unwrap_or(u32::MAX), self.layout)
    }

    /// Heap cnt of data heap 0.
    pub fn first_data_cnt(&self) -> u64 {
        let stream = &self.config.stream;
        let descriptors = match self.first_data_heap {
            0 => self.start.heaps(),
            _ => 0,
        };
        let warm_up = self.warm_up.as_ref().map_or(0, |plan| plan.heaps());
        let before = u64::from(descriptors) + u64::from(warm_up);
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

/// The immediates that are set anew in each heap.
fn numbers(config: &Config) -> Vec<Descriptor> {
    let number = |id, name: &str, description: &str| Descriptor {
        id,
        name: name.into(),
        description: description.into(),
        format: vec![Field::new(b'u', u32::from(config.stream.flavour.address_bits()))],
        ..Descriptor::default()
    };
    let mut numbers = vec![number(TIMESTAMP_ITEM, "timestamp", "Index of the first sample")];
    if config.heap.frame_number {
        numbers.push(number(FRAME_NUMBER_ITEM, "frame_number", "Index of the frame"));
    }
    numbers
}

/// How many heaps are this sender's, of all that are to be sent.
fn own_heaps(config: &Config, heaps: Option<u64>) -> Result<Option<u64>, Failure> {
    let (Some(heaps), Some(rank)) = (heaps, config.senders.heaps()) else { return Ok(heaps) };
    match rank.share_of(heaps) {
        0 => Err(Failure::Usage(format!(
            "senders.ranks (--ranks): {} senders share {}: start fewer",
            rank.size(),
            plural(heaps, "heap")
        ))),
        own => Ok(Some(own)),
    }
}

/// Looks this sender's destinations up, and sees to it that they are of one family: that of the first.
fn resolve(config: &Config) -> Result<Vec<SocketAddr>, Failure> {
    let mut resolved: Vec<SocketAddr> = Vec::new();
    let own = config.senders.share_of(ShareKind::Destinations);
    let (index, size) = own.map_or((0, 1), |rank| (rank.index() as usize, rank.size() as usize));
    for endpoint in config.stream.destinations().skip(index).step_by(size) {
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
