//! A file, mapped and attached: its bytes go to the wire without a copy in user space.
//!
//! `cargo run --release --example mapped_file -- samples.raw 127.0.0.1:7148`
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use doorbell::backend::udp::{Udp, UdpConfig};
use doorbell::plan::{HeapSpec, PacketSize, Plan};
use doorbell::region::{Layout, Memory};
use doorbell::sender::Sender;
use doorbell::wire::{Flavour, StreamControl};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which file is to be sent?")?;
    let to = arguments.next().unwrap_or("127.0.0.1:7148".into()).parse()?;

    let file = Arc::new(Memory::file(Path::new(&path))?);
    let heaps = file.len() / HEAP_LEN;
    if heaps == 0 {
        let len = file.len();
        return Err(format!(
            "{path} has {len} bytes, and a heap takes {HEAP_LEN}: give a longer file"
        )
        .into());
    }
    println!("{path}: {heaps} heaps of {HEAP_LEN} bytes, {} left over", file.len() % HEAP_LEN);

    let size = PacketSize::Uniform { limit: 1472 };
    let plan = |heap: &HeapSpec, count| {
        Plan::builder(Flavour::SPEAD_64_40, size).heaps(heap, count).build().map(Arc::new)
    };
    let data = plan(&HeapSpec::new().immediate(0x1600, 0).payload(0x3300, HEAP_LEN), 8)?;
    let mut sender = Sender::new(Box::new(Udp::open(&UdpConfig::new(vec![to]))?));
    let mut idle = sender.allocate(&data, Layout::Attached, 2, vec![file])?;

    let mut next = 0;
    while next < heaps {
        let mut batch = match idle.pop() {
            Some(batch) => batch,
            None => sender.wait().expect("two batches are in flight").batch,
        };
        let count = batch.heaps().min((heaps - next) as u32);
        for heap in 0..count {
            let attached = batch.attach(heap, 0, next * HEAP_LEN);
            assert!(attached, "the file has this heap");
            batch.set_immediate(heap, 0x1600, (next * HEAP_LEN) as u64)?;
            next += 1;
        }
        sender.submit_first(batch, count)?;
    }

    let stop = plan(&HeapSpec::control(StreamControl::Stop), 1)?;
    for batch in sender.allocate(&stop, Layout::Packed, 1, Vec::new())? {
        sender.submit(batch)?;
    }
    while let Some(completion) = sender.wait() {
        assert!(completion.failures.is_empty(), "{:?}", completion.failures);
    }
    Ok(())
}

const HEAP_LEN: usize = 16384;
