//! libibverbs, as the published `ibverbs` finds it through `ibverbs-dl`.

use std::io::ErrorKind;

/// With or without libibverbs, the kernel's part of it, or a device: an answer, not a crash.
#[test]
fn a_machine_without_rdma_is_told_politely() {
    match ibverbs::devices() {
        Ok(devices) => assert!(devices.iter().all(|device| device.name().is_some())),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
    }
    if let Err(error) = ibverbs_dl::load() {
        assert!(error.to_string().contains("libibverbs.so.1"), "{error}");
    }
}
