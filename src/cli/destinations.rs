//! What became of the heaps of each destination.

use std::net::SocketAddr;

use doorbell::plan::Plan;
use doorbell::sender::Completion;
use serde::Serialize;

/// Data heaps by destination, where there are several.
pub struct Destinations {
    list: Vec<Destination>,
}

/// What became of the data heaps of one destination.
#[derive(Debug, Clone, Serialize)]
pub struct Destination {
    /// Where they went.
    pub to: SocketAddr,
    /// Heaps submitted.
    pub heaps: u64,
    /// Those of them that did not go out whole.
    pub heaps_failed: u64,
    /// Packets of the heaps submitted.
    pub packets: u64,
    /// Packets of the heaps that did not go out whole.
    pub packets_failed: u64,
    /// Bytes of payload in the heaps submitted.
    pub payload_bytes: u64,
    /// Bytes of payload in the heaps that did not go out whole.
    pub payload_bytes_failed: u64,
}

impl Destinations {
    /// None of a single destination: what is said of the stream is said of that.
    pub fn new(to: &[SocketAddr]) -> Self {
        let several = if to.len() > 1 { to } else { &[] };
        let destination = |&to| Destination {
            to,
            heaps: 0,
            heaps_failed: 0,
            packets: 0,
            packets_failed: 0,
            payload_bytes: 0,
            payload_bytes_failed: 0,
        };
        Self { list: several.iter().map(destination).collect() }
    }

    /// Takes note of a batch of data heaps of `payload` bytes, which a plan deals out in turn.
    pub fn account(&mut self, completion: &Completion, payload: u64) {
        let failed = completion.failures.iter().map(|failure| failure.heap);
        self.count(completion.batch.region().plan(), completion.heaps, failed, payload);
    }

    /// Takes note of heaps that were refused, all of them.
    pub fn refused(&mut self, plan: &Plan, heaps: u32, payload: u64) {
        self.count(plan, heaps, 0..heaps, payload);
    }

    fn count(&mut self, plan: &Plan, heaps: u32, failed: impl Iterator<Item = u32>, payload: u64) {
        let flows = self.list.len() as u32;
        if flows == 0 {
            return;
        }
        // Data heaps are all alike.
        let packets = u64::from(plan.packets_of_heap(0));
        for (flow, destination) in (0..flows).zip(&mut self.list) {
            let dealt = u64::from(heaps.saturating_sub(flow).div_ceil(flows));
            destination.heaps += dealt;
            destination.packets += dealt * packets;
            destination.payload_bytes += dealt * payload;
        }
        for heap in failed {
            let destination = &mut self.list[(heap % flows) as usize];
            destination.heaps_failed += 1;
            destination.packets_failed += packets;
            destination.payload_bytes_failed += payload;
        }
    }

    /// The list, to be reported.
    pub fn list(&self) -> Vec<Destination> {
        self.list.clone()
    }
}

#[cfg(test)]
mod tests {
    use doorbell::plan::{HeapSpec, PacketSize};
    use doorbell::wire::Flavour;

    use super::*;

    #[test]
    fn heaps_are_dealt_out_and_failures_found() {
        let plan = Plan::builder(Flavour::SPEAD_64_40, PacketSize::Exact(256))
            .heaps(&HeapSpec::new().payload(0x3300, 600), 9)
            .flows(3)
            .build()
            .unwrap();
        let to = ["192.0.2.7:1", "192.0.2.7:2", "192.0.2.7:3"].map(|to| to.parse().unwrap());
        let mut destinations = Destinations::new(&to);
        destinations.count(&plan, 9, [1, 4, 5].into_iter(), 600);
        destinations.count(&plan, 4, std::iter::empty(), 600);
        let counts: Vec<_> =
            destinations.list.iter().map(|it| (it.heaps, it.heaps_failed)).collect();
        assert_eq!(counts, [(5, 0), (4, 2), (4, 1)]);
        assert_eq!((destinations.list[1].packets, destinations.list[1].packets_failed), (12, 6));
        assert_eq!(destinations.list[0].payload_bytes, 3000);
        assert_eq!(destinations.list[2].payload_bytes_failed, 600);
        assert!(Destinations::new(&to[..1]).list().is_empty());
    }
}
