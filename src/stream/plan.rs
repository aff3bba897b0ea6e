//! A stream before it is opened: where it leads, and how its heaps are cut.

use std::net::SocketAddr;
use std::sync::Arc;

use super::destination::resolve;
use super::transport::Transport;
use super::{Heap, HeapError, StreamError};
use crate::backend::Backend;
use crate::plan::{HeapSpec, Order, PacketSize, Plan, PlanError};
use crate::region::Layout;
use crate::sender::Stop;
use crate::sender::admission::Admission;
use crate::settings::{DescriptorPlacement, LayoutKind, Settings, SettingsError, keys};
use crate::wire::{Flavour, StreamControl};

/// Puts something around a backend.
type Wrap = Box<dyn FnOnce(Box<dyn Backend>) -> Box<dyn Backend>>;

/// A stream that is planned and not yet opened. Nothing is sent, and no memory taken.
pub struct StreamPlan {
    pub(super) settings: Settings,
    pub(super) heap: Heap,
    destinations: Vec<SocketAddr>,
    transport: Transport,
    packet_limit: Option<usize>,
    layout: Layout,
    pub(super) plans: Plans,
    pub(super) wrap: Option<Wrap>,
    pub(super) admissions: Vec<Box<dyn Admission>>,
    pub(super) stop: Option<Stop>,
    pub(super) ended: Option<Stop>,
}

/// The batches of a stream, by what is in them.
pub(super) struct Plans {
    /// The first batch of data, with descriptors in its first heap, if they go there.
    pub(super) first: Option<Arc<Plan>>,
    /// Descriptors in heaps of their own, one for each destination, where they go there or are repeated.
    pub(super) descriptors: Option<Arc<Plan>>,
    pub(super) data: Arc<Plan>,
    /// Heaps that say nothing, to be sent before the stream.
    pub(super) warm_up: Option<Arc<Plan>>,
    pub(super) stop: Option<Arc<Plan>>,
}

impl Plans {
    /// Those of which there is one batch each.
    pub(super) fn single(&self) -> impl Iterator<Item = &Arc<Plan>> {
        [&self.first, &self.descriptors, &self.warm_up, &self.stop].into_iter().flatten()
    }
}

