//! Figures of a stream on its way in, for whoever asks meanwhile.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use doorbell::receive::Window;

use crate::config::ListenAddress;
use crate::exit::Failure;
use crate::metrics::{Kind, Metric, Server};

/// Serves figures, which are taken every now and then: whoever asks never holds up what receives.
pub struct Figures {
    served: Option<Arc<Mutex<Vec<Metric>>>>,
    /// When they were taken.
    taken: Option<Instant>,
}

impl Figures {
    /// Begins to serve, if there is to be anything.
    ///
    /// # Errors
    ///
    /// If the server cannot listen.
    pub fn serve(address: Option<&ListenAddress>) -> Result<Self, Failure> {
        let served = address.map(|address| {
            let served: Arc<Mutex<Vec<Metric>>> = Arc::default();
            let ours = served.clone();
            let metrics = move || ours.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Server::bind(address)?.serve(metrics).map(|()| served)
        });
        Ok(Self { served: served.transpose()?, taken: None })
    }

    /// Takes them, if it is time again.
    pub fn note(&mut self, window: &Window, dropped: impl FnOnce() -> u64) {
        if self.taken.is_none_or(|taken| taken.elapsed() >= INTERVAL) {
            self.take(window, dropped);
        }
    }

    /// Takes them, if they are served.
    pub fn take(&mut self, window: &Window, dropped: impl FnOnce() -> u64) {
        let Some(served) = &self.served else { return };
        self.taken = Some(Instant::now());
        let metrics = metrics(window, dropped());
        *served.lock().unwrap_or_else(PoisonError::into_inner) = metrics;
    }
}

fn metrics(window: &Window, dropped: u64) -> Vec<Metric> {
    let tally = window.tally();
    let counter = |(name, help, value)| Metric { name, help, kind: Kind::Counter, value };
    [
        ("recv_heaps", "Heaps with data that arrived whole", tally.heaps),
        ("recv_heaps_incomplete", "Heaps of which some packets did not arrive", tally.incomplete),
        (
            "recv_heaps_missing",
            "Heaps of which nothing arrived, as far as cnts tell",
            tally.missing,
        ),
        ("recv_payload_bytes", "Payload in all packets, duplicates included", tally.payload_bytes),
        ("recv_packets", "SPEAD packets", tally.packets),
        ("recv_packets_ignored", "SPEAD packets that add nothing", tally.ignored),
        ("recv_packets_refused", "SPEAD packets that no heap takes", tally.refused),
        ("recv_packets_dropped", "Packets for which the socket had no room", dropped),
        ("recv_not_spead", "Datagrams that are no SPEAD packets", tally.not_spead),
    ]
    .map(counter)
    .to_vec()
}

/// No scraper asks more often.
const INTERVAL: Duration = Duration::from_millis(100);
