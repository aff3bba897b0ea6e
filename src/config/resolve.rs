//! From what the user said to what that comes to.

use std::time::Duration;

use super::{
    ArrayType, BackendChoice, BackendConfig, BackendKind, BackendOptions, BatchConfig,
    BatchOptions, Config, ConfigError, ConstantItem, Endpoint, HeapConfig, HeapContent,
    HeapOptions, Host, Interface, InvalidValue, Item, ItemSpec, Key, MonitorConfig, MonitorOptions,
    Options, PacingConfig, PacingMode, PacingOptions, PackConfig, PacketSize, QueuePairKind, Rate,
    Repeat, SendersConfig, SendersOptions, Size, SourceKind, SourceOptions, StreamConfig,
    StreamOptions,
};
use crate::plan::MAX_PACKET_SIZE;
use crate::wire::ethernet::Vlan;
use crate::wire::{Flavour, MIN_PACKET_SIZE};
use crate::{pacer, plan};

impl Config {
    /// Fills in every default and refuses what cannot be sent.
    ///
    /// # Errors
    /// A value that cannot be used, or keys that do not go together; the error names them.
    pub fn from_options(options: Options) -> Result<Self, ConfigError> {
        let kinds = options.source.kind.clone().unwrap_or_else(|| vec![SourceKind::default()]);
        let given = kinds.iter().map(SourceKind::to_string).collect::<Vec<_>>().join(", ");
        let source = SourceKind::join(kinds)
            .map_err(|hint| ConfigError::unusable(SOURCE, format!("[{given}]"), hint))?;
        let repeat = Repeat::resolve(options.source.repeat, &source)?;
        let is_tcp = options.backend.kind == Some(BackendKind::Tcp);
        let stream = stream(options.stream, is_tcp)?;
        let frame = frame(&options.source, &source, &options.heap)?;
        let items = frame.map(|frame| vec![frame]).or(options.heap.items.clone());
        let heap = heap(HeapOptions { items, ..options.heap }, &source, stream.flavour)?;
        ConstantItem::check(&options.item, &heap, stream.flavour)?;
        let pack = PackConfig::resolve(&options.source, &source, &heap.content)?;
        let heap_bytes = heap.content.bytes().filter(|_| pack.is_none());
        let pacing = pacing(&options.pacing)?;
        let senders = SendersConfig::resolve(&options.senders, &stream.to, &source, heap.count)?;
        let mut batch_options = options.batch;
        if pacing.frame_rate.is_some() {
            // What is in a batch goes at once: no more than is due at once.
            let all = stream.to.iter().map(Endpoint::count).sum::<u32>();
            let one_each = senders.destinations(all.into()).max(1) as u32;
            batch_options.heaps = batch_options.heaps.or(Some(one_each));
        }
        let batch = batch(&batch_options, &stream, &senders, heap.count, heap_bytes)?;
        let backend = backend(options.backend, &stream)?;
        let monitor = monitor(&options.monitor);
        if heap.descriptors_every.is_some() && stream.to.is_empty() {
            let hint =
                format!("{DESCRIPTORS_EVERY} is for receivers that join late; give HOST:PORT");
            return Err(ConfigError::missing(TO, hint));
        }
        Ok(Self {
            stream,
            heap,
            source,
            repeat,
            pack,
            batch,
            pacing,
            backend,
            monitor,
            senders,
            constants: options.item,
        })
    }

    /// Whether udp can do all that is asked: [`Config::from_options`] sees to it where udp is named,
    /// this is for where `auto` comes down to it.
    ///
    /// # Errors
    /// A key that only backends which build frames can serve.
    pub fn served_by_udp(&self) -> Result<(), ConfigError> {
        served_by_kernel(&self.stream, "udp")
    }
}

