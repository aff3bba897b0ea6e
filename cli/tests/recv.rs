//! `doorbell recv`, and the parts of the library that it is made of.

use std::io::{self, BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use assert_cmd::cargo::cargo_bin;
use doorbell::output::Output;
use doorbell::receive::{Content, Frame, ItemType};
use doorbell::wire::{Descriptor, Field, NumpyHeader};
use doorbell_cli::recv::{Picture, Store};

/// A port of 127.0.0.1 that is free.
fn free_address() -> String {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// What `doorbell recv` says on standard error, and its exit code, if it ends at once.
fn refused(arguments: &[&str]) -> (String, i32) {
    let output = Command::new(cargo_bin!("doorbell")).arg("recv").args(arguments).output().unwrap();
    (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
}

fn listening(arguments: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(cargo_bin!("doorbell"))
        .arg("recv")
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.starts_with("listening at "), "{line}");
    (child, out)
}

#[test]
fn wrong_use_is_explained() {
    for (arguments, hint) in [
        (&["--from", "localhost"][..], "the port is missing"),
        (&["--heaps", "0"], "1.."),
        (&["--window", "0"], "1..=65536"),
        (&["--verify", "noise"], "random:SEED"),
        (&["--timeout", "0"], "above 0"),
        (&["--timeout", "soon"], "such as 2.5"),
        (&["--write", "a.npy", "--write-dir", "b"], "cannot be used with"),
    ] {
        let (error, code) = refused(arguments);
        assert!(code == 2 && error.contains(hint), "{arguments:?}: {code} {error}");
    }
}

#[test]
fn what_cannot_be_opened_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = free_address();
    for (arguments, hint) in [
        (&["--from", &taken][..], taken.as_str()),
        (&["--from", "192.0.2.1:7148"], "192.0.2.1:7148"),
        (&["--from", &free, "--interface", "none9"], "none9"),
        (&["--from", &free, "--write", "/no/such/directory/a.npy"], "/no/such/directory/a.npy"),
        (&["--from", &free, "--write-dir", "/dev/null/b"], "/dev/null/b"),
    ] {
        let (error, code) = refused(arguments);
        assert!(code == 3 && error.contains(hint), "{arguments:?}: {code} {error}");
    }
}

#[test]
fn the_report_names_what_came() {
    let address = free_address();
    let (mut receiver, mut out) =
        listening(&["--from", &address, "--verify", "pattern", "--timeout", "10"]);
    let sent = Command::new(cargo_bin!("doorbell"))
        .args(["send", "-q", "--heaps", "64", "--rate", "400Mb/s", "--to", &address])
        .status()
        .unwrap();
    assert!(sent.success());
    let mut report = String::new();
    out.read_to_string(&mut report).unwrap();
    assert!(receiver.wait().unwrap().success(), "{report}");
    assert!(report.starts_with("received  64 heaps"), "{report}");
    assert!(report.contains("0x3300 adc_samples"), "{report}");
    assert!(report.ends_with("every heap whole, every byte as it should be\n"), "{report}");
}

/// As fast as it goes, into a receive buffer that holds a fraction of a frame.
#[test]
fn frames_arrive_whole_where_the_sender_holds_back() {
    for size in [&["--mtu", "9000"][..], &["--mtu", "65536"], &["--packet-size", "1472"]] {
        let address = free_address();
        let (mut receiver, mut out) =
            listening(&["--from", &address, "--verify", "random:3", "--timeout", "10"]);
        let sent = Command::new(cargo_bin!("doorbell"))
            .args(["send", "-q", "--source", "random:3", "--heap-size", "6MB", "--heaps", "4"])
            .args(["--hold-back", "--to", &address])
            .args(size)
            .status()
            .unwrap();
        assert!(sent.success());
        let mut report = String::new();
        out.read_to_string(&mut report).unwrap();
        assert!(receiver.wait().unwrap().success(), "{size:?}: {report}");
        assert!(report.starts_with("received  4 heaps"), "{report}");
        assert!(report.ends_with("every heap whole, every byte as it should be\n"), "{report}");
    }
}

/// Over TCP, a receiver holds its sender back by itself.
#[test]
fn nothing_more_holds_tcp_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let reader = thread::spawn(move || io::copy(&mut listener.accept()?.0, &mut io::sink()));
    let sent = Command::new(cargo_bin!("doorbell"))
        .args(["send", "--backend", "tcp", "--hold-back", "--heaps", "100", "--to", &to])
        .output()
        .unwrap();
    let report = String::from_utf8(sent.stdout).unwrap();
    assert!(sent.status.success(), "{report}");
    assert!(reader.join().unwrap().unwrap() > 100 * 8192, "{report}");
}

