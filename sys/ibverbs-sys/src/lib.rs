//! `ibverbs-dl`, under the name by which the published `ibverbs` depends on its bindings: so that
//! `ibverbs` needs no C toolchain to build and no RDMA stack to start either.

pub use ibverbs_dl::*;
