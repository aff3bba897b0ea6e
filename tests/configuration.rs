//! `docs/configuration.md` is what the declarations of the settings say. To write it anew:
//!
//! ```sh
//! DOORBELL_WRITE=1 cargo test --test configuration
//! ```

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Arg, Args, Command};
use doorbell::config::Options;

#[test]
fn the_page_is_what_the_code_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
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
    let command = Options::augment_args(Command::new("doorbell"));
    let mut page = INTRODUCTION.to_owned();
    let mut section = "";
    for setting in command.get_arguments() {
        let (within, key) = setting.get_id().as_str().split_once('.').expect("section.key");
        if within != section {
            section = within;
            let about = setting.get_help_heading().expect("every section has a heading");
            write!(page, "\n## `[{section}]`: {}\n\n{HEAD}", about.to_lowercase()).unwrap();
        }
        let (meaning, default) = split_default(&setting.get_help().expect("help").to_string());
        let cells =
            [format!("`{key}`"), flag(setting), kind(section, key), default, format!("{meaning}.")];
        writeln!(page, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")).unwrap();
    }
    page
}

fn flag(setting: &Arg) -> String {
    let values = setting.get_value_names().expect("every setting has a value").join(" ");
    match setting.get_num_args().is_some_and(|count| count.min_values() == 0) {
        true => format!("`--{}[={values}]`", setting.get_long().expect("a flag")),
        false => format!("`--{} {values}`", setting.get_long().expect("a flag")),
    }
}

/// What the reader of files says that it expects, where it is given what no key takes.
fn kind(section: &str, key: &str) -> String {
    let file = format!("{section}.{key} = {{}}");
    let error = Options::from_toml(&file, Path::new("")).expect_err("no setting is a table");
    let text = error.to_string();
    let (_, expected) = text.rsplit_once("expected ").expect("the error says what is expected");
    expected.to_owned()
}

/// The meaning of a setting, and its default, with which its help ends.
fn split_default(help: &str) -> (String, String) {
    let (meaning, default) = help.split_once(" [default: ").expect("every help states the default");
    let default = default.strip_suffix(']').expect("help ends with the default");
    (meaning.to_owned(), default.to_owned())
}

const INTRODUCTION: &str = "\
# Configuration

Every setting of `doorbell send` and `doorbell plan` is a key of a TOML file and a flag; flags override the
file. `doorbell send --print-config` writes down what both come to, as a file that can be read back. A key
that does not exist is an error that names its line and the nearest key that does. Sizes are numbers of bytes, or
text with a unit of `GiB MiB KiB B kB MB GB`; rates are text such as `10Gb/s`, with `b/s kb/s Mb/s Gb/s B/s MB/s GB/s`.

This page is generated from the declarations in `src/config/options.rs`, and a test compares it with them;
`DOORBELL_WRITE=1 cargo test --test configuration` writes it anew.
";
const HEAD: &str = "| key | flag | value in TOML | default | meaning |\n|---|---|---|---|---|\n";
const STALE: &str =
    "not what the code says; `DOORBELL_WRITE=1 cargo test --test configuration` writes it anew";