fn stream(options: StreamOptions, is_tcp: bool) -> Result<StreamConfig, ConfigError> {
    let stream = StreamConfig {
        to: options.to.unwrap_or_default(),
        packet_size: options.packet_size.unwrap_or_default(),
        mtu: options.mtu,
        flavour: options.flavour.unwrap_or_default(),
        repeat_pointers: options.repeat_pointers.unwrap_or_default(),
        group: options.group.unwrap_or_default(),
        cnt_start: options.cnt_start.unwrap_or(1),
        cnt_step: options.cnt_step.unwrap_or(1),
        ttl: options.ttl,
        vlan: options.vlan.map(vlan).transpose()?,
        dst_mac: options.dst_mac,
        source_port: options.source_port,
        warm_up: options.warm_up,
    };
    one_family(&stream.to)?;
    if let PacketSize::AtMost(bytes) = stream.packet_size
        && (bytes as usize) < MIN_PACKET_SIZE
    {
        let hint = format!(
            "the smallest SPEAD packet is {MIN_PACKET_SIZE} bytes; give that or more, or auto"
        );
        return Err(ConfigError::unusable(PACKET_SIZE, bytes, hint));
    }
    if is_tcp {
        if let PacketSize::AtMost(bytes) = stream.packet_size
            && bytes as usize > MAX_PACKET_SIZE
        {
            let hint =
                format!("plans end at packets of {MAX_PACKET_SIZE} bytes; give that or less");
            return Err(ConfigError::unusable(PACKET_SIZE, bytes, hint));
        }
    } else {
        let ipv6 = stream.to.iter().any(|endpoint| matches!(endpoint.host(), Host::V6(..)));
        stream.packet_size_within(stream.mtu.unwrap_or(u32::MAX), ipv6)?;
    }
    for (key, cnt) in [(CNT_START, stream.cnt_start), (CNT_STEP, stream.cnt_step)] {
        let max = stream.flavour.max_value();
        if cnt > max {
            let hint = format!("heap cnts of flavour {} end at {max}", stream.flavour);
            return Err(ConfigError::unusable(key, cnt, hint));
        }
    }
    at_least_1(CNT_STEP, stream.cnt_step)?;
    let unicast =
        |endpoint: &&Endpoint| endpoint.host().address().is_some_and(|ip| !ip.is_multicast());
    if let (Some(0), Some(endpoint)) = (stream.ttl, stream.to.iter().find(unicast)) {
        let hint = format!("packets to {endpoint} need 1 or more; 0 keeps multicast on this host");
        return Err(ConfigError::unusable(TTL, 0, hint));
    }
    if stream.source_port == Some(0) {
        let hint = "give a port from 1 to 65535, or leave it out for any free one";
        return Err(ConfigError::unusable(SOURCE_PORT, 0, hint));
    }
    Ok(stream)
}

fn vlan(id: u16) -> Result<Vlan, ConfigError> {
    Vlan::new(id, 0).map_err(|_| {
        let hint = "VLAN ids are 1 to 4094 (IEEE 802.1Q); leave it out for untagged frames";
        ConfigError::unusable(VLAN, id, hint)
    })
}

/// Host names join either family when they are resolved.
fn one_family(to: &[Endpoint]) -> Result<(), ConfigError> {
    let v4 = to.iter().find(|endpoint| matches!(endpoint.host(), Host::V4(_)));
    let v6 = to.iter().find(|endpoint| matches!(endpoint.host(), Host::V6(..)));
    let (Some(v4), Some(v6)) = (v4, v6) else { return Ok(()) };
    let hint = format!("destinations must all be of one family: {v4} is IPv4, {v6} is IPv6");
    Err(ConfigError::unusable(TO, format_args!("{v4}, {v6}"), hint))
}

