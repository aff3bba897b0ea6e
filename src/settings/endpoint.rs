//! Where a substream goes: a host, a port, and how many consecutive addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::InvalidValue;
use super::queue::Queue;
use crate::backend::verbs::QueueAddress;

/// A destination as it is written: `HOST:PORT`, `[IPV6]:PORT`, or a run of consecutive addresses,
/// `239.1.0.0+3:7148` for the four from `.0` to `.3`. Host names are resolved when the stream opens.
/// Queues of datagrams are `GID/QPN[/QKEY]`, the GID being an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: Host,
    port: u16,
    count: u32,
    queue: Option<Queue>,
}

/// The host of an [`Endpoint`]. `Display` writes it without brackets, as resolvers take it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Host {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address and, for a link-local one, its zone: `fe80::1%eth0` (RFC 4007, section 11).
    V6(Ipv6Addr, Option<String>),
    /// A host name, not resolved yet.
    Name(String),
}

impl Host {
    /// The address, unless it is yet to be resolved.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(address, _) => Some(IpAddr::V6(*address)),
            Self::Name(_) => None,
        }
    }

    /// The host `step` addresses further on, within its family.
    fn offset(&self, step: u32) -> Option<Self> {
        match self {
            Self::V4(address) => Some(Self::V4(u32::from(*address).checked_add(step)?.into())),
            Self::V6(address, zone) => {
                Some(Self::V6(u128::from(*address).checked_add(step.into())?.into(), zone.clone()))
            }
            Self::Name(_) => (step == 0).then(|| self.clone()),
        }
    }
}

impl Endpoint {
    /// The (first) host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The queue that this is, if it is one: the first of a run.
    pub fn queue(&self) -> Option<QueueAddress> {
        let gid = match self.host.address()? {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let Queue { number, key, lid } = self.queue?;
        Some(QueueAddress { gid, number, key, lid })
    }

    /// The UDP port, never 0 but for queues, which have none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many consecutive addresses this stands for, at least 1.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The single destinations this stands for, in ascending order.
    pub fn expand(&self) -> impl Iterator<Item = Endpoint> {
        (0..self.count).map_while(|step| self.host.offset(step)).map(|host| Endpoint {
            host,
            port: self.port,
            count: 1,
            queue: self.queue,
        })
    }
}

impl FromStr for Endpoint {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |hint: &str| InvalidValue::new(text, "a destination", hint);
        if let Some((_, rest)) = text.split_once("://") {
            return Err(invalid(&format!("write HOST:PORT and nothing before it: {rest}")));
        }
        if text.contains(',') {
            return Err(invalid(
                "it is several: give each by itself, or a run of addresses, 239.1.0.0+3:7148",
            ));
        }
        if let Some((host, queue)) = text.split_once('/') {
            return parse_queue(host, queue).map_err(invalid);
        }
        let (bracketed, host, port) = match text.strip_prefix('[') {
            Some(rest) => rest
                .split_once("]:")
                .map(|(host, port)| (true, host, port))
                .ok_or_else(|| invalid("write [IPV6]:PORT"))?,
            None => {
                text.rsplit_once(':').map(|(host, port)| (false, host, port)).ok_or_else(|| {
                    let host = if text.is_empty() { "HOST" } else { text };
                    invalid(&format!("the port is missing: write {host}:7148"))
                })?
            }
        };
        let port = match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(invalid("its port must be a number from 1 to 65535")),
        };
        // The zone may stand behind the run: `ff02::1+3%eth1`.
        let (host, zone) = match host.split_once('%') {
            Some((host, zone)) if host.contains('+') => (host, Some(zone)),
            _ => (host, None),
        };
        let (host, more) = parse_run(host).map_err(invalid)?;
        let host = zone.map_or(host.into(), |zone| format!("{host}%{zone}"));
        let host = parse_host(bracketed, &host).map_err(invalid)?;
        match (&host, host.offset(more)) {
            (_, Some(_)) => Ok(Self { host, port, count: more + 1, queue: None }),
            (Host::Name(_), None) => {
                Err(invalid("`+` counts on from an address; a host name has no next one"))
            }
            (_, None) => Err(invalid("the addresses run past the last of their family")),
        }
    }
}

