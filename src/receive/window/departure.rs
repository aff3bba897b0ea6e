//! How heaps leave the window: in order, whole or given up on.

use std::net::SocketAddr;

use super::{Consumer, Purpose, Window};
use crate::receive::heap::{Heap, HeapView};
use crate::receive::incoming::Slot;
use crate::receive::partial::PartialHeap;

impl Window {
    /// Shows a heap to whoever consumes heaps, or copies it to hand it out. False if there is no memory.
    pub(super) fn deliver(&mut self, view: &HeapView<'_>, purpose: Purpose) -> bool {
        if purpose == Purpose::Stop {
            return true;
        }
        if let Some(Consumer(take)) = &mut self.consumer {
            take(view);
            return true;
        }
        let mut parts = self.pool.pop().unwrap_or_default();
        self.pool_bytes -= parts.allocated();
        if !parts.restart(view.cnt, view.payload.len()) {
            self.recycle(parts);
            return false;
        }
        parts.copy(view.pointers, view.payload);
        self.trim();
        let HeapView { flavour, substream, .. } = *view;
        let stream = self.substreams[substream].stream.number;
        self.emit(Heap { flavour, substream, stream, parts }, purpose);
        true
    }

    pub(super) fn learn(&mut self, substream: usize, position: i128, purpose: Purpose) {
        match purpose {
            Purpose::Data => {
                let heaps = self.config.heaps;
                self.substreams[substream].stream.cnts.learn(position, heaps);
                self.order.learn(position, heaps);
            }
            Purpose::Stop => {
                let it = &mut self.substreams[substream];
                it.stream.stop(position);
                it.tally.stopped = true;
            }
            Purpose::Other => {}
        }
    }

    /// Takes note of a heap that has become whole, and hands out what waited for it.
    pub(super) fn complete(&mut self, substream: usize, position: i128) {
        let Some(slot) = self.substreams[substream].stream.slots.get(&position) else { return };
        let purpose = Purpose::of(&slot.heap.view());
        self.waiting += 1;
        self.learn(substream, position, purpose);
        while let Some((first, _)) = self.substreams[substream].first_whole(substream)
            && self.is_next(substream, first)
        {
            self.release_first(substream);
        }
        self.advance();
    }

    /// Hands out what waits for nothing any more on any substream.
    pub(super) fn advance(&mut self) {
        while self.waiting > 0 && self.substreams.len() > 1 {
            let firsts =
                self.substreams.iter().enumerate().filter_map(|(at, it)| it.first_whole(at));
            let next = firsts.filter(|&(position, at)| self.is_next(at, position)).min();
            let Some((_, substream)) = next else { return };
            self.release_first(substream);
        }
    }

    /// Whether there is no heap between the last that left and this one, as far as cnts tell: those of
    /// all substreams that are near each other.
    pub(super) fn is_next(&self, substream: usize, position: i128) -> bool {
        let stream = &self.substreams[substream].stream;
        let step = stream.cnts.step().unwrap_or(1);
        let follows = |left: Option<i128>, step| left.is_some_and(|left| position <= left + step);
        if self.substreams.len() == 1 {
            // It starts where it starts.
            return stream.left.is_none() || follows(stream.left, step);
        }
        // Of several, another may have an earlier heap.
        match self.left {
            Some(left) if !stream.is_near_to(left, position, self.config.heaps) => {
                follows(stream.left, step)
            }
            left => follows(left, self.order.step().unwrap_or(1)),
        }
    }

    /// Takes note of a heap that leaves the window.
    pub(super) fn leave(&mut self, substream: usize, position: i128, source: Option<SocketAddr>) {
        let stream = &mut self.substreams[substream].stream;
        stream.left = stream.left.max(Some(position));
        stream.recent.insert(position, source);
        self.left = self.left.max(Some(position));
    }

    /// Counts a heap that was whole.
    pub(super) fn count(&mut self, substream: usize, position: i128, purpose: Purpose) {
        let it = &mut self.substreams[substream];
        match purpose {
            Purpose::Data => {
                it.tally.heaps += 1;
                it.stream.cnts.note(position, self.config.heaps);
                self.tally.heaps += 1;
            }
            Purpose::Other => it.stream.cnts.note_other(position),
            Purpose::Stop => {}
        }
    }

    /// Hands the first heap of a substream out if it is whole and of use; gives up on it otherwise.
    pub(super) fn release_first(&mut self, substream: usize) {
        let first = self.substreams[substream].stream.slots.pop_first();
        let Some((position, Slot { heap, source, is_whole })) = first else { return };
        self.bytes -= heap.parts.allocated();
        self.leave(substream, position, source);
        if is_whole {
            self.waiting -= 1;
            let purpose = Purpose::of(&heap.view());
            self.count(substream, position, purpose);
            self.emit(heap, purpose);
            return;
        }
        let it = &mut self.substreams[substream];
        it.tally.incomplete += 1;
        it.stream.cnts.note(position, self.config.heaps);
        self.tally.incomplete += 1;
        tracing::debug!(cnt = heap.cnt(), "packets of a heap are missing");
        self.recycle(heap.parts);
    }

    /// Hands a heap out, or shows it to whoever consumes heaps.
    pub(super) fn emit(&mut self, heap: Heap, purpose: Purpose) {
        match &mut self.consumer {
            _ if purpose == Purpose::Stop => self.recycle(heap.parts),
            Some(Consumer(take)) => {
                take(&heap.view());
                self.recycle(heap.parts);
            }
            None => {
                self.out.0 += 1;
                self.out.1 += heap.parts.allocated();
                self.ready.push_back(heap);
            }
        }
    }

    pub(super) fn recycle(&mut self, parts: PartialHeap) {
        if self.memory().saturating_add(parts.allocated()) <= self.max_bytes().saturating_mul(2) {
            self.pool_bytes += parts.allocated();
            self.pool.push(parts);
        }
    }
}
