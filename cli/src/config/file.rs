//! Configuration files, with errors that say which line and which key.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use doorbell::settings::Form;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::{ConfigError, ConstantItem, Line, Options, Row, SECTIONS, rows};

impl Options {
    /// Takes over what the text of a configuration file says; `path` is how messages name it.
    ///
    /// # Errors
    /// Text that is not TOML, a key that does not exist, or a value that is not of its key's kind.
    pub fn read_toml(&mut self, text: &str, path: &Path) -> Result<(), ConfigError> {
        let line = |offset: usize| {
            let before = &text.as_bytes()[..offset.min(text.len())];
            let number = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            Line { path: path.to_owned(), number }
        };
        let start = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        let table = DeTable::parse(text).map_err(|error| {
            let line = line(start(&error));
            let written = text.lines().nth(line.number - 1).and_then(quoted);
            let hint =
                written.map_or_else(String::new, |it| format!("; text stands in quotes: {it}"));
            ConfigError::Syntax { line, reason: format!("{}{hint}", error.message()) }
        })?;
        let entries = entries(table.get_ref());
        if let Some((entry, hint)) = first_unknown(&entries) {
            let (line, key) = (line(entry.key_at), entry.key.clone());
            return Err(ConfigError::UnknownKey { line, key, hint });
        }
        let mut settings: Vec<_> = table.get_ref().iter().flat_map(settings).collect();
        settings.sort_by_key(|(_, value)| value.span().start);
        for (row, value) in settings {
            let (at, read) = match texts(row, value) {
                Ok(texts) => {
                    let values: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).collect();
                    let wrong = texts
                        .iter()
                        .find(|(_, text)| row.read(&mut Self::default(), &[text]).is_err());
                    let at = wrong.map_or(value.span().start, |(at, _)| *at);
                    (at, row.read(self, &values).map_err(|error| error.to_string()))
                }
                Err((at, reason)) => (at, Err(reason)),
            };
            read.map_err(|reason| ConfigError::Value {
                line: line(at),
                key: row.key().to_string(),
                reason,
            })?;
        }
        let items = Items::deserialize(Deserializer::from(table)).map_err(|error| {
            let at = start(&error);
            let around = entries.iter().filter(|entry| entry.values.contains(&at));
            let entry = around.min_by_key(|entry| entry.values.len());
            ConfigError::Value {
                line: line(at),
                key: entry.map_or_else(String::new, |entry| entry.key.clone()),
                reason: error.message().replace('\n', " "),
            }
        })?;
        self.constants.extend(items.item);
        Ok(())
    }
}

/// What is in files alone.
#[derive(Deserialize)]
struct Items {
    #[serde(default)]
    item: Vec<ConstantItem>,
}

type Pair<'a> = (&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>);

/// The settings of a section, and what they are given.
fn settings<'a>((section, value): Pair<'a>) -> Vec<(Row, &'a Spanned<DeValue<'a>>)> {
    let keys = value.get_ref().as_table().into_iter().flatten();
    let row = |key: &str| Row::find(&format!("{}.{key}", section.get_ref()));
    keys.filter_map(|(key, value)| Some((row(key.get_ref())?, value))).collect()
}

/// A value as the texts that a setting reads, and where each stands; else where it is wrong, and how.
fn texts(row: Row, value: &Spanned<DeValue<'_>>) -> Result<Vec<(usize, String)>, (usize, String)> {
    let wrong = |value: &Spanned<DeValue<'_>>| {
        let (at, expected) = (value.span().start, row.expected());
        (at, format!("{} was given, expected {expected}", kind(value.get_ref())))
    };
    let one = |value: &Spanned<DeValue<'_>>| {
        let text = match (row.form(), value.get_ref()) {
            (Form::Number(_) | Form::Text | Form::Texts, DeValue::Integer(number)) => {
                let number = i128::from_str_radix(number.as_str(), number.radix());
                number.map(|number| number.to_string()).map_err(|_| wrong(value))?
            }
            (Form::Text | Form::Texts, DeValue::Float(number)) => number.as_str().to_owned(),
            (Form::Text | Form::Texts | Form::Choice, DeValue::String(text)) => text.to_string(),
            (Form::Switch, DeValue::Boolean(value)) => value.to_string(),
            _ => return Err(wrong(value)),
        };
        Ok((value.span().start, text))
    };
    match (row.form(), value.get_ref()) {
        (Form::Texts, DeValue::Array(values)) if values.is_empty() => Err((
            value.span().start,
            format!("the list is empty; give at least one {}, or leave it out", row.takes()),
        )),
        (Form::Texts, DeValue::Array(values)) => values.iter().map(one).collect(),
        // A number alone is no list of texts.
        (Form::Texts, DeValue::Integer(_) | DeValue::Float(_)) => Err(wrong(value)),
        _ => one(value).map(|it| vec![it]),
    }
}

