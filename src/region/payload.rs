//! The payload of a heap, to be filled: in one piece where it lies in one, in chunks otherwise.

use std::io;
use std::ops::Range;

use super::batch::BatchBytes;
use super::layout::Layout;

/// The payload of a heap, or of one of its items.
///
/// Where the heap is one packet, or the layout is split, that is one slice; else it is chunks, one
/// for each packet, in order.
#[derive(Debug)]
pub struct PayloadMut<'a> {
    bytes: BatchBytes<'a>,
    heap: u32,
    what: What,
}

/// Which bytes of a heap's payload.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Those of all items that are filled in, or of the one with this identifier.
    Fills(Option<u64>),
    /// Some that are the same in every heap.
    Constant(Range<usize>),
}

impl<'a> PayloadMut<'a> {
    pub(super) fn new(bytes: BatchBytes<'a>, heap: u32, what: What) -> Self {
        let heaps = bytes.region().plan().heaps();
        assert!(heap < heaps, "heap {heap} of a batch of {heaps}");
        Self { bytes, heap, what }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        match &self.what {
            What::Fills(wanted) => self
                .bytes
                .region()
                .plan()
                .shape(self.heap)
                .fills
                .iter()
                .filter(|(id, _)| wanted.is_none_or(|wanted| wanted == *id))
                .map(|(_, range)| range.len())
                .sum(),
            What::Constant(range) => range.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces, in order.
    pub fn chunks(self) -> Chunks<'a> {
        Chunks { payload: self, fill: 0, offset: 0, packet: 0 }
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
    payload: PayloadMut<'a>,
    /// How many of the heap's items that are filled in are used up.
    fill: usize,
    /// Where in the heap's payload the next piece starts, if its item starts before.
    offset: usize,
    /// A packet that `offset` is in or beyond.
    packet: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a mut [u8];

    fn next(&mut self) -> Option<&'a mut [u8]> {
        let range = self.next_range()?;
        let heap = self.payload.heap;
        let region = self.payload.bytes.region();
        let start = match region.layout() {
            Layout::Packed => {
                let packet = &region.plan().shape(heap).packets[self.packet];
                let header = region.headers()[region.plan().packets_of(heap)[self.packet] as usize];
                header as usize + packet.header.len() + (range.start - packet.payload.start)
            }
            Layout::Split => region.payload_of_heap(heap) + range.start,
            Layout::Attached => return None,
        };
        // SAFETY: ranges of payload do not overlap, and each is handed out once.
        Some(unsafe { self.payload.bytes.split_off(start..start + range.len()) })
    }
}

impl Chunks<'_> {
    /// The next piece of the heap's payload. [`Chunks::packet`] is the packet it starts in.
    fn next_range(&mut self) -> Option<Range<usize>> {
        let region = self.payload.bytes.region();
        let shape = region.plan().shape(self.payload.heap);
        let mut range = match &self.payload.what {
            What::Constant(range) => range.clone(),
            What::Fills(wanted) => {
                let wanted = |id: u64| wanted.is_none_or(|wanted| wanted == id);
                while shape
                    .fills
                    .get(self.fill)
                    .is_some_and(|(id, range)| !wanted(*id) || range.end <= self.offset)
                {
                    self.fill += 1;
                }
                let mut following = shape.fills.get(self.fill..)?.iter();
                let mut range = following.next()?.1.clone();
                for (id, next) in following {
                    if !wanted(*id) || next.start != range.end {
                        break;
                    }
                    range.end = next.end;
                }
                range
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
