//! From a configuration to a source and a stream that is planned.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use doorbell::sender::Stop;
use doorbell::settings::{LayoutKind, SettingsError, Size};
use doorbell::stream::{Heap, HeapError, StreamError, StreamPlan};

use super::config::{
    Config, ConstantItem, ElementType, HEAP_SIZE, HeapContent, ITEMS, SHAPE, Settings, keys,
};
use super::exit::Failure;
use super::open_source;
use super::plural;
use super::source::{Constant, FRAME_NUMBER_ITEM, Source, TIMESTAMP_ITEM};

/// A stream that is planned, and what fills it.
pub struct Setup {
    pub config: Config,
    pub source: Box<dyn Source>,
    pub plan: StreamPlan,
}

impl Setup {
    /// Opens the source, finds the way, and plans. Sends nothing.
    ///
    /// `receiver` is where a stream goes that has no destination; `stop` ends standard input.
    pub fn new(config: Config, receiver: SocketAddr, stop: &Stop) -> Result<Self, Failure> {
        tell_homonyms(&config.content);
        let source = open_source::open(&config, stop)?;
        let mut settings = config.settings.clone();
        if settings.stream.to.is_empty() {
            settings.set(keys::TO.as_str(), &receiver.to_string())?;
        }
        let (asked, there) = (settings.heap.count, source.heaps());
        if let (Some(asked), Some(there)) = (asked, there)
            && asked > there
        {
            let hint = format!("the source has {there} heaps");
            return Err(SettingsError::unusable(keys::HEAPS, asked, hint).into());
        }
        settings.heap.count = asked.or(there);
        enough_for_all(&settings)?;
        let plan = StreamPlan::new(settings, heap(&config, source.as_ref()));
        let plan = plan.map_err(|error| too_large(error, &config.content))?;
        Ok(Self { config, source, plan })
    }
}

/// Says where a type is another one to numpy. Bytes are what most samples are: they are not worth a warning.
fn tell_homonyms(content: &HeapContent) {
    let HeapContent::Items(items) = content else { return };
    for item in items {
        let element = item.array().element();
        match (element, element.homonym()) {
            (ElementType::Spead(field), Some(said)) if field.bits == 8 => tracing::info!("{said}"),
            (_, Some(said)) => tracing::warn!("{said}"),
            (_, None) => {}
        }
    }
}

/// What a heap holds, with what receivers are told of it.
fn heap(config: &Config, source: &dyn Source) -> Heap {
    let mut heap =
        Heap::new().immediate("timestamp", TIMESTAMP_ITEM).describe("Index of the first sample");
    if config.frame_number {
        heap = heap.immediate("frame_number", FRAME_NUMBER_ITEM).describe("Index of the frame");
    }
    for item in source.items() {
        heap = heap.item(item.descriptor.clone(), item.size);
    }
    let own = config.constants.iter().map(ConstantItem::constant);
    for Constant { descriptor, bytes } in source.constants().iter().cloned().chain(own) {
        heap = heap.constant(descriptor, bytes);
    }
    match source.mapped().filter(|_| config.settings.batch.layout != LayoutKind::Packed) {
        Some(mapped) => heap.attached(mapped.memories().to_vec()),
        None => heap,
    }
}

/// Names the setting that has made heaps too large, if they are.
fn too_large(error: StreamError, content: &HeapContent) -> Failure {
    let StreamError::Heap(HeapError::Size { bytes, most }) = error else { return error.into() };
    let (key, hint) = match content {
        HeapContent::Size(_) => (HEAP_SIZE, "give less, such as 1GiB"),
        HeapContent::Items(_) => (ITEMS, "give fewer elements"),
        HeapContent::Npy(_) => (SHAPE, "give the shape of a part of it"),
    };
    let hint = format!(
        "heaps that are not sent from a file, where it lies, have {most} bytes at most; {hint}"
    );
    SettingsError::unusable(key, Size::from_bytes(bytes), hint).into()
}

/// Whether each of several senders has a heap to send.
fn enough_for_all(settings: &Settings) -> Result<(), SettingsError> {
    let (Some(heaps), Some(rank)) = (settings.heap.count, settings.senders.heaps()) else {
        return Ok(());
    };
    match rank.share_of(heaps) {
        0 => {
            let hint = format!("they share {}: start fewer", plural(heaps, "heap"));
            Err(SettingsError::unusable(keys::RANKS, rank.size(), hint))
        }
        _ => Ok(()),
    }
}

/// Where a stream without a destination seems to go before there is a receiver.
pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7148);
