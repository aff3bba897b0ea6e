//! What the device says of what it was given, and what is done if that is nothing good.

use std::time::Instant;

use ibverbs_dl as sys;

use super::context::AsyncEvent;
use super::error::Failure;
use super::registered::identify;
use super::{COMPLETIONS, Health, Posted, RESTARTS, STALL, Verbs, failed};
use crate::backend::{Done, SendError};

impl Verbs {
    /// Takes completions off the queue.
    pub(super) fn collect(&mut self) -> Result<(), SendError> {
        loop {
            let room = &mut self.completions[..];
            let found = self.pair.completions.poll(room).map_err(failed("ibv_poll_cq"))?.len();
            for index in 0..found {
                let completion = &self.completions[index];
                let (id, status) = (completion.wr_id, completion.status);
                self.complete(id, status);
            }
            if found > 0 {
                self.last_progress = Instant::now();
                self.check_link()?;
            }
            if found < COMPLETIONS {
                return self.recover();
            }
        }
    }

    /// Looks whether the link went down. A device drops frames then, and reports success: whatever was
    /// posted before, or reported since the last look, may be lost, even if the link is up again by now.
    pub(super) fn check_link(&mut self) -> Result<(), SendError> {
        if self.presence.has_ended(self.last_progress) {
            return Err(Failure::DeviceGone.into());
        }
        while let Some(event) = self.context.async_event() {
            match event {
                AsyncEvent::PortDown => {
                    tracing::error!("the link of {} is down", self.config.device);
                    self.link_is_up = false;
                }
                AsyncEvent::PortUp => {
                    tracing::warn!("the link of {} is up again", self.config.device);
                    self.link_is_up = true;
                }
                AsyncEvent::DeviceGone => return Err(Failure::DeviceGone.into()),
                AsyncEvent::Other(event) => {
                    tracing::debug!(event, "asynchronous event");
                    continue;
                }
            }
            let down = SendError::from(Failure::LinkDown);
            let doubts = self.posted.iter_mut().map(|posted| &mut posted.doubt);
            let errors = self.done.iter_mut().map(|done| &mut done.error);
            for error in doubts.chain(errors) {
                error.get_or_insert_with(|| down.clone());
            }
        }
        Ok(())
    }

    /// Takes note of one completion. Work requests are done in order: whatever was posted before it
    /// and did not come back by itself went out.
    fn complete(&mut self, id: u64, status: sys::ibv_wc_status::Type) {
        let (registered, packets, batch) = identify(id);
        while let Some(front) = self.posted.front_mut() {
            let here = front.registered == registered
                && front.slot.batch == batch
                && front.packets.contains(&packets.start);
            let (slot, error) = (front.slot, front.doubt.clone());
            let sent = front.packets.start..if here { packets.start } else { front.packets.end };
            if here {
                front.packets.start = packets.end;
            }
            if !here || front.packets.is_empty() {
                self.posted.pop_front();
            }
            if !sent.is_empty() || status == sys::ibv_wc_status::IBV_WC_SUCCESS {
                self.restarts = 0;
            }
            if !here {
                Done { slot, packets: sent, error }.join(&mut self.done);
                continue;
            }
            match status {
                sys::ibv_wc_status::IBV_WC_SUCCESS => {
                    let packets = sent.start..packets.end;
                    Done { slot, packets, error }.join(&mut self.done);
                }
                status => {
                    if !sent.is_empty() {
                        self.restarts = 0;
                        Done { slot, packets: sent, error }.join(&mut self.done);
                    }
                    self.fail(Posted { registered, slot, packets, doubt: None }, status);
                }
            }
            return;
        }
    }

    /// A work request came back unsent.
    fn fail(&mut self, packet: Posted, status: sys::ibv_wc_status::Type) {
        let flushed = status == sys::ibv_wc_status::IBV_WC_WR_FLUSH_ERR;
        if self.health == Health::Sending {
            self.health = Health::Draining;
        }
        if flushed && self.health == Health::Draining {
            // The queue was in error before this packet's turn: it was not sent, and can be.
            match self.flushed.back_mut() {
                Some(last)
                    if last.slot == packet.slot && last.packets.end == packet.packets.start =>
                {
                    last.packets.end = packet.packets.end;
                }
                _ => self.flushed.push_back(packet),
            }
            return;
        }
        let failure = match self.health {
            Health::GivingUp => Failure::Stalled,
            Health::Sending | Health::Draining => Failure::Status(status),
        };
        let error = Some(failure.into());
        Done { slot: packet.slot, packets: packet.packets, error }.join(&mut self.done);
    }

    /// Brings the queue pair back to life once all that was queued has come back, and posts again
    /// what was not sent.
    pub(super) fn recover(&mut self) -> Result<(), SendError> {
        if self.health == Health::Sending || !self.posted.is_empty() {
            return Ok(());
        }
        self.restarts += 1;
        if self.restarts > RESTARTS {
            let errno = self.refused.unwrap_or(libc::EIO);
            return Err(SendError::Os { call: "ibv_post_send", errno });
        }
        tracing::warn!("the queue pair was in error; it is restarted");
        self.pair.restart().map_err(failed("ibv_modify_qp"))?;
        self.health = Health::Sending;
        while let Some(post) = self.flushed.pop_front() {
            let taken = self.ring(post.clone());
            if taken < post.packets.len() as u32 {
                let packets = post.packets.start + taken..post.packets.end;
                self.flushed.push_front(Posted { packets, ..post });
                break;
            }
        }
        Ok(())
    }

    /// Has what is queued come back if nothing did for too long, as when the link is down.
    pub(super) fn check_progress(&mut self) -> Result<(), SendError> {
        if self.posted.is_empty() || self.last_progress.elapsed() < STALL {
            return Ok(());
        }
        tracing::error!("the device sent nothing for {STALL:?}; what is queued is given up");
        self.last_progress = Instant::now();
        match self.health {
            Health::GivingUp => Err(Failure::Stalled.into()),
            Health::Sending | Health::Draining => {
                self.health = Health::GivingUp;
                self.pair.stop().map_err(failed("ibv_modify_qp"))
            }
        }
    }
}
