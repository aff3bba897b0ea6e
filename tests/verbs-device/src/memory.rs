//! Protection domains and memory regions.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use ibverbs_dl::{ibv_access_flags, ibv_context, ibv_mr, ibv_pd, ibv_sge};

use crate::context::Adapter;
use crate::counters::Counter;
use crate::errno;
use crate::mapping::Mapping;

/// A protection domain, and how many objects belong to it.
#[repr(C)]
pub(crate) struct Pd {
    ibv: ibv_pd,
    pub(crate) users: AtomicUsize,
}

/// The memory regions of a context. The first slot stays empty, so that no key is 0.
#[derive(Default)]
pub(crate) struct Regions {
    slots: Vec<Option<Region>>,
    registered: u32,
}

struct Region {
    lkey: u32,
    pd: u32,
    /// The address by which requests know the first byte.
    iova: u64,
    address: *const u8,
    length: usize,
}

// SAFETY: a region's memory is read by whoever executes requests, as DMA would.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Regions {
    /// Where the bytes of a scatter/gather entry are, if all of them are in the region that it names,
    /// and that region is of the queue pair's protection domain.
    #[inline]
    pub(crate) fn resolve(&self, pd: u32, sge: &ibv_sge) -> Option<*const u8> {
        let region = self.slots.get((sge.lkey >> KEY_BITS) as usize)?.as_ref()?;
        if region.lkey != sge.lkey || region.pd != pd {
            return None;
        }
        let offset = usize::try_from(sge.addr.checked_sub(region.iova)?).ok()?;
        let end = offset.checked_add(sge.length as usize)?;
        (end <= region.length).then(|| region.address.wrapping_add(offset))
    }

    /// Returns the key, of which the low bits differ from those of the slot's earlier regions.
    fn insert(&mut self, mut region: Region) -> u32 {
        self.registered = self.registered.wrapping_add(1);
        let free = self.slots.iter().skip(1).position(Option::is_none).map(|at| at + 1);
        let slot = free.unwrap_or_else(|| {
            let end = self.slots.len().max(1);
            self.slots.resize_with(end + 1, || None);
            end
        });
        region.lkey = (slot as u32) << KEY_BITS | self.registered & ((1 << KEY_BITS) - 1);
        let lkey = region.lkey;
        self.slots[slot] = Some(region);
        lkey
    }

    fn remove(&mut self, lkey: u32) {
        if let Some(slot) = self.slots.get_mut((lkey >> KEY_BITS) as usize) {
            *slot = None;
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_alloc_pd(context: *mut ibv_context) -> *mut ibv_pd {
    // SAFETY: the caller's.
    let adapter = unsafe { Adapter::of(context) };
    adapter.counters.add(Counter::PdsAlive, 1);
    let ibv = ibv_pd { context, handle: adapter.next_handle() };
    Box::into_raw(Box::new(Pd { ibv, users: AtomicUsize::new(0) })).cast()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_dealloc_pd(pd: *mut ibv_pd) -> c_int {
    let pd = pd.cast::<Pd>();
    // SAFETY: the caller's: ibv_alloc_pd made it, and it is used no more.
    unsafe {
        if (*pd).users.load(Ordering::Acquire) > 0 {
            return libc::EBUSY;
        }
        Adapter::of((*pd).ibv.context).counters.add(Counter::PdsAlive, -1);
        drop(Box::from_raw(pd));
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_reg_mr(
    pd: *mut ibv_pd,
    address: *mut c_void,
    length: usize,
    access: c_int,
) -> *mut ibv_mr {
    let iova = address.addr() as u64;
    // SAFETY: the caller's.
    unsafe { ibv_reg_mr_iova2(pd, address, length, iova, access.cast_unsigned()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_reg_mr_iova(
    pd: *mut ibv_pd,
    address: *mut c_void,
    length: usize,
    iova: u64,
    access: c_int,
) -> *mut ibv_mr {
    // SAFETY: the caller's.
    unsafe { ibv_reg_mr_iova2(pd, address, length, iova, access.cast_unsigned()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_reg_mr_iova2(
    pd: *mut ibv_pd,
    address: *mut c_void,
    length: usize,
    iova: u64,
    access: c_uint,
) -> *mut ibv_mr {
    // SAFETY: the caller's.
    let (adapter, context, pd_handle) =
        unsafe { (Adapter::of((*pd).context), (*pd).context, (*pd).handle) };
    if let Err(error) = check(adapter, address.addr(), length, access) {
        return errno::null(error);
    }
    let region =
        Region { lkey: 0, pd: pd_handle, iova, address: address.cast_const().cast(), length };
    let lkey = adapter.regions.write().unwrap().insert(region);
    adapter.counters.add(Counter::MrsAlive, 1);
    adapter.counters.add(Counter::PinnedBytes, pinned(address.addr(), length));
    // SAFETY: the caller's: ibv_alloc_pd made it.
    unsafe { (*pd.cast::<Pd>()).users.fetch_add(1, Ordering::AcqRel) };
    let handle = adapter.next_handle();
    Box::into_raw(Box::new(ibv_mr { context, pd, addr: address, length, handle, lkey, rkey: lkey }))
}

/// Returns only when nothing reads the region any more.
#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_dereg_mr(mr: *mut ibv_mr) -> c_int {
    // SAFETY: the caller's: registering made it, and it is used no more.
    let mr = unsafe { Box::from_raw(mr) };
    // SAFETY: the caller's.
    let adapter = unsafe { Adapter::of(mr.context) };
    adapter.regions.write().unwrap().remove(mr.lkey);
    adapter.counters.add(Counter::MrsAlive, -1);
    adapter.counters.add(Counter::PinnedBytes, -pinned(mr.addr.addr(), mr.length));
    // SAFETY: the domain outlives its regions, or could not have been freed.
    unsafe { (*mr.pd.cast::<Pd>()).users.fetch_sub(1, Ordering::AcqRel) };
    0
}

fn check(adapter: &Adapter, address: usize, length: usize, access: c_uint) -> Result<(), c_int> {
    let faults = &adapter.settings.faults;
    let has = |flag: ibv_access_flags| access & flag.0 != 0;
    let end = address.checked_add(length).filter(|_| length > 0).ok_or(libc::EINVAL)?;
    let writes = has(ibv_access_flags::IBV_ACCESS_REMOTE_WRITE)
        || has(ibv_access_flags::IBV_ACCESS_REMOTE_ATOMIC);
    // The kernel's ib_check_mr_access.
    if writes && !has(ibv_access_flags::IBV_ACCESS_LOCAL_WRITE)
        || faults.relaxed && has(ibv_access_flags::IBV_ACCESS_RELAXED_ORDERING)
    {
        return Err(libc::EINVAL);
    }
    let needed = if faults.readonly || has(ibv_access_flags::IBV_ACCESS_LOCAL_WRITE) {
        Mapping::Writable
    } else {
        Mapping::ReadOnly
    };
    if Mapping::of(address..end) < needed {
        return Err(libc::EFAULT);
    }
    // SAFETY: no pointers.
    let privileged = unsafe { libc::geteuid() } == 0;
    if faults.memlock || !privileged {
        let all = adapter.counters.value(Counter::PinnedBytes) + pinned(address, length);
        if all.cast_unsigned() > memlock_limit() {
            return Err(libc::ENOMEM);
        }
    }
    Ok(())
}

/// What a region counts against `RLIMIT_MEMLOCK`: its pages.
fn pinned(address: usize, length: usize) -> i64 {
    let start = address & !(PAGE - 1);
    let end = (address + length).next_multiple_of(PAGE);
    (end - start).cast_signed() as i64
}

fn memlock_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it fills in the limit.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    limit.rlim_cur
}

/// The low bits of a key, which tell apart the regions that had the same slot.
const KEY_BITS: u32 = 8;
const PAGE: usize = 4096;
