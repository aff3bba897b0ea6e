//! Work requests of a batch, linked for life.

use std::ops::Range;
use std::ptr::{self, NonNull};

use ibverbs_dl as sys;

use super::queue_address::QueueAddress;

/// The work requests of one batch, one for each packet, each linked to the next, and the pieces of
/// memory that they name. Built once; a post cuts the chain where it ends, and restores it.
///
/// Requests point at each other and at their pieces, so all access goes through the same raw
/// pointers.
pub(super) struct Chain {
    requests: NonNull<[sys::ibv_send_wr]>,
    pieces: NonNull<[sys::ibv_sge]>,
    pieces_per_request: usize,
}

// SAFETY: the pointers are to what the chain itself owns.
unsafe impl Send for Chain {}

impl Chain {
    /// Links requests: request `i` has the identifier `first_id + i`, and the pieces from
    /// `i * pieces_per_request` on.
    pub(super) fn link(
        pieces: Vec<sys::ibv_sge>,
        pieces_per_request: usize,
        first_id: u64,
        flags: u32,
    ) -> Self {
        let count = pieces.len() / pieces_per_request;
        let pieces = NonNull::from(Box::leak(pieces.into_boxed_slice()));
        let requests: Vec<sys::ibv_send_wr> = (0..count)
            .map(|index| {
                // SAFETY: plain data, for which zeros are valid.
                let mut request: sys::ibv_send_wr = unsafe { std::mem::zeroed() };
                request.wr_id = first_id + index as u64;
                request.opcode = sys::ibv_wr_opcode::IBV_WR_SEND;
                request.send_flags = flags;
                request.num_sge = pieces_per_request as i32;
                request.sg_list =
                    pieces.as_ptr().cast::<sys::ibv_sge>().wrapping_add(index * pieces_per_request);
                request
            })
            .collect();
        let requests = NonNull::from(Box::leak(requests.into_boxed_slice()));
        let chain = Self { requests, pieces, pieces_per_request };
        for index in 1..count {
            // SAFETY: both are requests of the chain.
            unsafe { (*chain.request(index - 1)).next = chain.request(index) };
        }
        chain
    }

    /// Number of requests.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    fn request(&self, index: usize) -> *mut sys::ibv_send_wr {
        debug_assert!(index < self.len());
        self.requests.as_ptr().cast::<sys::ibv_send_wr>().wrapping_add(index)
    }

    /// Which request a pointer is to; that of none if it is null.
    pub(super) fn index_of(&self, request: *mut sys::ibv_send_wr) -> Option<u32> {
        (0..self.len()).find(|&index| self.request(index) == request).map(|index| index as u32)
    }

    /// Points the last piece of a request elsewhere.
    pub(super) fn point(&mut self, request: usize, address: *const u8, key: u32) {
        assert!(request < self.len());
        let index = (request + 1) * self.pieces_per_request - 1;
        // SAFETY: the chain has this many pieces, and nobody else reads them between posts.
        unsafe {
            let piece = self.pieces.as_ptr().cast::<sys::ibv_sge>().add(index);
            (*piece).addr = address as u64;
            (*piece).lkey = key;
        }
    }

    /// Addresses a request, which then is a datagram.
    pub(super) fn address(&mut self, request: usize, handle: *mut sys::ibv_ah, to: &QueueAddress) {
        let request = self.request(request);
        // SAFETY: a request of the chain; of the union, datagrams use this member.
        unsafe {
            (*request).wr.ud.ah = handle;
            (*request).wr.ud.remote_qpn = to.number;
            (*request).wr.ud.remote_qkey = to.key;
        }
    }

    /// Hands `post` some of the chain, cut after the last of it, which asks for a completion.
    #[inline]
    pub(super) fn cut<T>(
        &mut self,
        range: Range<u32>,
        post: impl FnOnce(*mut sys::ibv_send_wr) -> T,
    ) -> T {
        let (first, last) = (range.start as usize, range.end as usize - 1);
        assert!(first <= last && last < self.len(), "{range:?} of {} requests", self.len());
        let last = self.request(last);
        // SAFETY: `last` is a request of the chain, and the borrow of the chain keeps others off it.
        // The fields are restored before anybody else can look.
        unsafe {
            let (next, flags) = ((*last).next, (*last).send_flags);
            (*last).next = ptr::null_mut();
            (*last).send_flags = flags | sys::ibv_send_flags::IBV_SEND_SIGNALED.0;
            let result = post(self.request(first));
            (*last).next = next;
            (*last).send_flags = flags;
            result
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // SAFETY: both were leaked from boxes in `link`, and are freed once. Providers copy work
        // requests during the post, so nobody reads them any more.
        unsafe {
            drop(Box::from_raw(self.requests.as_ptr()));
            drop(Box::from_raw(self.pieces.as_ptr()));
        }
    }
}
