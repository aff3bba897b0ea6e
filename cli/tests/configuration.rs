//! `docs/configuration.md` is what the declarations of the settings say. To write it anew:
//!
//! ```sh
//! DOORBELL_WRITE=1 cargo test -p doorbell-cli --test configuration
//! ```

use std::fmt::Write;
use std::path::PathBuf;

use doorbell_cli::config::{Row, SECTIONS, rows};

#[test]
fn the_page_is_what_the_code_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = page();
    if std::env::var_os("DOORBELL_WRITE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (found, page)) in found.lines().zip(page.lines()).enumerate() {
        assert_eq!(found, page, "docs/configuration.md:{}: {STALE}", line + 1);
    }
    assert_eq!(found.lines().count(), page.lines().count(), "docs/configuration.md: {STALE}");
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (section, title) in SECTIONS {
        write!(page, "\n## `[{section}]`: {}\n\n{HEAD}", title.to_lowercase()).unwrap();
        let within = |row: &Row| row.key().as_str().starts_with(&format!("{section}."));
        for row in rows().filter(within) {
            let cells = [
                format!("`{}`", row.key().name()),
                flag(row),
                row.expected(),
                row.default().to_owned(),
                format!("{}.", row.help()),
            ];
            writeln!(page, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
                .unwrap();
        }
    }
    page
}

fn flag(row: Row) -> String {
    match row.bare() {
        Some(_) => format!("`--{}[={}]`", row.flag(), row.takes()),
        None => format!("`--{} {}`", row.flag(), row.takes()),
    }
}

const INTRODUCTION: &str = "\
# Configuration

Every setting of `doorbell send` and `doorbell plan` is a key of a TOML file and a flag; flags override the
file. `doorbell send --print-config` writes down what both come to, as a file that can be read back. A key
that does not exist is an error that names its line and the nearest key that does. Sizes are numbers of bytes, or
text with a unit of `GiB MiB KiB B kB MB GB`; rates are text such as `10Gb/s`, with `b/s kb/s Mb/s Gb/s B/s MB/s GB/s`.

The sections on the source and on monitoring, and the size and items of a heap, are the program's; all others
are the library's `Settings`, too. This page is written from their tables in `src/settings/` and
`cli/src/config/program.rs`, and a test compares it with them;
`DOORBELL_WRITE=1 cargo test -p doorbell-cli --test configuration` writes it anew.
";
const HEAD: &str = "| key | flag | value in TOML | default | meaning |\n|---|---|---|---|---|\n";
const STALE: &str = "not what the code says; `DOORBELL_WRITE=1 cargo test -p doorbell-cli --test configuration` writes it anew";
