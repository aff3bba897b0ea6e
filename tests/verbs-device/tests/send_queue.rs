//! Posting: states, depth, signalling, protection, and what becomes of requests behind a failed one.

#![allow(unsafe_code, reason = "drives verbs by hand")]

mod support;

use std::ptr;

use ibverbs_dl::*;
use support::on_device;
use support::queue::{IP_CSUM, Queue, Request, SIGNALLED, errno};

const COUNT: (&str, &str) = ("VERBS_DEVICE", "count");
const OK: u32 = ibv_wc_status::IBV_WC_SUCCESS;
const PROTECTION: u32 = ibv_wc_status::IBV_WC_LOC_PROT_ERR;
const LENGTH: u32 = ibv_wc_status::IBV_WC_LOC_LEN_ERR;
const FLUSHED: u32 = ibv_wc_status::IBV_WC_WR_FLUSH_ERR;

#[test]
fn a_queue_pair_sends_once_it_went_through_its_states() {
    let stats = on_device(&[COUNT], || {
        let mut queue = Queue::unready(16, 2, 64).unwrap();
        let request = queue.request(1, SIGNALLED);
        let port = ibv_qp_attr_mask::IBV_QP_PORT.0;
        assert_eq!(queue.post(std::slice::from_ref(&request)), Err((libc::EINVAL, 0)));
        assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_RTR, 0), libc::EINVAL);
        assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_INIT, 0), libc::EINVAL, "no port");
        assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_INIT, port), 0);
        assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_RTS, 0), libc::EINVAL);
        assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_RTR, 0), 0);
        assert_eq!(queue.post(std::slice::from_ref(&request)), Err((libc::EINVAL, 0)));
        assert_eq!(
            queue.modify(ibv_qp_state::IBV_QPS_RTS, port),
            libc::EINVAL,
            "no such attribute"
        );
        assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_RTS, 0), 0);
        assert_eq!(queue.state(), ibv_qp_state::IBV_QPS_RTS);
        assert_eq!(queue.post(&[request]), Ok(()));
        assert_eq!(queue.poll(9), [(1, OK)]);
        queue.close();
    });
    let Some(stats) = stats else { return };
    let [stats] = &stats[..] else { panic!("{stats:?}") };
    for (name, value) in [
        ("closed", 1),
        ("posts", 3),
        ("doorbells", 1),
        ("wrs", 1),
        ("sges", 1),
        ("bytes", 64),
        ("signalled", 1),
        ("completions", 1),
        ("frames", 1),
        ("mrs_alive", 0),
        ("qps_alive", 0),
        ("pinned_bytes", 0),
    ] {
        assert_eq!(stats[name], value, "{name}: {stats:?}");
    }
}

#[test]
fn slots_come_back_when_a_completion_is_polled() {
    on_device(&[COUNT], || {
        let mut queue = Queue::open(6, 64);
        // 6 requests of 2 blocks each, rounded up to 16 blocks.
        assert_eq!(queue.cap.max_send_wr, 8);
        let mut requests: Vec<_> = (0..10).map(|id| queue.request(id, 0)).collect();
        requests[2].flags = SIGNALLED;
        requests[7].flags = SIGNALLED;
        assert_eq!(queue.post(&requests), Err((libc::ENOMEM, 8)));
        // All are executed, but none is polled.
        assert_eq!(queue.post(&requests[8..]), Err((libc::ENOMEM, 0)));
        assert_eq!(queue.poll(1), [(2, OK)]);
        // The unsignalled ones before it came back with it, and no others.
        let more: Vec<_> = (10..14).map(|id| queue.request(id, 0)).collect();
        assert_eq!(queue.post(&more), Err((libc::ENOMEM, 3)));
        assert_eq!(queue.poll(9), [(7, OK)]);
        assert_eq!(queue.poll(9), []);
        queue.close();
    });
}

#[test]
fn a_queue_larger_than_the_device_has_is_refused() {
    on_device(&[COUNT, ("VERBS_DEVICE_MAX_QP_WR", "1024"), ("VERBS_DEVICE_MAX_SGE", "4")], || {
        assert_eq!(Queue::unready(1024, 1, 8).unwrap().cap.max_send_wr, 1024);
        assert_eq!(Queue::unready(1025, 1, 8).err(), Some(libc::EINVAL));
        assert_eq!(Queue::unready(512, 2, 8).unwrap().cap.max_send_wr, 512);
        assert_eq!(Queue::unready(513, 2, 8).err(), Some(libc::EINVAL));
        assert_eq!(Queue::unready(8, 5, 8).err(), Some(libc::EINVAL), "too many entries");
    });
}

