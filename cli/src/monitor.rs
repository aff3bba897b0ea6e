//! How a stream goes while it runs: a line of the log now and then, and figures for Prometheus.
//!
//! The thread that posts stores numbers once a batch; threads of this read them when they are due, or asked
//! for, whatever the source does.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use doorbell::pacer::{Counted, Rate};
use doorbell::stream;

use super::config::Config;
use super::exit::Failure;
use super::metrics::{Kind, Metric, Server};

/// What is to be said of a stream.
pub struct Monitor {
    log_interval: Option<Duration>,
    rate: Option<Rate>,
    server: Option<Server>,
}

/// Writes lines of the log, until it is dropped.
pub struct Watch {
    log: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Monitor {
    /// Prepares for what is asked for.
    ///
    /// # Errors
    ///
    /// If there is to be a server, and it cannot listen.
    pub fn bind(config: &Config) -> Result<Self, Failure> {
        Ok(Self {
            log_interval: config.log_interval.filter(|_| tracing::enabled!(tracing::Level::INFO)),
            rate: config.settings.pacing.pacer_rate(),
            server: config.metrics.as_ref().map(Server::bind).transpose()?,
        })
    }

    /// Begins to say how a stream goes. What is served is served until the program ends.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started.
    pub fn watch(self, stream: stream::Monitor) -> Result<Watch, Failure> {
        if let Some(server) = self.server {
            let stream = stream.clone();
            server.serve(move || metrics(&stream.figures()))?;
        }
        let start = |interval| {
            let (stop, stopped) = mpsc::channel();
            let (stream, rate) = (stream.clone(), self.rate);
            let lines = move || log(&stream, interval, rate, &stopped);
            let thread = thread::Builder::new().name("log".into()).spawn(lines);
            thread.map(|thread| (stop, thread)).map_err(|error| {
                Failure::Usage(format!("monitor.log_interval (--log-interval): no thread: {error}"))
            })
        };
        Ok(Watch { log: self.log_interval.map(start).transpose()? })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.log.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// Writes a line every `interval` until the channel is closed.
fn log(
    stream: &stream::Monitor,
    interval: Duration,
    rate: Option<Rate>,
    stopped: &mpsc::Receiver<()>,
) {
    let asked = rate.map_or_else(String::new, |rate| {
        let of_payload = if rate.counts == Counted::Payload { " of payload" } else { "" };
        format!(", {:.3}{of_payload} asked for", rate.bits_per_second as f64 * 1e-9)
    });
    let (mut since, mut before) = (Instant::now(), [0; 3]);
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        let seconds = since.elapsed().as_secs_f64();
        since = Instant::now();
        let figures = stream.figures();
        let now = [figures.heaps, figures.payload_bytes, figures.wire_bytes];
        let [heaps, payload, wire] = [0, 1, 2].map(|it| (now[it] - before[it]) as f64 / seconds);
        before = now;
        tracing::info!(
            heaps = figures.heaps,
            failed = figures.heaps_failed,
            in_flight = figures.in_flight,
            gso_refused = figures.counters.segmentation_refused,
            waits = figures.counters.waits,
            "{heaps:.0} heaps/s, {:.3} Gb/s of payload, {:.3} Gb/s on the wire{asked}",
            payload * 8e-9,
            wire * 8e-9,
        );
    }
}

/// The figures of a stream that are served.
fn metrics(figures: &stream::Figures) -> Vec<Metric> {
    let counters = &figures.counters;
    let counter = |name, help, value| Metric { name, help, kind: Kind::Counter, value };
    vec![
        counter("heaps", "Data heaps submitted", figures.heaps),
        counter("heaps_failed", "Data heaps that did not go out whole", figures.heaps_failed),
        counter("payload_bytes", "Payload of heaps that went out whole", figures.payload_bytes),
        counter("wire_bytes", "All packets with Ethernet, IP and UDP headers", figures.wire_bytes),
        counter("packets", "Packets handed over", counters.packets),
        counter("messages", "Messages handed over, of one packet or more", counters.messages),
        counter("doorbells", "Calls that handed packets over", counters.doorbells),
        counter("gso_refused", "Messages that were not segmented", counters.segmentation_refused),
        counter("waits", "Times that there was no room", counters.waits),
        counter("icmp_errors", "Messages of ICMP that came back", counters.icmp_errors),
        Metric {
            name: "batches_in_flight",
            help: "Batches in flight",
            kind: Kind::Gauge,
            value: figures.in_flight,
        },
    ]
}
