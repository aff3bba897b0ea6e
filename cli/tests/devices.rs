//! `doorbell devices` on machines with and without RDMA.

#[path = "../../tests/verbs-device/library.rs"]
mod library;

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

/// Runs it with the software device, set up by these variables.
fn on_device(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::cargo_bin("doorbell").unwrap();
    command.arg("devices").env("LD_LIBRARY_PATH", library::directory());
    command.envs(settings.iter().copied());
    command
}

fn text(command: &mut Command) -> String {
    let output = command.assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&text(command.arg("--json"))).unwrap()
}

fn codes(survey: &Value) -> Vec<&str> {
    let obstacles = survey["verbs"]["obstacles"].as_array().unwrap();
    obstacles.iter().map(|obstacle| obstacle["code"].as_str().unwrap()).collect()
}

/// Whatever it has: the text ends with a verdict, and a cause where that is no.
#[test]
fn this_machine_is_described() {
    let text = text(Command::cargo_bin("doorbell").unwrap().arg("devices"));
    for heading in ["RDMA devices\n", "\nNetwork interfaces\n", "\nWhat works here\n"] {
        assert!(text.contains(heading), "{text}");
    }
    assert!(text.contains("127.0.0.1") && text.contains("  udp    yes"), "{text}");
    assert!(text.lines().all(|line| line.len() < 140 && !line.ends_with(' ')), "{text}");
    let survey = json(Command::cargo_bin("doorbell").unwrap().arg("devices"));
    let works = survey["verbs"]["works"].as_bool().unwrap();
    assert_eq!(works, text.contains("  verbs  yes"), "{text}");
    assert!(works || !codes(&survey).is_empty(), "{survey}");
    for obstacle in survey["verbs"]["obstacles"].as_array().unwrap() {
        let first = obstacle["cause"].as_str().unwrap().split(' ').next().unwrap();
        assert!(text.contains(first), "{text}");
        assert!(!obstacle["remedy"].as_array().unwrap().is_empty(), "{obstacle}");
    }
    let loopback = &survey["interfaces"].as_array().unwrap().iter().find(|it| it["name"] == "lo");
    assert_eq!(loopback.unwrap()["state"], "up");
}

#[test]
fn a_broken_library_is_told_with_what_to_install() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("libibverbs.so.1"), "no ELF").unwrap();
    let mut command = Command::cargo_bin("doorbell").unwrap();
    command.arg("devices").env("LD_LIBRARY_PATH", directory.path());
    let text = text(&mut command);
    assert!(text.contains("libibverbs cannot be loaded"), "{text}");
    assert!(text.contains("sudo apt-get install libibverbs1 ibverbs-providers"), "{text}");
    assert_eq!(codes(&json(&mut command))[0], "no-library");
}

#[test]
fn a_kernel_without_rdma_and_one_without_a_device_are_told_apart() {
    let survey = json(&mut on_device(&[("VERBS_DEVICE", "enosys")]));
    assert_eq!(codes(&survey)[0], "no-kernel-support");
    assert!(survey["verbs"]["obstacles"][0]["remedy"][0] == "sudo modprobe ib_uverbs");
    // Where there is a device after all, libibverbs has no driver for it.
    let expected = match Path::new("/sys/class/infiniband").exists() {
        true => ["no-device", "no-provider"].as_slice(),
        false => &["no-device"],
    };
    assert!(expected.contains(&codes(&json(&mut on_device(&[])))[0]));
}

#[test]
fn a_device_is_tied_to_its_interface() {
    let settings = [("VERBS_DEVICE", "count=lo"), ("VERBS_DEVICE_RATE_LIMIT", "1000..100000000")];
    let survey = json(&mut on_device(&settings));
    let device = &survey["rdma_devices"][0];
    assert_eq!(device["name"], "soft0");
    // The EUI-64 of a MAC address of zeros, in the order of its digits.
    assert_eq!(device["guid"], "0200:00ff:fe00:0000");
    let capabilities = &device["capabilities"];
    assert_eq!(capabilities["queue_packed"], 32_768);
    assert_eq!(capabilities["queue_split"], 16_384);
    assert_eq!(capabilities["pacing_min_kbps"], 1000);
    let port = &device["ports"][0];
    assert_eq!(
        (port["state"].as_str(), port["link_layer"].as_str()),
        (Some("active"), Some("Ethernet"))
    );
    assert_eq!(port["interfaces"][0], "lo");
    assert_eq!(port["raw_packets"], "yes");
    assert_eq!(port["speed_gbps"], 100.0);
    let gids: Vec<&str> =
        port["gids"].as_array().unwrap().iter().map(|gid| gid.as_str().unwrap()).collect();
    // Once, though the device has it for each version of RoCE.
    assert_eq!(gids.iter().filter(|gid| **gid == "::ffff:127.0.0.1").count(), 1, "{gids:?}");
    let interfaces = survey["interfaces"].as_array().unwrap();
    let loopback = interfaces.iter().find(|it| it["name"] == "lo").unwrap();
    assert_eq!((&loopback["rdma_device"], &loopback["rdma_port"]), (&"soft0".into(), &1.into()));
    assert_eq!(survey["verbs"]["interfaces"][0], "lo");
    // RLIMIT_MEMLOCK is this machine's.
    assert!(codes(&survey).iter().all(|code| *code == "memlock"), "{survey}");
    let text = text(&mut on_device(&settings));
    assert!(text.contains("by the device, 1 Mb/s to 100 Gb/s"), "{text}");
}

#[test]
fn a_device_that_permits_no_raw_packets_stops_verbs() {
    let settings = [("VERBS_DEVICE", "count=lo"), ("VERBS_DEVICE_FAULT", "no-cap-net-raw")];
    let survey = json(&mut on_device(&settings));
    assert_eq!(survey["rdma_devices"][0]["ports"][0]["raw_packets"], "not permitted");
    assert_eq!(survey["verbs"]["works"], false);
    // Told apart by whether this process has the capability, and the kernel does not heed it.
    let expected = match survey["process"]["cap_net_raw"].as_bool() {
        Some(true) => "no-cap-net-raw-on-host",
        _ => "no-cap-net-raw",
    };
    assert!(codes(&survey).contains(&expected), "{survey}");
}

#[test]
fn who_reads_no_more_is_no_trouble() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = std::process::Command::new(assert_cmd::cargo::cargo_bin!("doorbell"))
        .arg("devices")
        .stdout(writer)
        .status();
    assert!(status.unwrap().success());
}
