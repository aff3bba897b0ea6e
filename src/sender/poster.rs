//! The thread that posts: takes jobs, submits them when they are due, gives batches back.

use std::collections::VecDeque;
use std::hint;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use super::Sender;
use super::completion::{Completion, Reason, Rejected};
use super::job::{Command, Job, Recurring};
use super::shared::Shared;
use super::stop::Wish;
use crate::region::Slot;

/// Sees what came of a batch.
pub(crate) type Observer = Box<dyn FnMut(&Result<Completion, Rejected>, &Sender) + Send>;

pub(super) struct Poster {
    pub(super) sender: Sender,
    pub(super) commands: Receiver<Command>,
    pub(super) results: SyncSender<Result<Completion, Rejected>>,
    pub(super) shared: Arc<Shared>,
    /// Jobs in their order; the first may not be due yet.
    pub(super) queue: VecDeque<Job>,
    pub(super) recurring: Vec<Recurring>,
    /// Of the batches in flight that have one.
    pub(super) tags: Vec<(Slot, u64)>,
    /// How long nothing may go, once it is to end.
    pub(super) drain: Duration,
    pub(super) observer: Option<Observer>,
    /// Where the batch lies that goes even if all others are given up.
    pub(super) last: Option<Slot>,
}

impl Poster {
    pub(super) fn run(mut self) -> Sender {
        let mut is_open = true;
        let mut progress = (Instant::now(), 0);
        loop {
            is_open &= self.take_commands();
            let wish = self.shared.wish();
            let is_stopped = wish >= Wish::Stop;
            if wish == Wish::Abort {
                self.discard();
            }
            self.submit_what_is_due(is_open, is_stopped);
            if let Some(completion) = self.done() {
                self.give_back(Ok(completion));
                continue;
            }
            let in_flight = self.sender.in_flight();
            if !is_open && self.queue.is_empty() && in_flight == 0 {
                return self.sender;
            }
            let drain = if wish == Wish::Abort { IMPATIENT_DRAIN } else { self.drain };
            let posted = self.sender.posted();
            // A receiver that is slow loses nothing, unless the user has had enough of it.
            let is_patient = self.sender.caps().flow_control;
            let is_ending = is_stopped || self.shared.is_abandoned() || (!is_open && !is_patient);
            if !is_ending || in_flight == 0 || posted != progress.1 {
                progress = (Instant::now(), posted);
            } else if progress.0.elapsed() >= drain {
                tracing::error!("nothing goes any more: what is in flight is given up");
                self.sender.give_up();
                continue;
            }
            let drained = (is_ending && in_flight > 0).then(|| progress.0 + drain);
            self.rest(is_open, wish, drained);
        }
    }

