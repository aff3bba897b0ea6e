//! The device as programs find it: lists, attributes, ports, GIDs, pacing.

#![allow(unsafe_code, reason = "drives verbs by hand")]

mod support;

use std::ffi::CStr;
use std::ptr;
use std::time::{Duration, Instant};

use ibverbs_dl::*;
use support::on_device;
use support::queue::{Queue, Request, SIGNALLED, errno};

const COUNT: (&str, &str) = ("VERBS_DEVICE", "count");

#[test]
fn a_library_without_a_device_lists_none() {
    on_device(&[], || {
        let mut count = -1;
        // SAFETY: the list is freed once.
        unsafe {
            let list = ibv_get_device_list(&raw mut count);
            assert!(count == 0 && !list.is_null() && (*list).is_null());
            ibv_free_device_list(list);
        }
    });
}

#[test]
fn a_kernel_without_rdma_is_told_apart() {
    on_device(&[("VERBS_DEVICE", "enosys")], || {
        // SAFETY: a count is not asked for.
        assert!(unsafe { ibv_get_device_list(ptr::null_mut()) }.is_null());
        assert_eq!(errno(), libc::ENOSYS);
    });
}

#[test]
fn a_setting_that_is_not_understood_stops_a_test() {
    on_device(&[("VERBS_DEVICE", "count=no-such-interface")], || {
        // SAFETY: a count is not asked for.
        assert!(unsafe { ibv_get_device_list(ptr::null_mut()) }.is_null());
        assert_eq!(errno(), libc::ENODEV);
    });
}

#[test]
fn the_device_describes_itself() {
    let settings = [
        COUNT,
        ("VERBS_DEVICE_RATE_LIMIT", "1000..10000000"),
        ("VERBS_DEVICE_MAX_QP_WR", "4096"),
        ("VERBS_DEVICE_MAX_SGE", "7"),
    ];
    on_device(&settings, || {
        let queue = Queue::open(1, 1);
        // SAFETY: the context lives, and the answers have room.
        unsafe {
            let device = (*queue.context).device;
            assert_eq!(CStr::from_ptr(ibv_get_device_name(device)), c"soft0");
            let mut attr = ibv_device_attr_ex::default();
            assert_eq!(ibv_query_device_ex(queue.context, ptr::null(), &raw mut attr), 0);
            assert_eq!((attr.orig_attr.max_qp_wr, attr.orig_attr.max_sge), (4096, 7));
            assert_eq!(attr.raw_packet_caps, IBV_RAW_PACKET_CAP_IP_CSUM);
            let pacing = attr.packet_pacing_caps;
            assert_eq!((pacing.qp_rate_limit_min, pacing.qp_rate_limit_max), (1000, 10_000_000));
            assert_eq!(pacing.supported_qpts, 1 << ibv_qp_type::IBV_QPT_RAW_PACKET);
            assert_eq!(CStr::from_ptr(attr.orig_attr.fw_ver.as_ptr()), c"software");
            let mut port = ibv_port_attr::default();
            assert_eq!(ibv_query_port(queue.context, 1, &raw mut port), 0);
            assert_eq!(port.state, ibv_port_state::IBV_PORT_ACTIVE);
            assert_eq!(u32::from(port.link_layer), IBV_LINK_LAYER_ETHERNET);
            assert_eq!(ibv_query_port(queue.context, 2, &raw mut port), libc::EINVAL);
            let status = ibv_wc_status::IBV_WC_WR_FLUSH_ERR;
            assert_eq!(CStr::from_ptr(ibv_wc_status_str(status)), c"Work Request Flushed Error");
            assert_eq!(CStr::from_ptr(ibv_event_type_str(99)), c"unknown");
        }
        queue.close();
    });
}

/// The exported verb knows an older, shorter structure; the extended one fills what it is given room for.
#[test]
fn an_older_port_structure_is_not_overrun() {
    on_device(&[COUNT], || {
        let queue = Queue::open(1, 1);
        // SAFETY: the library is loaded, and the symbol has this type.
        let exported: unsafe extern "C" fn(*mut ibv_context, u8, *mut [u8; 52]) -> i32 = unsafe {
            let library = libc::dlopen(c"libibverbs.so.1".as_ptr(), libc::RTLD_NOW);
            std::mem::transmute(libc::dlsym(library, c"ibv_query_port".as_ptr()))
        };
        let mut room = [0xaa; 52];
        // SAFETY: the context lives.
        assert_eq!(unsafe { exported(queue.context, 1, &raw mut room) }, 0);
        assert_eq!(room[46], IBV_LINK_LAYER_ETHERNET as u8);
        assert_eq!(room[48..], [0xaa; 4]);
        queue.close();
    });
}

