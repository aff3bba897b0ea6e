//! What is wrong is said in words that name it, where it stands, and what would be right; and nothing is sent.

use std::fs;
use std::path::Path;

use assert_cmd::Command;

/// A command line, with what its message says.
type Case = (&'static str, &'static [&'static str]);

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    // numpy's magic string is no text.
    write("a.npy", b"\x93NUMPY\x01\x00");
    write("raw.bin", b"xxxxxxxxxxxxxxxx");
    write("bare.toml", b"[stream]\nto = 127.0.0.1:7148\n");
    write("bare_list.toml", b"[stream]\n\nto = [a:1, b:2]\n");
    write("name.toml", b"stream.to = host:7148 # a comment\n");
    write("empty.toml", b"[stream]\nto = []\n");
    write("rate.toml", b"[pacing]\nrate = 10\n");
    for (line, words) in CASES {
        let said = refused(directory.path(), line);
        for word in *words {
            assert!(said.contains(word), "{line}\nlacks {word:?}:\n{said}");
        }
    }
}

fn refused(directory: &Path, line: &str) -> String {
    let mut doorbell = Command::cargo_bin("doorbell").unwrap();
    let done = doorbell.current_dir(directory).args(line.split(' ')).env_remove("RUST_LOG");
    let done = done.output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(matches!(done.status.code(), Some(2 | 3)), "{line}: {}\n{said}", done.status);
    assert!(!said.contains("panicked"), "{line}\n{said}");
    said
}

const CASES: &[Case] = &[
    // What is given as a configuration and is none.
    ("send a.npy", &["cannot read a.npy as a configuration", "say --source a.npy"]),
    ("send raw.bin", &["raw.bin:1: not TOML", "say --source raw.bin"]),
    ("send missing.npy", &["No such file", "say --source missing.npy"]),
    ("send -", &["say --source -"]),
    ("send host:7148", &["say --to host:7148"]),
    ("send --hold-back yes", &["the value of a switch goes after `=`", "--hold-back=true"]),
    ("plan a.npy", &["say --source a.npy"]),
    // Numbers, sizes and rates.
    ("send --rate -5Gb/s", &["--rate", "`-5Gb/s` is not a rate", "such as 10Gb/s"]),
    ("send --rate 10", &["--rate", "`10` is not a rate", "write a unit: Gb/s"]),
    ("send --rate 10Gbps", &["did you mean 10Gb/s or 10GB/s?"]),
    ("send --rate 0Gb/s", &["pacing.rate (--rate)", "leave it out"]),
    ("send rate.toml", &["rate.toml:2: pacing.rate", "write a unit"]),
    ("send --heaps 1e6", &["--heaps", "`1e6` is not a whole number", "write 1000000"]),
    ("send --heaps 1,000", &["write 1000"]),
    ("send --heaps -1", &["--heaps", "`-1` is not a whole number, 0 or above"]),
    ("send --heap-size 8kb", &["--heap-size", "did you mean 8KiB or 8kB?"]),
    ("send --heap-size -1", &["`-1` is not a size"]),
    ("send --heap-size 5GiB", &["heap.size (--heap-size) = 5GiB", "4294967295 bytes at most"]),
    ("send --heap-size 1TiB", &["heap.size (--heap-size) = 1TiB", "64-40 end at"]),
    (
        "send --heap-size 3GiB --batch-heaps 2",
        &["batch.heaps (--batch-heaps) = 2", "holds 1 at most"],
    ),
    ("send --items a:i8[6000000000]", &["heap.items (--items)", "give fewer elements"]),
    (
        "send --in-flight 4000000000 --source - --to 127.0.0.1:9",
        &[
            "batch.in_flight (--in-flight) = 4000000000",
            "cannot allocate",
            "batch.heaps (--batch-heaps)",
        ],
    ),
    ("send --ttl 256", &["--ttl", "0 to 255"]),
    ("send --cpu -1", &["--cpu", "`-1` is not N[,M]"]),
    ("send --repeat -1", &["--repeat", "write 1 or more, or forever"]),
    ("send --frame-rate 60Hz", &["--frame-rate", "60 or 29.97"]),
    ("send --warm-up 1", &["--warm-up", "such as 2s"]),
    ("send --log-interval 0.5", &["--log-interval", "`0.5` is not a whole number"]),
    ("recv --heaps 1e6", &["--heaps", "`1e6` is not in 1..: a whole number, in digits"]),
    ("recv --timeout -1", &["--timeout", "such as 2.5"]),
    ("bench --sizes 8kb", &["--sizes", "did you mean 8KiB or 8kB?"]),
    // Addresses.
    ("send --metrics foo", &["--metrics", "`foo` is not"]),
    ("send --to host", &["`host` is not a destination", "write host:7148"]),
    ("send --to ::1:7148", &["brackets: [ff02::1]:7148"]),
    ("send --to http://host:1", &["nothing before it: host:1"]),
    ("send --to a:1,b:2", &["give each by itself"]),
    ("send --to host:70000", &["1 to 65535"]),
    ("send --to 255.255.255.255:7148", &["it is a broadcast address", "multicast group"]),
    ("recv --from host", &["`host` is not an address to receive at", "write host:7148"]),
    (
        "send bare.toml",
        &["bare.toml:2: not TOML", "text stands in quotes: to = \"127.0.0.1:7148\""],
    ),
    ("send bare_list.toml", &["bare_list.toml:3:", "to = [\"a:1\", \"b:2\"]"]),
    ("send name.toml", &["name.toml:1:", "stream.to = \"host:7148\""]),
    ("send empty.toml", &["empty.toml:2: stream.to: the list is empty", "HOST:PORT"]),
    // Sources.
    (
        "send --source raw.bin --dtype float32 --shape 2",
        &["source.dtype (--dtype) = float32", "written <f4"],
    ),
    ("send --source raw.bin --dtype f4 --shape 2", &["source.dtype (--dtype) = f4", "<f4"]),
    ("send --source missing.bin", &["missing.bin: No such file"]),
    ("send --source none*.npy", &["source.kind (--source)", "none*.npy"]),
    ("send --source raw.bin", &["raw.bin has 16 bytes", "16 or less"]),
    (
        "send --source - --to 127.0.0.1:9",
        &["the source ended after 0 bytes", "a heap takes 8192", "lower the heap size"],
    ),
    // Files to write.
    ("bench --plot x.jpg", &["--plot x.jpg", "ends so", ".svg"]),
    (
        "send --pcap x.pcap",
        &["backend.pcap (--pcap) and backend.kind (--backend)", "drop the file"],
    ),
    ("send --backend pcap", &["backend.pcap (--pcap) is missing"]),
];
