//! Python literals, as far as they occur in numpy's headers.
//!
//! Parsers at hand take exponential time on nested lists, overflow the stack on deep ones, or lose
//! what exactly was written; this one reads each byte once, and refuses what is nested deeply.

/// A literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Literal<'a> {
    /// What is between the quotes, escapes untouched.
    Text(&'a str),
    /// A number that is not negative.
    Integer(u64),
    /// `True` or `False`.
    Boolean(bool),
    /// A tuple or a list.
    Sequence(Vec<Literal<'a>>),
    /// Keys, values, and how the values were written.
    Dictionary(Vec<(&'a str, Literal<'a>, &'a str)>),
}

impl<'a> Literal<'a> {
    /// Reads a literal, and nothing but white space after it.
    pub(crate) fn parse(source: &'a str) -> Option<Self> {
        let mut parser = Parser { source, at: 0 };
        let literal = parser.literal(0)?;
        parser.skip_space();
        (parser.at == source.len()).then_some(literal)
    }

    /// A value of a dictionary, and how it was written. Of keys that occur twice, the last counts.
    pub(crate) fn value(&self, wanted: &str) -> Option<(&Self, &'a str)> {
        let Self::Dictionary(entries) = self else { return None };
        let entry = entries.iter().rev().find(|(key, ..)| *key == wanted)?;
        Some((&entry.1, entry.2))
    }
}

impl Literal<'_> {
    /// The numbers of a tuple or list of nothing else: a shape.
    pub(crate) fn dimensions(&self) -> Option<Vec<u64>> {
        let Self::Sequence(items) = self else { return None };
        let dimension = |item: &Literal<'_>| match item {
            Literal::Integer(dimension) => Some(*dimension),
            _ => None,
        };
        items.iter().map(dimension).collect()
    }
}

struct Parser<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn literal(&mut self, depth: usize) -> Option<Literal<'a>> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'\'' | b'"' | b'u' => self.text().map(Literal::Text),
            b'0'..=b'9' => self.integer().map(Literal::Integer),
            b'(' => self.sequence(b')', depth),
            b'[' => self.sequence(b']', depth),
            b'{' => self.dictionary(depth),
            _ if self.word("True") => Some(Literal::Boolean(true)),
            _ if self.word("False") => Some(Literal::Boolean(false)),
            _ => None,
        }
    }

    fn sequence(&mut self, close: u8, depth: usize) -> Option<Literal<'a>> {
        let mut items = Vec::new();
        self.entries(close, |parser| {
            items.push(parser.literal(depth + 1)?);
            Some(())
        })?;
        Some(Literal::Sequence(items))
    }

    fn dictionary(&mut self, depth: usize) -> Option<Literal<'a>> {
        let mut entries = Vec::new();
        self.entries(b'}', |parser| {
            let key = parser.text()?;
            parser.eat(b':').then_some(())?;
            parser.skip_space();
            let start = parser.at;
            let value = parser.literal(depth + 1)?;
            entries.push((key, value, &parser.source[start..parser.at]));
            Some(())
        })?;
        Some(Literal::Dictionary(entries))
    }

    /// Entries between brackets, with commas between them and perhaps after the last.
    fn entries(&mut self, close: u8, mut entry: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        loop {
            if self.eat(close) {
                return Some(());
            }
            entry(self)?;
            if !self.eat(b',') {
                return self.eat(close).then_some(());
            }
        }
    }

    fn text(&mut self) -> Option<&'a str> {
        // Python 2 marked text, as opposed to bytes.
        if self.peek() == Some(b'u') {
            self.at += 1;
        }
        let quote = self.peek().filter(|byte| matches!(byte, b'\'' | b'"'))?;
        let start = self.at + 1;
        let mut bytes = self.source.bytes().enumerate().skip(start);
        while let Some((index, byte)) = bytes.next() {
            if byte == quote {
                self.at = index + 1;
                return Some(&self.source[start..index]);
            }
            if byte == b'\\' {
                bytes.next();
            }
        }
        None
    }

    fn integer(&mut self) -> Option<u64> {
        let rest = &self.source[self.at..];
        let len = rest.bytes().take_while(u8::is_ascii_digit).count();
        self.at += len;
        // Python 2 marked long integers.
        let _ = self.word("L");
        rest[..len].parse().ok()
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.source[self.at..].starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.source.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        let rest = &self.source[self.at..];
        self.at += rest.len() - rest.trim_ascii_start().len();
    }
}

/// A dictionary, and a structure within a structure within ... fourteen times over.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_kept_as_written() {
        let source = r#" {"descr": [('a\'', "<f4"), (('t', 'shape'), '<i2', (2,3,)), ],'shape': (4L,), 'fortran_order': False, } "#;
        let literal = Literal::parse(source).unwrap();
        let (_, descr) = literal.value("descr").unwrap();
        assert_eq!(descr, r#"[('a\'', "<f4"), (('t', 'shape'), '<i2', (2,3,)), ]"#);
        let (shape, _) = literal.value("shape").unwrap();
        assert_eq!(*shape, Literal::Sequence(vec![Literal::Integer(4)]));
        assert_eq!(literal.value("fortran_order").unwrap().0, &Literal::Boolean(false));
        assert_eq!(literal.value("a"), None);
    }

    #[test]
    fn what_is_no_literal_is_refused() {
        for wrong in [
            "",
            "(",
            "(1",
            "(1 2)",
            "(,)",
            "{'a'}",
            "{1: 2}",
            "'a",
            "'a\\'",
            "-1",
            "1.5",
            "None",
            "() ()",
            "18446744073709551616",
        ] {
            assert_eq!(Literal::parse(wrong), None, "{wrong}");
        }
        assert!(Literal::parse(&format!("{}{}", "[".repeat(30), "]".repeat(30))).is_some());
        assert!(Literal::parse(&"[".repeat(1_000_000)).is_none());
        assert!(Literal::parse(&"[(".repeat(16)).is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(source in "[]\\[(){}'\",:\\\\ 0-9LTrueé]{0,60}") {
            let _ = Literal::parse(&source);
        }
    }
}