impl StreamConfig {
    /// The packet size as a plan takes it, for packets within an MTU of `mtu` bytes of IP.
    /// [`Config::from_options`] has tried the configured MTU; the interface's is for the caller.
    ///
    /// # Errors
    /// The packet size if it is too large, or the MTU if no SPEAD packet fits it.
    pub fn packet_size_within(
        &self,
        mtu: u32,
        ipv6: bool,
    ) -> Result<plan::PacketSize, ConfigError> {
        let (family, headers, longest) = match ipv6 {
            true => ("IPv6", IPV6_HEADERS, IPV6_LONGEST),
            false => ("IPv4", IPV4_HEADERS, IPV4_LONGEST),
        };
        let most = mtu.saturating_sub(headers).min(longest);
        if (most as usize) < MIN_PACKET_SIZE {
            let least = headers as usize + MIN_PACKET_SIZE;
            let hint =
                format!("the smallest SPEAD packet over {family} and UDP takes {least} bytes");
            return Err(ConfigError::unusable(MTU, mtu, hint));
        }
        match self.packet_size {
            PacketSize::AtMost(bytes) if bytes > most => {
                let limit = match mtu.checked_sub(headers) {
                    Some(room) if room <= longest => format!("an MTU of {mtu}"),
                    _ => "a datagram".to_owned(),
                };
                let hint = format!(
                    "{limit} carries at most {most} bytes over {family} and UDP; give {most} or less, or auto"
                );
                Err(ConfigError::unusable(PACKET_SIZE, bytes, hint))
            }
            PacketSize::AtMost(bytes) => Ok(plan::PacketSize::Exact(bytes as usize)),
            PacketSize::Auto => Ok(plan::PacketSize::Uniform { limit: most as usize }),
        }
    }

    /// Likewise for datagrams from a port whose MTU, in bytes of message, is `mtu`; and the largest
    /// packet that this leaves.
    ///
    /// # Errors
    /// The packet size or the MTU if the port's does not carry it.
    pub fn message_size_within(&self, mtu: u32) -> Result<(plan::PacketSize, u32), ConfigError> {
        let most = self.mtu.unwrap_or(mtu);
        if most > mtu || (most as usize) < MIN_PACKET_SIZE {
            let hint = format!("give {MIN_PACKET_SIZE} to {mtu}, which is the RDMA port's");
            return Err(ConfigError::unusable(MTU, most, hint));
        }
        match self.packet_size {
            PacketSize::AtMost(bytes) if bytes > most => {
                let hint = format!(
                    "a datagram carries at most {most} bytes here; give {most} or less, or auto"
                );
                Err(ConfigError::unusable(PACKET_SIZE, bytes, hint))
            }
            PacketSize::AtMost(bytes) => Ok((plan::PacketSize::Exact(bytes as usize), most)),
            PacketSize::Auto => Ok((plan::PacketSize::Uniform { limit: most as usize }, most)),
        }
    }
}

impl StreamConfig {
    /// The packet size as a plan takes it, for packets in a stream of bytes: no MTU bounds it.
    pub fn packet_size_in_stream(&self) -> plan::PacketSize {
        match self.packet_size {
            PacketSize::AtMost(bytes) => plan::PacketSize::Exact(bytes as usize),
            PacketSize::Auto => plan::PacketSize::Uniform { limit: STREAM_PACKET },
        }
    }
}

/// The item that a frame is, where its type and shape are given.
fn frame(
    options: &SourceOptions,
    source: &SourceKind,
    heap: &HeapOptions,
) -> Result<Option<ItemSpec>, ConfigError> {
    let (dtype, shape) = match (&options.dtype, &options.shape) {
        (None, None) => return Ok(None),
        (Some(dtype), Some(shape)) => (dtype, shape),
        (Some(_), None) => {
            let hint = format!("{DTYPE} needs the shape of a frame, such as 2160x3840x3");
            return Err(ConfigError::missing(SHAPE, hint));
        }
        (None, Some(_)) => {
            let hint = format!("{SHAPE} needs the type of its samples, such as <f4 or u10");
            return Err(ConfigError::missing(DTYPE, hint));
        }
    };
    if matches!(source, SourceKind::Npy(_)) {
        let hint = format!("{source} itself says what it holds; drop {}", DTYPE.name());
        return Err(ConfigError::conflict(DTYPE, SOURCE, hint));
    }
    let taken = [(ITEMS, heap.items.is_some()), (HEAP_SIZE, heap.size.is_some())];
    if let Some((key, _)) = taken.into_iter().find(|(_, given)| *given) {
        let hint = "type and shape say what a heap holds; give one of the two";
        return Err(ConfigError::conflict(DTYPE, key, hint));
    }
    let element: ArrayType = format!("{dtype}[8]")
        .parse()
        .map_err(|error: InvalidValue| ConfigError::unusable(DTYPE, dtype, error.hint()))?;
    let frame = format!("data:{}[{shape}]", element.element());
    frame
        .parse()
        .map(Some)
        .map_err(|error: InvalidValue| ConfigError::unusable(SHAPE, shape, error.hint()))
}

