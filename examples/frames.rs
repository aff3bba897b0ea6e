//! Frames that are produced where they are sent from: a renderer writes rows into the packets, and
//! nobody copies a frame.
//!
//! `cargo run --release --example frames -- 127.0.0.1:7148 60`
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use doorbell::backend::max_packet_size;
use doorbell::backend::udp::{Udp, UdpConfig, route_mtu};
use doorbell::plan::{HeapSpec, PacketSize, Plan};
use doorbell::region::Layout;
use doorbell::sender::Sender;
use doorbell::wire::{Descriptor, Field, Flavour, NumpyHeader, StreamControl};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let to: SocketAddr = arguments.next().unwrap_or("127.0.0.1:7148".into()).parse()?;
    let frames: u64 = arguments.next().map_or(Ok(60), |frames| frames.parse())?;

    let config = UdpConfig::new(vec![to]);
    let limit = max_packet_size(route_mtu(&config)?, to.ip());
    let plan = |heap: &HeapSpec| {
        let size = PacketSize::Uniform { limit };
        Plan::builder(Flavour::SPEAD_64_40, size).heaps(heap, 1).build().map(Arc::new)
    };
    let header = NumpyHeader::new(">u2", &[HEIGHT as u64, WIDTH as u64]);
    let frame = Descriptor::numpy(FRAME, "frame", "Linear light, of 65535", header);
    let number = Descriptor {
        id: NUMBER,
        name: "frame_number".into(),
        format: vec![Field::new(b'u', 40)],
        ..Descriptor::default()
    };
    let start = plan(&HeapSpec::new().descriptor(number).descriptor(frame))?;
    let data = plan(&HeapSpec::new().immediate(NUMBER, 0).payload(FRAME, 2 * WIDTH * HEIGHT))?;
    let stop = plan(&HeapSpec::control(StreamControl::Stop))?;

    let mut sender = Sender::new(Box::new(Udp::open(&config)?));
    for batch in sender.allocate(&start, Layout::Packed, 1, Vec::new())? {
        sender.submit(batch)?;
    }
    // Two frames in memory, however long the film: one is drawn while the kernel has the other.
    let mut idle = sender.allocate(&data, Layout::Packed, 2, Vec::new())?;
    let region = idle[0].region().id();
    for number in 0..frames {
        while idle.is_empty() {
            let done = sender.wait().expect("two are in flight");
            assert_eq!(done.failures, []);
            idle.extend(Some(done.batch).filter(|batch| batch.region().id() == region));
        }
        let mut batch = idle.pop().expect("one has come back");
        batch.set_immediate(0, NUMBER, number)?;
        draw(number, &mut batch.payload(0).writer())?;
        sender.submit(batch)?;
    }
    for batch in sender.allocate(&stop, Layout::Packed, 1, Vec::new())? {
        sender.submit(batch)?;
    }
    while sender.wait().inspect(|done| assert_eq!(done.failures, [])).is_some() {}
    println!("{frames} frames of {WIDTH} x {HEIGHT}");
    Ok(())
}

/// A gradient that moves, row by row: packets end where they will, and the writer knows where.
fn draw(number: u64, out: &mut impl Write) -> io::Result<()> {
    (0..HEIGHT).try_for_each(|y| {
        let row = (0..WIDTH).map(|x| ((x + y) * 16 + number as usize) as u16);
        out.write_all(&row.flat_map(u16::to_be_bytes).collect::<Vec<_>>())
    })
}

const WIDTH: usize = 960;
const HEIGHT: usize = 540;
const FRAME: u64 = 0x3300;
const NUMBER: u64 = 0x1601;
