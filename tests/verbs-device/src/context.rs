//! Opened devices: what all objects of a context share, and the verbs on a context itself.

use std::ffi::c_int;
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ibverbs_dl::{
    IBV_ATOMIC_NONE, IBV_RAW_PACKET_CAP_IP_CSUM, ibv_async_event, ibv_context, ibv_context_ops,
    ibv_device, ibv_device_attr, ibv_device_attr_ex, ibv_packet_pacing_caps,
    ibv_query_device_ex_input, verbs_context,
};

use crate::completion::{poll_cq, req_notify_cq};
use crate::counters::Counters;
use crate::events::Events;
use crate::interface::Interface;
use crate::memory::Regions;
use crate::port::{AsyncEvent, Port, query_port};
use crate::queue_pair::{create_qp_ex, modify_qp_rate_limit, post_recv, post_send};
use crate::settings::{DataPath, Presence, Settings, settings};
use crate::worker::Worker;
use crate::{device, errno};

/// What the objects of a context share.
pub(crate) struct Adapter {
    pub(crate) settings: &'static Settings,
    pub(crate) path: DataPath,
    pub(crate) interface: String,
    pub(crate) late: Duration,
    /// Whether requests are executed within `post_send`, so that a program's instructions can be
    /// counted without those of another thread.
    pub(crate) synchronous: bool,
    pub(crate) mtu: u32,
    pub(crate) port: Port,
    pub(crate) events: Events<AsyncEvent>,
    pub(crate) regions: RwLock<Regions>,
    pub(crate) counters: Counters,
    pub(crate) worker: Worker,
    /// The last handle that was given to an object; queue pair numbers are handles too.
    handles: AtomicU64,
    /// Posts and requests so far, where faults want them counted.
    pub(crate) posts: AtomicU64,
    pub(crate) requests: AtomicU64,
}

#[repr(C)]
struct Context {
    verbs: verbs_context,
    adapter: Arc<Adapter>,
    thread: Option<JoinHandle<()>>,
}

impl Adapter {
    /// That of a context.
    ///
    /// # Safety
    ///
    /// The context is open.
    pub(crate) unsafe fn of<'a>(context: *mut ibv_context) -> &'a Arc<Self> {
        // SAFETY: ibv_open_device made the context, as a part of a Context.
        unsafe { &(*Context::around(context)).adapter }
    }

    pub(crate) fn next_handle(&self) -> u32 {
        // Truncation: no test creates that many objects.
        (self.handles.fetch_add(1, Ordering::Relaxed) + 1) as u32
    }

    fn write_stats(&self, closed: bool) {
        if let Some(path) = &self.settings.stats {
            let name = device::NAME.to_string_lossy();
            if let Err(error) = self.counters.append_to(path, &name, closed) {
                crate::settings::complain(&format!("{}: {error}", path.display()));
            }
        }
    }
}

