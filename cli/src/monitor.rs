//! How a stream goes while it runs: a line of the log now and then, and figures for Prometheus.
//!
//! The thread that posts stores numbers once a batch; threads of this read them when they are due, or asked
//! for, whatever the source does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use doorbell::pacer::{Counted, Rate};
use doorbell::stream;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tiny_http::{Header, Response, Server};

use super::config::Config;
use super::exit::Failure;

/// What is to be said of a stream.
pub struct Monitor {
    log_interval: Option<Duration>,
    rate: Option<Rate>,
    server: Option<Arc<Server>>,
}

/// Says it, until it is dropped.
pub struct Watch {
    log: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
    server: Option<(Arc<Server>, JoinHandle<()>)>,
}

impl Monitor {
    /// Prepares for what is asked for.
    ///
    /// # Errors
    ///
    /// If there is to be a server, and it cannot listen.
    pub fn bind(config: &Config) -> Result<Self, Failure> {
        let listen = |address: SocketAddr| {
            let server = Server::http(address)
                .map_err(|error| Failure::Metrics { address, reason: error.to_string() })?;
            tracing::info!("figures are at http://{}/metrics", server.server_addr());
            Ok::<_, Failure>(Arc::new(server))
        };
        Ok(Self {
            log_interval: config.log_interval.filter(|_| tracing::enabled!(tracing::Level::INFO)),
            rate: config.settings.pacing.pacer_rate(),
            server: config.metrics.map(listen).transpose()?,
        })
    }

    /// Begins to say how a stream goes.
    pub fn watch(self, stream: stream::Monitor) -> Watch {
        let log = self.log_interval.map(|interval| {
            let (stop, stopped) = mpsc::channel();
            let (stream, rate) = (stream.clone(), self.rate);
            (stop, thread::spawn(move || log(&stream, interval, rate, &stopped)))
        });
        let server = self.server.map(|server| {
            let listener = server.clone();
            (server, thread::spawn(move || serve(&listener, &stream)))
        });
        Watch { log, server }
    }
}

impl Drop for Watch {
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

/// The numbers that are served.
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
    fn store(&self, figures: &stream::Figures) {
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
}

/// Answers requests until the server is unblocked.
fn serve(server: &Server, stream: &stream::Monitor) {
    let metrics = Metrics::default();
    let registry = metrics.registry();
    for request in server.incoming_requests() {
        let mut text = String::new();
        metrics.store(&stream.figures());
        let response = match request.url() {
            "/metrics" if encode(&mut text, &registry).is_ok() => {
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
