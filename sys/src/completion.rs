//! Methods on `ibv_wc`, which its crates.io counterpart has and `ibverbs` calls.

use crate::bindings::{ibv_wc, ibv_wc_opcode, ibv_wc_status};

impl ibv_wc {
    /// The identifier given to the request.
    pub fn wr_id(&self) -> u64 {
        self.wr_id
    }

    /// The number of bytes received.
    #[allow(clippy::len_without_is_empty, reason = "the name is the counterpart's")]
    pub fn len(&self) -> usize {
        self.byte_len as usize
    }

    /// What the request did. Undefined, as all but `wr_id`, `status`, `qp_num` and `vendor_err`, if
    /// it failed.
    pub fn opcode(&self) -> ibv_wc_opcode::Type {
        self.opcode
    }

    /// Whether the request succeeded.
    pub fn is_valid(&self) -> bool {
        self.status == ibv_wc_status::IBV_WC_SUCCESS
    }

    /// The status and vendor syndrome of a request that failed.
    pub fn error(&self) -> Option<(ibv_wc_status::Type, u32)> {
        (!self.is_valid()).then_some((self.status, self.vendor_err))
    }
}
