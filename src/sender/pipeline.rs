//! A sender on a thread of its own, so that one core fills while another sends.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::hint;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread, ThreadId};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_timerslack;
use nix::unistd::Pid;

use super::completion::{Completion, Reason, Rejected};
use super::job::{Command, Job, Recurring};
use super::poster::{Observer, Poster, SPIN};
use super::shared::Shared;
use super::stop::Stop;
use super::wakeup::WakeUp;
use super::{Batch, Sender};
use crate::backend::SendError;
use crate::region::Slot;

/// A sender on a thread of its own. A batch is handed over once, and comes back once.
///
/// Completions can be waited for, polled for, or awaited: [`Pipeline::completion`] is a future that needs
/// no particular runtime. Nothing that the thread has to do waits for whoever fills: it posts what it was
/// given, notes what is done, repeats what is due.
pub struct Pipeline {
    /// None once closed.
    commands: Option<SyncSender<Command>>,
    results: Receiver<Result<Completion, Rejected>>,
    /// Results that were taken in to make room for more.
    ready: VecDeque<Result<Completion, Rejected>>,
    shared: Arc<Shared>,
    /// What [`Stop`] calls, for as long as this exists.
    _on_stop: Arc<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<Sender>>,
    in_flight: usize,
    /// Unparks the thread that fills.
    unpark: Option<(ThreadId, Waker)>,
}

/// How a pipeline is set up.
pub(crate) struct PipelineOptions {
    /// Batches that may be in flight without a submit having to wait.
    pub(crate) batches: usize,
    /// The CPU to bind the thread to.
    pub(crate) cpu: Option<usize>,
    /// How long what is in flight at the end is waited for while nothing of it goes.
    pub(crate) drain: Duration,
    /// Sees each result first, on the thread that posts.
    pub(crate) observer: Option<Observer>,
    /// What ends it.
    pub(crate) stop: Stop,
    /// Where the batch lies that goes even if all others are given up.
    pub(crate) last: Option<Slot>,
}

/// Says that the thread ends, however it does.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.interrupt();
    }
}

/// The thread that posts has panicked; what it said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the thread that posts has panicked: {0}")]
pub struct Panicked(pub String);

/// What is there for whoever fills.
pub(crate) enum Next {
    /// A batch came back.
    Result(Result<Completion, Rejected>),
    /// It is to end.
    Stopped,
    /// Nothing is in flight.
    Nothing,
}

impl Pipeline {
    /// Moves a sender to a thread of its own, on `core` if given. There is room for `batches`
    /// batches to be in flight; submitting more blocks until one of them is done.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started, or there is no such core.
    pub fn start(sender: Sender, batches: usize, core: Option<usize>) -> io::Result<Self> {
        let (drain, observer, stop, last) = (DRAIN, None, Stop::new()?, None);
        Self::start_with(
            sender,
            PipelineOptions { batches, cpu: core, drain, observer, stop, last },
        )
    }

