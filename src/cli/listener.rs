//! The receiver that a stream without a destination goes to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use doorbell::receive::{Expectation, Progress as Arrivals, Received, Receiver};

use super::exit::Failure;
use super::stream::{LOOPBACK, Stream};

/// The receiver on loopback, on a thread of its own.
pub(super) struct Listener {
    thread: JoinHandle<Received>,
    pub(super) arrivals: Arc<Arrivals>,
    /// Packets that may be on the way without the socket's buffer being overrun.
    pub(super) window: u64,
}

impl Listener {
    /// A socket on any free port of 127.0.0.1.
    pub(super) fn bind() -> Result<Receiver, Failure> {
        Ok(Receiver::bind(ANY_PORT, RECEIVE_BUFFER)?)
    }

    pub(super) fn start(receiver: Receiver, stream: &Stream) -> Self {
        let expectation = Expectation {
            first_cnt: stream.first_data_cnt(),
            cnt_step: stream.config.stream.cnt_step,
            heaps: stream.heaps,
            heaps_in_flight: stream.data.heaps() as usize + 1,
            ..Expectation::new(stream.config.stream.flavour, stream.source.as_ref())
        };
        let longest = [&stream.start, &stream.data].map(|plan| plan.heap_len(0));
        let max_heap_len = longest.into_iter().fold(expectation.max_heap_len, usize::max);
        let expectation = Expectation { max_heap_len, ..expectation };
        let packet = stream.data.packets().iter().map(|packet| packet.len()).max().unwrap_or(0);
        let window = receiver.window(packet);
        let arrivals = Arc::new(Arrivals::default());
        let progress = arrivals.clone();
        let thread = thread::spawn(move || receiver.run(expectation, &progress));
        Self { thread, arrivals, window }
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