impl Context {
    fn around(context: *mut ibv_context) -> *mut Self {
        // The context is the last member of verbs_context, which is the first of Context.
        context.wrapping_byte_sub(offset_of!(verbs_context, context)).cast()
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_open_device(device: *mut ibv_device) -> *mut ibv_context {
    let Some(settings) = settings() else { return errno::null(libc::EINVAL) };
    let Presence::Present { interface, path, late } = &settings.presence else {
        return errno::null(libc::ENODEV);
    };
    let opened = Interface::query(interface).and_then(|now| Ok((now, Events::new()?)));
    let (now, events) = match opened {
        Ok(opened) => opened,
        Err(error) => return errno::null(errno::of(&error)),
    };
    let async_fd = events.fd();
    let faults = &settings.faults;
    let needs_time = *path == DataPath::Wire
        || !late.is_zero()
        || settings.rate_limit.is_some()
        || !faults.delay.is_empty()
        || faults.port_down.is_some_and(|(_, time)| time.is_some());
    let adapter = Arc::new(Adapter {
        settings,
        path: path.clone(),
        interface: interface.clone(),
        late: *late,
        synchronous: !needs_time,
        mtu: now.mtu,
        port: Port::default(),
        events,
        regions: RwLock::default(),
        counters: Counters::default(),
        worker: Worker::default(),
        handles: AtomicU64::default(),
        posts: AtomicU64::default(),
        requests: AtomicU64::default(),
    });
    let thread = needs_time.then(|| {
        let adapter = Arc::clone(&adapter);
        thread::spawn(move || adapter.worker.run(&adapter))
    });
    remember(&adapter);
    let mut verbs = verbs_context {
        query_port: Some(query_port),
        query_device_ex: Some(query_device_ex),
        create_qp_ex: Some(create_qp_ex),
        modify_qp_rate_limit: Some(modify_qp_rate_limit),
        sz: size_of::<verbs_context>(),
        ..verbs_context::default()
    };
    verbs.context = ibv_context {
        device,
        ops: ibv_context_ops {
            poll_cq: Some(poll_cq),
            req_notify_cq: Some(req_notify_cq),
            post_send: Some(post_send),
            post_recv: Some(post_recv),
            ..ibv_context_ops::default()
        },
        // There is no kernel side.
        cmd_fd: -1,
        async_fd,
        num_comp_vectors: 1,
        // What marks a context as part of a verbs_context.
        abi_compat: ptr::without_provenance_mut(usize::MAX),
        ..ibv_context::default()
    };
    let context = Box::into_raw(Box::new(Context { verbs, adapter, thread }));
    // SAFETY: just made.
    unsafe { &raw mut (*context).verbs.context }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_close_device(context: *mut ibv_context) -> c_int {
    let context = Context::around(context);
    // SAFETY: the caller's: the context is open, and used no more.
    let (adapter, thread) = unsafe { (Arc::clone(&(*context).adapter), (*context).thread.take()) };
    if let Some(thread) = thread {
        adapter.worker.stop();
        let _ = thread.join();
    }
    adapter.write_stats(true);
    open().retain(|other| !Arc::ptr_eq(other, &adapter));
    // Objects that were not destroyed point at the context.
    if !adapter.counters.any_alive() {
        // SAFETY: ibv_open_device made the box, and nothing points into it any more.
        drop(unsafe { Box::from_raw(context) });
    }
    0
}

static OPEN: Mutex<Vec<Arc<Adapter>>> = Mutex::new(Vec::new());

fn open() -> std::sync::MutexGuard<'static, Vec<Arc<Adapter>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the counters written at the end of the process, unless the context is closed before.
fn remember(adapter: &Arc<Adapter>) {
    extern "C" fn at_exit() {
        for adapter in open().drain(..) {
            adapter.write_stats(false);
        }
    }

    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the library is not unloaded: it has threads.
        let _ = unsafe { libc::atexit(at_exit) };
    });
    open().push(Arc::clone(adapter));
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_query_device(
    context: *mut ibv_context,
    attr: *mut ibv_device_attr,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { attr.write(attributes(Adapter::of(context))) };
    0
}

unsafe extern "C" fn query_device_ex(
    context: *mut ibv_context,
    _input: *const ibv_query_device_ex_input,
    attr: *mut ibv_device_attr_ex,
    size: usize,
) -> c_int {
    // SAFETY: the caller's.
    let adapter = unsafe { Adapter::of(context) };
    let rates = adapter.settings.rate_limit.clone();
    let answer = ibv_device_attr_ex {
        orig_attr: attributes(adapter),
        raw_packet_caps: if adapter.settings.ip_csum { IBV_RAW_PACKET_CAP_IP_CSUM } else { 0 },
        packet_pacing_caps: rates.map_or_else(Default::default, |rates| ibv_packet_pacing_caps {
            qp_rate_limit_min: *rates.start(),
            qp_rate_limit_max: *rates.end(),
            supported_qpts: 1 << ibverbs_dl::ibv_qp_type::IBV_QPT_RAW_PACKET,
        }),
        phys_port_cnt_ex: 1,
        ..ibv_device_attr_ex::default()
    };
    let size = size.min(size_of::<ibv_device_attr_ex>());
    // SAFETY: the caller has room for `size` bytes, and knows the fields that begin there.
    unsafe { ptr::copy_nonoverlapping((&raw const answer).cast::<u8>(), attr.cast(), size) };
    0
}

fn attributes(adapter: &Adapter) -> ibv_device_attr {
    let settings = adapter.settings;
    let guid = Interface::query(&adapter.interface)
        .map_or(0, |interface| u64::from_ne_bytes(interface.eui64()));
    let mut attr = ibv_device_attr {
        node_guid: guid,
        sys_image_guid: guid,
        max_mr_size: u64::MAX,
        page_size_cap: !0xfff,
        max_qp: 1 << 16,
        max_qp_wr: settings.max_qp_wr.cast_signed(),
        max_sge: settings.max_sge.cast_signed(),
        max_cq: 1 << 16,
        max_cqe: settings.max_cqe.cast_signed(),
        max_mr: 1 << 24,
        max_pd: 1 << 16,
        atomic_cap: IBV_ATOMIC_NONE,
        phys_port_cnt: 1,
        ..ibv_device_attr::default()
    };
    for (to, from) in attr.fw_ver.iter_mut().zip(FIRMWARE) {
        *to = from.cast_signed();
    }
    attr
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_get_async_event(
    context: *mut ibv_context,
    event: *mut ibv_async_event,
) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        match Adapter::of(context).events.take() {
            Ok(taken) => {
                event.write(taken.hand_out());
                0
            }
            Err(error) => errno::minus_one(errno::of(&error)),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ibv_ack_async_event(event: *mut ibv_async_event) {
    // SAFETY: the caller's: ibv_get_async_event filled it in.
    unsafe { AsyncEvent::acknowledge(&*event) };
}

const FIRMWARE: &[u8] = b"software";
