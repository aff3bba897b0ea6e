//! A long run: what is said of it on the way, and how it ends.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn figures_are_served_and_logged_and_sighup_ends_the_run_in_order() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap().to_string();
    let mut run = start(&["-v", "--to", &to, "--metrics", "127.0.0.1:0"]);
    let mut log = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = log.find(|line| line.contains("figures are at")).expect("the address is logged");
    let address = line.split("http://").nth(1).unwrap().strip_suffix("/metrics").unwrap();
    log.find(|line| line.contains("Gb/s on the wire, 0.100 asked for heaps="))
        .expect("a line of progress");

    let (first, second) = (scrape(address, "/metrics"), scrape(address, "/metrics"));
    assert!(first.starts_with("HTTP/1.1 200") && first.contains("version=0.0.4"), "{first}");
    let figures = |text: &str| {
        ["heaps", "packets", "wire_bytes", "payload_bytes", "doorbells"].map(|it| figure(text, it))
    };
    let (first, second) = (figures(&first), figures(&second));
    assert!(first.iter().zip(&second).all(|(before, after)| 0 < *before && before <= after));
    let [heaps, packets, wire, payload, doorbells] = first;
    assert!(doorbells <= packets && payload < wire && payload <= 8192 * heaps, "{first:?}");

    kill(Pid::from_raw(run.id() as i32), Signal::SIGHUP).unwrap();
    let mut out = String::new();
    run.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130), "{out}");
    let report: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let [sent, failed, unsubmitted] =
        ["heaps", "heaps_failed", "heaps_unsubmitted"].map(|it| report[it].as_u64().unwrap());
    assert_eq!((sent + unsubmitted, failed), (HEAPS, 0));
    assert!(sent >= heaps && unsubmitted > 0);
    // lo counts what every other test sends, too, so no less; several packets of ours are one frame.
    assert!(
        report["device"]["bytes"].as_u64().unwrap() >= report["payload_bytes"].as_u64().unwrap()
    );
}

#[test]
fn whoever_is_told_to_ignore_sighup_goes_on() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap().to_string();
    let doorbell = assert_cmd::cargo::cargo_bin("doorbell");
    let mut run = Command::new("nohup")
        .arg(doorbell)
        .args(["send", "--json", "-v", "--rate", "100Mb/s", "--to", &to])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut progress = || log.find(|line| line.contains("heaps/s")).expect("a line of progress");
    progress();
    kill(Pid::from_raw(run.id() as i32), Signal::SIGHUP).unwrap();
    progress();
    progress();
    kill(Pid::from_raw(run.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130));
}

/// No figure is forgotten there, and none is made up.
#[test]
fn the_dashboard_draws_what_is_served_and_all_of_it() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(directory.join("../contrib/grafana/doorbell.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut drawn = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            drawn.extend(names(target["expr"].as_str().unwrap()));
        }
    }

    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap().to_string();
    let from = {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    let mut served = BTreeSet::new();
    for mut command in [&["send", "--to", &to][..], &["recv", "--from", &from]].map(|arguments| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("doorbell"));
        command.args(arguments).args(["-v", "--json", "--metrics", "127.0.0.1:0"]);
        command
    }) {
        let mut run =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut log = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
        let line = log.find(|line| line.contains("figures are at")).expect("an address");
        let address = line.split("http://").nth(1).unwrap().strip_suffix("/metrics").unwrap();
        let mut text = scrape(address, "/metrics");
        // What receives has its first figures when it first looks.
        while !text.contains("# TYPE") {
            text = scrape(address, "/metrics");
        }
        let samples =
            text.split_once("\r\n\r\n").unwrap().1.lines().filter(|it| !it.starts_with('#'));
        served.extend(samples.flat_map(names));
        kill(Pid::from_raw(run.id() as i32), Signal::SIGTERM).unwrap();
        run.wait().unwrap();
    }
    assert_eq!(drawn, served);
}

/// The program's names in an expression, or in a sample.
fn names(text: &str) -> Vec<String> {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    words.filter(|word| word.starts_with("doorbell_")).map(str::to_owned).collect()
}

#[test]
fn an_address_that_is_taken_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let failed = assert_cmd::Command::cargo_bin("doorbell")
        .unwrap()
        .args(["send", "-q", "--metrics", &address])
        .assert()
        .code(2);
    let errors = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
    assert!(
        errors.contains("monitor.metrics (--metrics)") && errors.contains(&address),
        "{errors}"
    );
}

/// Time is monotonic: the clock of the wall, which may step, only dates the frames of captures.
#[test]
fn nothing_goes_by_a_clock_that_steps() {
    let mut users = Vec::new();
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories = vec![here.join("src"), here.join("../src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                if ["SystemTime", "CLOCK_REALTIME"].iter().any(|clock| text.contains(clock)) {
                    users.push(path);
                }
            }
        }
    }
    assert!(users.iter().all(|path| path.ends_with("src/backend/pcap.rs")), "{users:?}");
}

fn start(arguments: &[&str]) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin("doorbell"))
        .args(["send", "--json", "-q", "--rate", "100Mb/s", "--heaps", &HEAPS.to_string()])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn scrape(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

fn figure(text: &str, name: &str) -> u64 {
    let name = format!("doorbell_{name}_total ");
    text.lines().find_map(|line| line.strip_prefix(&name)).expect(&name).parse().unwrap()
}

/// Hours of them.
const HEAPS: u64 = 100_000_000;
