//! Where a stream goes: names looked up.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::backend::OpenError;
use crate::settings::{Settings, ShareKind};

/// Looks this sender's destinations up, and sees to it that they are of one family: that of the first.
pub(super) fn resolve(settings: &Settings) -> Result<Vec<SocketAddr>, OpenError> {
    let mut resolved: Vec<SocketAddr> = Vec::new();
    let own = settings.senders.share_of(ShareKind::Destinations);
    let (index, size) = own.map_or((0, 1), |rank| (rank.index() as usize, rank.size() as usize));
    for endpoint in settings.stream.destinations().skip(index).step_by(size) {
        if let Some(queue) = endpoint.queue() {
            resolved.push(SocketAddr::new(queue.ip(), 0));
            continue;
        }
        let host = endpoint.host().to_string();
        let error = |why: String| OpenError::new("look up", &host, why);
        let found: Vec<SocketAddr> = (host.as_str(), endpoint.port())
            .to_socket_addrs()
            .map_err(|source| error(source.to_string()))?
            .collect();
        let family = resolved.first().map(SocketAddr::is_ipv4);
        let fitting = found.iter().find(|to| family.is_none_or(|ipv4| to.is_ipv4() == ipv4));
        resolved.push(*fitting.ok_or_else(|| match resolved.first() {
            Some(first) => error(format!("it has no address of the family of {first}")),
            None => error("it has no address".into()),
        })?);
    }
    Ok(resolved)
}
