//! Sends the same batch again and again, and nothing else: for counting what a packet costs.
//!
//! `cargo bench --bench cost -- udp 127.0.0.1:9 8192 64 1000` sends 1000 batches of 64 heaps of 8192
//! bytes. `benches/instructions.sh` runs it under callgrind, and says how many instructions that is.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use doorbell::backend::udp::{Udp, UdpConfig, route_mtu};
use doorbell::backend::verbs::{CompletionMode, Verbs, VerbsConfig, VerbsRequest};
use doorbell::backend::{Backend, max_packet_size};
use doorbell::plan::{HeapSpec, PacketSize, Plan};
use doorbell::region::Layout;
use doorbell::sender::Sender;
use doorbell::wire::Flavour;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [backend, to, heap_len, heaps, batches] = arguments.as_slice() else {
        // `cargo bench` and `cargo test --benches` run it without arguments.
        println!("usage: cost udp|verbs HOST:PORT HEAP-SIZE HEAPS-PER-BATCH BATCHES");
        return Ok(());
    };
    let to: SocketAddr = to.parse()?;
    let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, heap_len.parse()?);
    let plan = |mtu| {
        let limit = max_packet_size(mtu, to.ip());
        Plan::builder(Flavour::SPEAD_64_40, PacketSize::Uniform { limit })
            .heaps(&heap, heaps.parse().unwrap_or(1))
            .build()
            .map(Arc::new)
    };
    let (plan, backend): (_, Box<dyn Backend>) = match backend.as_str() {
        "verbs" => {
            let config =
                VerbsRequest { completion: CompletionMode::Poll, ..VerbsRequest::new(vec![to]) }
                    .resolve()?;
            let plan = plan(config.mtu)?;
            let depth = plan.packets().len() as u32;
            (plan, Box::new(Verbs::open(VerbsConfig { depth, ..config })?))
        }
        _ => {
            let config = UdpConfig::new(vec![to]);
            (plan(route_mtu(&config)?)?, Box::new(Udp::open(&config)?))
        }
    };
    let mut sender = Sender::new(backend);
    let mut batch = sender.allocate(&plan, Layout::Packed, 1, Vec::new())?.remove(0);
    let batches: u64 = batches.parse()?;
    for _ in 0..batches {
        sender.submit(batch)?;
        let completion = sender.wait().ok_or("it is in flight")?;
        assert_eq!(completion.failures, []);
        batch = completion.batch;
    }
    let counters = sender.counters();
    println!(
        "{} packets in {} messages, {} doorbells",
        counters.packets, counters.messages, counters.doorbells
    );
    Ok(())
}
