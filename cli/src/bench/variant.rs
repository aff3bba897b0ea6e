//! What is measured side by side: backends and layouts.

use std::net::SocketAddr;
use std::sync::Arc;

use doorbell::backend::udp::{Udp, UdpConfig, ZeroCopy};
use doorbell::backend::verbs::{CompletionMode, Verbs, VerbsConfig, VerbsRequest};
use doorbell::backend::{Backend, OpenError};
use doorbell::plan::Plan;
use doorbell::region::{Layout, Region};
use doorbell::sender::{AllocateError, Sender};

use super::load::{Load, ReadyMade, Stamped};
use crate::args::{BenchBackend, BenchLayout};
use crate::exit::Failure;

/// A backend and a layout.
pub struct Variant {
    pub backend: &'static str,
    config: VariantConfig,
    layout: Layout,
}

/// A backend, and how it is opened.
#[derive(Clone)]
enum VariantConfig {
    Udp(UdpConfig),
    Verbs(VerbsConfig),
}

impl Variant {
    /// All layouts of a backend that sends to `sink`.
    pub fn all(
        backend: BenchBackend,
        layouts: &[BenchLayout],
        sink: SocketAddr,
    ) -> Result<Vec<Self>, OpenError> {
        let configs = match backend {
            BenchBackend::Udp => {
                let udp = |zero_copy| {
                    VariantConfig::Udp(UdpConfig { zero_copy, ..UdpConfig::new(vec![sink]) })
                };
                vec![("udp", udp(ZeroCopy::Off)), (UDP_ZERO_COPY, udp(ZeroCopy::On))]
            }
            BenchBackend::Verbs => {
                let request = VerbsRequest {
                    completion: CompletionMode::Poll,
                    ..VerbsRequest::new(vec![sink])
                };
                let config = request.resolve()?;
                // Whether there is a device that can do it shows here, and not in mid-sweep.
                drop(Verbs::open(config.clone())?);
                vec![("verbs", VariantConfig::Verbs(config))]
            }
        };
        let layouts = layouts.iter().map(|layout| match layout {
            BenchLayout::Packed => Layout::Packed,
            BenchLayout::Split => Layout::Split,
        });
        let variants = configs.into_iter().flat_map(|(backend, config)| {
            let variant = move |layout| Self { backend, config: config.clone(), layout };
            // Header and payload apart are pieces too small to pin (docs/gso.md).
            let worth_it =
                move |layout: &Layout| backend != UDP_ZERO_COPY || *layout == Layout::Packed;
            layouts.clone().filter(worth_it).map(variant)
        });
        Ok(variants.collect())
    }

    pub fn layout(&self) -> &'static str {
        match self.layout {
            Layout::Packed => "packed",
            Layout::Split => "split",
            Layout::Attached => "attached",
        }
    }

    /// A sender of heaps of this plan.
    pub fn stamped(&self, plan: &Arc<Plan>) -> Result<Box<dyn Load>, Failure> {
        let mut sender = Sender::new(self.open(plan)?);
        let batches = sender.allocate(plan, self.layout, BATCHES, Vec::new())?;
        Ok(Box::new(Stamped::new(sender, batches)))
    }

    /// The backend alone, with heaps of this plan.
    pub fn ready_made(&self, plan: &Arc<Plan>) -> Result<Box<dyn Load>, Failure> {
        let mut backend = self.open(plan)?;
        let placement = backend.caps().placement;
        let (region, mut batches) =
            Region::allocate(plan, self.layout, BATCHES, placement, Vec::new())
                .map_err(AllocateError::Region)?;
        backend.register(&region, &mut batches)?;
        Ok(Box::new(ReadyMade::new(backend, batches)))
    }

    fn open(&self, plan: &Plan) -> Result<Box<dyn Backend>, OpenError> {
        Ok(match &self.config {
            VariantConfig::Udp(config) => Box::new(Udp::open(config)?),
            VariantConfig::Verbs(config) => Box::new(Verbs::open(VerbsConfig {
                depth: plan.packets().len() as u32 * BATCHES,
                pieces: if self.layout == Layout::Packed { 1 } else { 2 },
                ..config.clone()
            })?),
        })
    }
}

/// One in flight while the other is stamped, as `send` has it.
const BATCHES: u32 = 2;
const UDP_ZERO_COPY: &str = "udp 0copy";