fn heap(
    options: HeapOptions,
    source: &SourceKind,
    flavour: Flavour,
) -> Result<HeapConfig, ConfigError> {
    if let SourceKind::Npy(_) = source {
        let taken = [
            (HEAP_SIZE, options.size.is_some(), "how large a heap is"),
            (ITEMS, options.items.is_some(), "what a heap holds"),
        ];
        if let Some((key, _, what)) = taken.into_iter().find(|(_, given, _)| *given) {
            let hint = format!("{source} itself says {what}; drop {}", key.name());
            return Err(ConfigError::conflict(key, SOURCE, hint));
        }
    }
    let content = match (options.items, options.size) {
        (Some(_), Some(_)) => {
            let hint = "the items are the size; give one of the two";
            return Err(ConfigError::conflict(ITEMS, HEAP_SIZE, hint));
        }
        (Some(specs), None) if specs.is_empty() => {
            let hint = "give an item, such as adc_x:i8[4096], or leave it out";
            return Err(ConfigError::unusable(ITEMS, "[]", hint));
        }
        (Some(specs), None) => HeapContent::Items(
            Item::number(&specs, flavour)
                .map_err(|(item, hint)| ConfigError::unusable(ITEMS, item, hint))?,
        ),
        (None, _) if matches!(source, SourceKind::Npy(_)) => HeapContent::Npy,
        (None, size) => HeapContent::Size(size.unwrap_or(HEAP_SIZE_DEFAULT)),
    };
    if !matches!(content, HeapContent::Items(_)) && flavour.max_id() < super::item::FIRST_ID {
        let max = flavour.max_id();
        let hint = format!(
            "its item ids end at {max:#x}; give heap.items (--items) with ids, or take 64-40"
        );
        return Err(ConfigError::unusable(FLAVOUR, flavour, hint));
    }
    if let Some(bytes) = content.bytes() {
        let (key, given) = match &content {
            HeapContent::Items(_) => (ITEMS, format!("{bytes} bytes together")),
            _ => (HEAP_SIZE, Size::from_bytes(bytes).to_string()),
        };
        let max = flavour.max_value();
        if bytes == 0 {
            return Err(ConfigError::unusable(key, given, "a heap holds at least 1 byte"));
        }
        if bytes > max {
            let hint = format!("heaps of flavour {flavour} end at {max} bytes");
            return Err(ConfigError::unusable(key, given, hint));
        }
    }
    let generated = matches!(source, SourceKind::Pattern | SourceKind::Random { .. });
    let count = options.count.or(generated.then_some(HEAPS_DEFAULT));
    if let Some(count) = count {
        at_least_1(HEAPS, count)?;
    }
    Ok(HeapConfig {
        content,
        count,
        descriptors: options.descriptors.unwrap_or_default(),
        descriptors_every: options.descriptors_every,
        frame_number: options.frame_number.unwrap_or_default(),
    })
}

