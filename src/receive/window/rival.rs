//! A stream that begins while another is known: on trial, until it takes the other's place or is given up.

use std::net::SocketAddr;

use super::{Purpose, Window, is_stop_heap};
use crate::receive::cnts::Cnts;
use crate::receive::incoming::{Incoming, Relation, Slot};
use crate::receive::tally::Refusal;
use crate::wire::Packet;

impl Window {
    /// Takes a packet, once it has found out which stream it is of.
    pub(super) fn other_packet(
        &mut self,
        substream: usize,
        position: i128,
        source: Option<SocketAddr>,
        packet: &Packet<'_>,
    ) -> Result<bool, Refusal> {
        let heaps = self.config.heaps;
        let it = &mut self.substreams[substream];
        let relation = it.stream.relation(position, packet, source, heaps);
        if let Some((rival, kind)) = &it.rival {
            let there = rival.position(packet, None);
            let is_its = match relation {
                Relation::Own => it.stream.yields_to(rival, position, there, source, heaps),
                Relation::Duplicate => {
                    *kind != Relation::Ahead && rival.is_ahead(there, source, heaps)
                }
                // What goes on after a loss has no cnt that was there before.
                Relation::Again | Relation::Perhaps | Relation::After
                    if *kind == Relation::Ahead =>
                {
                    false
                }
                _ => rival.is_near(there, heaps),
            };
            if is_its || rival.slots.contains_key(&there) {
                return self.rival_packet(substream, there, source, packet);
            }
        }
        match relation {
            Relation::Duplicate => return Ok(false),
            _ if is_stop_heap(packet) => {
                self.stop(substream, position, relation, source);
                return Ok(true);
            }
            Relation::Own => {}
            other => return self.begin_rival(substream, other, position, source, packet),
        }
        if self.substreams[substream].stream.slots.contains_key(&position) {
            return self.slot_packet(substream, position, packet);
        }
        if matches!(self.substreams[substream].rival, Some((_, Relation::Perhaps))) {
            // The stream goes on.
            self.dismiss_rival(substream);
        }
        if self.single(substream, position, source, packet) {
            return Ok(true);
        }
        let slot = self.begin(substream, source, packet)?;
        let stream = &mut self.substreams[substream].stream;
        stream.begin(position, packet.header().flavour, source);
        stream.slots.insert(position, slot);
        self.near = Some(position);
        self.slot_packet(substream, position, packet)
    }

    /// Takes a stop heap, which holds nothing that would wait for what came before.
    fn stop(
        &mut self,
        substream: usize,
        position: i128,
        relation: Relation,
        source: Option<SocketAddr>,
    ) {
        let it = &mut self.substreams[substream];
        it.tally.stopped = true;
        if matches!(relation, Relation::Own | Relation::Ahead) {
            it.stream.stop(position);
        }
        if relation == Relation::Own {
            it.stream.recent.insert(position, source);
        }
    }

    /// Takes a packet of what seems to be another stream.
    fn begin_rival(
        &mut self,
        substream: usize,
        relation: Relation,
        position: i128,
        source: Option<SocketAddr>,
        packet: &Packet<'_>,
    ) -> Result<bool, Refusal> {
        self.check(packet)?;
        self.dismiss_rival(substream);
        let it = &mut self.substreams[substream];
        it.next_packet = None;
        it.before += 1;
        it.rival = Some((Incoming::beginning_at(position, it.before), relation));
        self.rival_packet(substream, position, source, packet)
    }

    /// Takes a packet of what may be another stream, and has that take over once it has two heaps.
    fn rival_packet(
        &mut self,
        substream: usize,
        position: i128,
        source: Option<SocketAddr>,
        packet: &Packet<'_>,
    ) -> Result<bool, Refusal> {
        let known = self.substreams[substream].rival.as_ref();
        if known.is_some_and(|(rival, _)| !rival.slots.contains_key(&position)) {
            let mut slot = self.begin(substream, source, packet)?;
            if let Some((rival, _)) = &mut self.substreams[substream].rival {
                slot.heap.stream = rival.number;
                rival.begin(position, packet.header().flavour, source);
                rival.slots.insert(position, slot);
            }
        }
        let Some((rival, _)) = &mut self.substreams[substream].rival else { return Ok(false) };
        let Some(slot) = rival.slots.get_mut(&position) else { return Ok(false) };
        let (more, taken) = slot.add(packet);
        rival.packets += u64::from(taken == Ok(true));
        self.bytes += more;
        if rival.slots.len() > 1 {
            self.take_over(substream);
        }
        taken
    }

    /// Has the rival of a stream take its place.
    fn take_over(&mut self, substream: usize) {
        let Some((mut rival, relation)) = self.substreams[substream].rival.take() else { return };
        let positions: Vec<i128> = rival.slots.keys().copied().collect();
        let whole = rival.slots.values().filter(|slot| slot.is_whole).count();
        if relation == Relation::Ahead {
            // The stream goes on after a loss.
            let stream = &mut self.substreams[substream].stream;
            stream.highest = rival.highest;
            rival.slots.values_mut().for_each(|slot| slot.heap.stream = stream.number);
            stream.slots.append(&mut rival.slots);
        } else {
            while !self.substreams[substream].stream.slots.is_empty() {
                self.release_first(substream);
            }
            self.order = Cnts::default();
            self.left = positions.first().map(|first| first - 1);
            let (usual_step, first_cnt) = (self.usual_step(), self.first_cnt);
            self.substreams[substream].begin_anew(rival, usual_step, first_cnt);
        }
        self.waiting += whole;
        self.near = positions.last().copied();
        for position in positions {
            let slot = self.substreams[substream].stream.slots.get(&position);
            if slot.is_some_and(|slot| slot.is_whole) {
                self.waiting -= 1;
                self.complete(substream, position);
            }
        }
    }

    /// Gives up on a stream that did not go on. What was there before, and is not whole, was a duplicate.
    pub(super) fn dismiss_rival(&mut self, substream: usize) {
        let Some((rival, relation)) = self.substreams[substream].rival.take() else { return };
        let mut packets = rival.packets;
        for (position, Slot { heap, is_whole, .. }) in rival.slots {
            self.bytes -= heap.parts.allocated();
            if relation == Relation::Ahead {
                // Whatever it is, it is not missing.
                self.substreams[substream].stream.cnts.note_other(position);
            }
            let is_own = matches!(relation, Relation::After | Relation::Ahead);
            match (is_whole, is_own) {
                (true, _) if relation != Relation::Perhaps => {
                    packets = 0;
                    let purpose = Purpose::of(&heap.view());
                    if purpose == Purpose::Data {
                        self.substreams[substream].tally.heaps += 1;
                        self.tally.heaps += 1;
                    }
                    self.emit(heap, purpose);
                }
                (_, true) => {
                    packets = 0;
                    self.substreams[substream].tally.incomplete += 1;
                    self.tally.incomplete += 1;
                    self.recycle(heap.parts);
                }
                _ => self.recycle(heap.parts),
            }
        }
        self.tally.ignored += packets;
    }
}
