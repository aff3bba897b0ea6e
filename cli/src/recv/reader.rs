//! What is done with each heap.

use std::time::Duration;

use doorbell::output::Output;
use doorbell::receive::{Catalogue, Frame, Heap, Verification};
use doorbell::wire::Printable;

use super::frames::{Found, Frames};
use super::picture::Picture;
use super::report::{DescribedItem, Reading, Written};
use super::store::{Store, StoreError};
use super::verification::verification;
use crate::args::RecvArguments;
use crate::output::{Unwritable, output};

/// Reads heaps: learns what they hold, compares, stores, and keeps the last frame for a picture.
pub struct Reader {
    catalogue: Catalogue,
    verification: Option<Verification>,
    frames: Frames,
    store: Option<Store>,
    preview: Option<Output>,
    /// The last frame, if there is to be a picture of it.
    last: Option<Frame>,
    /// Heaps with data so far, and how many count.
    heaps: u64,
    limit: u64,
    mismatched: u64,
    unreadable: u64,
    /// Why the first frame that could not be read could not.
    first_unreadable: Option<String>,
    /// Frames that were longer than their type, and the first of them.
    longer: u64,
    first_longer: Option<String>,
}

impl Reader {
    /// Finds out whether what is to be written can be.
    pub fn open(arguments: &RecvArguments) -> Result<Self, Unwritable> {
        let force = arguments.force;
        let preview = arguments.preview.as_ref();
        let preview = preview.map(|path| output("--preview", path, &["png"], force)).transpose()?;
        let store = match (&arguments.write, &arguments.write_dir) {
            (Some(path), _) => Some(Store::stack(path, force)?),
            (None, Some(path)) => Some(Store::directory(path, force)?),
            (None, None) => None,
        };
        Ok(Self {
            catalogue: Catalogue::default(),
            verification: verification(arguments.verify),
            frames: Frames::of(arguments.item.clone(), arguments.scale, arguments.max_heap.bytes()),
            store,
            preview,
            last: None,
            heaps: 0,
            limit: arguments.heaps.unwrap_or(u64::MAX),
            mismatched: 0,
            unreadable: 0,
            first_unreadable: None,
            longer: 0,
            first_longer: None,
        })
    }

    /// Reads a heap.
    pub fn read(&mut self, heap: &Heap) -> Result<(), StoreError> {
        self.catalogue.learn(heap);
        if !heap.is_data() || self.heaps == self.limit {
            return Ok(());
        }
        self.heaps += 1;
        if let Some(verification) = &mut self.verification
            && !verification.matches(&heap.view())
        {
            tracing::debug!(cnt = heap.cnt(), "a heap has other bytes than it should");
            self.mismatched += 1;
        }
        if self.store.is_none() && self.preview.is_none() {
            self.frames.look_for(heap, &self.catalogue);
            return Ok(());
        }
        match self.frames.find(heap, &self.catalogue) {
            Found::Frame(frame, longer) => {
                self.keep(heap.cnt(), frame)?;
                self.longer += u64::from(longer.is_some());
                self.first_longer = self.first_longer.take().or(longer);
            }
            Found::Absent => {}
            Found::Unreadable(why) => self.give_up(why),
        }
        Ok(())
    }

    fn keep(&mut self, cnt: u64, frame: Frame) -> Result<(), StoreError> {
        if let Some(store) = &mut self.store
            && !store.add(cnt, &frame)?
        {
            let (descr, shape) = store.kind().unwrap_or_default();
            let why = format!(
                "the frame of heap {cnt}, {} {:?}, does not go into one array with those before, \
                 {} {shape:?}: use --write-dir",
                Printable(&frame.descr),
                frame.shape,
                Printable(descr)
            );
            self.give_up(why);
        }
        if self.preview.is_some() {
            self.last = Some(frame);
        }
        Ok(())
    }

    fn give_up(&mut self, why: String) {
        self.unreadable += 1;
        self.first_unreadable.get_or_insert(why);
    }

    /// How long [`Reader::rest`] may wait; `None` if there is nothing for it to do.
    pub fn patience(&self) -> Option<Duration> {
        self.store.as_ref().and_then(Store::patience)
    }

    /// Has files hold what was read.
    pub fn rest(&mut self) -> Result<(), StoreError> {
        self.store.as_mut().map_or(Ok(()), Store::update)
    }

    /// Closes files, paints the picture, and says what came of it.
    pub fn finish(mut self) -> (Reading, Result<(), StoreError>) {
        let mut closed = self.rest();
        let mut preview = None;
        if let Some(output) = self.preview.take() {
            match self.last.as_ref().map(|frame| (frame, Picture::of(frame))) {
                Some((_, Some(picture))) => match picture.save(&output) {
                    Ok(()) => preview = Some(output.path().display().to_string()),
                    Err(error) => closed = closed.and(Err(error)),
                },
                Some((frame, None)) => self.give_up(format!(
                    "a frame of {} {:?} makes no picture: expected numbers of shape (height, width) or \
                     (height, width, 3)",
                    Printable(&frame.descr), frame.shape
                )),
                None => {}
            }
        }
        let unfound = match self.store.as_ref().is_some_and(|store| store.frames() == 0) {
            _ if self.unreadable > 0 => None,
            true => Some(self.frames.unfound().unwrap_or("no heap had a frame".into())),
            false => self.frames.unfound(),
        };
        let items = self.catalogue.items().map(|item| DescribedItem {
            id: item.descriptor.id,
            name: item.descriptor.name.clone(),
            description: item.descriptor.description.clone(),
            item_type: match &item.item_type {
                Ok(item_type) => item_type.to_string(),
                Err(_) => "unreadable".into(),
            },
        });
        let reading = Reading {
            mismatched: self.mismatched,
            unreadable: self.unreadable,
            first_unreadable: self.first_unreadable,
            unfound: unfound.filter(|_| self.heaps > 0),
            longer: self.longer,
            first_longer: self.first_longer,
            verified: self.verification.is_some(),
            unscaled: self.frames.is_unscaled() && self.heaps > 0,
            items: items.collect(),
            written: self.store.as_ref().map(|store| Written {
                path: store.path().display().to_string(),
                frames: store.frames(),
                descr: store.kind().map(|(descr, _)| descr.trim_matches('\'').to_owned()),
                shape: store.kind().map(|(_, shape)| shape.to_vec()),
            }),
            preview,
        };
        (reading, closed)
    }
}