#[test]
fn requests_that_the_device_does_not_take_are_not_posted() {
    on_device(&[COUNT, ("VERBS_DEVICE_IP_CSUM", "0")], || {
        let mut queue = Queue::open(16, 64);
        let good = queue.request(1, SIGNALLED);
        let unadvertised = queue.request(2, SIGNALLED | IP_CSUM);
        let inline = queue.request(2, SIGNALLED | ibv_send_flags::IBV_SEND_INLINE.0);
        let long_list = Request { sges: vec![good.sges[0]; 3], ..good.clone() };
        for bad in [unadvertised, inline, long_list] {
            let chain = [good.clone(), bad, good.clone()];
            assert_eq!(queue.post(&chain), Err((libc::EINVAL, 1)));
            assert_eq!(queue.poll(9), [(1, OK)]);
        }
        queue.close();
    });
}

/// Entries that reach out of their region, or name one that is not theirs to use.
#[test]
fn every_entry_of_every_request_is_checked() {
    on_device(&[COUNT], || {
        let mut queue = Queue::open(16, 64);
        let (key, end) = (queue.lkey(), queue.memory.len());
        // SAFETY: the memory outlives the regions, and the domain is freed behind them.
        let (other_pd, other) = unsafe {
            let pd = ibv_alloc_pd(queue.context);
            (pd, ibv_reg_mr(pd, queue.memory.as_mut_ptr().cast(), 4096, 0))
        };
        // SAFETY: as above.
        let stale = unsafe {
            let mr = ibv_reg_mr(queue.pd, queue.memory.as_mut_ptr().cast(), 4096, 0);
            let stale = (*mr).lkey;
            assert_eq!(ibv_dereg_mr(mr), 0);
            let next = ibv_reg_mr(queue.pd, queue.memory.as_mut_ptr().cast(), 4096, 0);
            assert_ne!((*next).lkey, stale, "a key is not used again at once");
            assert_eq!(ibv_dereg_mr(next), 0);
            stale
        };
        // SAFETY: the region lives.
        let foreign = unsafe { (*other).lkey };
        for entry in [
            (end - 63, 64, key),
            (usize::MAX, 64, key),
            (end, 1, key),
            (0, 64, key ^ 1),
            (0, 64, 0),
            (0, 64, stale),
            (0, 64, foreign),
        ] {
            for sges in [vec![entry], vec![(0, 64, key), entry]] {
                // The first goes out; the second fails though unsignalled; the rest is flushed.
                let bad = Request { wr_id: 2, flags: 0, sges };
                let chain =
                    [queue.request(1, 0), bad, queue.request(3, 0), queue.request(4, SIGNALLED)];
                assert_eq!(queue.post(&chain), Ok(()));
                let statuses = queue.poll(9);
                assert_eq!(statuses, [(2, PROTECTION), (3, FLUSHED), (4, FLUSHED)], "{entry:?}");
                assert_eq!(queue.state(), ibv_qp_state::IBV_QPS_ERR);
                // What is posted now is flushed too.
                let late = queue.request(5, 0);
                assert_eq!(queue.post(&[late]), Ok(()));
                assert_eq!(queue.poll(9), [(5, FLUSHED)]);
                assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_RESET, 0), 0);
                queue.make_ready();
            }
        }
        let whole = Request { wr_id: 6, flags: SIGNALLED, sges: vec![(end - 64, 64, key)] };
        assert_eq!(queue.post(&[whole]), Ok(()));
        assert_eq!(queue.poll(9), [(6, OK)]);
        // SAFETY: used no more.
        unsafe {
            assert_eq!(ibv_dealloc_pd(other_pd), libc::EBUSY);
            assert_eq!(ibv_dereg_mr(other), 0);
            assert_eq!(ibv_dealloc_pd(other_pd), 0);
        }
        queue.close();
    });
}

#[test]
fn frames_that_are_no_frames_fail() {
    on_device(&[COUNT], || {
        let mut queue = Queue::open(16, 64);
        let mtu: u32 =
            std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap().trim().parse().unwrap();
        let long = vec![(0, 60_000, queue.lkey()); 2];
        assert!(mtu < 120_000);
        for sges in [vec![(0, 13, queue.lkey())], vec![], long] {
            assert_eq!(queue.post(&[Request { wr_id: 1, flags: 0, sges }]), Ok(()));
            assert_eq!(queue.poll(9), [(1, LENGTH)]);
            assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_RESET, 0), 0);
            queue.make_ready();
        }
        queue.close();
    });
}

#[test]
fn a_reset_forgets_requests_and_completions() {
    on_device(&[COUNT], || {
        let mut queue = Queue::open(2, 64);
        let full: Vec<_> = (0..2).map(|id| queue.request(id, SIGNALLED)).collect();
        for _ in 0..3 {
            assert_eq!(queue.post(&full), Ok(()));
            assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_RESET, 0), 0);
            assert_eq!(queue.poll(9), []);
            queue.make_ready();
        }
        // An error state that is asked for: nothing waits, so nothing is flushed.
        assert_eq!(queue.post(&full), Ok(()));
        assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_ERR, 0), 0);
        assert_eq!(queue.poll(9), [(0, OK), (1, OK)]);
        queue.close();
    });
}

