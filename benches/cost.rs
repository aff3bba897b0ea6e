//! Sends the same batches again and again, and nothing else: for counting what a packet costs.
//!
//! `cargo bench --bench cost -- udp 127.0.0.1:9 8192 64 1000` sends 1000 batches of 64 heaps of 8192
//! bytes; `1s` in place of 1000 sends for a second. What may follow: `packed` or `split`, `auto`, `on` or
//! `off` for zero-copy, and the longest packet. The result is JSON, as that of `benches/ceiling.rs`.
//! `benches/instructions.sh` runs it under callgrind, and says how many instructions that is.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorbell::backend::tcp::{Tcp, TcpConfig};
use doorbell::backend::udp::{Udp, UdpConfig, ZeroCopy, route_mtu};
use doorbell::backend::verbs::{CompletionMode, Verbs, VerbsConfig, VerbsRequest};
use doorbell::backend::{Backend, max_packet_size};
use doorbell::plan::{HeapSpec, PacketSize, Plan};
use doorbell::region::{Batch, Layout};
use doorbell::sender::{Completion, Sender};
use doorbell::wire::Flavour;
use nix::sys::resource::{UsageWho, getrusage};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [backend, to, heap_len, heaps, amount, rest @ ..] = arguments.as_slice() else {
        // `cargo bench` and `cargo test --benches` run it without arguments.
        println!(
            "usage: cost udp|tcp|verbs HOST:PORT HEAP-SIZE HEAPS-PER-BATCH BATCHES|SECONDSs \
             [packed|split [auto|on|off [PACKET-LIMIT]]]"
        );
        return Ok(());
    };
    let to: SocketAddr = to.parse()?;
    let (heap_len, heaps): (usize, usize) = (heap_len.parse()?, heaps.parse()?);
    let rest = |index: usize| rest.get(index).map(String::as_str);
    let layout = if rest(0) == Some("split") { Layout::Split } else { Layout::Packed };
    let zero_copy = match rest(1) {
        Some("on") => ZeroCopy::On,
        Some("off") => ZeroCopy::Off,
        _ => ZeroCopy::Auto,
    };
    let limit: Option<usize> = rest(2).map(str::parse).transpose()?;
    let heap = HeapSpec::new().immediate(0x1600, 0).payload(0x3300, heap_len);
    let plan = |mtu| {
        let limit = limit.unwrap_or_else(|| max_packet_size(mtu, to.ip()));
        Plan::builder(Flavour::SPEAD_64_40, PacketSize::Uniform { limit })
            .heaps(&heap, heaps)
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
        "tcp" => {
            let config = TcpConfig { zero_copy, ..TcpConfig::new(vec![to]) };
            (plan(u32::MAX)?, Box::new(Tcp::open(&config)?))
        }
        _ => {
            let config = UdpConfig { zero_copy, ..UdpConfig::new(vec![to]) };
            (plan(route_mtu(&config)?)?, Box::new(Udp::open(&config)?))
        }
    };
    let mut sender = Sender::new(backend);
    let mut idle = sender.allocate(&plan, layout, BATCHES, Vec::new())?;
    let (batches, elapsed, cpu) = match amount.strip_suffix('s') {
        None => send(&mut sender, &mut idle, amount.parse()?, Duration::MAX)?,
        Some(seconds) => {
            let time = Duration::from_secs_f64(seconds.parse()?);
            // Until caches and clocks are warm.
            send(&mut sender, &mut idle, u64::MAX, time / 10)?;
            send(&mut sender, &mut idle, u64::MAX, time)?
        }
    };
    let bytes = batches * (heaps * heap_len) as u64;
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
    let counters = sender.counters();
    println!(
        "{}",
        serde_json::json!({
            "heap": heap_len, "gb_per_s": rate(elapsed), "gb_per_cpu_s": rate(cpu),
            "packet": plan.packets()[0].len(), "packets": counters.packets,
            "messages": counters.messages, "doorbells": counters.doorbells,
            "uncopied": counters.uncopied, "copied": counters.copied,
        })
    );
    Ok(())
}

/// Sends a number of batches, or for a time. Returns how many, and how long that took on the clock and on
/// the processor.
fn send(
    sender: &mut Sender,
    idle: &mut Vec<Batch>,
    most: u64,
    time: Duration,
) -> Result<(u64, Duration, Duration), Box<dyn Error>> {
    let (start, cpu) = (Instant::now(), cpu_time()?);
    let take_back = |idle: &mut Vec<Batch>, completion: Completion| {
        assert_eq!(completion.failures, []);
        idle.push(completion.batch);
    };
    let mut batches = 0;
    while batches < most && start.elapsed() < time {
        if idle.is_empty() {
            take_back(idle, sender.wait().ok_or("they are in flight")?);
        }
        sender.submit(idle.pop().ok_or("one is idle")?)?;
        batches += 1;
        while let Some(completion) = sender.poll() {
            take_back(idle, completion);
        }
    }
    while let Some(completion) = sender.wait() {
        take_back(idle, completion);
    }
    Ok((batches, start.elapsed(), cpu_time()? - cpu))
}

/// What this process has used of the processor.
fn cpu_time() -> nix::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let [user, system] = [usage.user_time(), usage.system_time()]
        .map(|time| Duration::new(time.tv_sec() as u64, 1000 * time.tv_usec() as u32));
    Ok(user + system)
}

/// As `send` has it.
const BATCHES: u32 = 2;
