//! How fast samples are packed, beside how fast memory is copied.
//!
//! `cargo bench --bench pack` converts a 4K frame of floats into the payload of a batch, packet by
//! packet, from memory and from a mapped file, and copies the same bytes with memcpy(3), in turn; it prints
//! the medians, in bytes read per second of CPU time, of which others on the machine take nothing.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;

use doorbell::pack::{Encoder, PackFormat, SampleType, Samples};
use doorbell::plan::{HeapSpec, PacketSize, Plan};
use doorbell::region::{Batch, Layout, Memory, Placement, Region};
use doorbell::wire::{Descriptor, Flavour, NumpyHeader};
use nix::time::{ClockId, clock_gettime};

fn main() -> Result<(), Box<dyn Error>> {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("run it by `cargo bench --bench pack`");
        return Ok(());
    }
    let values = || (0..SAMPLES).map(|sample| (sample % 65_521) as f64 / 65_521.0);
    let frames: [(&str, Vec<u8>); 4] = [
        ("<f8", values().flat_map(f64::to_le_bytes).collect()),
        ("<f4", values().flat_map(|value| (value as f32).to_le_bytes()).collect()),
        (">f8", values().flat_map(f64::to_be_bytes).collect()),
        ("<u2", values().flat_map(|value| ((value * 4095.0) as u16).to_le_bytes()).collect()),
    ];
    println!("{} samples of a frame, GB/s read, medians of {ROUNDS}:", SAMPLES);
    for (dtype, frame) in &frames {
        let item = Descriptor::numpy(0x3300, "frame", "", NumpyHeader::new(dtype, &[]));
        let samples = SampleType::of(&item).ok_or("a numeric type")?;
        let range = if *dtype == "<u2" { "0..4095" } else { "0..1" }.parse()?;
        let encoders = PackFormat::ALL.map(|format| Encoder::new(samples, format, range));
        let mut batches = Vec::new();
        for encoder in &encoders {
            batches.push(batch(encoder.packed_len(SAMPLES))?);
        }
        let mut copy = frame.clone();
        let mut copied = Vec::new();
        let mut packed = vec![(Vec::new(), Vec::new()); encoders.len()];
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(frame)?;
        let file = Memory::file(file.path())?;
        let mapped = file.file_bytes(0, frame.len()).ok_or("a mapped file")?;
        for _ in 0..ROUNDS {
            copied.push(rate(frame, || copy.copy_from_slice(black_box(frame))));
            black_box(&mut copy);
            for ((encoder, batch), rates) in encoders.iter().zip(&mut batches).zip(&mut packed) {
                let mut pack = |samples: Samples<'_>| {
                    rate(frame, || {
                        let loss = encoder.encode(samples, &mut batch.payload(0).writer());
                        assert!(loss.is_ok_and(|loss| loss.is_none()));
                    })
                };
                rates.0.push(pack(black_box(frame).into()));
                rates.1.push(pack(mapped.into()));
            }
        }
        let copied = median(copied);
        println!("{dtype} memcpy {copied:6.2}");
        for (format, rates) in PackFormat::ALL.iter().zip(packed) {
            let (packed, mapped) = (median(rates.0), median(rates.1));
            println!(
                "{dtype} to {format:<3} {packed:6.2}  {:.2} of memcpy; mapped {mapped:6.2}",
                packed / copied
            );
        }
    }
    Ok(())
}

/// A heap of this many bytes in packets of a jumbo frame.
fn batch(len: usize) -> Result<Batch, Box<dyn Error>> {
    let heap = HeapSpec::new().payload(0x3300, len);
    let size = PacketSize::Uniform { limit: 8972 };
    let plan = Plan::builder(Flavour::SPEAD_64_40, size).heaps(&heap, 1).build()?;
    let (_, mut batches) =
        Region::allocate(&Arc::new(plan), Layout::Packed, 1, Placement::ADJACENT, Vec::new())?;
    Ok(batches.remove(0))
}

/// Gigabytes of the frame per second of CPU time.
fn rate(frame: &[u8], run: impl FnOnce()) -> f64 {
    let begin = cpu_seconds();
    run();
    frame.len() as f64 * 1e-9 / (cpu_seconds() - begin)
}

/// To the nanosecond, where getrusage(2) counts ticks of the scheduler while a thread runs.
fn cpu_seconds() -> f64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(f64::NAN, |time| time.tv_sec() as f64 + time.tv_nsec() as f64 * 1e-9)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

const SAMPLES: usize = 3840 * 2160 * 3;
const ROUNDS: usize = 9;