/// A line as it should have been written, if its value is text without quotes.
fn quoted(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.split('#').next()?.trim());
    let is_bare = |it: &str| !it.is_empty() && !it.contains(['"', '\'', '[', ']', '{', '}', '=']);
    match value.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        Some(list) => {
            let items: Vec<&str> = list.split(',').map(str::trim).collect();
            items.iter().all(|it| is_bare(it)).then(|| {
                format!(
                    "{key} = [{}]",
                    items.iter().map(|it| format!("\"{it}\"")).collect::<Vec<_>>().join(", ")
                )
            })
        }
        None => is_bare(value).then(|| format!("{key} = \"{value}\"")),
    }
}

/// What a value is, in words.
fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {:?}", text.as_ref()),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "an array".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// A section or a key in a section: where its name begins, and where its value lies.
struct Entry {
    key: String,
    key_at: usize,
    values: Range<usize>,
    section: bool,
}

impl Entry {
    fn of(section: &str, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Self {
        Self {
            key: format!("{section}.{}", key.get_ref()),
            key_at: key.span().start,
            values: value.span(),
            section: false,
        }
    }
}

fn entries(root: &DeTable<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (section, value) in root {
        let name = section.get_ref();
        let keys = value.get_ref().as_table();
        if let (ITEM, Some(tables)) = (name.as_ref(), value.get_ref().as_array()) {
            let section = Entry {
                key: ITEM.into(),
                key_at: section.span().start,
                values: value.span(),
                section: true,
            };
            entries.push(section);
            let keys = tables.iter().filter_map(|table| table.get_ref().as_table()).flatten();
            entries.extend(keys.map(|(key, value)| Entry::of(name, key, value)));
            continue;
        }
        entries.push(Entry {
            key: name.to_string(),
            key_at: section.span().start,
            values: value.span(),
            section: keys.is_some(),
        });
        entries.extend(keys.into_iter().flatten().map(|(key, value)| Entry::of(name, key, value)));
    }
    entries
}

/// The first entry, in the order of the file, that is no section or key of ours, and what is.
fn first_unknown(entries: &[Entry]) -> Option<(&Entry, String)> {
    let keys: Vec<&str> = rows().map(|row| row.key().as_str()).chain(ITEM_KEYS).collect();
    let sections: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).chain([ITEM]).collect();
    let known = |entry: &&Entry| match entry.section {
        true => sections.contains(&entry.key.as_str()),
        false => keys.contains(&entry.key.as_str()),
    };
    let entry = entries.iter().filter(|entry| !known(entry)).min_by_key(|entry| entry.key_at)?;
    let hint = match entry.section {
        true => nearest(&entry.key, &sections),
        false if sections.contains(&entry.key.as_str()) => {
            format!("it is a section; write `[{}]` and its keys below it", entry.key)
        }
        false => nearest(&entry.key, &keys),
    };
    Some((entry, hint))
}

/// The valid key whose name is most like that of `key`, whatever its section, since the section may
/// be what is wrong; the section's own keys, or everything, where none is like it.
fn nearest(key: &str, valid: &[&str]) -> String {
    let split = |key: &str| match key.rsplit_once('.') {
        Some((section, name)) => (section.to_owned(), name.replace('-', "_")),
        None => (String::new(), key.to_owned()),
    };
    let (section, name) = split(key);
    let likeness = |other: &str| {
        let (own, other) = split(other);
        (strsim::normalized_damerau_levenshtein(&name, &other), own == section)
    };
    let best = valid
        .iter()
        .map(|other| (likeness(other), other))
        .max_by(|((a, here), _), ((b, there), _)| a.total_cmp(b).then(here.cmp(there)));
    match best {
        Some(((likeness, _), best)) if likeness >= LIKE => format!("did you mean `{best}`?"),
        _ => {
            let near: Vec<&str> =
                valid.iter().copied().filter(|other| split(other).0 == section).collect();
            let listed = if near.is_empty() { valid } else { &near };
            format!("the valid ones are {}", listed.join(", "))
        }
    }
}

/// The only section that is in files alone, and may be there several times.
const ITEM: &str = "item";
const ITEM_KEYS: [&str; 4] = ["item.id", "item.name", "item.description", "item.value"];

