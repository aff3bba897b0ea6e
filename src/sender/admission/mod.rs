//! Who says how many packets may be handed over now, besides the backend and the rate.

mod arrivals;
mod socket_room;

use std::ops::Range;

pub use self::arrivals::Arrivals;
pub use self::socket_room::SocketRoom;
use crate::backend::wait::Wait;
use crate::region::InFlight;

/// Holds packets back before they are handed to a backend: see [`Sender::admit_by`](super::Sender::admit_by).
///
/// ```
/// use std::ops::Range;
/// use std::time::{Duration, Instant};
///
/// use doorbell::backend::wait::Wait;
/// use doorbell::region::InFlight;
/// use doorbell::sender::admission::Admission;
///
/// /// Nothing goes before a certain time.
/// struct NotBefore(Instant);
///
/// impl Admission for NotBefore {
///     fn admit(&mut self, _: &InFlight, packets: Range<u32>) -> u32 {
///         if Instant::now() < self.0 { 0 } else { packets.end - packets.start }
///     }
///
///     fn prepare_wait(&mut self, wait: &mut Wait) {
///         wait.at_most(self.0.saturating_duration_since(Instant::now()));
///     }
/// }
/// ```
pub trait Admission: Send {
    /// How many of these packets, at least one, may go now, counted from the first: all, some or none.
    ///
    /// What is admitted stays so: it goes as soon as the backend takes it, and then the next are asked for. Where
    /// a backend takes runs as a whole, and too few packets for one were admitted, it waits for the rest of them.
    fn admit(&mut self, batch: &InFlight, packets: Range<u32>) -> u32;

    /// Says what ends a wait for packets to be admitted, after [`Admission::admit`] has said none; the sender
    /// asks again then, and perhaps earlier. Where nobody tells, that is a time: [`Wait::at_most`]. Does not
    /// block.
    fn prepare_wait(&mut self, wait: &mut Wait);
}

/// All that have to admit a packet.
#[derive(Default)]
pub(super) struct Admissions(Vec<Admitted>);

struct Admitted {
    by: Box<dyn Admission>,
    /// Packets that were admitted and have not gone.
    left: u32,
    /// Whether those were too few when it was last asked.
    lacks: bool,
}

impl Admissions {
    pub(super) fn add(&mut self, by: Box<dyn Admission>) {
        self.0.push(Admitted { by, left: 0, lacks: false });
    }

    /// How many of these packets may go now: at least `least`, or none can.
    pub(super) fn admit(&mut self, batch: &InFlight, packets: Range<u32>, least: u32) -> u32 {
        let mut most = packets.end - packets.start;
        for it in &mut self.0 {
            if it.left < least {
                let more = packets.start + it.left..packets.start + most;
                it.left += it.by.admit(batch, more.clone()).min(more.end - more.start);
            }
            it.lacks = it.left < least;
            most = most.min(it.left);
            if it.lacks {
                break;
            }
        }
        most
    }

    /// `packets` of those that were admitted have gone.
    pub(super) fn posted(&mut self, packets: u32) {
        for it in &mut self.0 {
            it.left -= packets;
        }
    }

    /// Says what ends a wait for whoever admits none.
    pub(super) fn prepare_wait(&mut self, wait: &mut Wait) {
        if let Some(it) = self.0.iter_mut().find(|it| it.lacks) {
            it.by.prepare_wait(wait);
        }
    }
}