impl StreamPlan {
    /// Checks the settings, looks destinations up, finds a way to them, and cuts heaps into packets.
    ///
    /// # Errors
    ///
    /// What is wrong with the settings, the heap, or the way there.
    pub fn new(settings: Settings, heap: Heap) -> Result<Self, StreamError> {
        settings.check()?;
        heap.check()?;
        if settings.stream.to.is_empty() {
            return Err(SettingsError::missing(keys::TO, "give HOST:PORT").into());
        }
        let destinations = resolve(&settings)?;
        let transport = Transport::find(&settings, &destinations)?;
        let layout = match (settings.batch.layout, heap.sources()) {
            (LayoutKind::Auto | LayoutKind::Split, Some(_)) => Layout::Attached,
            (LayoutKind::Auto, None) | (LayoutKind::Packed, _) => Layout::Packed,
            (LayoutKind::Split, None) => Layout::Split,
        };
        fits(&settings, &heap, layout)?;
        let (size, packet_limit) = transport.packet_size(&settings, destinations[0].ip())?;
        let plans =
            Cutter::new(&settings, size, destinations.len()).plans(&settings, &heap, layout)?;
        Ok(Self {
            settings,
            heap,
            destinations,
            transport,
            packet_limit,
            layout,
            plans,
            wrap: None,
            admissions: Vec::new(),
            stop: None,
            ended: None,
        })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The addresses of this sender's destinations, in the order of their substreams.
    pub fn destinations(&self) -> &[SocketAddr] {
        &self.destinations
    }

    /// The way onto the wire.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The largest packet that it takes, in bytes of SPEAD; `None` if any goes.
    pub fn packet_limit(&self) -> Option<usize> {
        self.packet_limit
    }

    /// How packets lie in memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The batches that are filled again and again.
    pub fn data(&self) -> &Arc<Plan> {
        &self.plans.data
    }

    /// All other batches, each of which there is once.
    pub fn others(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.single()
    }

    /// How many heaps this sender sends, if that is known.
    pub fn heaps(&self) -> Option<u64> {
        self.settings.heap.count.map(|count| self.settings.senders.own_heaps(count))
    }

    /// Heap cnt of this sender's data heap 0.
    pub fn first_data_cnt(&self) -> u64 {
        let (first, step) = self.settings.senders.cnts(&self.settings.stream);
        let heaps = |plan: &Option<Arc<Plan>>| plan.as_ref().map_or(0, |plan| plan.heaps());
        let descriptors = match self.plans.first {
            Some(_) => 0,
            None => heaps(&self.plans.descriptors),
        };
        let before = u64::from(descriptors + heaps(&self.plans.warm_up));
        first.wrapping_add(step.wrapping_mul(before))
    }

    /// How many batches of [`StreamPlan::data`] there are: those in flight, and one that is filled meanwhile, but
    /// no more than the stream fills. None if all of it goes into the first batch, which has descriptors.
    pub fn batches(&self) -> u32 {
        let most = self.settings.batch.in_flight.saturating_add(1);
        let first = self.plans.first.as_ref().map_or(0, |first| first.heaps());
        let needed = self.heaps().map_or(most, |heaps| {
            let batches = heaps.saturating_sub(first.into()).div_ceil(self.data().heaps().into());
            u32::try_from(batches).unwrap_or(u32::MAX)
        });
        // One at least that is filled again, if heaps come too slowly for whole batches.
        most.min(needed).max(u32::from(first == 0))
    }

    /// Packets that may be in flight at once.
    pub(super) fn packets(&self) -> u32 {
        let batches = self.batches() as usize;
        let others: usize = self.others().map(|plan| plan.packets().len()).sum();
        let packets = self.data().packets().len().saturating_mul(batches).saturating_add(others);
        u32::try_from(packets).unwrap_or(u32::MAX)
    }

    /// Has a backend wrapped once it is open: to count what goes, to inject faults.
    #[must_use]
    pub fn wrap(self, wrap: impl FnOnce(Box<dyn Backend>) -> Box<dyn Backend> + 'static) -> Self {
        Self { wrap: Some(Box::new(wrap)), ..self }
    }

    /// Has the stream hand no packet over that this does not admit.
    #[must_use]
    pub fn admit_by(mut self, admission: impl Admission + 'static) -> Self {
        self.admissions.push(Box::new(admission));
        self
    }

    /// Has the stream end when `stop` is raised, rather than by a [`Stop`] of its own.
    #[must_use]
    pub fn stopped_by(self, stop: Stop) -> Self {
        Self { stop: Some(stop), ..self }
    }

    /// Has `ended` raised once the stream takes no more heaps, be it that it was stopped or that the backend has
    /// failed for good: so that whoever waits for payload need not wait in vain.
    #[must_use]
    pub fn tells_end(self, ended: Stop) -> Self {
        Self { ended: Some(ended), ..self }
    }
}

/// Whether the heaps of a batch fit a region, whose parts have addresses of 32 bits.
fn fits(settings: &Settings, heap: &Heap, layout: Layout) -> Result<(), StreamError> {
    let bytes = heap.payload_len() as u64;
    let heaps = settings.batch_heaps(bytes);
    if layout == Layout::Attached || bytes.saturating_mul(heaps.into()) <= LARGEST_BATCH {
        return Ok(());
    }
    match LARGEST_BATCH.checked_div(bytes).unwrap_or(0) {
        0 => Err(HeapError::Size { bytes, most: LARGEST_BATCH }.into()),
        most => {
            let hint = format!("of heaps of {bytes} bytes, a batch holds {most} at most");
            Err(SettingsError::unusable(keys::BATCH_HEAPS, heaps, hint).into())
        }
    }
}

/// Less headers.
const LARGEST_BATCH: u64 = u32::MAX as u64;

/// Cuts heaps by the settings of one stream.
struct Cutter {
    flavour: Flavour,
    size: PacketSize,
    flows: u32,
    repeat_pointers: bool,
    order: Order,
}

impl Cutter {
    fn new(settings: &Settings, size: PacketSize, flows: usize) -> Self {
        let stream = &settings.stream;
        Self {
            flavour: stream.flavour,
            size,
            flows: flows as u32,
            repeat_pointers: stream.repeat_pointers,
            order: stream.group,
        }
    }

    fn cut(&self, heaps: &[(&HeapSpec, usize)]) -> Result<Arc<Plan>, PlanError> {
        let builder = Plan::builder(self.flavour, self.size)
            .flows(self.flows)
            .repeat_pointers(self.repeat_pointers)
            .order(self.order);
        let plan = heaps.iter().fold(builder, |plan, (heap, count)| plan.heaps(heap, *count));
        plan.build().map(Arc::new)
    }

    fn plans(&self, settings: &Settings, heap: &Heap, layout: Layout) -> Result<Plans, PlanError> {
        let attached = layout == Layout::Attached;
        let one_each = self.flows as usize;
        let together = settings.heap.descriptors == DescriptorPlacement::First
            && one_each == 1
            // Where heaps take turns, the first one, being longer, would be the last to end.
            && self.order == Order::Serial
            && !attached
            && heap.payload_len() > 0;
        let apart = !together || settings.heap.descriptors_every.is_some();
        let batch_heaps = settings.batch_heaps(heap.payload_len() as u64) as usize;
        let descriptors = heap.descriptors(self.flavour);
        let data = heap.data(HeapSpec::new());
        let when = |wanted: bool, heaps: &[(&HeapSpec, usize)]| {
            wanted.then(|| self.cut(heaps)).transpose()
        };
        let with_data = heap.data(descriptors.clone());
        let start = HeapSpec::control(StreamControl::Start);
        Ok(Plans {
            first: when(together, &[(&with_data, 1), (&data, batch_heaps - 1)])?,
            descriptors: when(apart, &[(&descriptors, one_each)])?,
            data: self.cut(&[(&data, batch_heaps)])?,
            // A receiver finds no item in it, and goes on.
            warm_up: when(settings.stream.warm_up.is_some(), &[(&start, one_each)])?,
            stop: when(
                settings.senders.stops(),
                &[(&HeapSpec::control(StreamControl::Stop), one_each)],
            )?,
        })
    }
}
