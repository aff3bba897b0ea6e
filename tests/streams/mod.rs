//! Streams to receivers in this process, and what these see.
#![allow(dead_code, reason = "each test program uses some of it")]

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use doorbell::settings::Settings;
use doorbell::stream::{Heap, Stream};
use doorbell::wire::{Packet, StreamControl, item};

/// A timestamp, and 100 bytes.
pub(crate) fn heap() -> Heap {
    Heap::new().immediate("timestamp", 0x1600).array("samples", 0x3300, "i1", [100])
}

/// A receiver that waits, and settings of a stream to it.
pub(crate) fn receiver(more: &[(&str, &str)]) -> (UdpSocket, Settings) {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut settings = Settings::to(&receiver.local_addr().unwrap().to_string()).unwrap();
    settings.set("batch_heaps", "4").unwrap();
    for (name, value) in more {
        settings.set(name, value).unwrap();
    }
    (receiver, settings)
}

/// What a packet is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A heap with data: its cnt, its timestamp, whether it has descriptors, the first byte.
    Data(u64, u64, bool, u8),
    /// Descriptors alone.
    Descriptors(u64),
    Start(u64),
    Stop(u64),
}

pub(crate) fn arrival(socket: &UdpSocket) -> Arrival {
    let mut bytes = [0; 65_536];
    let len = socket.recv(&mut bytes).expect("a packet within a while");
    let packet = Packet::parse(&bytes[..len]).unwrap();
    let (flavour, cnt) = (packet.header().flavour, packet.header().heap_cnt);
    let value = |id| {
        let mut pointers = packet.item_pointers();
        pointers.find(|it| it.id(flavour) == id).map(|pointer| pointer.value(flavour))
    };
    let described = value(item::DESCRIPTOR).is_some();
    match (value(item::STREAM_CTRL), value(0x3300)) {
        (Some(control), _) if control == StreamControl::Stop as u64 => Arrival::Stop(cnt),
        (Some(_), _) => Arrival::Start(cnt),
        (None, Some(at)) => {
            let first = packet.payload()[at as usize];
            Arrival::Data(cnt, value(0x1600).unwrap(), described, first)
        }
        (None, None) => Arrival::Descriptors(cnt),
    }
}

/// Fills and submits as much as there is room for, once.
pub(crate) fn submit(stream: &mut Stream) -> bool {
    let Some(mut batch) = stream.idle() else { return false };
    let (first, heaps) = (stream.submitted(), stream.room());
    for (heap, index) in (0..heaps).zip(first..) {
        batch.set_immediate(heap, 0x1600, 100 * index).unwrap();
        batch.fill(heap, &[index as u8; 100]);
    }
    stream.submit(batch, heaps).unwrap();
    true
}

pub(crate) fn data(index: u64, cnt: u64, described: bool) -> Arrival {
    Arrival::Data(cnt, 100 * index, described, index as u8)
}

pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "it never was");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Longer than any machine is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