fn batch(
    options: &BatchOptions,
    stream: &StreamConfig,
    senders: &SendersConfig,
    count: Option<u64>,
    heap_bytes: Option<u64>,
) -> Result<BatchConfig, ConfigError> {
    let destinations = stream.to.iter().map(|endpoint| u64::from(endpoint.count())).sum();
    let destinations = senders.destinations(destinations).max(1);
    let count = count.map(|count| senders.own_heaps(count));
    let in_flight = options.in_flight.unwrap_or(IN_FLIGHT_DEFAULT);
    at_least_1(IN_FLIGHT, in_flight.into())?;
    if let Some(heaps) = options.heaps.map(u64::from) {
        at_least_1(BATCH_HEAPS, heaps)?;
        let whole_stream = count.is_some_and(|count| count <= heaps);
        if !heaps.is_multiple_of(destinations) && !whole_stream {
            let near = heaps.next_multiple_of(destinations);
            let hint = format!(
                "heaps go to {destinations} destinations in turn; give a multiple, such as {near}"
            );
            return Err(ConfigError::unusable(BATCH_HEAPS, heaps, hint));
        }
    }
    let layout = options.layout.unwrap_or_default();
    let batch = BatchConfig { heaps: options.heaps, in_flight, layout };
    let heaps = match heap_bytes {
        Some(bytes) => Some(batch.heaps_of(bytes, destinations, count)),
        None => batch.heaps,
    };
    Ok(BatchConfig { heaps, ..batch })
}

fn pacing(options: &PacingOptions) -> Result<PacingConfig, ConfigError> {
    let mode = options.mode.unwrap_or_default();
    match (options.rate, mode) {
        (Some(rate), _) if rate.bits_per_second() == 0 => {
            let hint = "give a rate such as 10Gb/s, or leave it out to go as fast as it goes";
            return Err(ConfigError::unusable(RATE, rate, hint));
        }
        (Some(_), PacingMode::None) => {
            let hint = "with pacing none nobody keeps to a rate; drop one of the two";
            return Err(ConfigError::conflict(RATE, PACING, hint));
        }
        (None, PacingMode::Software | PacingMode::Hardware) => {
            return Err(ConfigError::missing(
                RATE,
                format!("{PACING} needs one to keep to, such as 10Gb/s"),
            ));
        }
        (None, _) if options.burst.is_some() => {
            return Err(ConfigError::missing(
                RATE,
                format!("{BURST} needs one to keep to, such as 10Gb/s"),
            ));
        }
        _ => {}
    }
    let burst = options.burst.unwrap_or(BURST_DEFAULT);
    let bytes = u32::try_from(burst.bytes()).ok().filter(|bytes| *bytes > 0).ok_or_else(|| {
        let hint = "give at least a packet and less than 4GiB, such as 64KiB";
        ConfigError::unusable(BURST, burst, hint)
    })?;
    let pace = |rate: Rate| pacer::Rate { bits_per_second: rate.bits_per_second(), burst: bytes };
    let hold_back = options.hold_back.unwrap_or_default();
    let frame_rate = options.frame_rate.clone();
    Ok(PacingConfig { rate: options.rate.map(pace), mode, frame_rate, hold_back })
}