    /// Takes what it is told. False once nobody can tell it anything any more.
    fn take_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.take(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Submit(job) => self.queue.push_back(job),
            Command::Repeat(recurring) => self.recurring.push(recurring),
            Command::Call(call) => call(&mut self.sender),
        }
    }

    fn submit_what_is_due(&mut self, is_open: bool, is_stopped: bool) {
        // What is submitted again and again is not any more at the end; what goes before the jobs is.
        self.recurring.retain(|it| {
            it.batch.is_none() || !is_stopped && (is_open || it.before_jobs.is_some())
        });
        self.repeat();
        while let Some(due) = self.next_job(is_stopped)
            && due.is_none_or(|due| due <= Instant::now())
            && let Some(job) = self.queue.pop_front()
        {
            if job.tag != 0 {
                self.tags.push((job.batch.slot(), job.tag));
            }
            if let Err(rejected) = self.sender.send(job.batch, job.heaps, job.rate) {
                self.give_back(Err(rejected));
            }
        }
    }

    /// Gives up what is not on the wire.
    fn discard(&mut self) {
        for _ in 0..self.queue.len() {
            let Some(job) = self.queue.pop_front() else { return };
            if Some(job.batch.slot()) == self.last {
                self.queue.push_back(job);
                continue;
            }
            let Job { batch, heaps, tag, .. } = job;
            let (batch, reason) = (Box::new(batch), Reason::Ended);
            self.give_back(Err(Rejected { batch, heaps, reason, tag }));
        }
        self.sender.discard_unposted(self.last);
    }

    /// When the next job is due, if there is one: at once if that is `None`, as all are once it is stopped.
    fn next_job(&self, is_stopped: bool) -> Option<Option<Instant>> {
        let job = self.queue.front()?;
        let before = self.recurring.iter().filter_map(|it| it.before_jobs).max();
        Some(job.not_before.max(before).filter(|_| !is_stopped))
    }

    fn repeat(&mut self) {
        if self.recurring.is_empty() {
            return;
        }
        let now = Instant::now();
        let over = |it: &Recurring| it.before_jobs.is_some_and(|end| end <= now);
        self.recurring.retain(|it| !(over(it) && it.batch.is_some()));
        for index in 0..self.recurring.len() {
            let it = &mut self.recurring[index];
            if it.due > now || over(it) {
                continue;
            }
            // If it is still in flight, it is due until it is not.
            let Some(batch) = it.batch.take() else { continue };
            it.due = now + it.every;
            if let Some((first, step)) = it.cnts {
                self.sender.set_cnts(first, step);
            }
            let heaps = batch.heaps();
            if let Err(rejected) = self.sender.send(batch, heaps, None) {
                self.give_back(Err(rejected));
            }
        }
    }

    /// A batch that is done. One that was posted just now may well be, and whoever fills may wait for it: then
    /// a second look is but a glance.
    fn done(&mut self) -> Option<Completion> {
        let before = self.sender.posted();
        let first = self.sender.poll();
        first.or_else(|| (self.sender.posted() > before).then(|| self.sender.poll())?)
    }

    fn give_back(&mut self, mut result: Result<Completion, Rejected>) {
        let slot = match &result {
            Ok(completion) => completion.batch.slot(),
            Err(rejected) => rejected.batch.slot(),
        };
        if let Some(observer) = &mut self.observer {
            observer(&result, &self.sender);
        }
        if let Some(it) = self.recurring.iter_mut().find(|it| it.slot == slot) {
            it.batch = Some(match result {
                Ok(completion) => completion.batch,
                Err(rejected) => *rejected.batch,
            });
            return;
        }
        if let Some(at) = self.tags.iter().position(|(tagged, _)| *tagged == slot) {
            let tag = self.tags.swap_remove(at).1;
            match &mut result {
                Ok(completion) => completion.tag = tag,
                Err(rejected) => rejected.tag = tag,
            }
        }
        // Where nobody listens any more the pipeline is being dropped, and the batch with it.
        let _ = self.results.send(result);
        self.shared.waker.wake();
    }

    /// Waits for whatever comes first: a command, the end, something of the backend's, the time that a job, a
    /// recurring batch or a burst is due.
    fn rest(&mut self, is_open: bool, wish: Wish, drained: Option<Instant>) {
        if self.sender.in_flight() == 0 && is_open {
            // A thread that sleeps has to be woken, and that costs the other one, which has work to do, a
            // system call and an interrupt for each batch.
            let begin = Instant::now();
            while begin.elapsed() < SPIN {
                match self.commands.try_recv() {
                    Ok(command) => return self.take(command),
                    Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => hint::spin_loop(),
                }
            }
        }
        let job = self.next_job(wish >= Wish::Stop).flatten();
        let repeated = self.recurring.iter().filter(|it| it.batch.is_some()).map(|it| it.due).min();
        let deadline = [job, repeated, drained].into_iter().flatten().min();
        let limit = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let (shared, commands, sender) = (self.shared.clone(), &self.commands, &mut self.sender);
        let mut command = None;
        shared.wake_up.sleep_unless(
            || {
                let found = commands.try_recv();
                let is_news = match &found {
                    Ok(_) => true,
                    Err(TryRecvError::Disconnected) => is_open,
                    Err(TryRecvError::Empty) => shared.wish() != wish,
                };
                command = found.ok();
                is_news
            },
            |waker| sender.idle_with(Some(waker), limit),
        );
        if let Some(command) = command {
            self.take(command);
        }
    }
}

/// As `drain`, of those who cannot wait.
const IMPATIENT_DRAIN: Duration = Duration::from_secs(2);
/// What 512 KiB take at 5 GB/s.
pub(super) const SPIN: Duration = Duration::from_micros(100);
