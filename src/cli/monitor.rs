//! How a stream goes while it runs: a line of the log now and then, and figures for Prometheus.
//!
//! The sending thread stores numbers once a batch; other threads read them when they are asked for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use doorbell::backend::Counters;
use doorbell::config::MonitorConfig;
use doorbell::pacer::{Counted, Rate};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tiny_http::{Header, Response, Server};

use super::exit::Failure;
use super::pacing::gbit_per_s;

/// What is known of a stream at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Data heaps submitted.
    pub heaps: u64,
    /// Those of them that did not go out whole.
    pub heaps_failed: u64,
    /// Bytes of payload in the heaps that went out whole.
    pub payload_bytes: u64,
    /// Bytes of all packets, with Ethernet, IP and UDP headers.
    pub wire_bytes: u64,
    /// Batches in flight.
    pub in_flight: u64,
    /// What the backend did.
    pub counters: Counters,
}

/// Says how a stream goes, as far as it is to.
pub struct Monitor {
    /// None if nobody reads them.
    metrics: Option<Arc<Metrics>>,
    log: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
    server: Option<(Arc<Server>, JoinHandle<()>)>,
}

impl Monitor {
    /// Starts what is asked for, of a stream that is to keep to a rate, if it is.
    ///
    /// # Errors
    ///
    /// If there is to be a server, and it cannot listen.
    pub fn start(config: &MonitorConfig, rate: Option<Rate>) -> Result<Self, Failure> {
        let metrics = Arc::new(Metrics::default());
        let interval = config.log_interval.filter(|_| tracing::enabled!(tracing::Level::INFO));
        let log = interval.map(|interval| {
            let (stop, stopped) = mpsc::channel();
            let metrics = metrics.clone();
            (stop, thread::spawn(move || metrics.log(interval, rate, &stopped)))
        });
        let server = match config.metrics {
            None => None,
            Some(address) => {
                let server = Server::http(address)
                    .map_err(|error| Failure::Metrics { address, reason: error.to_string() })?;
                tracing::info!("figures are at http://{}/metrics", server.server_addr());
                let server = Arc::new(server);
                let (registry, listener) = (metrics.registry(), server.clone());
                Some((server, thread::spawn(move || serve(&listener, &registry))))
            }
        };
        let is_read = log.is_some() || server.is_some();
        Ok(Self { metrics: is_read.then_some(metrics), log, server })
    }

    /// Takes over what is known now.
    pub fn update(&self, figures: impl FnOnce() -> Figures) {
        if let Some(metrics) = &self.metrics {
            metrics.store(&figures());
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.log.take() {
            drop(stop);
            let _ = thread.join();
        }
        if let Some((server, thread)) = self.server.take() {
            server.unblock();
            let _ = thread.join();
        }
    }
}

/// Numbers that threads share. Each is right by itself; together they are of about the same moment.
#[derive(Default)]
struct Metrics {
    heaps: Counter,
    heaps_failed: Counter,
    payload_bytes: Counter,
    wire_bytes: Counter,
    packets: Counter,
    messages: Counter,
    doorbells: Counter,
    segmentation_refused: Counter,
    waits: Counter,
    icmp_errors: Counter,
    in_flight: Gauge,
}

impl Metrics {
    fn store(&self, figures: &Figures) {
        let counters = &figures.counters;
        for (counter, value) in [
            (&self.heaps, figures.heaps),
            (&self.heaps_failed, figures.heaps_failed),
            (&self.payload_bytes, figures.payload_bytes),
            (&self.wire_bytes, figures.wire_bytes),
            (&self.packets, counters.packets),
            (&self.messages, counters.messages),
            (&self.doorbells, counters.doorbells),
            (&self.segmentation_refused, counters.segmentation_refused),
            (&self.waits, counters.waits),
            (&self.icmp_errors, counters.icmp_errors),
        ] {
            counter.inner().store(value, Ordering::Relaxed);
        }
        self.in_flight.inner().store(figures.in_flight as i64, Ordering::Relaxed);
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("doorbell");
        for (name, help, counter) in [
            ("heaps", "Data heaps submitted", &self.heaps),
            ("heaps_failed", "Data heaps that did not go out whole", &self.heaps_failed),
            ("payload_bytes", "Payload of heaps that went out whole", &self.payload_bytes),
            ("wire_bytes", "All packets with Ethernet, IP and UDP headers", &self.wire_bytes),
            ("packets", "Packets handed over", &self.packets),
            ("messages", "Messages handed over, of one packet or more", &self.messages),
            ("doorbells", "Calls that handed packets over", &self.doorbells),
            ("gso_refused", "Messages that were not segmented", &self.segmentation_refused),
            ("waits", "Times that there was no room", &self.waits),
            ("icmp_errors", "Messages of ICMP that came back", &self.icmp_errors),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register("batches_in_flight", "Batches in flight", self.in_flight.clone());
        registry
    }

    /// Writes a line every `interval` until the channel is closed.
    fn log(&self, interval: Duration, rate: Option<Rate>, stopped: &mpsc::Receiver<()>) {
        let asked = rate.map_or_else(String::new, |rate| {
            let of_payload = if rate.counts == Counted::Payload { " of payload" } else { "" };
            format!(", {:.3}{of_payload} asked for", gbit_per_s(rate))
        });
        let (mut since, mut before) = (Instant::now(), [0; 3]);
        while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            let seconds = since.elapsed().as_secs_f64();
            since = Instant::now();
            let now = [self.heaps.get(), self.payload_bytes.get(), self.wire_bytes.get()];
            let [heaps, payload, wire] =
                [0, 1, 2].map(|it| (now[it] - before[it]) as f64 / seconds);
            before = now;
            tracing::info!(
                heaps = now[0],
                failed = self.heaps_failed.get(),
                in_flight = self.in_flight.get(),
                gso_refused = self.segmentation_refused.get(),
                waits = self.waits.get(),
                "{heaps:.0} heaps/s, {:.3} Gb/s of payload, {:.3} Gb/s on the wire{asked}",
                payload * 8e-9,
                wire * 8e-9,
            );
        }
    }
}

/// Answers requests until the server is unblocked.
fn serve(server: &Server, registry: &Registry) {
    for request in server.incoming_requests() {
        let mut text = String::new();
        let response = match request.url() {
            "/metrics" if encode(&mut text, registry).is_ok() => {
                let kind = Header::from_bytes("Content-Type", OPEN_METRICS);
                let response = Response::from_string(text);
                kind.into_iter().fold(response, Response::with_header)
            }
            _ => Response::from_string("figures are at /metrics\n").with_status_code(404),
        };
        // Whoever asked may have gone.
        let _ = request.respond(response);
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