fn backend(options: BackendOptions, stream: &StreamConfig) -> Result<BackendConfig, ConfigError> {
    let kind = options.kind.unwrap_or_default();
    let qp = queue_pair(options.qp, kind, stream)?;
    let choice = match (kind, options.pcap) {
        (BackendKind::Pcap, Some(path)) if path.is_empty() => {
            return Err(ConfigError::unusable(PCAP, "``", "give the capture file a name"));
        }
        (BackendKind::Pcap, Some(path)) => BackendChoice::Pcap(path.into()),
        (BackendKind::Pcap, None) => {
            return Err(ConfigError::missing(
                PCAP,
                format!("{BACKEND} pcap writes a capture file; name it"),
            ));
        }
        (_, Some(_)) => {
            let hint = "only the pcap backend writes a capture file; choose it, or drop the file";
            return Err(ConfigError::conflict(PCAP, BACKEND, hint));
        }
        (BackendKind::Auto, None) if qp == QueuePairKind::Ud => BackendChoice::Verbs,
        (BackendKind::Auto, None) => BackendChoice::Auto,
        (BackendKind::Verbs, None) => BackendChoice::Verbs,
        (BackendKind::Udp, None) => BackendChoice::Udp,
        (BackendKind::Tcp, None) => BackendChoice::Tcp,
    };
    match kind {
        BackendKind::Udp => served_by_kernel(stream, "udp")?,
        BackendKind::Tcp => {
            served_by_kernel(stream, "tcp")?;
            connectable(&stream.to)?;
        }
        BackendKind::Auto | BackendKind::Verbs | BackendKind::Pcap => {}
    }
    if matches!(kind, BackendKind::Verbs | BackendKind::Tcp) && stream.to.is_empty() {
        let hint =
            "only udp reaches the receiver on loopback that stands in for it; give HOST:PORT";
        return Err(ConfigError::missing(TO, hint));
    }
    if options.device.as_deref() == Some("") {
        return Err(ConfigError::unusable(
            DEVICE,
            "``",
            "give the name of an RDMA device, such as mlx5_0",
        ));
    }
    if let Some(Interface::Address(address)) = &options.interface {
        let other = |endpoint: &&Endpoint| {
            endpoint.host().address().is_some_and(|to| to.is_ipv4() != address.is_ipv4())
        };
        if let Some(endpoint) = stream.to.iter().find(other) {
            let hint = format!(
                "{address} and {endpoint} are of different families; name the interface instead"
            );
            return Err(ConfigError::conflict(INTERFACE, TO, hint));
        }
    }
    Ok(BackendConfig {
        choice,
        interface: options.interface,
        device: options.device,
        qp,
        completion: options.completion.unwrap_or_default(),
        spin: options.spin_us.map_or(SPIN, |spin| Duration::from_micros(spin.into())),
        zerocopy: options.zerocopy.unwrap_or_default(),
        reconnect: Duration::from_secs(options.reconnect.unwrap_or(0).into()),
    })
}

fn monitor(options: &MonitorOptions) -> MonitorConfig {
    let seconds = options.log_interval.unwrap_or(LOG_INTERVAL_DEFAULT);
    MonitorConfig {
        log_interval: (seconds > 0).then(|| Duration::from_secs(seconds.into())),
        metrics: options.metrics,
    }
}

/// What changes the bytes on the wire is refused; which device sends them, and how it is waited for,
/// is of no account where there is none, so that one file serves a lab and its CI.
fn served_by_kernel(stream: &StreamConfig, backend: &str) -> Result<(), ConfigError> {
    let frames_only = [(VLAN, stream.vlan.is_some()), (DST_MAC, stream.dst_mac.is_some())];
    let Some((key, _)) = frames_only.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    let hint = format!(
        "with {backend} the kernel builds the frames; drop {}, or choose a backend that builds them \
         itself, such as pcap",
        key.name()
    );
    Err(ConfigError::conflict(key, BACKEND, hint))
}

/// A connection has one other end.
fn connectable(to: &[Endpoint]) -> Result<(), ConfigError> {
    let is_group = |it: &&Endpoint| it.host().address().is_some_and(|ip| ip.is_multicast());
    let Some(group) = to.iter().find(is_group) else { return Ok(()) };
    let hint = format!("{group} is multicast, and tcp connects to receivers one by one; use udp");
    Err(ConfigError::conflict(TO, BACKEND, hint))
}

