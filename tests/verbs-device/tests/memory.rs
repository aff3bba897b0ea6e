//! Registration, and when memory is read.

#![allow(unsafe_code, reason = "drives verbs by hand")]

mod support;

use std::ffi::c_void;
use std::ptr;

use ibverbs_dl::*;
use support::on_device;
use support::queue::{Queue, SIGNALLED, errno};

const COUNT: (&str, &str) = ("VERBS_DEVICE", "count");
const LENGTH: usize = 64 * 1024;

fn map(protection: i32) -> *mut c_void {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, wherever the kernel likes.
    let address = unsafe { libc::mmap(ptr::null_mut(), LENGTH, protection, flags, -1, 0) };
    assert_ne!(address, libc::MAP_FAILED);
    address
}

/// 0, or the errno.
fn register(queue: &Queue, address: *mut c_void, length: usize, access: ibv_access_flags) -> i32 {
    // SAFETY: what is not mapped is refused, and what is registered is deregistered at once.
    unsafe {
        let mr = ibv_reg_mr(queue.pd, address, length, access.0.cast_signed());
        if mr.is_null() { errno() } else { ibv_dereg_mr(mr) }
    }
}

const NONE: ibv_access_flags = ibv_access_flags(0);
const LOCAL_WRITE: ibv_access_flags = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE;
const RELAXED: ibv_access_flags = ibv_access_flags::IBV_ACCESS_RELAXED_ORDERING;

#[test]
fn memory_must_be_mapped_as_it_is_to_be_used() {
    on_device(&[COUNT], || {
        let queue = Queue::open(1, 1);
        let writable = map(libc::PROT_READ | libc::PROT_WRITE);
        let readonly = map(libc::PROT_READ);
        let guarded = map(libc::PROT_NONE);
        assert_eq!(register(&queue, writable, LENGTH, LOCAL_WRITE | RELAXED), 0);
        assert_eq!(register(&queue, readonly, LENGTH, NONE), 0);
        assert_eq!(register(&queue, readonly, LENGTH, LOCAL_WRITE), libc::EFAULT);
        assert_eq!(register(&queue, guarded, LENGTH, NONE), libc::EFAULT);
        assert_eq!(register(&queue, writable, 0, NONE), libc::EINVAL);
        assert_eq!(
            register(&queue, writable, LENGTH, ibv_access_flags::IBV_ACCESS_REMOTE_WRITE),
            libc::EINVAL
        );
        queue.close();
    });
}

#[test]
fn faults_of_registration() {
    let faults = "reg-readonly=fail,relaxed=reject,memlock";
    on_device(&[COUNT, ("VERBS_DEVICE_FAULT", faults)], || {
        let queue = Queue::open(1, 1);
        let writable = map(libc::PROT_READ | libc::PROT_WRITE);
        assert_eq!(register(&queue, map(libc::PROT_READ), LENGTH, NONE), libc::EFAULT);
        assert_eq!(register(&queue, writable, LENGTH, RELAXED), libc::EINVAL);
        assert_eq!(register(&queue, writable, LENGTH, NONE), 0);
        // The queue has another 16 pages and a part of one.
        let limit = libc::rlimit { rlim_cur: 2 * LENGTH as u64, rlim_max: 2 * LENGTH as u64 };
        // SAFETY: a limit that outlives the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }, 0);
        assert_eq!(register(&queue, writable, LENGTH - 4096, NONE), 0);
        assert_eq!(register(&queue, writable, LENGTH, NONE), libc::ENOMEM);
        queue.close();
    });
}

#[test]
fn memory_that_is_left_alone_is_read_as_it_is() {
    let Some(checksum) = checksum_with(|_| {}) else { return };
    assert_eq!(checksum, fnv1a(&(0..64).collect::<Vec<u8>>()));
}

/// What is written between the doorbell and the completion may go out, and here it does.
#[test]
fn memory_is_read_late() {
    let Some(checksum) = checksum_with(|queue| queue.memory[..8].fill(0xff)) else { return };
    let torn: Vec<u8> = [0xff; 8].into_iter().chain(8..64).collect();
    assert_eq!(checksum, fnv1a(&torn));
}

/// Of one frame, with something done while it is under way.
fn checksum_with(meanwhile: impl FnOnce(&mut Queue)) -> Option<u64> {
    let stats = on_device(&[("VERBS_DEVICE", "count,checksum,late=500000")], || {
        let mut queue = Queue::open(1, 1);
        queue.post(&[queue.request(1, SIGNALLED)]).unwrap();
        meanwhile(&mut queue);
        assert_eq!(queue.poll_until(1), [(1, 0)]);
        queue.close();
    });
    stats.map(|stats| stats[0]["checksum"].cast_unsigned())
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A region may be known by other addresses than its own.
#[test]
fn requests_use_the_addresses_of_the_registration() {
    let stats = on_device(&[("VERBS_DEVICE", "count,checksum")], || {
        let mut queue = Queue::open(1, 1);
        let memory = queue.memory.as_mut_ptr();
        // 64 bytes further, by the address of the memory itself.
        // SAFETY: within the memory, which outlives the region.
        let mr = unsafe {
            let iova = memory.addr() as u64;
            ibv_reg_mr_iova2(queue.pd, memory.add(64).cast(), 128, iova, 0)
        };
        let mut request = queue.request(1, SIGNALLED);
        // SAFETY: the region lives.
        request.sges[0].2 = unsafe { (*mr).lkey };
        queue.post(&[request]).unwrap();
        assert_eq!(queue.poll(1), [(1, 0)]);
        // SAFETY: used no more.
        assert_eq!(unsafe { ibv_dereg_mr(mr) }, 0);
        queue.close();
    });
    let Some(stats) = stats else { return };
    assert_eq!(stats[0]["checksum"].cast_unsigned(), fnv1a(&(64..128).collect::<Vec<u8>>()));
}
