//! A software verbs device: built as a `libibverbs.so.1` and found through `LD_LIBRARY_PATH`, it lets
//! a program that sends through ibverbs run unchanged on a machine without RDMA. What it does and how
//! it is set up is in README.md, and in the manual page of each verb.
#![allow(unsafe_code, reason = "a C library: its callers hand over pointers")]
#![allow(clippy::missing_safety_doc, reason = "the verbs' manual pages say what their callers owe")]

mod acknowledgement;
mod checksum;
mod completion;
mod context;
mod counters;
mod device;
mod errno;
mod events;
mod faults;
mod interface;
mod link;
mod mapping;
mod memory;
mod port;
mod queue_pair;
mod send_queue;
mod settings;
mod strings;
mod unsupported;
mod worker;
