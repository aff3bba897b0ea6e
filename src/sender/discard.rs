//! Giving up what is not on the wire, and keeping the backend for what is to be the last.

use super::Sender;
use crate::backend::SendError;
use crate::region::Slot;

impl Sender {
    /// Gives up what is not posted, but for the batch in `kept`, which goes at no rate. The backend stays.
    pub(super) fn discard_unposted(&mut self, kept: Option<Slot>) {
        self.pacing.rate = None;
        // Packets go in their order, so of no other one can a part be on the wire, as may be in a stream of bytes.
        let mut keeps_next = true;
        for entry in self.in_flight.iter_mut().filter(|entry| Some(entry.slot()) != kept) {
            let is_next = keeps_next && entry.unposted().is_some();
            entry.discard_unposted(is_next, &SendError::Closed);
            keeps_next &= !is_next;
        }
    }
}
