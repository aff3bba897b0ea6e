//! Test bodies that run in a child process, which finds the software device.

#![allow(dead_code, reason = "no test uses all of it")]

#[path = "../../library.rs"]
mod library;
pub(crate) mod queue;

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::Command;
use std::{env, fs, thread};

/// The counters that a context left behind.
pub(crate) type Stats = HashMap<String, i64>;

/// Runs a test's body on a device that is set up by `VERBS_DEVICE` and its like.
///
/// The library is found when it is first used, so the body runs in a process of its own: this program
/// again, with one test, which may therefore have one device only. There the answer is none, and the test is over. Here it is what the body's
/// contexts counted, in the order in which they ended.
pub(crate) fn on_device(settings: &[(&str, &str)], body: impl FnOnce()) -> Option<Vec<Stats>> {
    if env::var_os(CHILD).is_some() {
        body();
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    let stats = scratch.path().join("stats");
    let child = Command::new(env::current_exe().unwrap())
        .args([thread::current().name().unwrap(), "--exact", "--nocapture"])
        .env("LD_LIBRARY_PATH", library::directory())
        .env("VERBS_DEVICE_STATS", &stats)
        .env(CHILD, "1")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let output = [child.stdout, child.stderr].concat();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&output));
    Some(fs::read_to_string(stats).unwrap_or_default().lines().map(parse).collect())
}

/// Names on standard error, past libtest's capture, what is not tested. CI may not skip.
pub(crate) fn skip(what: &str, reason: &str) {
    assert_ne!(env::var("CI").as_deref(), Ok("true"), "{what}: {reason}");
    let _ = writeln!(io::stderr(), "skipped: {what}: {reason}");
}

fn parse(line: &str) -> Stats {
    let fields = line.trim_matches(['{', '}']).split(", ").map(|field| field.split_once(": "));
    fields
        .flatten()
        .filter_map(|(name, value)| {
            let value = match value {
                "true" => 1,
                "false" => 0,
                number => number.parse().ok()?,
            };
            Some((name.trim_matches('"').to_owned(), value))
        })
        .collect()
}

const CHILD: &str = "VERBS_DEVICE_TEST_CHILD";