/// `239.1.0.0+3`: an address, and how many follow it.
fn parse_run(host: &str) -> Result<(&str, u32), &'static str> {
    let Some((host, more)) = host.rsplit_once('+') else { return Ok((host, 0)) };
    let more: u16 =
        more.parse().map_err(|_| "after `+` goes how many more addresses, at most 65535")?;
    Ok((host, u32::from(more)))
}

fn parse_queue(gid: &str, queue: &str) -> Result<Endpoint, &'static str> {
    let (gid, more) = parse_run(gid)?;
    let gid: IpAddr =
        gid.parse().map_err(|_| "before the `/` of a queue goes a GID: an address")?;
    let host = match gid.to_canonical() {
        IpAddr::V4(address) => Host::V4(address),
        IpAddr::V6(address) => Host::V6(address, None),
    };
    let queue: Queue = queue.parse()?;
    if gid.to_canonical().is_multicast() != (queue.number == QueueAddress::MULTICAST) {
        return Err("the queue pair of multicast groups, and of nothing else, is 0xffffff");
    }
    match host.offset(more) {
        Some(_) => Ok(Endpoint { host, port: 0, count: more + 1, queue: Some(queue) }),
        None => Err("the addresses run past the last of their family"),
    }
}

fn parse_host(bracketed: bool, host: &str) -> Result<Host, &'static str> {
    if bracketed {
        let (address, zone) = match host.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (host, None),
        };
        let plain = |zone: &str| !zone.is_empty() && !zone.contains(['%', '[', ']', '+', ':']);
        return match address.parse() {
            Ok(address) if zone.is_none_or(plain) => Ok(Host::V6(address, zone.map(str::to_owned))),
            Ok(_) => Err("after `%` goes the name of an interface"),
            Err(_) => Err("the brackets hold no IPv6 address"),
        };
    }
    if let Ok(address) = host.parse() {
        return Ok(Host::V4(address));
    }
    if host.contains(':') {
        return Err("an IPv6 address goes in brackets: [ff02::1]:7148");
    }
    if host.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err("write HOST:PORT, where HOST is a name or an address such as 239.1.0.0");
    }
    // RFC 952 and RFC 1123 letters, plus the underscore that resolvers accept and people use.
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match host.chars().all(letter) {
        true => Ok(Host::Name(host.to_owned())),
        false => Err("a host name is made of letters, digits, `-`, `_` and `.`"),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => write!(f, "{address}"),
            Self::V6(address, None) => write!(f, "{address}"),
            Self::V6(address, Some(zone)) => write!(f, "{address}%{zone}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = match self.count {
            1 => String::new(),
            count => format!("+{}", count - 1),
        };
        if let Some(queue) = &self.queue {
            return write!(f, "{}{run}/{queue}", self.host);
        }
        match &self.host {
            host @ Host::V6(..) => write!(f, "[{host}{run}]:{}", self.port),
            host => write!(f, "{host}{run}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expanded(text: &str) -> Vec<String> {
        text.parse::<Endpoint>().unwrap().expand().map(|endpoint| endpoint.to_string()).collect()
    }

    #[test]
    fn a_run_expands_to_consecutive_addresses() {
        assert_eq!(
            expanded("239.1.0.0+3:7148"),
            ["239.1.0.0:7148", "239.1.0.1:7148", "239.1.0.2:7148", "239.1.0.3:7148"]
        );
        assert_eq!(expanded("10.0.0.255+1:1"), ["10.0.0.255:1", "10.0.1.0:1"]);
        assert_eq!(expanded("[ff02::1+1]:7148"), ["[ff02::1]:7148", "[ff02::2]:7148"]);
        assert_eq!(expanded("[ff02::1%eth0+1]:9"), ["[ff02::1%eth0]:9", "[ff02::2%eth0]:9"]);
        assert_eq!(expanded("[ff02::1+1%eth0]:9"), ["[ff02::1%eth0]:9", "[ff02::2%eth0]:9"]);
        assert_eq!(expanded("receiver.local:7148"), ["receiver.local:7148"]);
        assert_eq!(expanded("255.255.255.255:7"), ["255.255.255.255:7"]);
    }

    #[test]
    fn errors_say_what_would_be_right() {
        for (text, hint) in [
            ("", "the port is missing"),
            ("239.1.0.0", "the port is missing"),
            ("239.1.0.0:", "its port must be a number from 1 to 65535"),
            ("239.1.0.0:0", "its port must be a number from 1 to 65535"),
            ("239.1.0.0:70000", "its port must be a number from 1 to 65535"),
            ("239.1.0.0+x:7148", "at most 65535"),
            ("239.1.0.0+65536:7148", "at most 65535"),
            ("239.1.0.256:7148", "an address such as 239.1.0.0"),
            (":7148", "HOST is a name or an address"),
            ("ff02::1:7148", "in brackets: [ff02::1]:7148"),
            ("[ff02::1]", "write [IPV6]:PORT"),
            ("[10.0.0.1]:7148", "no IPv6 address"),
            ("[fe80::1%]:7148", "the name of an interface"),
            ("node+3:7148", "a host name has no next one"),
            ("no de:7148", "letters, digits"),
            ("255.255.255.254+2:7148", "past the last of their family"),
        ] {
            let message = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{text}` is not a destination: ")), "{message}");
            assert!(message.contains(hint), "{message}");
        }
    }

    #[test]
    fn a_queue_is_an_address_and_numbers() {
        for (text, shown) in [
            ("10.0.0.1/17", "10.0.0.1/0x11/0x1234567"),
            ("::ffff:10.0.0.1/0x11/5", "10.0.0.1/0x11/0x5"),
            ("fe80::1/0x11/0x80010000/0x2a", "fe80::1/0x11/0x80010000/0x2a"),
            ("239.1.0.0+3/0xffffff", "239.1.0.0+3/0xffffff/0x1234567"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse(), Ok(endpoint.clone()));
            let queues: Vec<_> = endpoint.expand().filter_map(|it| it.queue()).collect();
            assert_eq!(queues.len(), endpoint.count() as usize);
            assert_eq!(queues[0].to_string().parse::<Endpoint>().unwrap().queue(), Some(queues[0]));
        }
    }

    #[test]
    fn a_queue_that_is_none_is_told_why() {
        for (text, hint) in [
            ("host/17", "a GID: an address"),
            ("10.0.0.1/", "number of a queue pair, 2 to 0xffffff"),
            ("10.0.0.1/1", "number of a queue pair, 2 to 0xffffff"),
            ("10.0.0.1/0x1000000", "number of a queue pair"),
            ("10.0.0.1/+5", "number of a queue pair"),
            ("10.0.0.1/17/0x100000000", "the queue's key, of 32 bits"),
            ("10.0.0.1/17/1/65536", "the LID of its port"),
            ("10.0.0.1/17/1/1/1", "write GID/QPN"),
            ("239.1.0.0/17", "is 0xffffff"),
            ("10.0.0.1/0xffffff", "is 0xffffff"),
            ("255.255.255.255+1/17", "past the last of their family"),
        ] {
            let message = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(message.contains(hint), "{message}");
        }
    }

    fn host() -> impl Strategy<Value = Host> {
        prop_oneof![
            any::<Ipv4Addr>().prop_map(Host::V4),
            (any::<Ipv6Addr>(), proptest::option::of("[a-z][a-z0-9.]{0,8}"))
                .prop_map(|(address, zone)| Host::V6(address, zone)),
            "[a-z][a-z0-9_.-]{0,20}".prop_map(Host::Name),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(host in host(), port in 1u16.., more in 0u32..=65535) {
            let more = if host.offset(more).is_some() { more } else { 0 };
            let endpoint = Endpoint { host, port, count: more + 1, queue: None };
            prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint.clone()));
            prop_assert_eq!(endpoint.expand().count(), endpoint.count() as usize);
        }

        #[test]
        fn no_text_panics(text: String, near in r"\[?[0-9a-f:.+%]{0,20}\]?:[0-9]{0,6}") {
            let _ = (text.parse::<Endpoint>(), near.parse::<Endpoint>());
            let _ = text.replace(':', "/").parse::<Endpoint>();
        }
    }
}