/// Queues are reached by datagrams, and by nothing else; those build no frames.
fn queue_pair(
    asked: Option<QueuePairKind>,
    kind: BackendKind,
    stream: &StreamConfig,
) -> Result<QueuePairKind, ConfigError> {
    let queue = stream.to.iter().find(|endpoint| endpoint.queue().is_some());
    let socket = stream.to.iter().find(|endpoint| endpoint.queue().is_none());
    if let (Some(queue), Some(socket)) = (queue, socket) {
        let hint = format!("{queue} is a queue, {socket} is not; send to them one after the other");
        return Err(ConfigError::unusable(TO, format_args!("{queue}, {socket}"), hint));
    }
    if queue.is_some() && matches!(kind, BackendKind::Udp | BackendKind::Pcap) {
        let hint = "only verbs reaches queues; give HOST:PORT, or take verbs";
        return Err(ConfigError::conflict(TO, BACKEND, hint));
    }
    match (
        asked.unwrap_or(if queue.is_some() { QueuePairKind::Ud } else { QueuePairKind::Raw }),
        queue,
    ) {
        (QueuePairKind::Raw, Some(queue)) => {
            let hint = format!("{queue} is a queue, which takes no frames: take ud");
            Err(ConfigError::conflict(QP, TO, hint))
        }
        (QueuePairKind::Ud, None) => {
            let hint = "datagrams go to queues: give GID/QPN/QKEY, as `doorbell recv --backend verbs \
                        --qp ud` prints it";
            Err(ConfigError::conflict(QP, TO, hint))
        }
        (QueuePairKind::Ud, Some(_)) => {
            let frames = [
                (VLAN, stream.vlan.is_some()),
                (DST_MAC, stream.dst_mac.is_some()),
                (SOURCE_PORT, stream.source_port.is_some()),
            ];
            match frames.into_iter().find(|(_, given)| *given) {
                Some((key, _)) => {
                    let hint = format!("the device itself builds datagrams; drop {}", key.name());
                    Err(ConfigError::conflict(key, QP, hint))
                }
                None => Ok(QueuePairKind::Ud),
            }
        }
        (QueuePairKind::Raw, None) => Ok(QueuePairKind::Raw),
    }
}

fn at_least_1(key: Key, value: u64) -> Result<(), ConfigError> {
    match value {
        0 => Err(ConfigError::unusable(key, 0, "give 1 or more")),
        _ => Ok(()),
    }
}

impl From<&Config> for Options {
    /// The options that resolve to this configuration.
    fn from(config: &Config) -> Self {
        let Config {
            stream,
            heap,
            source,
            repeat,
            pack,
            batch,
            pacing,
            backend,
            monitor,
            senders,
            constants,
        } = config.clone();
        let (size, items) = match heap.content {
            HeapContent::Size(size) => (Some(size), None),
            HeapContent::Items(items) => (None, Some(items.into_iter().map(Into::into).collect())),
            HeapContent::Npy => (None, None),
        };
        let (kind, pcap) = match backend.choice {
            BackendChoice::Auto => (BackendKind::Auto, None),
            BackendChoice::Verbs => (BackendKind::Verbs, None),
            BackendChoice::Udp => (BackendKind::Udp, None),
            BackendChoice::Tcp => (BackendKind::Tcp, None),
            BackendChoice::Pcap(path) => {
                (BackendKind::Pcap, Some(path.to_string_lossy().into_owned()))
            }
        };
        Self {
            stream: StreamOptions {
                to: (!stream.to.is_empty()).then_some(stream.to),
                packet_size: Some(stream.packet_size),
                mtu: stream.mtu,
                flavour: Some(stream.flavour),
                repeat_pointers: Some(stream.repeat_pointers),
                group: Some(stream.group),
                cnt_start: Some(stream.cnt_start),
                cnt_step: Some(stream.cnt_step),
                ttl: stream.ttl,
                vlan: stream.vlan.map(Vlan::id),
                dst_mac: stream.dst_mac,
                source_port: stream.source_port,
                warm_up: stream.warm_up,
            },
            heap: HeapOptions {
                size,
                count: heap.count,
                items,
                descriptors: Some(heap.descriptors),
                descriptors_every: heap.descriptors_every,
                frame_number: Some(heap.frame_number),
            },
            source: SourceOptions {
                kind: Some(source.split()),
                dtype: None,
                shape: None,
                repeat: (repeat != Repeat::default()).then_some(repeat),
                pack: pack.map(|pack| pack.format),
                range: pack.map(|pack| pack.range),
            },
            batch: BatchOptions {
                heaps: batch.heaps,
                in_flight: Some(batch.in_flight),
                layout: Some(batch.layout),
            },
            pacing: PacingOptions {
                rate: pacing.rate.map(|rate| Rate::from_bits_per_second(rate.bits_per_second)),
                burst: pacing.rate.map(|rate| Size::from_bytes(rate.burst.into())),
                mode: Some(pacing.mode),
                frame_rate: pacing.frame_rate,
                hold_back: Some(pacing.hold_back),
            },
            backend: BackendOptions {
                kind: Some(kind),
                interface: backend.interface,
                device: backend.device,
                qp: Some(backend.qp),
                completion: Some(backend.completion),
                spin_us: u32::try_from(backend.spin.as_micros()).ok(),
                zerocopy: Some(backend.zerocopy),
                reconnect: u32::try_from(backend.reconnect.as_secs()).ok(),
                pcap,
            },
            monitor: MonitorOptions {
                log_interval: Some(monitor.log_interval.map_or(0, |it| it.as_secs() as u32)),
                metrics: monitor.metrics,
            },
            senders: SendersOptions::from(&senders),
            item: constants,
        }
    }
}

