//! Memory that a device may read.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::ptr::NonNull;
use std::sync::Arc;

use ibverbs_dl as sys;

use super::context::Context;
use super::error::{non_null, zero};

/// Memory registered with a device, and pinned (`ibv_reg_mr(3)`).
pub(super) struct MemoryRegion {
    region: NonNull<sys::ibv_mr>,
    /// What owns the memory; leaked if the device does not let go of it.
    owner: Option<Arc<dyn Send + Sync>>,
    _context: Arc<Context>,
}

// SAFETY: verbs may be called from any thread; this one is used by its owner alone.
unsafe impl Send for MemoryRegion {}

impl MemoryRegion {
    /// Registers memory for sending: the device reads it, and nobody on the network can.
    ///
    /// # Safety
    ///
    /// As [`MemoryRegion::register_with`].
    pub(super) unsafe fn register(
        context: &Arc<Context>,
        start: *const u8,
        len: usize,
        owner: Arc<dyn Send + Sync>,
    ) -> io::Result<Self> {
        // SAFETY: the caller's.
        unsafe { Self::register_with(context, start, len, 0, owner) }
    }

    /// Registers memory with some of `enum ibv_access_flags`.
    ///
    /// # Safety
    ///
    /// `owner` keeps `len` bytes from `start` on mapped until it is dropped.
    pub(super) unsafe fn register_with(
        context: &Arc<Context>,
        start: *const u8,
        len: usize,
        access: u32,
        owner: Arc<dyn Send + Sync>,
    ) -> io::Result<Self> {
        // Relaxed ordering lets PCIe reads pass each other; drivers that do not know it ignore it, as
        // it is optional, or refuse it.
        let address = start.cast_mut().cast();
        // SAFETY: the domain lives as long as the context; that the memory is mapped is the caller's
        // word.
        let relaxed = non_null(unsafe {
            // The entry that takes optional flags (`ibv_reg_mr` of verbs.h).
            let relaxed = sys::ibv_access_flags::IBV_ACCESS_RELAXED_ORDERING.0 | access;
            sys::ibv_reg_mr_iova2(context.domain(), address, len, address as u64, relaxed)
        });
        let region = relaxed.or_else(|_| {
            // SAFETY: as above.
            non_null(unsafe { sys::ibv_reg_mr(context.domain(), address, len, access as c_int) })
        })?;
        // SAFETY: not null.
        let region = unsafe { NonNull::new_unchecked(region) };
        Ok(Self { region, owner: Some(owner), _context: context.clone() })
    }

    /// The key by which work requests name the memory.
    pub(super) fn key(&self) -> u32 {
        // SAFETY: the region is registered until `drop`.
        unsafe { self.region.as_ref().lkey }
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        // SAFETY: registered once, deregistered once.
        if let Err(error) = zero(unsafe { sys::ibv_dereg_mr(self.region.as_ptr()) }) {
            tracing::error!(%error, "memory could not be deregistered, and is leaked");
            mem::forget(self.owner.take());
        }
    }
}
