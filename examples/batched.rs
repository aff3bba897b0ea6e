//! The SPEAD tutorial's batched sender: two batches, about 1 MiB in flight together.
//!
//! `cargo run --release --example batched -- 127.0.0.1:7148 1000`
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;

use doorbell::settings::Settings;
use doorbell::stream::{Heap, Stream};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut settings = Settings::to(&arguments.next().unwrap_or("127.0.0.1:7148".into()))?;
    settings.heap.count = Some(arguments.next().map_or(Ok(1000), |heaps| heaps.parse())?);

    let heap = Heap::new()
        .immediate("timestamp", 0x1600)
        .describe("Index of the first sample")
        .array("adc_samples", 0x3300, "i1", [8192])
        .describe("ADC converter output");
    let mut stream = Stream::open(settings, heap)?;
    while let Some(mut batch) = stream.idle() {
        let (first, heaps) = (stream.submitted(), stream.room());
        for (heap, index) in (0..heaps).zip(first..) {
            batch.set_immediate(heap, 0x1600, 8192 * index)?;
            batch.payload(heap).chunks().for_each(|chunk| chunk.fill(index as u8));
        }
        stream.submit(batch, heaps)?;
    }
    let report = stream.close()?;
    println!("{} heaps, {:.2} Gb/s", report.sent(), report.payload_gbit_per_s);
    Ok(())
}
