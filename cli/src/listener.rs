//! The receiver that a stream without a destination goes to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use doorbell::receive::{KnownStream, Listener, Tally, Verification, Window, WindowConfig};
use doorbell::sender::admission::Arrivals;
use doorbell::stream::StreamPlan;
use serde::Serialize;

use super::exit::Failure;
use super::setup::LOOPBACK;
use super::source::Source;
use super::threads;

/// A socket on loopback that nobody has sent to yet.
pub(super) struct Embedded(Listener);

/// The receiver on loopback, on a thread of its own.
pub(super) struct Verifying {
    thread: JoinHandle<Tally>,
    shared: Arc<Shared>,
    /// Packets that may be on the way without the socket's buffer being overrun.
    room: u64,
}

/// What the thread that receives shares with that which sends.
#[derive(Default)]
struct Shared {
    packets: AtomicU64,
    mismatched: AtomicU64,
    /// Nothing more is sent.
    is_over: AtomicBool,
}

/// What the receiver on loopback got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Received {
    /// Heaps with data that arrived whole, each counted once.
    pub heaps: u64,
    /// Heaps that did not, of those sent.
    pub incomplete: u64,
    /// Whole heaps that were not as expected: other bytes, lengths or timestamps.
    pub mismatched: u64,
    /// SPEAD packets.
    pub packets: u64,
    /// Payload bytes in them.
    pub payload_bytes: u64,
    /// Packets that add nothing, and those that no heap took.
    pub ignored: u64,
    /// Datagrams that are no SPEAD packets.
    pub not_spead: u64,
}

impl Embedded {
    /// A socket on any free port of 127.0.0.1.
    pub(super) fn bind() -> Result<Self, Failure> {
        Ok(Self(Listener::bind(&[ANY_PORT], None, RECEIVE_BUFFER)?))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.local_addrs().next().unwrap_or(LOOPBACK)
    }

    pub(super) fn start(
        self,
        plan: &StreamPlan,
        source: &dyn Source,
    ) -> Result<Verifying, Failure> {
        let stream = KnownStream {
            items: source.items().iter().map(|item| (item.descriptor.id, item.size)).collect(),
            first_cnt: plan.first_data_cnt(),
            cnt_step: plan.settings().stream.cnt_step,
            heaps: plan.heaps(),
        };
        let plans = plan.others().chain([plan.data()]);
        let config = WindowConfig {
            // In round-robin order, all heaps of a batch are on the way at once.
            heaps: plan.data().heaps() as usize + 1,
            max_heap_len: plans.map(|plan| plan.heap_len(0)).max().unwrap_or(0),
            substreams: 1,
        };
        let packets = plan.data().packets().iter();
        let room = self.0.room(packets.map(|packet| packet.len()).max().unwrap_or(0));
        let shared = Arc::new(Shared::default());
        let mut verification = Verification::known(stream, source.verifier());
        let counts = shared.clone();
        let window = Window::new(config).consumed_by(move |heap| {
            if heap.is_data() && !verification.matches(heap) {
                tracing::debug!(cnt = heap.cnt(), "a heap is not as expected");
                counts.mismatched.fetch_add(1, Ordering::Relaxed);
            }
        });
        let thread = threads::start("loopback receiver", {
            let shared = shared.clone();
            move || shared.receive(self.0, window)
        })?;
        Ok(Verifying { thread, shared, room })
    }
}

impl Shared {
    /// Receives until the stream has ended, or nothing comes any more once nothing is sent.
    fn receive(&self, mut listener: Listener, mut window: Window) -> Tally {
        loop {
            let is_over = self.is_over.load(Ordering::Relaxed);
            // What is there already when the stream stops counts.
            let patience = if window.is_stopped() { Duration::ZERO } else { IDLE };
            match listener.receive(&mut window, patience) {
                Ok(0) if window.is_stopped() || is_over => break,
                Ok(packets) => _ = self.packets.fetch_add(packets as u64, Ordering::Relaxed),
                Err(error) => {
                    tracing::error!("{error}");
                    break;
                }
            }
        }
        window.finish();
        window.tally()
    }
}

impl Verifying {
    /// Has a stream send no more than there is room for.
    pub(super) fn hold_back(&self, plan: StreamPlan) -> StreamPlan {
        let shared = self.shared.clone();
        plan.admit_by(Arrivals::new(self.room, move || shared.packets.load(Ordering::Relaxed)))
    }

    /// What arrived of the heaps that were sent.
    pub(super) fn finish(self, sent: u64) -> Received {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let tally = self.thread.join().unwrap_or_default();
        Received {
            heaps: tally.heaps,
            // The receiver knows only how many heaps there were to be.
            incomplete: sent.saturating_sub(tally.heaps),
            mismatched: self.shared.mismatched.load(Ordering::Relaxed),
            packets: tally.packets,
            payload_bytes: tally.payload_bytes,
            ignored: tally.ignored + tally.refused,
            not_spead: tally.not_spead,
        }
    }
}

const ANY_PORT: SocketAddr = SocketAddr::new(LOOPBACK.ip(), 0);
/// Asked for; the kernel may grant less.
const RECEIVE_BUFFER: usize = 64 << 20;
/// For how long nothing arrives that is on its way.
const IDLE: Duration = Duration::from_millis(200);
