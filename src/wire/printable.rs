//! Text from the network, for people to look at.

use std::fmt;

/// Shows text that somebody else wrote, and nothing but: it is printable, in one line, and bounded.
///
/// What would move the cursor, end the line, reverse the order of letters or not show at all is written as an
/// escape, `\u{202e}`: control characters, separators, formats such as the controls of writing direction (Unicode
/// Standard Annex 9) and of zero width, combining marks, and what no character is assigned to.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let mut room = MOST;
        for character in self.0.chars() {
            let escaped = character.escape_debug();
            // Quotes and backslashes are as they are: dtypes are full of them.
            let is_shown = escaped.len() == 1 || matches!(character, '\'' | '"' | '\\');
            let len = if is_shown { 1 } else { escaped.len() };
            if len > room {
                return f.write_str("...");
            }
            room -= len;
            match is_shown {
                true => f.write_char(character)?,
                false => write!(f, "{escaped}")?,
            }
        }
        Ok(())
    }
}

/// Columns of text: two lines of a terminal. What is longer is cut, and says so.
const MOST: usize = 160;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        Printable(text).to_string()
    }

    #[test]
    fn what_can_be_seen_is_shown_as_it_is() {
        for text in ["", "adc_samples", "[('a', \"<f4\")] \\x", "µ Größe 温度 ±1 °C", "~!"] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        for (text, escaped) in [
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("a\nroot# \r\t\0", "a\\nroot# \\r\\t\\0"),
            ("\u{7f}\u{9b}2J", "\\u{7f}\\u{9b}2J"),
            ("\u{2028}\u{2029}\u{85}", "\\u{2028}\\u{2029}\\u{85}"),
        ] {
            assert_eq!(shown(text), escaped);
        }
        // UAX 9: embeddings, overrides, isolates and marks. Then what has no width, and what is not seen.
        let directions = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let others = "\u{200e}\u{200f}\u{61c}\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{ad}\u{a0}\u{301}\u{e0041}";
        for character in directions.chain(others.chars()) {
            let escaped = format!("\\u{{{:x}}}", u32::from(character));
            assert_eq!(shown(&character.to_string()), escaped);
        }
    }

    #[test]
    fn what_is_long_is_cut() {
        assert_eq!(shown(&"a".repeat(MOST)), "a".repeat(MOST));
        assert_eq!(shown(&"é".repeat(MOST + 1)), "é".repeat(MOST) + "...");
        assert!(shown(&"\u{10ffff}".repeat(1 << 20)).len() <= MOST + "...".len());
    }

    proptest! {
        #[test]
        fn nothing_else_comes_out(text in any::<String>()) {
            let shown = shown(&text);
            prop_assert!(shown.chars().count() <= MOST + 3);
            prop_assert!(shown.chars().all(|it| it.escape_debug().len() == 1 || "'\"\\".contains(it)));
        }
    }
}
