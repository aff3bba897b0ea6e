//! `doorbell bench`: what it prints and draws, but not how fast it is.

use std::io::Write;

use assert_cmd::Command;
use serde_json::Value;

fn doorbell(arguments: &[&str]) -> assert_cmd::assert::Assert {
    let brief = ["bench", "--seconds", "0.01", "--repeat", "1"];
    Command::cargo_bin("doorbell").unwrap().args(brief).args(arguments).assert()
}

fn report(arguments: &[&str]) -> Value {
    let assert = doorbell(arguments).success();
    serde_json::from_slice(&assert.get_output().stdout).unwrap()
}

#[test]
fn one_object_with_a_row_for_each_way_and_size() {
    let report = report(&["--sizes", "1024,8KiB", "--backends", "udp", "--json"]);
    assert!(["ifb", "veth", "loopback"].contains(&report["sink"]["kind"].as_str().unwrap()));
    assert_eq!(report["repeat"], 1);
    let rows = report["rows"].as_array().unwrap();
    let found: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["packet_limit"].as_u64().unwrap(),
                row["heap_bytes"].as_u64().unwrap(),
                row["backend"].as_str().unwrap(),
                row["layout"].as_str().unwrap(),
            )
        })
        .collect();
    let expected: Vec<_> = [1472, 8972]
        .into_iter()
        .flat_map(|limit| [1024, 8192].map(|heap| (limit, heap)))
        .flat_map(|(limit, heap)| {
            [("udp", "packed"), ("udp", "split"), ("udp 0copy", "packed")]
                .map(|(backend, layout)| (limit, heap, backend, layout))
        })
        .collect();
    assert_eq!(found, expected);
    for row in rows {
        let packet = row["packet_size"].as_u64().unwrap();
        assert!(packet <= row["packet_limit"].as_u64().unwrap(), "{row}");
        let batch = row["heap_bytes"].as_u64().unwrap() * row["heaps_per_batch"].as_u64().unwrap();
        assert_eq!(batch, 512 << 10, "{row}");
        for spread in ["gb_per_s", "ceiling_gb_per_s", "of_ceiling"] {
            let value = |which| row[spread][which].as_f64().unwrap();
            assert!(value("min") > 0.0, "{row}");
            assert!((value("min")..=value("max")).contains(&value("median")), "{row}");
        }
        // One call for each batch at best, and the packets of one message at least.
        assert!(row["doorbells_per_batch"].as_f64().unwrap() >= 1.0, "{row}");
        assert!(row["packets_per_message"].as_f64().unwrap() >= 1.0, "{row}");
    }
}

#[test]
fn rates_agree_with_each_other() {
    let sizes = ["--sizes", "8192", "--packet-sizes", "8972", "--layouts", "packed"];
    let report = report(&[&sizes[..], &["--sink", "loopback", "--json"]].concat());
    let row = &report["rows"][0];
    // Each heap is one packet.
    let payload = row["packets_per_s"].as_f64().unwrap() * 8192.0 * 1e-9;
    let rate = row["gb_per_s"]["median"].as_f64().unwrap();
    assert!((payload / rate - 1.0).abs() < 1e-6, "{payload} {rate}");
    assert_eq!(report["sink"]["kind"], "loopback");
}

#[test]
fn the_plot_is_a_picture_with_a_line_for_each_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plot.svg");
    let path = path.to_str().unwrap();
    doorbell(&["--sizes", "1KiB,8KiB", "--backends", "udp", "--plot", path]).success();
    let svg = std::fs::read_to_string(path).unwrap();
    let start = svg.find("<svg").unwrap();
    assert_balanced(&svg[start..]);
    for text in ["1 KiB", "8 KiB", "udp packed", "udp split", "GB/s", "1472", "8972"] {
        assert!(svg.contains(text), "{text}");
    }
    doorbell(&["--sizes", "1KiB", "--plot", "/nonexistent/a.svg"]).code(2);
    // What is there is kept, and what is no picture is not begun.
    std::fs::write(path, "mine").unwrap();
    doorbell(&["--sizes", "1KiB", "--plot", path]).code(2);
    doorbell(&["--sizes", "1KiB", "--plot", "plot.gif"]).code(2);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "mine");
    doorbell(&["--sizes", "1KiB", "--backends", "udp", "--plot", path, "--force"]).success();
    assert!(std::fs::read_to_string(path).unwrap().contains("<svg"));
}

#[test]
fn a_plot_in_pixels_has_lines_and_writing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plot.PNG");
    let run = doorbell(&["--sizes", "1KiB", "--backends", "udp", "--plot", path.to_str().unwrap()]);
    let output = run.get_output();
    if String::from_utf8_lossy(&output.stderr).contains("there is no font") {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "skipped: a plot in pixels: no font"
        );
        let _ = writeln!(std::io::stderr(), "skipped: a plot in pixels: no font is installed");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(frame.width, 2 * 960);
    let rgba: Vec<&[u8]> = pixels.chunks(4).collect();
    let dark = |rows: &[&[u8]]| rows.iter().filter(|it| it[..3].iter().all(|c| *c < 80)).count();
    // The title is at the top, black on white; the rest of it, too, is mostly white.
    assert!(dark(&rgba[..2 * 960 * 60]) > 500, "no writing");
    assert!(rgba.iter().filter(|it| it[..3] == [0, 114, 178]).count() > 100, "no line");
    let white = rgba.iter().filter(|it| it[..3] == [255, 255, 255]).count();
    assert!(white > rgba.len() / 2);
}

/// Each tag that is opened is closed, in order.
fn assert_balanced(svg: &str) {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let tag = &tag[..tag.find('>').expect("a tag ends")];
        let name = tag.split([' ', '/', '\n']).find(|word| !word.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn the_table_says_into_what() {
    let assert =
        doorbell(&["--sizes", "8192", "--sink", "loopback", "--backends", "udp"]).success();
    let table = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    assert!(table.contains("a loopback socket that nobody reads"), "{table}");
    assert!(table.lines().all(|line| line.len() <= 110), "{table}");
}

#[test]
fn what_cannot_be_measured_is_named() {
    let stderr = |arguments: &[&str], code| {
        let assert = doorbell(arguments).code(code);
        String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
    };
    let error = stderr(&["--sink", "loopback", "--packet-sizes", "70000"], 2);
    assert!(error.contains("70000 bytes do not fit the MTU"), "{error}");
    let error = stderr(&["--sizes", "0"], 2);
    assert!(error.contains("a heap of 0 bytes"), "{error}");
    let error = stderr(&["--sink", "nowhere"], 2);
    assert!(error.contains("nowhere"), "{error}");
    // A backend that is named never gives way to another.
    let error = stderr(&["--sink", "loopback", "--backends", "verbs"], 3);
    assert!(error.contains("127.0.0.1"), "{error}");
}