#[test]
fn who_is_not_here_cannot_be_held_back_for() {
    let nobody = free_address();
    for (to, hint) in [(nobody.as_str(), "no socket"), ("192.0.2.1:7148", "not an address of this")]
    {
        let output = Command::new(cargo_bin!("doorbell"))
            .args(["send", "-q", "--backend", "udp", "--hold-back", "--heaps", "1", "--to", to])
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        let named = error.contains("hold back") && error.contains(to);
        // Without any route to it, that is what is said.
        assert!(output.status.code() == Some(3) && (to != nobody || named), "{error}");
        assert!(!named || error.contains(hint), "{error}");
    }
}

fn described(shape: &[Option<u64>], format: &[(u8, u32)]) -> Descriptor {
    Descriptor {
        id: 1,
        shape: shape.to_vec(),
        format: format.iter().map(|&(code, bits)| Field::new(code, bits)).collect(),
        ..Descriptor::default()
    }
}

#[test]
fn items_are_read_as_described() {
    let read = |descriptor: &Descriptor, content| ItemType::of(descriptor).unwrap().frame(content);
    let ten_bits = described(&[Some(3)], &[(b'i', 10)]);
    let frame = read(&ten_bits, Content::Addressed(&[0x7f, 0xe0, 0x0f, 0xff])).unwrap();
    let values: Vec<f64> = frame.values().unwrap().collect();
    assert_eq!((frame.descr.as_str(), values), ("'<i2'", vec![511.0, -512.0, -1.0]));
    // Right-aligned in its pointer.
    let number = described(&[], &[(b'u', 16)]);
    assert_eq!(read(&number, Content::Immediate(0x1234)).unwrap().value(), Some(4660.0));
    assert_eq!(ItemType::of(&ten_bits).unwrap().to_string(), "i10 (3,)");
    let short = read(&ten_bits, Content::Addressed(&[0; 3])).unwrap_err().to_string();
    assert_eq!(short, "3 bytes are too few for i10 (3,)");
    // One unknown dimension takes what there is.
    let rows = described(&[None, Some(2)], &[(b'u', 12)]);
    assert_eq!(read(&rows, Content::Addressed(&[0; 7])).unwrap().shape, [2, 2]);
}

#[test]
fn descriptors_that_make_no_sense_are_refused() {
    let error = |descriptor: &Descriptor| ItemType::of(descriptor).unwrap_err().to_string();
    assert!(error(&described(&[], &[(b'u', 65)])).contains("('u', 65)"));
    assert!(error(&described(&[], &[(b'f', 24)])).contains("('f', 24)"));
    assert!(error(&described(&[], &[])).contains("says nothing of the elements"));
    assert!(error(&described(&[None, None], &[(b'u', 8)])).contains("at most one unknown"));
    assert!(error(&described(&[Some(1); 40], &[(b'u', 8)])).contains("at most 31 dimensions"));
    let numpy = |descr: &str| {
        let header = NumpyHeader { descr: descr.into(), fortran_order: false, shape: vec![] };
        error(&Descriptor { id: 1, numpy_header: Some(header), ..Descriptor::default() })
    };
    assert!(numpy("'|O'").contains("Python objects"));
    assert!(numpy("'|V0'").contains("without bytes"));
    assert!(numpy("__import__('os')").contains("not a Python literal"));
    // More elements than there are numbers.
    let huge = described(&[Some(u64::MAX), Some(u64::MAX)], &[(b'u', 1)]);
    let huge = ItemType::of(&huge).unwrap().frame(Content::Addressed(&[0; 100]));
    assert!(huge.unwrap_err().to_string().contains("too few"));
}

