//! The payload of a heap, to be filled: in one piece where it lies in one, in chunks otherwise.

use std::io;
use std::ops::Range;

use super::batch::{Batch, BatchBytes};
use super::layout::Layout;

/// The payload of a heap, or of one of its items.
///
/// Where the heap is one packet, or the layout is split, that is one slice; else it is chunks, one
/// for each packet, in order.
///
/// Two registers hold it: it is made and passed on for each heap, and what goes through memory in pieces of
/// other sizes waits there for all that was written before, which is payload.
#[derive(Debug)]
pub struct PayloadMut<'a> {
    batch: &'a mut Batch,
    /// The heap, above the [`Part`].
    place: u64,
}

/// Which bytes of a heap's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part(u32);

impl Part {
    /// Those of all items that are written anew in each heap.
    pub(super) const WRITABLE: Self = Self(u32::MAX);
    /// None.
    pub(super) const NOTHING: Self = Self(u32::MAX - 1);

    /// Those of item `index` of those that are written anew.
    pub(super) fn item(index: usize) -> Self {
        Self(index as u32)
    }

    /// Those of item `index` of those that are the same in every heap.
    pub(super) fn constant(index: usize) -> Self {
        Self(index as u32 | CONSTANT)
    }
}

impl Batch {
    /// The payload of a heap that is filled in: all its items, in order, those that never change
    /// left out.
    ///
    /// # Panics
    ///
    /// If there is no such heap.
    #[inline]
    pub fn payload(&mut self, heap: u32) -> PayloadMut<'_> {
        PayloadMut::new(self, heap, Part::WRITABLE)
    }

    /// The payload of one item of a heap; empty if it has no such item, or that is an immediate.
    ///
    /// # Panics
    ///
    /// If there is no such heap.
    pub fn item(&mut self, heap: u32, id: u64) -> PayloadMut<'_> {
        let fills = &self.region().plan().shape(heap).fills;
        let part = fills.iter().position(|(item, _)| *item == id).map_or(Part::NOTHING, Part::item);
        PayloadMut::new(self, heap, part)
    }

    /// Copies `bytes` to the start of a heap's payload, and returns how many fitted.
    ///
    /// # Panics
    ///
    /// If there is no such heap.
    pub fn fill(&mut self, heap: u32, bytes: &[u8]) -> usize {
        self.payload(heap).copy_from(bytes)
    }
}

impl<'a> PayloadMut<'a> {
    #[inline]
    pub(super) fn new(batch: &'a mut Batch, heap: u32, part: Part) -> Self {
        let heaps = batch.heaps();
        assert!(heap < heaps, "heap {heap} of a batch of {heaps}");
        Self { batch, place: u64::from(heap) << 32 | u64::from(part.0) }
    }

    fn heap(&self) -> u32 {
        (self.place >> 32) as u32
    }

    fn part(&self) -> Part {
        Part(self.place as u32)
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        let shape = self.batch.region().plan().shape(self.heap());
        match self.part() {
            Part::WRITABLE => shape.fills.iter().map(|(_, range)| range.len()).sum(),
            Part(index) if index & CONSTANT == 0 => shape.fills[index as usize].1.len(),
            Part::NOTHING => 0,
            Part(index) => shape.constants[(index & !CONSTANT) as usize].1.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces, in order.
    #[inline]
    pub fn chunks(self) -> Chunks<'a> {
        let (heap, part) = (self.heap(), self.part());
        Chunks {
            bytes: self.batch.bytes(),
            heap,
            part,
            fill: 0,
            offset: 0,
            packet: 0,
            ended: false,
        }
    }

    /// The whole in one slice, if it lies in one piece.
    pub fn into_slice(self) -> Option<&'a mut [u8]> {
        let len = self.len();
        let mut chunks = self.chunks();
        chunks.next().filter(|chunk| chunk.len() == len)
    }

    /// Copies bytes to the start, and returns how many fitted.
    pub fn copy_from(self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        for chunk in self.chunks() {
            let (now, later) = rest.split_at(chunk.len().min(rest.len()));
            chunk[..now.len()].copy_from_slice(now);
            rest = later;
        }
        bytes.len() - rest.len()
    }

    /// A writer over the whole.
    pub fn writer(self) -> PayloadWriter<'a> {
        PayloadWriter { chunks: self.chunks(), chunk: &mut [] }
    }
}

/// The pieces of a heap's payload, in order. Adjacent items make one piece.
#[derive(Debug)]
pub struct Chunks<'a> {
    bytes: BatchBytes<'a>,
    heap: u32,
    part: Part,
    /// How many of the heap's items that are filled in are used up.
    fill: usize,
    /// Where in the heap's payload the next piece starts, if its item starts before.
    offset: usize,
    /// A packet that `offset` is in or beyond.
    packet: usize,
    /// Whether the last piece was handed out.
    ended: bool,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a mut [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a mut [u8]> {
        // Of heaps that are one packet, every other call.
        if self.ended { None } else { self.following() }
    }
}

impl<'a> Chunks<'a> {
    fn following(&mut self) -> Option<&'a mut [u8]> {
        let range = self.next_range()?;
        let heap = self.heap;
        let region = self.bytes.region();
        let start = match region.layout() {
            Layout::Packed => {
                let packet = &region.plan().shape(heap).packets[self.packet];
                let header = region.arrangement().headers()
                    [region.plan().packets_of(heap)[self.packet] as usize];
                header as usize + packet.header.len() + (range.start - packet.payload.start)
            }
            Layout::Split => region.arrangement().payload_of_heap(heap) + range.start,
            Layout::Attached => return None,
        };
        // SAFETY: ranges of payload do not overlap, and each is handed out once.
        Some(unsafe { self.bytes.split_off(start..start + range.len()) })
    }

    /// The next piece of the heap's payload. [`Chunks::packet`] is the packet it starts in.
    fn next_range(&mut self) -> Option<Range<usize>> {
        let region = self.bytes.region();
        let shape = region.plan().shape(self.heap);
        let mut range = match self.part {
            Part::WRITABLE => {
                let used_up = |(_, range): &(u64, Range<usize>)| range.end <= self.offset;
                while shape.fills.get(self.fill).is_some_and(used_up) {
                    self.fill += 1;
                }
                let mut following = shape.fills.get(self.fill..)?.iter();
                let mut range = following.next()?.1.clone();
                for (_, next) in following {
                    if next.start != range.end {
                        break;
                    }
                    range.end = next.end;
                }
                range
            }
            Part(index) if index & CONSTANT == 0 => shape.fills[index as usize].1.clone(),
            Part::NOTHING => return None,
            Part(index) => {
                let (start, constant) = &shape.constants[(index & !CONSTANT) as usize];
                *start..start + constant.len()
            }
        };
        range.start = range.start.max(self.offset);
        if range.is_empty() {
            return None;
        }
        if region.layout() == Layout::Packed {
            while shape.packets.get(self.packet)?.payload.end <= range.start {
                self.packet += 1;
            }
            range.end = range.end.min(shape.packets[self.packet].payload.end);
        }
        self.offset = range.end;
        self.ended = shape.fills.last().is_some_and(|(_, last)| range.end == last.end);
        Some(range)
    }
}

/// Writes a heap's payload from its start; once that is full, it takes no more bytes.
#[derive(Debug)]
pub struct PayloadWriter<'a> {
    chunks: Chunks<'a>,
    chunk: &'a mut [u8],
}

impl io::Write for PayloadWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            self.chunk = self.chunks.next().unwrap_or_default();
        }
        self.chunk.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Marks the parts that are the same in every heap. No heap has that many items.
const CONSTANT: u32 = 1 << 31;
