//! Where a stream comes from, as it is written.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use doorbell::settings::{Endpoint, InvalidValue};

/// Where a stream comes from: `HOST:PORT`, a group of queues, `tcp:HOST:PORT`, or a capture file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Datagrams that are sent there.
    Datagrams(Endpoint),
    /// Connections that are made there.
    Tcp(Endpoint),
    /// What was captured.
    Capture(PathBuf),
}

/// Where streams come from, all in one way.
#[derive(Debug, PartialEq, Eq)]
pub enum Origins<'a> {
    /// Datagrams that are sent there.
    Datagrams(Vec<&'a Endpoint>),
    /// Connections that are made there.
    Tcp(Vec<&'a Endpoint>),
    /// What was captured.
    Capture(&'a Path),
}

impl<'a> Origins<'a> {
    /// All of `origins`, if they are of one way.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in words.
    pub fn of(origins: &'a [Origin]) -> Result<Self, String> {
        if let [Origin::Capture(path)] = origins {
            return Ok(Self::Capture(path));
        }
        let datagrams = |origin: &'a Origin| match origin {
            Origin::Datagrams(endpoint) => Some(endpoint),
            _ => None,
        };
        let connections = |origin: &'a Origin| match origin {
            Origin::Tcp(endpoint) => Some(endpoint),
            _ => None,
        };
        let all = |of: &dyn Fn(&'a Origin) -> Option<&'a Endpoint>| -> Option<Vec<_>> {
            origins.iter().map(of).collect()
        };
        match (all(&datagrams), all(&connections)) {
            (Some(endpoints), _) => Ok(Self::Datagrams(endpoints)),
            (_, Some(endpoints)) => Ok(Self::Tcp(endpoints)),
            _ => Err("--from: addresses, TCP, and a capture file are not received at once".into()),
        }
    }
}

impl FromStr for Origin {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = |error: InvalidValue| error.within(text, "an address to receive at");
        if let Some(endpoint) = text.strip_prefix("tcp:") {
            return endpoint.parse().map(Self::Tcp).map_err(wrong);
        }
        let extension = Path::new(text).extension().and_then(|it| it.to_str());
        match extension.is_some_and(|it| CAPTURES.iter().any(|of| it.eq_ignore_ascii_case(of))) {
            true => Ok(Self::Capture(text.into())),
            false => text.parse().map(Self::Datagrams).map_err(wrong),
        }
    }
}

/// What names of capture files end with.
const CAPTURES: [&str; 3] = ["pcap", "pcapng", "cap"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_an_address_a_connection_or_a_file() {
        let origin = |text: &str| text.parse::<Origin>().unwrap();
        assert!(matches!(origin("239.1.0.0+3:7148"), Origin::Datagrams(_)));
        assert!(matches!(origin("239.1.0.0/0xffffff"), Origin::Datagrams(_)));
        assert!(matches!(origin("tcp:[::1]:7148"), Origin::Tcp(_)));
        assert_eq!(origin("./a/b.PCAP"), Origin::Capture("./a/b.PCAP".into()));
        assert!("tcp:host".parse::<Origin>().unwrap_err().to_string().contains("port is missing"));
        let mixed = [origin("tcp:a:1"), origin("a:1")];
        assert!(Origins::of(&mixed).unwrap_err().contains("at once"));
        assert!(matches!(Origins::of(&mixed[..1]), Ok(Origins::Tcp(_))));
        assert!(matches!(Origins::of(&mixed[1..]), Ok(Origins::Datagrams(_))));
    }
}
