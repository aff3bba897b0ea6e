//! What is to go wrong, and when.

use std::time::Duration;

use ibverbs_dl::ibv_wc_status;

/// The faults of `VERBS_DEVICE_FAULT`. Requests and posts are counted from 1, over a context.
#[derive(Default)]
pub(crate) struct Faults {
    /// A request that ends with this status.
    pub(crate) wc: Vec<(u64, ibv_wc_status::Type)>,
    /// A request that is executed so much later.
    pub(crate) delay: Vec<(u64, Duration)>,
    /// A post that fails with ENOMEM.
    pub(crate) enomem: Vec<u64>,
    /// A request before which the port goes down, for good or for a time.
    pub(crate) port_down: Option<(u64, Option<Duration>)>,
    /// Read-only mappings cannot be registered, as before Linux 6.
    pub(crate) readonly: bool,
    /// Raw packet queue pairs are not permitted.
    pub(crate) no_cap_net_raw: bool,
    /// `RLIMIT_MEMLOCK` holds even for the privileged.
    pub(crate) memlock: bool,
    /// Relaxed ordering is refused.
    pub(crate) relaxed: bool,
}

impl Faults {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut faults = Self::default();
        for fault in text.split(',').filter(|fault| !fault.is_empty()) {
            faults.add(fault).ok_or_else(|| format!("`{fault}` is not a fault; {SYNTAX}"))?;
        }
        Ok(faults)
    }

    fn add(&mut self, fault: &str) -> Option<()> {
        let (kind, argument) = fault.split_once('@').unwrap_or((fault, ""));
        let (number, value) = match argument.split_once('=') {
            Some((number, value)) => (number.parse(), Some(value)),
            None => (argument.parse(), None),
        };
        match (kind, number, value) {
            ("wc", Ok(number), Some(status)) => self.wc.push((number, wc_status(status)?)),
            ("delay", Ok(number), Some(time)) => self.delay.push((number, micros(time)?)),
            ("enomem", Ok(number), None) => self.enomem.push(number),
            ("port-down", Ok(number), None) => self.port_down = Some((number, None)),
            ("port-down", Ok(number), Some(time)) => {
                self.port_down = Some((number, Some(micros(time)?)));
            }
            ("reg-readonly=fail", ..) => self.readonly = true,
            ("no-cap-net-raw", ..) => self.no_cap_net_raw = true,
            ("memlock", ..) => self.memlock = true,
            ("relaxed=reject", ..) => self.relaxed = true,
            _ => return None,
        }
        Some(())
    }
}

fn micros(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_micros)
}

/// A status by its number, or by its name without `IBV_WC_` and `_ERR`, in lower case.
fn wc_status(text: &str) -> Option<ibv_wc_status::Type> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    STATUSES.iter().find(|(name, _)| *name == text).map(|(_, status)| *status)
}

const STATUSES: [(&str, ibv_wc_status::Type); 7] = [
    ("loc_len", ibv_wc_status::IBV_WC_LOC_LEN_ERR),
    ("loc_qp_op", ibv_wc_status::IBV_WC_LOC_QP_OP_ERR),
    ("loc_prot", ibv_wc_status::IBV_WC_LOC_PROT_ERR),
    ("loc_access", ibv_wc_status::IBV_WC_LOC_ACCESS_ERR),
    ("retry_exc", ibv_wc_status::IBV_WC_RETRY_EXC_ERR),
    ("fatal", ibv_wc_status::IBV_WC_FATAL_ERR),
    ("general", ibv_wc_status::IBV_WC_GENERAL_ERR),
];

const SYNTAX: &str = "write wc@N=STATUS, delay@N=MICROSECONDS, enomem@N, port-down@N[=MICROSECONDS], \
                      reg-readonly=fail, no-cap-net-raw, memlock or relaxed=reject, with commas \
                      between them";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_understood() {
        let faults = Faults::parse(
            "wc@3=loc_prot,wc@5=21,enomem@2,port-down@4,delay@9=1500,reg-readonly=fail,memlock,\
             no-cap-net-raw,relaxed=reject",
        )
        .unwrap();
        assert_eq!(faults.wc, [(3, 4), (5, 21)]);
        assert_eq!(faults.enomem, [2]);
        assert_eq!(faults.delay, [(9, Duration::from_micros(1500))]);
        assert_eq!(faults.port_down, Some((4, None)));
        assert!(faults.readonly && faults.memlock && faults.no_cap_net_raw && faults.relaxed);
    }

    #[test]
    fn a_fault_that_is_not_understood_is_named() {
        for wrong in ["wc@3", "wc@x=4", "wc@3=lost", "enomem", "enomem@1=2", "delay@1", "memlok"] {
            let error = Faults::parse(wrong).err().expect(wrong);
            assert!(error.contains(wrong), "{error}");
        }
    }
}
