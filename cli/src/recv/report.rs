//! What is said at the end, for people and for programs.

use std::time::Duration;

use doorbell::receive::{SubstreamTally, Tally};
use doorbell::wire::Printable;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::inlet::Inlet;
use crate::quantity;

/// What came of a stream. Serialised, it is what `recv --json` prints.
#[derive(Debug, Serialize)]
pub struct RecvReport {
    /// Why receiving ended.
    pub ended: Ending,
    /// Heaps with data that arrived whole, each counted once.
    heaps: u64,
    /// How many were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    heaps_wanted: Option<u64>,
    /// Heaps of which some packets arrived, and others did not.
    incomplete: u64,
    /// Heaps of which nothing arrived, as far as cnts tell.
    missing: u64,
    /// SPEAD packets.
    packets: u64,
    /// Packets that add nothing: duplicates and latecomers.
    ignored: u64,
    /// Packets that no heap takes.
    refused: u64,
    /// Why the first of them was not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_refused: Option<String>,
    /// Packets, or connections, from elsewhere than `--source-filter` says.
    filtered: u64,
    /// Whether the end of each substream was seen.
    end_seen: bool,
    /// Whether packets came from this machine.
    #[serde(skip)]
    is_local: bool,
    /// Datagrams that are no SPEAD packets.
    not_spead: u64,
    /// Packets for which the socket's buffer had no room.
    dropped: u64,
    /// Payload in the packets, duplicates included.
    payload_bytes: u64,
    /// From the first packet to the last.
    seconds: f64,
    payload_gbit_per_s: f64,
    substreams: Vec<Substream>,
    #[serde(flatten)]
    reading: Reading,
}

/// Why receiving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Each substream had its stop heap.
    Stopped,
    /// As many heaps came as were asked for.
    Heaps,
    /// Nothing came for as long as was to be waited.
    Timeout,
    /// There is no more to read, and not every substream had its stop heap.
    Closed,
    /// A signal.
    Interrupted,
    /// A socket or a file failed.
    Failed,
}

#[derive(Debug, Serialize)]
struct Substream {
    from: String,
    #[serde(flatten)]
    tally: SubstreamTally,
}

/// What was read in the heaps.
#[derive(Debug, Default, Serialize)]
pub struct Reading {
    /// Whole heaps that are not what `--verify` expects.
    pub mismatched: u64,
    /// Frames that could not be read, or not be kept.
    pub unreadable: u64,
    /// Why the first of them could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_unreadable: Option<String>,
    /// Why nothing was found of what was to be kept, although heaps came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfound: Option<String>,
    /// Frames with more bytes than their type takes, and how many the first had.
    pub longer: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_longer: Option<String>,
    /// Whether heaps were compared.
    pub verified: bool,
    /// Whether `--scale` found no item `scale`.
    pub unscaled: bool,
    pub items: Vec<DescribedItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
}

/// An item that the stream has described.
#[derive(Debug, Serialize)]
pub struct DescribedItem {
    pub id: u64,
    pub name: String,
    pub description: String,
    /// Element type and shape: `u10 (2160, 3840)`.
    #[serde(rename = "type")]
    pub item_type: String,
}

/// Frames in files.
#[derive(Debug, Serialize)]
pub struct Written {
    pub path: String,
    pub frames: u64,
    /// Numpy's type of the elements.
    #[serde(rename = "dtype")]
    pub descr: Option<String>,
    /// Of one frame.
    pub shape: Option<Vec<u64>>,
}

impl RecvReport {
    pub fn new(
        ended: Ending,
        tally: Tally,
        inlet: &Inlet,
        elapsed: Duration,
        reading: Reading,
        heaps_wanted: Option<u64>,
    ) -> Self {
        let seconds = elapsed.as_secs_f64();
        let substreams = inlet.names().into_iter().zip(&tally.substreams);
        Self {
            ended,
            heaps: tally.heaps,
            heaps_wanted,
            incomplete: tally.incomplete,
            missing: tally.missing,
            packets: tally.packets,
            ignored: tally.ignored,
            refused: tally.refused,
            first_refused: tally.first_refusal.map(|(cnt, why)| format!("heap {cnt}: {why}")),
            filtered: inlet.filtered(),
            end_seen: tally.has_ended(),
            is_local: inlet.is_local(),
            not_spead: tally.not_spead,
            dropped: inlet.dropped(),
            payload_bytes: tally.payload_bytes,
            seconds,
            payload_gbit_per_s: tally.payload_bytes as f64 * 8e-9 / seconds.max(1e-9),
            substreams: substreams.map(|(from, tally)| Substream { from, tally: *tally }).collect(),
            reading,
        }
    }

    /// Whether something arrived, all of it whole up to its end, and was what it should be.
    pub fn is_success(&self) -> bool {
        self.heaps >= self.heaps_wanted.unwrap_or(1)
            && self.is_whole()
            && self.refused == 0
            && (self.end_seen || self.ended == Ending::Heaps)
            && self.reading.mismatched == 0
            && self.reading.unreadable == 0
            && self.reading.unfound.is_none()
            && self.ended != Ending::Failed
    }

    fn is_whole(&self) -> bool {
        self.incomplete == 0 && self.missing == 0
    }

