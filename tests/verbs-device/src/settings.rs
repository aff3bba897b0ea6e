//! What the environment asks for.

use std::env;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use ibverbs_dl::ibv_qp_state;

use crate::faults::Faults;

/// Where frames go.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DataPath {
    /// Onto an interface, by a packet socket.
    Wire,
    /// Nowhere. With a checksum, all bytes are read.
    Count { checksum: bool },
}

/// The device that `VERBS_DEVICE` asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Presence {
    /// A libibverbs without a device.
    Absent,
    /// A libibverbs without the kernel's `ib_uverbs`.
    NoKernel,
    /// One device.
    Present {
        /// The network interface it is the other face of.
        interface: String,
        path: DataPath,
        /// How long after its doorbell a request is executed.
        late: Duration,
    },
}

/// The environment, parsed once.
pub(crate) struct Settings {
    pub(crate) presence: Presence,
    pub(crate) max_qp_wr: u32,
    pub(crate) max_sge: u32,
    pub(crate) max_cqe: u32,
    pub(crate) ip_csum: bool,
    /// In kb/s; none where queue pairs cannot be paced.
    pub(crate) rate_limit: Option<RangeInclusive<u32>>,
    pub(crate) burst: bool,
    /// Where a queue pair goes after a request that failed.
    pub(crate) error_state: ibv_qp_state::Type,
    pub(crate) faults: Faults,
    pub(crate) stats: Option<PathBuf>,
}

/// The settings. None, after a word on standard error, if they are not understood: a test that sets
/// up something else than it means to must not pass.
pub(crate) fn settings() -> Option<&'static Settings> {
    static SETTINGS: OnceLock<Option<Settings>> = OnceLock::new();
    SETTINGS
        .get_or_init(|| {
            Settings::parse(|name| env::var(name).ok().filter(|value| !value.is_empty()))
                .inspect_err(|message| complain(message))
                .ok()
        })
        .as_ref()
}

/// Says on standard error what is wrong with how the device was set up.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "software verbs device: {message}");
}

impl Settings {
    fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let error_state = match variable("VERBS_DEVICE_ERROR_STATE").as_deref() {
            None | Some("err") => ibv_qp_state::IBV_QPS_ERR,
            Some("sqe") => ibv_qp_state::IBV_QPS_SQE,
            Some(other) => return Err(format!("VERBS_DEVICE_ERROR_STATE={other}: err or sqe")),
        };
        Ok(Self {
            presence: variable("VERBS_DEVICE").map_or(Ok(Presence::Absent), |text| {
                Presence::parse(&text).ok_or(format!("VERBS_DEVICE={text}: {SYNTAX}"))
            })?,
            max_qp_wr: number(&variable, "VERBS_DEVICE_MAX_QP_WR", MAX_QP_WR)?,
            max_sge: number(&variable, "VERBS_DEVICE_MAX_SGE", MAX_SGE)?,
            max_cqe: number(&variable, "VERBS_DEVICE_MAX_CQE", MAX_CQE)?,
            ip_csum: number(&variable, "VERBS_DEVICE_IP_CSUM", 1)? != 0,
            rate_limit: variable("VERBS_DEVICE_RATE_LIMIT")
                .map(|text| {
                    rates(&text).ok_or(format!("VERBS_DEVICE_RATE_LIMIT={text}: MIN..MAX in kb/s"))
                })
                .transpose()?,
            burst: number(&variable, "VERBS_DEVICE_BURST", 0)? != 0,
            error_state,
            faults: Faults::parse(&variable("VERBS_DEVICE_FAULT").unwrap_or_default())?,
            stats: variable("VERBS_DEVICE_STATS").map(PathBuf::from),
        })
    }
}

impl Presence {
    fn parse(text: &str) -> Option<Self> {
        if text == "enosys" {
            return Some(Self::NoKernel);
        }
        let mut words = text.split(',');
        let (mut path, interface) = match words.next()?.split_once('=') {
            Some(("veth", interface)) => (DataPath::Wire, interface),
            Some(("count", interface)) => (DataPath::Count { checksum: false }, interface),
            None if text.split(',').next() == Some("count") => {
                (DataPath::Count { checksum: false }, "lo")
            }
            _ => return None,
        };
        let mut late = Duration::ZERO;
        for word in words {
            match (word.split_once('='), &mut path) {
                (Some(("late", time)), _) => late = Duration::from_micros(time.parse().ok()?),
                (None, DataPath::Count { checksum }) if word == "checksum" => *checksum = true,
                _ => return None,
            }
        }
        Some(Self::Present { interface: interface.to_owned(), path, late })
    }
}

fn number<T: FromStr>(
    variable: impl Fn(&str) -> Option<String>,
    name: &str,
    default: T,
) -> Result<T, String> {
    variable(name).map_or(Ok(default), |text| {
        text.parse().map_err(|_| format!("{name}={text}: not a number in range"))
    })
}

fn rates(text: &str) -> Option<RangeInclusive<u32>> {
    let (min, max) = text.split_once("..")?;
    Some(min.parse().ok()?..=max.parse().ok()?)
}

/// What ConnectX-5 and later have.
const MAX_QP_WR: u32 = 32_768;
const MAX_SGE: u32 = 30;
const MAX_CQE: u32 = 4_194_303;

const SYNTAX: &str = "write veth=INTERFACE[,late=MICROSECONDS], count[=INTERFACE][,checksum]\
                      [,late=MICROSECONDS] or enosys";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_understood() {
        let present = |interface: &str, path, late| Presence::Present {
            interface: interface.into(),
            path,
            late: Duration::from_micros(late),
        };
        for (text, meaning) in [
            ("veth=v0", present("v0", DataPath::Wire, 0)),
            ("veth=v0,late=2000", present("v0", DataPath::Wire, 2000)),
            ("count", present("lo", DataPath::Count { checksum: false }, 0)),
            ("count,checksum", present("lo", DataPath::Count { checksum: true }, 0)),
            ("count=e0,late=5", present("e0", DataPath::Count { checksum: false }, 5)),
            ("enosys", Presence::NoKernel),
        ] {
            assert_eq!(Presence::parse(text), Some(meaning), "{text}");
        }
        for wrong in ["veth", "veth=v0,checksum", "count,late", "counts", "other=1"] {
            assert_eq!(Presence::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_setting_that_is_not_understood_is_named() {
        for (name, value) in [
            ("VERBS_DEVICE", "roce"),
            ("VERBS_DEVICE_MAX_QP_WR", "-1"),
            ("VERBS_DEVICE_RATE_LIMIT", "10"),
            ("VERBS_DEVICE_ERROR_STATE", "rts"),
        ] {
            let error = Settings::parse(|asked| (asked == name).then(|| value.into())).err();
            assert!(error.as_ref().is_some_and(|error| error.contains(name)), "{error:?}");
        }
    }
}
