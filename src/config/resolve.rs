//! From what the user said to what that comes to.

use std::time::Duration;

use super::backend::{backend, served_by_kernel};
use super::batch::batch;
use super::heap::heap;
use super::keys::{DESCRIPTORS_EVERY, SOURCE, TO};
use super::pacing::pacing;
use super::stream::stream;
use super::{
    BackendChoice, BackendKind, BackendOptions, BatchOptions, Config, ConfigError, ConstantItem,
    Endpoint, HeapContent, HeapOptions, Key, MonitorConfig, MonitorOptions, Options, PacingOptions,
    PackConfig, Rate, Ratio, Repeat, SendersConfig, SendersOptions, Size, SourceKind,
    SourceOptions, StreamOptions,
};
use crate::wire::Vlan;

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
        let heap = heap(options.heap, &options.source, &source, stream.flavour)?;
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

fn monitor(options: &MonitorOptions) -> MonitorConfig {
    let seconds = options.log_interval.unwrap_or(LOG_INTERVAL_DEFAULT);
    MonitorConfig {
        log_interval: (seconds > 0).then(|| Duration::from_secs(seconds.into())),
        metrics: options.metrics,
    }
}

pub(super) fn at_least_1(key: Key, value: u64) -> Result<(), ConfigError> {
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
        let (size, items, shape) = match heap.content {
            HeapContent::Size(size) => (Some(size), None, None),
            HeapContent::Items(items) => {
                (None, Some(items.into_iter().map(Into::into).collect()), None)
            }
            HeapContent::Npy(shape) => (None, None, shape),
        };
        let dimensions = |shape: Vec<u64>| shape.iter().map(u64::to_string).collect::<Vec<_>>();
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
                shape: shape.map(|shape| dimensions(shape).join("x")),
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
                rate_counts: pacing.rate.map(|rate| rate.counts),
                burst: pacing.rate.map(|rate| Size::from_bytes(rate.burst.into())),
                burst_rate_ratio: pacing
                    .rate
                    .map(|rate| Ratio::from_per_mille(rate.burst_rate_per_mille)),
                min_sleep_us: u32::try_from(pacing.min_sleep.as_micros()).ok(),
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

const LOG_INTERVAL_DEFAULT: u32 = 1;
