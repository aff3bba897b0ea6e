//! Completion queues and channels, and asynchronous events.

#![allow(unsafe_code, reason = "drives verbs by hand")]

mod support;

use std::ffi::c_int;
use std::ptr;
use std::thread;
use std::time::Duration;

use ibverbs_dl::*;
use support::on_device;
use support::queue::{Queue, SIGNALLED, errno, is_readable};

const COUNT: (&str, &str) = ("VERBS_DEVICE", "count");

fn arm(queue: &Queue, solicited_only: c_int) {
    // SAFETY: the queue lives.
    assert_eq!(unsafe { ibv_req_notify_cq(queue.cq, solicited_only) }, 0);
}

fn channel_fd(queue: &Queue) -> c_int {
    // SAFETY: the channel lives.
    unsafe { (*queue.channel).fd }
}

/// Waits for an event; does not acknowledge it.
fn take_event(queue: &Queue) {
    let (mut cq, mut cq_context) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the channel lives.
    let result = unsafe { ibv_get_cq_event(queue.channel, &raw mut cq, &raw mut cq_context) };
    assert_eq!((result, cq, cq_context.addr()), (0, queue.cq, 77));
}

fn acknowledge(queue: &Queue, events: u32) {
    // SAFETY: the queue lives.
    unsafe { ibv_ack_cq_events(queue.cq, events) };
}

#[test]
fn an_event_follows_the_first_completion_after_arming() {
    let stats = on_device(&[COUNT], || {
        let mut queue = Queue::open(16, 64);
        let request = [queue.request(1, SIGNALLED)];
        queue.post(&request).unwrap();
        assert!(!is_readable(channel_fd(&queue)), "not armed");
        arm(&queue, 0);
        // What lies in the queue already makes no event: whoever does not poll now sleeps for ever.
        assert!(!is_readable(channel_fd(&queue)));
        assert_eq!(queue.poll(9).len(), 1);
        queue.post(&request).unwrap();
        queue.post(&request).unwrap();
        assert!(is_readable(channel_fd(&queue)));
        take_event(&queue);
        assert!(!is_readable(channel_fd(&queue)), "one event for each arming");
        queue.post(&request).unwrap();
        assert!(!is_readable(channel_fd(&queue)));
        // Nothing that is sent is solicited.
        arm(&queue, 1);
        queue.post(&request).unwrap();
        assert!(!is_readable(channel_fd(&queue)));
        arm(&queue, 0);
        queue.post(&[queue.request(2, 0)]).unwrap();
        assert!(!is_readable(channel_fd(&queue)), "no completion, no event");
        queue.post(&request).unwrap();
        take_event(&queue);
        acknowledge(&queue, 2);
        assert_eq!(queue.poll(9).len(), 5);
        queue.close();
    });
    let Some(stats) = stats else { return };
    assert_eq!(stats[0]["cq_events"], 2);
}

#[test]
fn a_channel_blocks_or_not_as_its_descriptor_says() {
    on_device(&[("VERBS_DEVICE", "count,late=30000")], || {
        let mut queue = Queue::open(16, 64);
        let fd = channel_fd(&queue);
        arm(&queue, 0);
        queue.post(&[queue.request(1, SIGNALLED)]).unwrap();
        take_event(&queue);
        // SAFETY: the descriptor and the channel live.
        unsafe {
            libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK);
            let (mut cq, mut cq_context) = (ptr::null_mut(), ptr::null_mut());
            assert_eq!(ibv_get_cq_event(queue.channel, &raw mut cq, &raw mut cq_context), -1);
            assert_eq!(errno(), libc::EAGAIN);
        }
        acknowledge(&queue, 1);
        assert_eq!(queue.poll(9).len(), 1);
        queue.close();
    });
}

