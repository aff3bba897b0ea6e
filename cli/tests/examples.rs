//! Every example is run, and what it sends is received: the programs by a receiver that checks each
//! byte, the TOML files by `doorbell send`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use doorbell::receive::{KnownStream, Listener, Tally, Verification, Window, WindowConfig};
use doorbell_cli::source::{Files, Pattern, Source, SourceItem};

#[test]
fn batched_sends_the_tutorials_stream() {
    let source = Pattern::new(vec![SourceItem::samples(8192)]);
    let (to, receiver) = receive(verification(&source));
    run("batched", &[&to.to_string(), "100"]);
    arrived(receiver, 100);
}

#[test]
fn substreams_go_to_two_destinations() {
    let stream = |first_cnt| KnownStream {
        items: vec![(0x1001, 4096)],
        first_cnt,
        cnt_step: 2,
        heaps: Some(80),
    };
    let receivers = [1, 2].map(|first| receive(Verification::known(stream(first), None)));
    let to: Vec<String> = receivers.iter().map(|(to, _)| to.to_string()).collect();
    run("substreams", &[&to[0], &to[1]]);
    for (_, receiver) in receivers {
        arrived(receiver, 80);
    }
}

#[test]
fn frames_are_those_that_were_drawn() {
    let directory = tempfile::tempdir().unwrap();
    let (out, port) = (directory.path().join("frames.npy"), free_port());
    let from = format!("127.0.0.1:{port}");
    let receiver = thread::spawn({
        let (from, out) = (from.clone(), out.clone());
        move || {
            assert_cmd::Command::cargo_bin("doorbell")
                .unwrap()
                .args(["recv", "--json", "--timeout", "120", "--from", &from, "--write"])
                .arg(out)
                .assert()
                .success();
        }
    });
    wait_until_bound(port);
    run("frames", &[&from, "5"]);
    receiver.join().unwrap();
    // What follows the header of NEP 1, which ends with a line feed.
    let file = std::fs::read(out).unwrap();
    let start = file.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    assert!(String::from_utf8_lossy(&file[..start]).contains("(5, 540, 960)"));
    let samples = file[start..].as_chunks().0.iter().map(|sample| u16::from_be_bytes(*sample));
    let expected = (0..5).flat_map(|number| {
        (0..540).flat_map(move |y| (0..960).map(move |x| ((x + y) * 16 + number) as u16))
    });
    assert!(samples.eq(expected));
}

fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait_until_bound(port: u16) {
    let bound =
        || std::fs::read_to_string("/proc/net/udp").unwrap().contains(&format!(":{port:04X} "));
    while !bound() {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_mapped_file_arrives() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..20 * 16384 + 5).map(|index: u32| (index % 251) as u8).collect();
    file.write_all(&bytes).unwrap();
    let source = Files::raw(&[file.path().into()], &[SourceItem::bytes(16384)]).unwrap();
    let (to, receiver) = receive(verification(&source));
    run("mapped_file", &[file.path().to_str().unwrap(), &to.to_string()]);
    arrived(receiver, 20);
}

#[test]
fn configurations_are_sent() {
    let directory = tempfile::tempdir().unwrap();
    let array = directory.path().join("samples.npy");
    // NEP 1: magic, version 1.0, and a header of 118 bytes, padded to a multiple of 64.
    let header = "{'descr': '<i2', 'fortran_order': False, 'shape': (6, 1000), }";
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    npy.extend(format!("{header:117}\n").as_bytes());
    npy.resize(npy.len() + 12000, 7);
    std::fs::write(&array, npy).unwrap();
    let array = array.to_str().unwrap();

    for (file, flags, heaps) in [
        ("loopback.toml", vec!["--heaps", "64"], 64),
        ("multicast.toml", vec!["--interface", "lo", "--heaps", "40"], 40),
        ("file.toml", vec!["--source", array], 6),
    ] {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(file);
        let output = assert_cmd::Command::cargo_bin("doorbell")
            .unwrap()
            .args(["send", "--json", "-q"])
            .arg(&file)
            .args(flags)
            .assert()
            .success()
            .get_output()
            .stdout
            .clone();
        let report: serde_json::Value = serde_json::from_slice(&output).unwrap();
        assert_eq!((&report["heaps"], &report["heaps_failed"]), (&heaps.into(), &0.into()));
    }
}

/// Compares each heap of a source.
fn verification(source: &dyn Source) -> Verification {
    let items = source.items().iter().map(|item| (item.descriptor.id, item.size)).collect();
    let stream = KnownStream { items, first_cnt: 1, cnt_step: 1, heaps: source.heaps() };
    Verification::known(stream, source.verifier())
}

/// What came of a stream, and how many of its heaps were not what they should be.
type Receiving = JoinHandle<(Tally, u64)>;

fn receive(mut verification: Verification) -> (SocketAddr, Receiving) {
    let mut listener = Listener::bind(&["127.0.0.1:0".parse().unwrap()], None, 16 << 20).unwrap();
    let address = listener.local_addrs().next().unwrap();
    let config = WindowConfig { heaps: 256, max_heap_len: 1 << 20, substreams: 1 };
    let mut window = Window::new(config);
    let receiving = thread::spawn(move || {
        let mut mismatched = 0;
        // Should a stop heap be lost, the test fails by its counts, and does not hang.
        let end = Instant::now() + Duration::from_secs(120);
        while !window.is_stopped() && Instant::now() < end {
            listener.receive(&mut window, Duration::from_millis(100)).unwrap();
            while let Some(heap) = window.take() {
                mismatched += u64::from(heap.is_data() && !verification.matches(&heap.view()));
                window.give_back(heap);
            }
        }
        (window.tally(), mismatched)
    });
    (address, receiving)
}

fn arrived(receiver: Receiving, heaps: u64) {
    let (tally, mismatched) = receiver.join().unwrap();
    assert_eq!((tally.heaps, tally.incomplete, tally.missing), (heaps, 0, 0), "{tally:?}");
    assert_eq!((tally.refused, mismatched), (0, 0));
}

/// Runs an example that `cargo test` has built next to this test.
fn run(example: &str, arguments: &[&str]) {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().with_file_name("examples").join(example);
    let output = Command::new(&path).args(arguments).output().unwrap();
    assert!(output.status.success(), "{example}: {output:?}");
}