#[test]
fn requests_under_way_are_flushed_by_an_error_state() {
    on_device(&[("VERBS_DEVICE", "count,late=60000000")], || {
        let mut queue = Queue::open(8, 64);
        let requests: Vec<_> = (0..3).map(|id| queue.request(id, 0)).collect();
        assert_eq!(queue.post(&requests), Ok(()));
        assert_eq!(queue.poll(9), []);
        assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_ERR, 0), 0);
        assert_eq!(queue.poll(9), [(0, FLUSHED), (1, FLUSHED), (2, FLUSHED)]);
        queue.close();
    });
}

#[test]
fn a_queue_may_stop_at_sending_errors_only() {
    on_device(
        &[COUNT, ("VERBS_DEVICE_ERROR_STATE", "sqe"), ("VERBS_DEVICE_FAULT", "wc@1=21")],
        || {
            let mut queue = Queue::open(8, 64);
            let request = queue.request(1, SIGNALLED);
            assert_eq!(queue.post(&[request.clone(), request.clone()]), Ok(()));
            assert_eq!(queue.poll(9), [(1, 21), (1, FLUSHED)]);
            assert_eq!(queue.state(), ibv_qp_state::IBV_QPS_SQE);
            assert_eq!(queue.modify(ibv_qp_state::IBV_QPS_RTS, 0), 0);
            assert_eq!(queue.post(&[request]), Ok(()));
            assert_eq!(queue.poll(9), [(1, OK)]);
            queue.close();
        },
    );
}

#[test]
fn injected_faults_happen_where_they_should() {
    let faults = ("VERBS_DEVICE_FAULT", "wc@4=general,enomem@2");
    let stats = on_device(&[COUNT, faults], || {
        let mut queue = Queue::open(8, 64);
        let requests: Vec<_> = (1..=3).map(|id| queue.request(id, SIGNALLED)).collect();
        assert_eq!(queue.post(&requests), Ok(()));
        assert_eq!(queue.poll(9), [(1, OK), (2, OK), (3, OK)]);
        assert_eq!(queue.post(&requests), Err((libc::ENOMEM, 0)));
        assert_eq!(queue.poll(9), []);
        assert_eq!(queue.post(&requests), Ok(()));
        let general = ibv_wc_status::IBV_WC_GENERAL_ERR;
        assert_eq!(queue.poll(9), [(1, general), (2, FLUSHED), (3, FLUSHED)]);
        // The end of the process, with everything still there.
    });
    let Some(stats) = stats else { return };
    assert_eq!(stats[0]["closed"], 0);
    for left in ["qps_alive", "cqs_alive", "mrs_alive", "pds_alive", "channels_alive"] {
        assert_eq!(stats[0][left], 1, "{left}");
    }
    assert_eq!((stats[0]["posts"], stats[0]["doorbells"], stats[0]["wrs"]), (3, 2, 6));
}

#[test]
fn other_kinds_of_queue_pairs_are_refused() {
    on_device(&[COUNT], || {
        let queue = Queue::open(8, 8);
        let mut attr = ibv_qp_init_attr_ex {
            send_cq: queue.cq,
            recv_cq: queue.cq,
            qp_type: ibv_qp_type::IBV_QPT_RC,
            comp_mask: IBV_QP_INIT_ATTR_PD,
            pd: queue.pd,
            ..Default::default()
        };
        // SAFETY: the pointers are valid; whatever is made is destroyed.
        unsafe {
            assert_eq!(ibv_create_qp_ex(queue.context, &raw mut attr), ptr::null_mut());
            assert_eq!(errno(), libc::EOPNOTSUPP);
            attr.qp_type = ibv_qp_type::IBV_QPT_RAW_PACKET;
            let qp = ibv_create_qp_ex(queue.context, &raw mut attr);
            assert_eq!(attr.comp_mask, IBV_QP_INIT_ATTR_PD, "left alone");
            assert_eq!(ibv_destroy_qp(qp), 0);
            assert_eq!(ibv_create_ah(queue.pd, ptr::null_mut()), ptr::null_mut());
            assert_eq!(errno(), libc::EOPNOTSUPP);
        }
        queue.close();
    });
}

#[test]
fn raw_packets_take_a_capability() {
    on_device(&[COUNT, ("VERBS_DEVICE_FAULT", "no-cap-net-raw")], || {
        assert_eq!(Queue::unready(8, 1, 8).err(), Some(libc::EPERM));
    });
}