#[test]
fn gids_tell_the_interface_and_its_addresses() {
    on_device(&[COUNT], || {
        let queue = Queue::open(1, 1);
        let mut entries = [ibv_gid_entry::default(); 16];
        // SAFETY: the context lives, and there is room.
        let count = unsafe {
            let size = size_of::<ibv_gid_entry>();
            _ibv_query_gid_table(queue.context, entries.as_mut_ptr(), entries.len(), 0, size)
        };
        let entries = &entries[..count.unsigned_abs()];
        let mut mapped = [0; 16];
        mapped[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        // SAFETY: either member of the union is bytes.
        let found: Vec<_> = entries.iter().filter(|e| unsafe { e.gid.raw } == mapped).collect();
        let types = [IBV_GID_TYPE_ROCE_V1, IBV_GID_TYPE_ROCE_V2];
        assert_eq!(found.iter().map(|entry| entry.gid_type).collect::<Vec<_>>(), types);
        // SAFETY: a name that is terminated.
        let index = unsafe { libc::if_nametoindex(c"lo".as_ptr()) };
        assert!(found.iter().all(|entry| entry.ndev_ifindex == index && entry.port_num == 1));
        for (i, entry) in entries.iter().enumerate() {
            let (mut gid, mut again) = (ibv_gid::default(), ibv_gid_entry::default());
            // SAFETY: the context lives.
            unsafe {
                assert_eq!(ibv_query_gid(queue.context, 1, i as i32, &raw mut gid), 0);
                assert_eq!(gid.raw, entry.gid.raw);
                assert_eq!(ibv_query_gid_ex(queue.context, 1, i as u32, &raw mut again, 0), 0);
            }
            assert_eq!((again.gid_index, again.gid_type), (i as u32, entry.gid_type));
        }
        let mut none = ibv_gid_entry::default();
        // SAFETY: the context lives.
        unsafe {
            assert_eq!(ibv_query_gid_ex(queue.context, 1, 200, &raw mut none, 0), libc::ENODATA);
            assert_eq!(ibv_query_gid(queue.context, 1, 999, &raw mut none.gid), -1);
        }
        assert_eq!(errno(), libc::EINVAL);
        queue.close();
    });
}

fn limit(queue: &Queue, rate_limit: u32, max_burst_sz: u32) -> i32 {
    let mut attr = ibv_qp_rate_limit_attr { rate_limit, max_burst_sz, ..Default::default() };
    // SAFETY: the queue lives.
    unsafe { ibv_modify_qp_rate_limit(queue.qp, &raw mut attr) }
}

#[test]
fn queue_pairs_are_paced_within_the_range_of_the_device() {
    on_device(&[COUNT, ("VERBS_DEVICE_RATE_LIMIT", "1000..10000000")], || {
        let mut queue = Queue::unready(64, 1, 64).unwrap();
        assert_eq!(limit(&queue, 8000, 0), libc::EINVAL, "not ready to send");
        queue.make_ready();
        assert_eq!(limit(&queue, 999, 0), libc::EINVAL);
        assert_eq!(limit(&queue, 10_000_001, 0), libc::EINVAL);
        assert_eq!(limit(&queue, 8000, 9000), libc::EINVAL, "no bursts");
        assert_eq!(limit(&queue, 8000, 0), 0);
        // 8000 kb/s are 1000 bytes a millisecond; the first goes at once.
        let sges = vec![(0, 1000, queue.lkey())];
        let mut requests = vec![Request { wr_id: 0, flags: 0, sges }; 51];
        requests[50].flags = SIGNALLED;
        let start = Instant::now();
        queue.post(&requests).unwrap();
        queue.poll_until(1);
        // Never early, but for what a late thread may catch up.
        assert!(start.elapsed() >= Duration::from_millis(47), "{:?}", start.elapsed());
        assert_eq!(limit(&queue, 0, 0), 0);
        queue.close();
    });
}

#[test]
fn without_pacing_there_is_none() {
    on_device(&[COUNT], || {
        let queue = Queue::open(1, 1);
        assert_eq!(limit(&queue, 8000, 0), libc::EOPNOTSUPP);
        queue.close();
    });
}