#[test]
fn a_completion_queue_waits_for_its_events_to_be_acknowledged() {
    on_device(&[COUNT], || {
        let mut queue = Queue::open(16, 64);
        arm(&queue, 0);
        queue.post(&[queue.request(1, SIGNALLED)]).unwrap();
        take_event(&queue);
        // SAFETY: what is in use is not destroyed.
        unsafe {
            assert_eq!(ibv_destroy_cq(queue.cq), libc::EBUSY);
            assert_eq!(ibv_destroy_comp_channel(queue.channel), libc::EBUSY);
            assert_eq!(ibv_dealloc_pd(queue.pd), libc::EBUSY);
            assert_eq!(ibv_destroy_qp(queue.qp), 0);
        }
        let cq = queue.cq.expose_provenance();
        let destroyed = thread::spawn(move || {
            // SAFETY: used no more but for the acknowledgement that this waits for.
            unsafe { ibv_destroy_cq(ptr::with_exposed_provenance_mut(cq)) }
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!destroyed.is_finished());
        acknowledge(&queue, 1);
        assert_eq!(destroyed.join().unwrap(), 0);
    });
}

#[test]
fn an_event_that_nobody_took_dies_with_its_queue() {
    on_device(&[COUNT], || {
        let mut queue = Queue::open(16, 64);
        arm(&queue, 0);
        queue.post(&[queue.request(1, SIGNALLED)]).unwrap();
        assert!(is_readable(channel_fd(&queue)));
        // SAFETY: used no more.
        unsafe {
            assert_eq!(ibv_destroy_qp(queue.qp), 0);
            assert_eq!(ibv_destroy_cq(queue.cq), 0);
        }
        assert!(!is_readable(channel_fd(&queue)));
    });
}

#[test]
fn a_completion_too_many_is_the_end_of_its_queues() {
    let stats = on_device(&[COUNT], || {
        // 3 + 1 is a power of two: there is room for 3.
        let mut queue = Queue::open(16, 3);
        let requests: Vec<_> = (0..6).map(|id| queue.request(id, SIGNALLED)).collect();
        queue.post(&requests).unwrap();
        let mut events = [queue.async_event(), queue.async_event()];
        events.sort_unstable();
        assert_eq!(events, [IBV_EVENT_CQ_ERR, IBV_EVENT_QP_FATAL]);
        assert_eq!(queue.state(), ibv_qp_state::IBV_QPS_ERR);
        assert_eq!(queue.poll(9), [(0, 0), (1, 0), (2, 0)]);
        // It takes no more, though there is room again.
        queue.post(&requests[..1]).unwrap();
        assert_eq!(queue.poll(9), []);
        queue.close();
    });
    let Some(stats) = stats else { return };
    assert_eq!((stats[0]["completions"], stats[0]["cq_overruns"]), (3, 1));
}

#[test]
fn a_port_that_goes_down_drops_frames_and_says_so() {
    let down = ("VERBS_DEVICE_FAULT", "port-down@2=20000");
    let stats = on_device(&[COUNT, down], || {
        let mut queue = Queue::open(16, 16);
        queue.post(&[queue.request(1, SIGNALLED)]).unwrap();
        queue.poll_until(1);
        queue.post(&[queue.request(2, SIGNALLED)]).unwrap();
        assert_eq!(queue.poll_until(1), [(2, 0)]);
        assert_eq!(queue.async_event(), IBV_EVENT_PORT_ERR);
        assert_eq!(queue.async_event(), IBV_EVENT_PORT_ACTIVE);
        queue.post(&[queue.request(3, SIGNALLED)]).unwrap();
        queue.poll_until(1);
        queue.close();
    });
    let Some(stats) = stats else { return };
    assert_eq!((stats[0]["frames"], stats[0]["dropped"]), (2, 1));
}

#[test]
fn a_request_may_be_delayed() {
    on_device(&[COUNT, ("VERBS_DEVICE_FAULT", "delay@2=60000000")], || {
        let mut queue = Queue::open(16, 16);
        let requests: Vec<_> = (1..=3).map(|id| queue.request(id, SIGNALLED)).collect();
        queue.post(&requests).unwrap();
        assert_eq!(queue.poll_until(1), [(1, 0)]);
        assert_eq!(queue.poll(9), []);
        queue.close();
    });
}
