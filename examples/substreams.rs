//! Two substreams: the heaps of a batch go to two destinations in turn, with one doorbell.
//!
//! `cargo run --release --example substreams -- 127.0.0.1:7148 127.0.0.1:7149`
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use doorbell::backend::udp::{Udp, UdpConfig};
use doorbell::plan::{HeapSpec, Order, PacketSize, Plan};
use doorbell::region::Layout;
use doorbell::sender::Sender;
use doorbell::wire::{Flavour, StreamControl};

fn main() -> Result<(), Box<dyn Error>> {
    let mut destinations: Vec<SocketAddr> =
        std::env::args().skip(1).map(|to| to.parse()).collect::<Result<_, _>>()?;
    if destinations.is_empty() {
        destinations = vec!["127.0.0.1:7148".parse()?, "127.0.0.1:7149".parse()?];
    }
    let flows = destinations.len() as u32;
    let config = UdpConfig::new(destinations);
    let mut sender = Sender::new(Box::new(Udp::open(&config)?));

    // A plan knows destinations by number only: heap 0 goes to 0, heap 1 to 1, heap 2 to 0 ...
    let plan = |heap: &HeapSpec, count| {
        Plan::builder(Flavour::SPEAD_64_48, PacketSize::Uniform { limit: 1472 })
            .heaps(heap, count)
            .flows(flows)
            .order(Order::RoundRobin)
            .build()
            .map(Arc::new)
    };
    let data = plan(&HeapSpec::new().immediate(0x1000, 0).payload(0x1001, 4096), 16)?;
    let mut batch = sender.allocate(&data, Layout::Packed, 1, Vec::new())?.remove(0);
    for round in 0..10 {
        for heap in 0..batch.heaps() {
            batch.set_immediate(heap, 0x1000, round * 16 + u64::from(heap))?;
            batch.fill(heap, &[heap as u8; 4096]);
        }
        sender.submit(batch)?;
        let completion = sender.wait().expect("it is in flight");
        println!("round {round}: {} of {} heaps went out", completion.sent(), completion.heaps);
        batch = completion.batch;
    }

    // Each substream is told that it ends.
    let stop = plan(&HeapSpec::control(StreamControl::Stop), flows as usize)?;
    for batch in sender.allocate(&stop, Layout::Packed, 1, Vec::new())? {
        sender.submit(batch)?;
    }
    assert!(sender.wait().is_some_and(|completion| completion.failures.is_empty()));
    Ok(())
}
