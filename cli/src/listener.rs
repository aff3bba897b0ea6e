//! The receiver that a stream without a destination goes to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use doorbell::receive::{Expectation, Progress as Arrivals, Received, Receiver};

use super::exit::Failure;
use super::setup::LOOPBACK;
use super::source::Source;
use super::threads;
use doorbell::sender::admission::Arrivals as Admitted;
use doorbell::stream::StreamPlan;

/// The receiver on loopback, on a thread of its own.
pub(super) struct Listener {
    thread: JoinHandle<Received>,
    arrivals: Arc<Arrivals>,
    /// Packets that may be on the way without the socket's buffer being overrun.
    window: u64,
}

impl Listener {
    /// A socket on any free port of 127.0.0.1.
    pub(super) fn bind() -> Result<Receiver, Failure> {
        Ok(Receiver::bind(ANY_PORT, RECEIVE_BUFFER)?)
    }

    pub(super) fn start(
        receiver: Receiver,
        plan: &StreamPlan,
        source: &dyn Source,
    ) -> Result<Self, Failure> {
        let stream = &plan.settings().stream;
        let items = source.items().iter().map(|item| (item.descriptor.id, item.size)).collect();
        let expectation = Expectation {
            first_cnt: plan.first_data_cnt(),
            cnt_step: stream.cnt_step,
            heaps: plan.heaps(),
            heaps_in_flight: plan.data().heaps() as usize + 1,
            verifier: source.verifier(),
            ..Expectation::new(stream.flavour, items)
        };
        let longest = plan.others().chain([plan.data()]).map(|plan| plan.heap_len(0));
        let max_heap_len = longest.fold(expectation.max_heap_len, usize::max);
        let expectation = Expectation { max_heap_len, ..expectation };
        let packets = plan.data().packets().iter();
        let window = receiver.window(packets.map(|packet| packet.len()).max().unwrap_or(0));
        let arrivals = Arc::new(Arrivals::default());
        let progress = arrivals.clone();
        let thread =
            threads::start("loopback receiver", move || receiver.run(expectation, &progress))?;
        Ok(Self { thread, arrivals, window })
    }

    /// Has a stream send no more than there is room for.
    pub(super) fn hold_back(&self, plan: StreamPlan) -> StreamPlan {
        let arrivals = self.arrivals.clone();
        plan.admit_by(Admitted::new(self.window, move || arrivals.packets()))
    }

    /// What arrived of the heaps that were sent.
    pub(super) fn finish(self, sent: u64) -> Received {
        self.arrivals.stop();
        let mut received = self.thread.join().unwrap_or_default();
        // The receiver knows only how many heaps there were to be.
        let whole = received.heaps + received.mismatched;
        received.incomplete = sent.saturating_sub(whole);
        received
    }
}

const ANY_PORT: SocketAddr = SocketAddr::new(LOOPBACK.ip(), 0);
/// Asked for; the kernel may grant less.
const RECEIVE_BUFFER: usize = 64 << 20;
