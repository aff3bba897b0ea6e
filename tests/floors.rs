//! Imports point down only: ARCHITECTURE.md has the floors, and this holds the code to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each floor may use, besides itself.
const FLOORS: [(&str, &[&str]); 13] = [
    ("wire", &[]),
    ("page", &[]),
    ("histogram", &[]),
    ("output", &[]),
    ("pacer", &[]),
    ("plan", &["wire"]),
    ("region", &["plan", "wire", "page"]),
    ("pack", &["region", "wire"]),
    ("backend", &["region", "plan", "wire", "pacer", "page", "output"]),
    ("sender", &["backend", "region", "plan", "wire", "pacer", "histogram"]),
    ("settings", &["sender", "backend", "plan", "wire", "pacer"]),
    (
        "stream",
        &[
            "settings",
            "sender",
            "backend",
            "region",
            "plan",
            "wire",
            "pacer",
            "histogram",
            "output",
        ],
    ),
    // Sockets and queues to receive from are the backends'.
    ("receive", &["backend", "wire", "page"]),
];

#[test]
fn imports_point_down_only() {
    let floors: BTreeMap<&str, &[&str]> = FLOORS.into();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut upwards = Vec::new();
    let mut used = 0;
    for path in sources(&src) {
        let within = path.strip_prefix(&src).unwrap();
        let floor = within.components().next().unwrap().as_os_str().to_str().unwrap();
        let floor = floor.trim_end_matches(".rs");
        if floor == "lib" {
            continue;
        }
        let below = floors.get(floor).unwrap_or_else(|| panic!("src/{floor} is on no floor"));
        let text = fs::read_to_string(&path).unwrap();
        // Tests at the end of a file, and files of tests, put together what they need.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        if within.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests")) {
            continue;
        }
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for after in line.split("crate::").skip(1) {
                let name: String =
                    after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                used += 1;
                if floors.contains_key(name.as_str()) && name != floor && !below.contains(&&*name) {
                    upwards.push(format!("{}: {}", within.display(), line.trim()));
                }
            }
        }
    }
    assert!(used > 100, "the code was not found");
    assert!(upwards.is_empty(), "imports that do not point down:\n{}", upwards.join("\n"));
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
