//! Frames in one numpy file, with an axis that counts them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use doorbell::output::Output;
use doorbell::receive::Frame;

use super::npy::stack_head;

/// A file that grows under its own name, and that numpy can read at any time: all that is there but what came
/// within the last moment. It is created with the first frame.
#[derive(Debug)]
pub struct Stack {
    output: Output,
    growing: Option<Growing>,
}

#[derive(Debug)]
struct Growing {
    file: File,
    /// Element type and shape of each frame.
    descr: String,
    shape: Vec<u64>,
    frame_len: u64,
    head_len: u64,
    /// Frames that were added, those in the buffer included.
    frames: u64,
    /// Bytes of frames that are not in the file yet.
    buffer: Vec<u8>,
    /// Where they go.
    end: u64,
    /// When the head is to say how many there are; `None` if it says so.
    due: Option<Instant>,
}

impl Stack {
    pub fn new(output: Output) -> Self {
        Self { output, growing: None }
    }

    /// How many frames numpy will find, once the stack is finished or has failed.
    pub fn frames(&self) -> u64 {
        self.growing.as_ref().map_or(0, |growing| growing.frames)
    }

    /// Adds a frame, of the same type and shape as all before.
    pub fn add(&mut self, frame: &Frame) -> io::Result<()> {
        let growing = match &mut self.growing {
            Some(growing) => growing,
            none => none.insert(Growing::start(self.output.create()?, frame)),
        };
        let added = growing.add(frame);
        if added.is_err() {
            self.save();
        }
        added
    }

    /// When the file is to be brought up to date, if it is not.
    pub fn due(&self) -> Option<Instant> {
        self.growing.as_ref()?.due
    }

    /// Has the file hold all frames that were added, and its head count them.
    pub fn update(&mut self) -> io::Result<()> {
        let updated = self.growing.as_mut().map_or(Ok(()), Growing::update);
        if updated.is_err() {
            self.save();
        }
        updated
    }

    /// Once a write has failed, makes of what the file holds the array that it can be.
    fn save(&mut self) {
        // Nothing more can be done about an error; the one before is the one to report.
        if let Some(growing) = &mut self.growing
            && growing.save().is_err()
        {
            growing.frames = 0;
            // Not even its head found room.
            self.output.discard();
        }
    }
}

impl Growing {
    fn start(file: File, frame: &Frame) -> Self {
        let head = stack_head(&frame.descr, &frame.shape, 0);
        Self {
            file,
            descr: frame.descr.clone(),
            shape: frame.shape.clone(),
            frame_len: frame.bytes.len() as u64,
            head_len: head.len() as u64,
            frames: 0,
            buffer: head,
            end: 0,
            // Numpy finds the first frame at once.
            due: Some(Instant::now()),
        }
    }

    fn add(&mut self, frame: &Frame) -> io::Result<()> {
        if self.buffer.len() + frame.bytes.len() > BUFFER {
            self.flush()?;
        }
        if frame.bytes.len() < BUFFER {
            self.buffer.extend_from_slice(&frame.bytes);
        } else {
            self.file.write_all_at(&frame.bytes, self.end)?;
            self.end += frame.bytes.len() as u64;
        }
        self.frames += 1;
        let now = Instant::now();
        match self.due {
            Some(due) if due <= now => self.update(),
            Some(_) => Ok(()),
            None => {
                self.due = Some(now + HEAD_EVERY);
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.end)?;
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn update(&mut self) -> io::Result<()> {
        // Frames first: the head never counts what is not there.
        self.flush()?;
        self.write_head()?;
        self.due = None;
        Ok(())
    }

    fn write_head(&self) -> io::Result<()> {
        self.file.write_all_at(&stack_head(&self.descr, &self.shape, self.frames), 0)
    }

    /// Counts the frames that are whole, and cuts off the one that is not.
    fn save(&mut self) -> io::Result<()> {
        let len = self.file.metadata()?.len().saturating_sub(self.head_len);
        self.frames = len.checked_div(self.frame_len).unwrap_or(self.frames);
        self.buffer.clear();
        self.due = None;
        self.file.set_len(self.head_len + self.frames * self.frame_len)?;
        self.write_head()
    }
}

/// Less than the second within which a reader may rely on it.
const HEAD_EVERY: Duration = Duration::from_millis(500);
/// Small frames are gathered; those that are larger go to the file as they are.
const BUFFER: usize = 1 << 20;