/// Half of the letters in place: a typo or a missing word, not a different key.
const LIKE: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(text: &str) -> Result<Options, ConfigError> {
        let mut options = Options::default();
        options.read_toml(text, Path::new("run.toml")).map(|()| options)
    }

    #[test]
    fn mistakes_in_a_file_name_line_and_key() {
        for (text, message) in [
            (
                "[stream]\nto = '[::1]:1'\nttl = 'x'",
                "run.toml:3: stream.ttl: the string \"x\" was given, expected a whole number from 0 to 255",
            ),
            (
                "[stream]\nttl = 256",
                "run.toml:2: stream.ttl: `256` is not a whole number from 0 to 255",
            ),
            (
                "\n\nheap.count = -1",
                "run.toml:3: heap.count: `-1` is not a whole number, 0 or above",
            ),
            (
                "heap.count = 1.5",
                "run.toml:1: heap.count: the number 1.5 was given, expected a whole number, 0 or above",
            ),
            (
                "[heap]\nsize = '12 Kb'",
                "run.toml:2: heap.size: `12 Kb` is not a size: its unit is none of TiB GiB MiB KiB B kB MB GB TB; did you mean 12KiB or 12kB?",
            ),
            (
                "[heap]\nsize = -1",
                "run.toml:2: heap.size: `-1` is not a size: write a number of bytes and a unit, such as 10GiB",
            ),
            (
                "[heap]\nsize = true",
                "run.toml:2: heap.size: true was given, expected a string or a number",
            ),
            (
                "[heap]\nitems = ['a:u8',\n'b']",
                "run.toml:3: heap.items: `b` is not an item: write [ID=]NAME:TYPE[DIMS], such as adc_x:i8[4096]",
            ),
            (
                "stream.to = 7148",
                "run.toml:1: stream.to: the number 7148 was given, expected a string or an array of strings",
            ),
            (
                "stream.to = [{}]",
                "run.toml:1: stream.to: a table was given, expected a string or an array of strings",
            ),
            (
                "[stream.to]",
                "run.toml:1: stream.to: a table was given, expected a string or an array of strings",
            ),
            (
                "[stream]\ngroup = 'parallel'",
                "run.toml:2: stream.group: `parallel` is not one of `serial`, `round-robin`",
            ),
            (
                "[stream]\nrepeat_pointers = 1",
                "run.toml:2: stream.repeat_pointers: the number 1 was given, expected true or false",
            ),
            (
                "[backend]\nkind = 1",
                "run.toml:2: backend.kind: the number 1 was given, expected one of `auto`, `verbs`, `udp`, `tcp`, `pcap`, `null`",
            ),
            (
                "[stream]\nto = []",
                "run.toml:2: stream.to: the list is empty; give at least one HOST:PORT, or leave it out",
            ),
            ("[heap]\nsiez = 1", "run.toml:2: unknown key `heap.siez`: did you mean `heap.size`?"),
            (
                "[heap]\nsize = 1\n[stream]\npacket-size = 1\nx = 1",
                "run.toml:4: unknown key `stream.packet-size`: did you mean `stream.packet_size`?",
            ),
            ("heaps = 1", "run.toml:1: unknown key `heaps`: did you mean `batch.heaps`?"),
            ("rate = '1Gb/s'", "run.toml:1: unknown key `rate`: did you mean `pacing.rate`?"),
            (
                "[batch]\nzzzzzz = 1",
                "run.toml:2: unknown key `batch.zzzzzz`: the valid ones are batch.heaps, batch.in_flight, \
                 batch.layout",
            ),
            ("\n[steam]\nto = 'a:1'", "run.toml:2: unknown key `steam`: did you mean `stream`?"),
            (
                "[zzzzzz]",
                "run.toml:1: unknown key `zzzzzz`: the valid ones are stream, heap, source, batch, pacing, backend, monitor, senders, item",
            ),
            (
                "source = 'a.npy'",
                "run.toml:1: unknown key `source`: it is a section; write `[source]` and its keys below it",
            ),
            (
                "[[heap]]\nsize = 1",
                "run.toml:1: unknown key `heap`: it is a section; write `[heap]` and its keys below it",
            ),
        ] {
            assert_eq!(file(text).expect_err(text).to_string(), message);
        }
        for (text, start) in [
            (
                "[stream]\nto = 127.0.0.1:7148",
                "run.toml:2: not TOML: invalid float, expected nothing; text stands in quotes: to = \"127.0.0.1:7148\"",
            ),
            (
                "[stream]\nto = [a:1, b:2] # two",
                "run.toml:2: not TOML: string values must be quoted, expected literal string; text stands in \
                 quotes: to = [\"a:1\", \"b:2\"]",
            ),
            ("[stream]\nttl = ", "run.toml:2: not TOML: "),
            ("[stream]\nttl = 1\nttl = 2", "run.toml:3: not TOML: "),
            ("[stream]\nto = 'a:1", "run.toml:2: not TOML: "),
        ] {
            let message = file(text).expect_err(text).to_string();
            assert!(message.starts_with(start), "{message}");
        }
        let flavour = file("stream.flavour = '64-41'").unwrap_err().to_string();
        assert!(
            flavour.starts_with("run.toml:1: stream.flavour: `64-41` is not a SPEAD flavour"),
            "{flavour}"
        );
    }

    /// Something like a configuration file.
    fn near_toml() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            "\\[(stream|heap|source|batch|pacing|backend|x)\\]",
            "(to|ttl|size|items|count|kind|rate|stream.to|heap.size|é) = [-0-9a-z'\"\\[\\]{}.:é]{0,12}",
            "[\\[\\]=.\"'a-z#é ]{0,12}",
        ];
        proptest::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #[test]
        fn no_text_panics(any in any::<String>(), near in near_toml()) {
            for text in [any, near] {
                super::super::tests::reads_back(&text);
            }
        }
    }
}