    /// Says it in words.
    pub fn print(&self) {
        let rate = quantity::rate_over(self.payload_bytes, self.seconds);
        if self.packets == 0 {
            say!("received  nothing; {}", self.reason());
        } else {
            say!(
                "received  {}, {} in {}{}; {}",
                plural(self.heaps, "heap"),
                HumanBytes(self.payload_bytes),
                quantity::time(self.seconds),
                rate.map_or_else(String::new, |rate| format!(": {rate} of payload")),
                self.reason()
            );
        }
        self.print_items();
        self.print_loss();
        if let Some(written) = &self.reading.written {
            match (&written.descr, &written.shape) {
                (Some(descr), Some(shape)) => say!(
                    "written   {} of {} {shape:?} to {}",
                    plural(written.frames, "frame"),
                    Printable(descr),
                    written.path
                ),
                _ => say!("written   nothing to {}: no frame came", written.path),
            }
        }
        if let Some(path) = &self.reading.preview {
            say!("painted   the last frame: {path}");
        }
        if self.reading.unscaled {
            say!("unscaled  samples are as they came: the stream has no item `scale`");
        }
        if let Some(why) = &self.reading.first_unreadable {
            say!("unread    {}: {why}", plural(self.reading.unreadable, "frame"));
        }
        if let Some(why) = &self.reading.unfound {
            say!("unfound   {why}");
        }
        if let Some(what) = &self.reading.first_longer {
            say!("longer    {}: {what}", plural(self.reading.longer, "frame"));
        }
        if self.reading.mismatched > 0 {
            say!("wrong     {} with other bytes", plural(self.reading.mismatched, "heap"));
        }
        if self.is_success() {
            say!(
                "          every heap whole{}",
                if self.reading.verified { ", every byte as it should be" } else { "" }
            );
        }
    }

    fn reason(&self) -> &'static str {
        match self.ended {
            Ending::Stopped => "the stream has ended",
            Ending::Heaps => "as many as asked for",
            Ending::Timeout => "no packet came any more",
            Ending::Closed => "there is no more to read",
            Ending::Interrupted => "interrupted",
            Ending::Failed => "it could not go on",
        }
    }

    fn print_items(&self) {
        // What a stream says must not do anything to the terminal.
        let printable = |item: &DescribedItem| {
            [&item.name, &item.item_type, &item.description].map(|it| Printable(it).to_string())
        };
        let items: Vec<_> = self.reading.items.iter().map(printable).collect();
        let width = |column: usize| {
            items.iter().map(|item| item[column].chars().count()).max().unwrap_or(0)
        };
        let (name_width, type_width) = (width(0), width(1));
        for (index, [name, item_type, description]) in items.iter().enumerate() {
            let title = if index == 0 { "items" } else { "" };
            let id = self.reading.items[index].id;
            let line = format!(
                "{title:<10}{id:#06x} {name:name_width$}  {item_type:type_width$}  {description}"
            );
            say!("{}", line.trim_end());
        }
    }

    fn print_loss(&self) {
        if !self.is_whole() {
            say!(
                "lost      {} incomplete, {} missing as far as cnts tell",
                plural(self.incomplete, "heap"),
                HumanCount(self.missing)
            );
        }
        if self.substreams.len() > 1 {
            for substream in &self.substreams {
                let SubstreamTally { heaps, incomplete, missing, stopped, .. } = substream.tally;
                say!(
                    "          {}: {}, {incomplete} incomplete, {missing} missing{}",
                    substream.from,
                    plural(heaps, "heap"),
                    if stopped { "" } else { ", no stop heap" }
                );
            }
        }
        if self.packets > 0 && !self.end_seen && self.ended != Ending::Heaps {
            say!("endless   no stop heap came: what was lost at the end is not known of");
        }
        self.print_joining();
        if self.is_local && (self.missing > 0 || self.incomplete > 0) {
            say!("          a sender on this machine loses nothing with --hold-back");
        }
        if self.dropped > 0 {
            say!(
                "dropped   {} by the kernel, for lack of room: enlarge --buffer (and \
                 net.core.rmem_max), or send slower",
                plural(self.dropped, "packet")
            );
        }
        if self.not_spead > 0 {
            say!("strange   {} that are not SPEAD", plural(self.not_spead, "datagram"));
        }
        if let Some(why) = &self.first_refused {
            say!("refused   {}, the first of {why}", plural(self.refused, "packet"));
        }
        if self.filtered > 0 {
            say!("filtered  {} from elsewhere", plural(self.filtered, "packet"));
        }
        if self.ignored > 0 {
            say!("ignored   {}: duplicates or latecomers", plural(self.ignored, "packet"));
        }
    }

    /// Where streams began, if not at their start, and whether they began anew.
    fn print_joining(&self) {
        let several = self.substreams.len();
        for Substream { from, tally } in &self.substreams {
            let at = if several > 1 { format!(" at {from}") } else { String::new() };
            // Those of several substreams count on from one another.
            if let Some(first) = tally.first_cnt.filter(|&first| first > several as u64) {
                say!(
                    "joined    at heap {first}{at}: what came before is not counted; --first-cnt N \
                     counts it"
                );
            }
            if tally.restarts > 0 {
                say!(
                    "restarted {}{at}: cnts came again, of another stream",
                    plural(tally.restarts.into(), "time")
                );
            }
        }
    }
}

fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}