const TO: Key = Key("stream.to");
const PACKET_SIZE: Key = Key("stream.packet_size");
const MTU: Key = Key("stream.mtu");
const FLAVOUR: Key = Key("stream.flavour");
const CNT_START: Key = Key("stream.cnt_start");
const CNT_STEP: Key = Key("stream.cnt_step");
const TTL: Key = Key("stream.ttl");
const VLAN: Key = Key("stream.vlan");
const DST_MAC: Key = Key("stream.dst_mac");
const SOURCE_PORT: Key = Key("stream.source_port");
const HEAP_SIZE: Key = Key("heap.size");
const HEAPS: Key = Key("heap.count");
const ITEMS: Key = Key("heap.items");
const DESCRIPTORS_EVERY: Key = Key("heap.descriptors_every");
const SOURCE: Key = Key("source.kind");
const DTYPE: Key = Key("source.dtype");
const SHAPE: Key = Key("source.shape");
const BATCH_HEAPS: Key = Key("batch.heaps");
const IN_FLIGHT: Key = Key("batch.in_flight");
const RATE: Key = Key("pacing.rate");
const BURST: Key = Key("pacing.burst");
const PACING: Key = Key("pacing.mode");
const BACKEND: Key = Key("backend.kind");
const INTERFACE: Key = Key("backend.interface");
const QP: Key = Key("backend.qp");
/// A few batches at 100 Gb/s, and less than it costs to sleep and be woken up.
const SPIN: Duration = Duration::from_micros(100);
const DEVICE: Key = Key("backend.device");
const PCAP: Key = Key("backend.pcap");

/// 65,536 heaps of 8 KiB: half a gibibyte.
const HEAPS_DEFAULT: u64 = 65_536;
const HEAP_SIZE_DEFAULT: Size = Size::from_bytes(8 << 10);
const LOG_INTERVAL_DEFAULT: u32 = 1;
const IN_FLIGHT_DEFAULT: u32 = 2;
const BURST_DEFAULT: Size = Size::from_bytes(64 << 10);

/// Less than the 65,536 bytes that spead2's TCP receivers take unless told otherwise (`max_size`), and
/// no more than a plan has.
const STREAM_PACKET: usize = 65_520;

/// IP header without options, and UDP header.
const IPV4_HEADERS: u32 = 20 + 8;
const IPV6_HEADERS: u32 = 40 + 8;

/// The longest UDP payload that the 16-bit length fields of IPv4 (RFC 791) and of UDP (RFC 768) allow.
const IPV4_LONGEST: u32 = 65_535 - IPV4_HEADERS;
const IPV6_LONGEST: u32 = 65_535 - 8;
