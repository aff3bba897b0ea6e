//! Configurations as users write them, in files and as flags.

use std::path::Path;

use clap::Command;
use doorbell::pacer;
use doorbell::settings::BackendKind;
use doorbell::wire::Flavour;
use proptest::prelude::*;

use super::*;
use crate::source::Cut;

fn try_flags(words: &[&str]) -> Result<Options, String> {
    let command = Command::new("doorbell").no_binary_name(true).args(flags::arguments());
    let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
    let mut options = Options::default();
    options.read_flags(&matches).map_err(|error| error.to_string())?;
    Ok(options)
}

fn flags(line: &str) -> Options {
    let words: Vec<&str> = line.split_whitespace().collect();
    try_flags(&words).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn config(line: &str) -> Config {
    Config::from_options(flags(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn file(text: &str) -> Result<Options, ConfigError> {
    let mut options = Options::default();
    options.read_toml(text, Path::new("run.toml")).map(|()| options)
}

/// Whether what `text` comes to, if it is a configuration, comes to the same once it is written down.
pub(super) fn reads_back(text: &str) {
    let Ok(config) = file(text).and_then(Config::from_options) else { return };
    assert_eq!(printed_and_read(&config), config, "{text}");
}

#[test]
fn defaults() {
    let config = config("");
    assert_eq!(config.settings.stream.to, []);
    assert_eq!(config.settings.stream.flavour, Flavour::SPEAD_64_40);
    assert_eq!(config.content, HeapContent::Size(Size::from_bytes(8192)));
    assert_eq!(config.settings.heap.count, Some(65_536));
    assert_eq!(config.source, SourceKind::Pattern);
    assert_eq!((config.settings.batch.heaps, config.settings.batch.in_flight), (Some(64), 2));
    assert_eq!(config.settings.backend.kind, BackendKind::Auto);
}

/// What a row says that holds without it is what holds without it.
#[test]
fn defaults_are_those_that_rows_state() {
    let options = Options::default();
    for row in rows() {
        if let [shown] = row.show(&options).as_slice() {
            let stated = row.default().split([',', ' ']).next().unwrap();
            assert_eq!(shown, stated, "{}", row.key());
        }
    }
}

#[test]
fn batches_hold_half_a_mebibyte_and_whole_turns() {
    let heaps = |line: &str| config(line).settings.batch.heaps;
    assert_eq!(heaps("--heap-size 1"), Some(65_536));
    assert_eq!(heaps("--heap-size 4MiB"), Some(1));
    assert_eq!(heaps("--heap-size 4MiB --to 239.1.0.0+3:7148"), Some(4));
    assert_eq!(heaps("--to 239.1.0.0+2:7148"), Some(66));
    assert_eq!(heaps("--to 239.1.0.0+2:7148 --heaps 10"), Some(10));
    assert_eq!(heaps("--batch-heaps 7 --heaps 3"), Some(3));
    assert_eq!(heaps("--items a:u8[1024],b:<f4[256]"), Some(256));
    assert_eq!(heaps("--frame-rate 60 --to 239.1.0.0+2:7148"), Some(3));
    assert_eq!(heaps("--source a.npy"), None);
}

#[test]
fn files_are_sent_whole() {
    for source in ["a.npy", "a.raw", "-"] {
        let count = |line: &str| config(line).settings.heap.count;
        assert_eq!(count(&format!("--source {source}")), None);
        assert_eq!(count(&format!("--source {source} --heaps 3")), Some(3));
    }
    assert_eq!(config("--source a.npy").content, HeapContent::Npy(Cut::Axis));
    let content = config("--source a.npy --shape 3x4").content;
    assert_eq!(content, HeapContent::Npy(Cut::Shape(vec![3, 4])));
    let content = config("--source a.npy --heap-size 8KiB").content;
    assert_eq!(content, HeapContent::Npy(Cut::Bytes(8192)));
    assert_eq!(config("--source -").source, SourceKind::Stdin);
}

#[test]
fn flags_override_the_file() {
    let text = "stream.repeat_pointers = true\nheap = { size = 4096, count = 5 }\n\
                [pacing]\nrate = '1Gb/s'\n";
    let mut options = file(text).unwrap();
    let words = ["--heap-size", "1MiB", "--repeat-pointers=false", "--rate", "2Gb/s"];
    let command = Command::new("doorbell").no_binary_name(true).args(flags::arguments());
    options.read_flags(&command.try_get_matches_from(words).unwrap()).unwrap();
    let config = Config::from_options(options).unwrap();
    assert!(!config.settings.stream.repeat_pointers);
    assert_eq!(config.content.bytes(), Some(1 << 20));
    assert_eq!(config.settings.heap.count, Some(5));
    let rate = pacer::Rate::new(2_000_000_000, 65_536);
    assert_eq!(config.settings.pacing.pacer_rate(), Some(rate));
}

/// Everything that can be said at once.
const EVERYTHING: &str = "--to 239.1.0.0+3:7148 --to 239.2.0.0:7148 --packet-size 1472 --mtu 1500 \
    --flavour 64-48 --repeat-pointers --group round-robin --cnt-start 2 --cnt-step 3 --ttl 4 --vlan 5 \
    --dst-mac 02:00:00:00:00:01 --source-port 6 --warm-up 2s --heaps 7 --items 0x3400=w:<f4[16x2] \
    --descriptors own --descriptors-every 1000 --frame-number --source a.raw --repeat 3 --pack u10 --range -1.5..2 --batch-heaps 10 --in-flight 11 --layout split --rate 12Mb/s --rate-counts payload --burst 13KiB --burst-rate-ratio 1.2 --min-sleep-us 18 \
    --pacing software --frame-rate 29.97 --hold-back --backend pcap --interface eth0 --device mlx5_0 \
    --qp raw --completion poll --spin-us 14 --zerocopy on --gso off --reconnect 17 --pcap out.pcap \
    --log-interval 15 --metrics 127.0.0.1:16 --share heaps --rank 1 --ranks 5 --stop-heap --cpu 0,1";

#[test]
fn everything_can_be_said_either_way() {
    let mut options = flags(EVERYTHING);
    options.program.size = Some(Size::from_bytes(8192));
    (options.program.dtype, options.program.shape) = (Some("<f4".into()), Some("2x3".into()));
    let text = options.to_toml();
    assert_eq!(file(&text).unwrap(), options, "{text}");
    for row in rows() {
        assert!(!row.show(&options).is_empty(), "EVERYTHING leaves {} out", row.key());
    }
}

#[test]
fn every_flag_has_a_line_of_help() {
    let command = Command::new("doorbell").args(flags::arguments());
    command.clone().debug_assert();
    for flag in command.get_arguments() {
        assert!(flag.get_help_heading().is_some_and(|heading| !heading.is_empty()), "{flag}");
        assert!(flag.get_help().is_some_and(|help| !help.to_string().contains('\n')), "{flag}");
        assert!(flag.get_id().as_str().contains('.'), "{flag}");
    }
    assert_eq!(command.get_arguments().count(), rows().count());
}

fn printed_and_read(config: &Config) -> Config {
    let text = config.to_toml();
    let options = file(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Config::from_options(options).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_effective_configuration_reads_back() {
    for line in [
        "",
        EVERYTHING,
        "--source a.npy",
        "--source a.npy --heap-size 4096",
        "--source a.npy --pack u10 --range -0.5..1e300",
        "--source a.raw --items a:<f4[1000000] --pack f16",
        "--source - --heaps 18446744073709551615",
        "--backend udp --to host:1 --ttl 0",
        "--backend pcap --pcap a.pcap",
    ] {
        let config = config(line);
        assert_eq!(printed_and_read(&config), config);
    }
    reads_back("[[item]]\nid = 0x4000\nname = 'a'\nvalue = [1, 2]");
}

#[test]
fn what_cannot_be_sent_names_its_keys() {
    for (line, keys, hint) in [
        (
            "--to 239.1.0.0:7148 --to [ff02::1]:7148",
            "stream.to (--to) = 239.1.0.0:7148, [ff02::1]:7148: ",
            "destinations must all be of one family: 239.1.0.0:7148 is IPv4, [ff02::1]:7148 is IPv6",
        ),
        (
            "--packet-size 55",
            "stream.packet_size (--packet-size) = 55: ",
            "the smallest SPEAD packet is 56 bytes",
        ),
        (
            "--packet-size 9000 --mtu 9000",
            "stream.packet_size (--packet-size) = 9000: ",
            "an MTU of 9000 carries at most 8972 bytes over IPv4 and UDP; give 8972 or less, or auto",
        ),
        (
            "--packet-size 8972 --mtu 9000 --to [::1]:1",
            "stream.packet_size (--packet-size) = 8972: ",
            "an MTU of 9000 carries at most 8952 bytes over IPv6",
        ),
        (
            "--packet-size 65508",
            "stream.packet_size (--packet-size) = 65508: ",
            "a datagram carries at most 65507 bytes",
        ),
        (
            "--packet-size 65528 --to [::1]:1",
            "stream.packet_size (--packet-size) = 65528: ",
            "a datagram carries at most 65527 bytes",
        ),
        (
            "--mtu 83",
            "stream.mtu (--mtu) = 83: ",
            "the smallest SPEAD packet over IPv4 and UDP takes 84 bytes",
        ),
        ("--cnt-step 0", "stream.cnt_step (--cnt-step) = 0: ", "give 1 or more"),
        (
            "--cnt-start 281474976710656 --flavour 64-48",
            "stream.cnt_start (--cnt-start) = 281474976710656: ",
            "heap cnts of flavour 64-48 end at 281474976710655",
        ),
        (
            "--ttl 0 --to 10.0.0.1:1",
            "stream.ttl (--ttl) = 0: ",
            "packets to 10.0.0.1:1 need 1 or more",
        ),
        ("--vlan 4095", "stream.vlan (--vlan) = 4095: ", "VLAN ids are 1 to 4094"),
        (
            "--source-port 0",
            "stream.source_port (--source-port) = 0: ",
            "give a port from 1 to 65535",
        ),
        ("--flavour 64-56", "stream.flavour (--flavour) = 64-56: ", "item ids end at 0x7f"),
        ("--heap-size 0", "heap.size (--heap-size) = 0B: ", "a heap holds at least 1 byte"),
        (
            "--heap-size 1024GiB",
            "heap.size (--heap-size) = 1TiB: ",
            "heaps of flavour 64-40 end at 1099511627775 bytes",
        ),
        (
            "--items a:u8[1099511627776]",
            "heap.items (--items) = 1099511627776 bytes together: ",
            "flavour 64-40",
        ),
        ("--items a:u8,a:u8", "heap.items (--items) = a:u8[]: ", "has that id or name already"),
        (
            "--items 0x8000=a:u8 --flavour 64-48",
            "heap.items (--items) = 0x8000=a:u8[]: ",
            "does not fit flavour 64-48",
        ),
        (
            "--items a:u8 --heap-size 1",
            "heap.items (--items) and heap.size (--heap-size) do not go together: ",
            "give one of the two",
        ),
        ("--source a.npy --heap-size 0", "heap.size (--heap-size) = 0B: ", "at least 1 byte"),
        (
            "--source a.npy --items a:u8",
            "heap.items (--items) and source.kind (--source) do not go together: ",
            "a.npy itself says what a heap holds; drop heap.items (--items)",
        ),
        (
            "--pack u10",
            "source.pack (--pack) and source.kind (--source) do not go together: ",
            "give a .npy file, or a raw file, or -, and its item",
        ),
        (
            "--pack u10 --source -",
            "heap.items (--items) is missing: ",
            "what the samples of - are; give the item that a heap is, such as frame:<f4",
        ),
        (
            "--pack u10 --source a.raw",
            "heap.items (--items) is missing: ",
            "what the samples of a.raw are; give the item that a heap is, such as frame:<f4",
        ),
        (
            "--pack u10 --source a.raw --items a:<f4[2],b:<f4[2]",
            "source.pack (--pack) and heap.items (--items) do not go together: ",
            "a heap of a.raw is to be one item",
        ),
        (
            "--pack u10 --source a.raw --items 0x3311=a:<f4[2]",
            "heap.items (--items) = 0x3311=a:<f4[2]: ",
            "take another id and name",
        ),
        (
            "--pack f16 --range 0..1 --source a.npy",
            "source.range (--range) and source.pack (--pack) do not go together: ",
            "f16 stands for itself",
        ),
        (
            "--range 0..1 --source a.npy",
            "source.pack (--pack) is missing: ",
            "source.range (--range) is what packed integers stand for",
        ),
        ("--heaps 0", "heap.count (--heaps) = 0: ", "give 1 or more"),
        ("--batch-heaps 0", "batch.heaps (--batch-heaps) = 0: ", "give 1 or more"),
        (
            "--batch-heaps 5 --to 239.1.0.0+2:1",
            "batch.heaps (--batch-heaps) = 5: ",
            "3 destinations in turn; give a multiple, such as 6",
        ),
        ("--in-flight 0", "batch.in_flight (--in-flight) = 0: ", "give 1 or more"),
        ("--rate 0b/s", "pacing.rate (--rate) = 0b/s: ", "give a rate such as 10Gb/s"),
        (
            "--rate 1Gb/s --pacing none",
            "pacing.rate (--rate) and pacing.mode (--pacing) do not go together: ",
            "drop one of the two",
        ),
        (
            "--pacing hardware",
            "pacing.rate (--rate) is missing: ",
            "pacing.mode (--pacing) needs one to keep to",
        ),
        (
            "--burst 1KiB",
            "pacing.rate (--rate) is missing: ",
            "pacing.burst (--burst) needs one to keep to",
        ),
        ("--burst 0 --rate 1Gb/s", "pacing.burst (--burst) = 0B: ", "give at least 1 byte"),
        ("--rate-counts wire", "pacing.rate (--rate) is missing: ", "needs one to keep to"),
        ("--burst-rate-ratio 1.1", "pacing.rate (--rate) is missing: ", "needs one to keep to"),
        (
            "--rate 1Gb/s --rate-counts payload --pacing hardware",
            "pacing.rate_counts (--rate-counts) and pacing.mode (--pacing) do not go together: ",
            "hardware counts what is on the wire",
        ),
        ("--burst 4GiB --rate 1Gb/s", "pacing.burst (--burst) = 4GiB: ", "less than 4GiB"),
        (
            "--pcap a.pcap",
            "backend.pcap (--pcap) and backend.kind (--backend) do not go together: ",
            "only the pcap backend writes a capture file",
        ),
        (
            "--backend pcap --to a:1",
            "backend.pcap (--pcap) is missing: ",
            "writes a capture file; name it",
        ),
        (
            "--backend pcap --to a:1 --pcap=",
            "backend.pcap (--pcap) = ``: ",
            "give the capture file a name",
        ),
        ("--backend verbs", "stream.to (--to) is missing: ", "give HOST:PORT"),
        (
            "--backend udp --vlan 5",
            "stream.vlan (--vlan) and backend.kind (--backend) do not go together: ",
            "with udp the kernel builds the frames; drop stream.vlan (--vlan), or",
        ),
        (
            "--backend udp --dst-mac 02:00:00:00:00:01",
            "stream.dst_mac (--dst-mac) and backend.kind (--backend) do not go together: ",
            "drop stream.dst_mac (--dst-mac)",
        ),
        ("--device=", "backend.device (--device) = ``: ", "such as mlx5_0"),
        (
            "--interface 10.0.0.1 --to [::1]:1",
            "backend.interface (--interface) and stream.to (--to) do not go together: ",
            "10.0.0.1 and [::1]:1 are of different families",
        ),
    ] {
        let message = Config::from_options(flags(line)).expect_err(line).to_string();
        assert!(message.starts_with(keys), "{line}: {message}");
        assert!(message[keys.len()..].contains(hint), "{line}: {message}");
    }
}

#[test]
fn a_wrong_flag_is_named_by_clap_with_our_hint() {
    let error = try_flags(&["--rate", "10Gbps"]).unwrap_err();
    assert!(error.contains("invalid value '10Gbps' for '--rate <RATE>'"), "{error}");
    assert!(error.contains("none of Gb/s Mb/s kb/s b/s B/s kB/s MB/s GB/s"), "{error}");
    let error = try_flags(&["--ttl", "256"]).unwrap_err();
    assert!(error.contains("`256` is not a whole number from 0 to 255"), "{error}");
    let error = try_flags(&["--backend", "ucp"]).unwrap_err();
    assert!(error.contains("possible values: auto, verbs, udp, tcp, pcap"), "{error}");
}

/// Options of which each may or may not be given, a good part of them usable together.
fn options() -> impl Strategy<Value = Options> {
    let one_of = |flags: &'static [&'static str]| proptest::sample::select(flags);
    (
        one_of(&[
            "",
            "--to 239.1.0.0+3:7148",
            "--to [::1]:1 --to host:2",
            "--to 239.1.0.0:1 --to [::1]:1",
        ]),
        one_of(&["", "--packet-size 1472", "--packet-size 9000 --mtu 1500", "--mtu 9000"]),
        one_of(&["", "--flavour 64-48 --repeat-pointers", "--cnt-start 5 --cnt-step 7", "--ttl 3"]),
        one_of(&[
            "",
            "--heap-size 100",
            "--items a:u12[2x4],5000=b:<c8",
            "--heap-size 3MiB --heaps 9",
        ]),
        one_of(&[
            "",
            "--source random:3",
            "--source a.npy",
            "--source ./x --descriptors own",
            "--source a.npy --pack u12",
            "--source a.npy --pack u10 --range -0.1..1e3",
        ]),
        one_of(&["", "--batch-heaps 8", "--in-flight 3", "--batch-heaps 10000000"]),
        one_of(&[
            "",
            "--rate 1.5Gb/s",
            "--rate 1MB/s --burst 9000 --pacing software",
            "--pacing none --hold-back",
        ]),
        one_of(&["", "--backend udp --interface lo", "--backend pcap --pcap a.pcap", "--vlan 3"]),
    )
        .prop_map(|(a, b, c, d, e, f, g, h)| flags(&[a, b, c, d, e, f, g, h].join(" ")))
}

proptest! {
    #[test]
    fn options_read_back(options in options()) {
        prop_assert_eq!(file(&options.to_toml()), Ok(options));
    }

    #[test]
    fn configurations_read_back(options in options()) {
        if let Ok(config) = Config::from_options(options) {
            prop_assert_eq!(printed_and_read(&config), config);
        }
    }
}