    pub(crate) fn start_with(sender: Sender, options: PipelineOptions) -> io::Result<Self> {
        let PipelineOptions { batches, cpu, drain, observer, stop, last } = options;
        let batches = batches.max(1);
        let (commands, incoming) = sync_channel(batches);
        // Room for each result, so that the thread never waits for whoever fills.
        let (outgoing, results) = sync_channel(2 * batches + 1);
        let (started, start) = sync_channel(1);
        let shared = Arc::new(Shared {
            wake_up: WakeUp::new()?,
            waker: AtomicWaker::new(),
            stop: stop.clone(),
            abandoned: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let poster = Poster {
            sender,
            commands: incoming,
            results: outgoing,
            shared: shared.clone(),
            queue: VecDeque::with_capacity(batches),
            recurring: Vec::new(),
            tags: Vec::with_capacity(batches),
            drain,
            observer,
            last,
        };
        let ending = Ending(shared.clone());
        let thread = thread::Builder::new().name("doorbell sender".into()).spawn(move || {
            let ending = ending;
            let pinned = cpu.map_or(Ok(()), pin);
            let is_pinned = pinned.is_ok();
            let _ = started.send(pinned);
            // Sleeps may be late by 50 us otherwise: prctl(2).
            let _ = set_timerslack(1);
            let sender = if is_pinned { poster.run() } else { poster.sender };
            drop(ending);
            sender
        })?;
        start.recv().map_err(|RecvError| io::Error::other("the sender's thread ended"))??;
        let told = shared.clone();
        let on_stop: Arc<dyn Fn() + Send + Sync> = Arc::new(move || told.interrupt());
        stop.tell(&on_stop);
        Ok(Self {
            commands: Some(commands),
            results,
            ready: VecDeque::new(),
            shared,
            _on_stop: on_stop,
            thread: Some(thread),
            in_flight: 0,
            unpark: None,
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
        self.submit_job(Job::new(batch, heaps));
    }

    /// As [`Pipeline::submit_first`], at a time and a rate of its own.
    pub fn submit_job(&mut self, job: Job) {
        self.in_flight += 1;
        self.tell(Command::Submit(job));
    }

    /// Submits a batch again and again, `every` so often, as long as it comes back in time, whoever else
    /// submits or does not; it is not given back.
    pub fn repeat(&mut self, batch: Batch, every: Duration) {
        self.recur(batch, every, None, None);
    }

    /// Submits a batch `every` so often for `span`, with the same cnts each time, the sender's next; only
    /// then what is submitted meanwhile.
    pub(crate) fn warm_up(
        &mut self,
        batch: Batch,
        every: Duration,
        span: Duration,
        cnts: (u64, u64),
    ) {
        self.recur(batch, every, Some(Instant::now() + span), Some(cnts));
    }

    fn recur(
        &mut self,
        batch: Batch,
        every: Duration,
        before_jobs: Option<Instant>,
        cnts: Option<(u64, u64)>,
    ) {
        let (slot, due) = (batch.slot(), Instant::now());
        let recurring = Recurring { batch: Some(batch), slot, every, before_jobs, cnts, due };
        self.tell(Command::Repeat(recurring));
    }

    /// Runs `call` where the sender is, between two of its posts, and returns what it does: to ask for
    /// [`Sender::counters`] or [`Sender::jitter`], to change [`Sender::pace`] or
    /// [`Sender::set_cnts`] for what is submitted from then on.
    ///
    /// # Errors
    ///
    /// If the thread has panicked.
    pub fn with<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut Sender) -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let (answer, answered) = sync_channel(1);
        let call = move |sender: &mut Sender| {
            let _ = answer.send(call(sender));
        };
        // If the thread has ended, the answer's sender is gone, too.
        self.tell(Command::Call(Box::new(call)));
        answered.recv().map_err(|RecvError| Panicked("while it was asked".into()))
    }

    /// Tells the thread. If that has ended, a batch that was to be submitted comes back.
    fn tell(&mut self, mut command: Command) {
        while let Some(commands) = self.commands.as_ref() {
            match commands.try_send(command) {
                Ok(()) => return self.shared.wake_up.wake(),
                Err(TrySendError::Full(refused)) => command = refused,
                Err(TrySendError::Disconnected(Command::Submit(job))) => {
                    let reason = Reason::Failed(SendError::Closed);
                    let Job { batch, heaps, tag, .. } = job;
                    let rejected = Rejected { batch: Box::new(batch), heaps, reason, tag };
                    return self.ready.push_back(Err(rejected));
                }
                Err(TrySendError::Disconnected(_)) => return,
            }
            self.shared.wake_up.wake();
            // Nobody else takes results: without room for them the thread would take no commands.
            self.ready.extend(self.results.try_iter());
            thread::yield_now();
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
        match self.block(false) {
            Next::Result(result) => Some(result),
            Next::Nothing | Next::Stopped => None,
        }
    }

    /// Blocks until a batch is done or it is to end.
    pub(crate) fn next(&mut self) -> Next {
        self.block(true)
    }

    fn block(&mut self, heeds_stop: bool) -> Next {
        let begin = Instant::now();
        loop {
            if begin.elapsed() < SPIN {
                match self.ready(heeds_stop) {
                    Some(next) => return next,
                    None => hint::spin_loop(),
                }
                continue;
            }
            let register = |it: &mut Self| {
                let shared = it.shared.clone();
                shared.waker.register(it.unpark());
            };
            if let Some(next) = look_twice(self, |it| it.ready(heeds_stop), register) {
                return next;
            }
            thread::park();
        }
    }

    /// What wakes this thread; made once for each that waits.
    fn unpark(&mut self) -> &Waker {
        let this = thread::current();
        if self.unpark.as_ref().is_none_or(|(id, _)| *id != this.id()) {
            self.unpark = None;
        }
        &self.unpark.get_or_insert_with(|| (this.id(), Waker::from(Arc::new(Unpark(this))))).1
    }

    /// What there is without waiting.
    fn ready(&mut self, heeds_stop: bool) -> Option<Next> {
        if let Some(result) = self.poll() {
            return Some(Next::Result(result));
        }
        if self.in_flight == 0 || self.shared.ended.load(Ordering::SeqCst) {
            // What came between the two looks is the last that came.
            let last = self.poll();
            self.in_flight = if last.is_some() { self.in_flight } else { 0 };
            return Some(last.map_or(Next::Nothing, Next::Result));
        }
        (heeds_stop && self.shared.is_stopped()).then_some(Next::Stopped)
    }

    /// The next batch that is done; `None` if none is in flight.
    pub fn completion(&mut self) -> NextCompletion<'_> {
        NextCompletion { pipeline: self }
    }

    /// As [`Pipeline::next`], for a future.
    pub(crate) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Next> {
        let register = |it: &mut Self| it.shared.waker.register(context.waker());
        look_twice(self, |it| it.ready(true), register).map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits for what is in flight, ends the thread, and returns the sender with the last results.
    ///
    /// Where nothing goes any more, for ten seconds, what is in flight is given up; but not where the other side
    /// holds it back, [`Caps::flow_control`](crate::backend::Caps::flow_control).
    ///
    /// # Errors
    ///
    /// If the thread has panicked; then the batches in flight are gone.
    pub fn close(mut self) -> Result<(Sender, Vec<Result<Completion, Rejected>>), Panicked> {
        self.hang_up();
        let mut results = Vec::with_capacity(self.in_flight);
        while let Some(result) = self.wait() {
            results.push(result);
        }
        let thread = self.thread.take().expect("a pipeline has a thread until it is dropped");
        thread.join().map(|sender| (sender, results)).map_err(|panic| Panicked(words(&*panic)))
    }

    fn hang_up(&mut self) {
        drop(self.commands.take());
        self.shared.wake_up.wake();
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::SeqCst);
        self.hang_up();
        if let Some(thread) = self.thread.take() {
            while self.wait().is_some() {}
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

/// Looks for something, else sees to it that this side is woken when it comes, and looks again: what came
/// between the two has woken nobody.
fn look_twice<S, T>(
    state: &mut S,
    look: impl Fn(&mut S) -> Option<T>,
    register: impl FnOnce(&mut S),
) -> Option<T> {
    look(state).or_else(|| {
        register(state);
        look(state)
    })
}

/// Unparks a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
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
        match self.pipeline.poll_next(context) {
            Poll::Ready(Next::Result(result)) => Poll::Ready(Some(result)),
            Poll::Ready(Next::Nothing) => Poll::Ready(None),
            // Nothing stops a pipeline that has no stream above it.
            Poll::Ready(Next::Stopped) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Binds the calling thread to a CPU.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".into())
}

/// How long what is in flight at the end is waited for while nothing of it goes.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_the_waker_is_in_place_is_found() {
        let take = |found: &mut Option<u8>| found.take();
        assert_eq!(look_twice(&mut Some(1), take, |_| panic!("it is there")), Some(1));
        assert_eq!(look_twice(&mut None, take, |found| *found = Some(2)), Some(2));
        assert_eq!(look_twice(&mut None, take, |_| {}), None);
    }
}