fn floats(shape: &[u64], values: &[f32]) -> Frame {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Frame { descr: "'<f4'".into(), shape: shape.to_vec(), bytes }
}

#[test]
fn a_picture_shows_the_whole_range() {
    // Eight stops to either side: all are told apart, and the brightest is white.
    let values: Vec<f32> = (-8..=8).map(|stop| 2_f32.powi(stop)).collect();
    let picture = Picture::of(&floats(&[1, 17], &values)).unwrap();
    assert!(picture.bytes().is_sorted_by(|a, b| a < b), "{:?}", picture.bytes());
    assert_eq!(picture.bytes()[16], 255);
    // Their log-average is middle grey: 0.18 over 1.18 on the curve, in sRGB about 0.43.
    assert!((105..=115).contains(&picture.bytes()[8]), "{:?}", picture.bytes());
    // Colours keep their hue; what is no light is black.
    let colours = [1.0, 0.5, 0.25, f32::NAN, -1.0, f32::NEG_INFINITY, 0.1, 0.1, 0.1];
    let picture = Picture::of(&floats(&[1, 3, 3], &colours)).unwrap();
    let bytes = picture.bytes();
    assert!(bytes[0] > bytes[1] && bytes[1] > bytes[2], "{bytes:?}");
    assert_eq!(bytes[3..6], [0, 0, 0]);
    assert!(bytes[6] == bytes[7] && bytes[7] == bytes[8]);
    // Bytes are as they are; what has another shape is no picture.
    let bytes = Frame { descr: "'|u1'".into(), shape: vec![2, 1], bytes: vec![3, 200] };
    assert_eq!(Picture::of(&bytes).unwrap().bytes(), [3, 200]);
    for shape in [&[9][..], &[3, 1, 3, 1], &[0, 9], &[]] {
        assert_eq!(Picture::of(&floats(shape, &colours)), None);
    }
}

#[test]
fn a_picture_is_a_png_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.png");
    let frame =
        Frame { descr: "'|u1'".into(), shape: vec![1, 2, 3], bytes: vec![1, 2, 3, 4, 5, 6] };
    Picture::of(&frame).unwrap().save(&Output::new(&path, false).unwrap()).unwrap();
    let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height, &pixels[..6]), (2, 1, &[1, 2, 3, 4, 5, 6][..]));
    let full = Output::new(Path::new("/dev/full"), false).unwrap();
    let error = Picture::of(&frame).unwrap().save(&full).unwrap_err().to_string();
    assert!(error.contains("/dev/full") && error.contains("No space left"), "{error}");
}

#[test]
fn frames_of_another_shape_do_not_go_into_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.npy");
    let mut store = Store::stack(&path, false).unwrap();
    assert!(store.add(1, &floats(&[2], &[1.0, 2.0])).unwrap());
    assert!(!store.add(2, &floats(&[1, 2], &[1.0, 2.0])).unwrap());
    assert!(store.add(3, &floats(&[2], &[3.0, 4.0])).unwrap());
    store.update().unwrap();
    assert_eq!(store.frames(), 2);
    let file = std::fs::read(&path).unwrap();
    let (head, elements) = file.split_at(file.len() - 16);
    assert_eq!(head.len() % 64, 0);
    let head = String::from_utf8_lossy(head);
    assert!(head.contains("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}"), "{head}");
    assert_eq!(elements, floats(&[4], &[1.0, 2.0, 3.0, 4.0]).bytes);
    // Nothing came: what was there before stays.
    Store::stack(&path, true).unwrap().update().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), file);
    assert!(Store::stack(&path, false).unwrap_err().to_string().contains("--force"));
}
