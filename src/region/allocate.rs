//! Batches come to be: memory is laid out, and all that does not change is written.

use std::sync::Arc;

use super::arrangement::Arrangement;
use super::batch::{Batch, Slot};
use super::error::RegionError;
use super::layout::Layout;
use super::memory::{Memory, Pages};
use super::payload::{Part, PayloadMut};
use super::placement::Placement;
use super::region::Region;
use crate::plan::Plan;

impl Region {
    /// Lays out `batches` batches of a plan in memory of their own, and writes all that does not change from
    /// send to send. `sources` is what heaps can be attached to: for [`Layout::Attached`].
    ///
    /// # Errors
    ///
    /// As [`Arrangement::new`] and [`Region::in_memory`]; or if there is no memory.
    pub fn allocate(
        plan: &Arc<Plan>,
        layout: Layout,
        batches: u32,
        placement: Placement,
        sources: Vec<Arc<Memory>>,
    ) -> Result<(Arc<Self>, Vec<Batch>), RegionError> {
        let arrangement = Arrangement::new(plan, layout, placement)?;
        let memory = Memory::anonymous(arrangement.batch_len().saturating_mul(batches as usize))?;
        Self::in_memory(arrangement, memory, batches, sources)
    }

    /// As [`Region::allocate`], in memory that a backend provides.
    ///
    /// # Errors
    ///
    /// If the memory is too small or a file, which is read-only; or if heaps that are to be attached have
    /// constant payload.
    pub fn in_memory(
        arrangement: Arrangement,
        memory: Memory,
        batches: u32,
        sources: Vec<Arc<Memory>>,
    ) -> Result<(Arc<Self>, Vec<Batch>), RegionError> {
        let plan = arrangement.plan();
        if arrangement.layout() == Layout::Attached
            && let Some(heap) =
                (0..plan.heaps()).find(|&heap| !plan.shape(heap).constants.is_empty())
        {
            return Err(RegionError::Constant { heap });
        }
        let needed = arrangement.batch_len().saturating_mul(batches as usize);
        if memory.pages() == Pages::File || memory.len() < needed {
            return Err(RegionError::Unsuitable {
                needed,
                len: memory.len(),
                pages: memory.pages(),
            });
        }
        let region = Arc::new(Self::new(arrangement, memory, batches, sources));
        let batches = (0..batches)
            .map(|batch| {
                let mut batch = Batch::new(region.clone(), Slot { region: region.id(), batch });
                batch.write_headers();
                batch.write_constants();
                batch
            })
            .collect();
        Ok((region, batches))
    }
}

impl Batch {
    fn write_headers(&mut self) {
        let mut bytes = self.bytes();
        let plan = bytes.region().plan();
        for (packet, &start) in plan.packets().iter().zip(bytes.region().arrangement().headers()) {
            let header = plan.header(packet);
            let start = start as usize;
            bytes.slice(start..start + header.len()).copy_from_slice(header);
        }
    }

    fn write_constants(&mut self) {
        let plan = self.region().plan().clone();
        for heap in 0..plan.heaps() {
            for (index, (_, constant)) in plan.shape(heap).constants.iter().enumerate() {
                PayloadMut::new(self, heap, Part::constant(index)).copy_from(constant);
            }
        }
    }
}
