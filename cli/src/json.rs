//! Reports for programs, of which terminals and logs may get hold as well.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::exit::Failure;

/// A report as JSON in one line. What is not printable is escaped, as every reader of JSON undoes.
pub fn line(report: &impl Serialize) -> Result<String, Failure> {
    let mut line = Vec::new();
    let written = report.serialize(&mut Serializer::with_formatter(&mut line, Printable));
    written.map_err(|error| Failure::Usage(error.to_string()))?;
    String::from_utf8(line).map_err(|error| Failure::Usage(error.to_string()))
}

struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|it: char| !it.is_ascii_graphic() && it != ' ') {
            let (shown, escaped) = rest.split_at(at);
            writer.write_all(shown.as_bytes())?;
            let character = escaped.chars().next().unwrap_or_default();
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &escaped[character.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_comes_back_out_of_what_can_be_printed(text in any::<String>()) {
            let line = line(&text).unwrap();
            prop_assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
