//! A sender on a thread of its own, so that one core fills while another sends.

use std::collections::VecDeque;
use std::future::Future;
use std::hint;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::completion::{Completion, Rejected};
use super::{Batch, Sender};

/// A sender on a thread of its own. A batch is handed over once, and comes back once.
///
/// Completions can be waited for, polled for, or awaited: [`Pipeline::completion`] is a future that needs
/// no particular runtime.
#[derive(Debug)]
pub struct Pipeline {
    /// None once closed.
    jobs: Option<SyncSender<Job>>,
    results: Receiver<Result<Completion, Rejected>>,
    /// Results that were taken in to make room for more.
    ready: VecDeque<Result<Completion, Rejected>>,
    waker: Arc<AtomicWaker>,
    thread: Option<JoinHandle<Sender>>,
    in_flight: usize,
}

#[derive(Debug)]
struct Job {
    batch: Batch,
    heaps: u32,
}

impl Pipeline {
    /// Moves a sender to a thread of its own, on `core` if given. There is room for `batches`
    /// batches to be in flight; submitting more blocks until one of them is done.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started, or there is no such core.
    pub fn start(sender: Sender, batches: usize, core: Option<usize>) -> io::Result<Self> {
        let (jobs, incoming) = sync_channel(batches.max(1));
        // Room for each result, so that the sender never waits for its user.
        let (outgoing, results) = sync_channel(2 * batches.max(1) + 1);
        let (started, start) = sync_channel(1);
        let waker = Arc::new(AtomicWaker::new());
        let wake = waker.clone();
        let thread = thread::Builder::new().name("doorbell sender".into()).spawn(move || {
            let pinned = core.map_or(Ok(()), pin);
            let is_pinned = pinned.is_ok();
            let _ = started.send(pinned);
            if is_pinned { run(sender, &incoming, &outgoing, &wake) } else { sender }
        })?;
        start.recv().map_err(|RecvError| io::Error::other("the sender's thread ended"))??;
        Ok(Self {
            jobs: Some(jobs),
            results,
            ready: VecDeque::new(),
            waker,
            thread: Some(thread),
            in_flight: 0,
        })
    }

    /// Sends a whole batch. Whatever comes of it, the batch comes back by [`Pipeline::wait`],
    /// [`Pipeline::poll`] or [`Pipeline::completion`].
    pub fn submit(&mut self, batch: Batch) {
        let heaps = batch.heaps();
        self.submit_first(batch, heaps);
    }

    /// Sends the first `heaps` heaps of a batch.
    pub fn submit_first(&mut self, batch: Batch, heaps: u32) {
        self.in_flight += 1;
        let jobs = self.jobs.as_ref().expect("a pipeline is open until it is dropped");
        let mut job = Job { batch, heaps };
        while let Err(error) = jobs.try_send(job) {
            let TrySendError::Full(refused) = error else {
                panic!("the sender's thread has panicked");
            };
            job = refused;
            // Nobody else takes results: without room for them the thread would take no jobs.
            self.ready.extend(self.results.recv());
        }
    }

    /// Batches that were submitted and have not come back.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A batch that is done, if there is one. Does not block.
    pub fn poll(&mut self) -> Option<Result<Completion, Rejected>> {
        let result = self.ready.pop_front().or_else(|| self.results.try_recv().ok())?;
        self.in_flight -= 1;
        Some(result)
    }

    /// Blocks until a batch is done, and returns it; `None` if none is in flight.
    pub fn wait(&mut self) -> Option<Result<Completion, Rejected>> {
        if self.in_flight == 0 {
            return None;
        }
        if let Some(result) = spin(|| self.poll()) {
            return Some(result);
        }
        let result = self.results.recv().ok()?;
        self.in_flight -= 1;
        Some(result)
    }

    /// The next batch that is done; `None` if none is in flight.
    pub fn completion(&mut self) -> NextCompletion<'_> {
        NextCompletion { pipeline: self }
    }

    /// Waits for what is in flight, ends the thread, and returns the sender with the last results.
    pub fn close(mut self) -> (Sender, Vec<Result<Completion, Rejected>>) {
        drop(self.jobs.take());
        let mut results = Vec::with_capacity(self.in_flight);
        while let Some(result) = self.wait() {
            results.push(result);
        }
        let thread = self.thread.take().expect("a pipeline has a thread until it is dropped");
        match thread.join() {
            Ok(sender) => (sender, results),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            while self.results.recv().is_ok() {}
            let _ = thread.join();
        }
    }
}

/// What [`Pipeline::completion`] returns.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct NextCompletion<'a> {
    pipeline: &'a mut Pipeline,
}

impl Future for NextCompletion<'_> {
    type Output = Option<Result<Completion, Rejected>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.pipeline.in_flight == 0 {
            return Poll::Ready(None);
        }
        if let Some(result) = self.pipeline.poll() {
            return Poll::Ready(Some(result));
        }
        self.pipeline.waker.register(context.waker());
        // A batch that came back before the waker was in place woke nobody.
        match self.pipeline.poll() {
            Some(result) => Poll::Ready(Some(result)),
            None => Poll::Pending,
        }
    }
}

fn run(
    mut sender: Sender,
    jobs: &Receiver<Job>,
    results: &SyncSender<Result<Completion, Rejected>>,
    waker: &AtomicWaker,
) -> Sender {
    let give_back = |result| {
        // Where nobody listens any more the pipeline is being dropped, and the batch with it.
        let _ = results.send(result);
        waker.wake();
    };
    let mut open = true;
    while open || sender.in_flight() > 0 {
        let job = match sender.in_flight() {
            0 => match spin(|| jobs.try_recv().ok()) {
                Some(job) => Ok(job),
                None => jobs.recv().map_err(|RecvError| TryRecvError::Disconnected),
            },
            _ => jobs.try_recv(),
        };
        // More jobs may be waiting: they are posted before anything is waited for.
        let idle = job.is_err();
        match job {
            Ok(Job { batch, heaps }) => {
                if let Err(rejected) = sender.submit_first(batch, heaps) {
                    give_back(Err(rejected));
                }
            }
            Err(TryRecvError::Disconnected) => open = false,
            Err(TryRecvError::Empty) => {}
        }
        // Of several batches the first may well be done, and whoever fills may wait for it: a poll right
        // after a post is but a glance.
        let done = sender.poll().or_else(|| (sender.in_flight() > 1).then(|| sender.poll())?);
        match done {
            Some(completion) => give_back(Ok(completion)),
            None if idle && sender.in_flight() > 0 => sender.idle(LONGEST_WAIT),
            None => {}
        }
    }
    sender
}

/// Tries again and again for about as long as a batch takes.
///
/// A thread that sleeps has to be woken, and that costs the other one, which has work to do, a system call
/// and an interrupt for each batch.
fn spin<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return Some(found);
        }
        if start.elapsed() >= SPIN {
            return None;
        }
        hint::spin_loop();
    }
}

fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// What 512 KiB take at 5 GB/s.
const SPIN: Duration = Duration::from_micros(100);
/// How long the thread waits for the backend before it looks for another batch.
const LONGEST_WAIT: Duration = Duration::from_millis(1);
