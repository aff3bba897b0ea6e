//! The types of numpy's elements: what they are called, and how large they are.

use std::collections::HashSet;

use super::literal::Literal;
use super::printable::Printable;

/// A `descr` as numpy itself writes it, with its byte order, and the bytes of an element; else what is wrong.
///
/// Numpy reads more than it writes: `'float32'`, `u'<f4'` and `'f'` are `'<f4'` on a little-endian machine.
pub(crate) fn canonical_descr(descr: &str) -> Result<(String, usize), String> {
    canonical(&Literal::parse(descr).ok_or("not a Python literal")?)
}

fn canonical(dtype: &Literal<'_>) -> Result<(String, usize), String> {
    match dtype {
        Literal::Text(code) => {
            let plain = Plain::parse(code).ok_or_else(|| {
                let code = Printable(code);
                format!("`{code}` is not a type string such as <f4, of a size that numpy has")
            })?;
            if plain.kind == 'O' {
                return Err("Python objects are pickled, and mean nothing to a receiver: save an \
                            array of a numeric dtype"
                    .into());
            }
            let size = usize::try_from(plain.size()).map_err(|error| error.to_string())?;
            Ok((format!("'{}'", plain.descr()), size))
        }
        Literal::Sequence(fields) => structure(fields),
        _ => Err("neither a type string nor a list of fields".into()),
    }
}

/// A list of fields: of name, which may have a title before it, and dtype, and perhaps a shape.
fn structure(fields: &[Literal<'_>]) -> Result<(String, usize), String> {
    let not_a_field = || "a field is not (name, dtype) or (name, dtype, shape)";
    let (mut names, mut parts, mut sum) = (HashSet::new(), Vec::new(), 0_usize);
    for field in fields {
        let Literal::Sequence(field) = field else { return Err(not_a_field().into()) };
        let (name, dtype, shape) = match field.as_slice() {
            [name, dtype] => (name, dtype, None),
            [name, dtype, Literal::Integer(len)] => (name, dtype, Some(vec![*len])),
            [name, dtype, shape] => {
                (name, dtype, Some(shape.dimensions().ok_or_else(not_a_field)?))
            }
            _ => return Err(not_a_field().into()),
        };
        let name = match name {
            Literal::Text(name) => own(&mut names, name).map(|()| name.quoted()),
            Literal::Sequence(pair) => match pair.as_slice() {
                [Literal::Text(title), Literal::Text(name)] => own(&mut names, title)
                    .and_then(|()| own(&mut names, name))
                    .map(|()| format!("({}, {})", title.quoted(), name.quoted())),
                _ => Err(not_a_field().into()),
            },
            _ => Err(not_a_field().into()),
        }?;
        let (dtype, size) = canonical(dtype)?;
        let elements = shape
            .iter()
            .flatten()
            .try_fold(size, |size, &dimension| size.checked_mul(usize::try_from(dimension).ok()?));
        sum = elements
            .and_then(|size| sum.checked_add(size))
            .ok_or_else(|| "an element exceeds all memory".to_owned())?;
        parts.push(match shape {
            Some(shape) => format!("({name}, {dtype}, {})", tuple(&shape)),
            None => format!("({name}, {dtype})"),
        });
    }
    match sum as u64 {
        0..=MAX_BYTES => Ok((format!("[{}]", parts.join(", ")), sum)),
        _ => Err(format!("an element has {sum} bytes, and numpy's most are {MAX_BYTES}")),
    }
}

/// Takes a name, of which there may be one; gaps have none.
fn own<'a>(names: &mut HashSet<&'a str>, name: &'a str) -> Result<(), String> {
    match name.is_empty() || names.insert(name) {
        true => Ok(()),
        false => Err(format!("two fields have the name `{}`", Printable(name))),
    }
}

trait Quoted {
    /// As Python writes it.
    fn quoted(&self) -> String;
}

impl Quoted for str {
    fn quoted(&self) -> String {
        // Text that was between double quotes may have single ones without an escape.
        let is_single = |(at, _): (usize, &str)| self[..at].ends_with('\\');
        let quote = if self.match_indices('\'').all(is_single) { '\'' } else { '"' };
        format!("{quote}{self}{quote}")
    }
}

/// A shape as Python writes it.
pub(super) fn tuple(shape: &[u64]) -> String {
    let dimensions: Vec<String> = shape.iter().map(u64::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    format!("({}{comma})", dimensions.join(", "))
}

/// A type that has no fields: a byte order, a kind, how many bytes or characters, and a unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plain<'a> {
    /// `<` or `>`, if it was given.
    order: Option<char>,
    /// Whether it was said that there is no byte order.
    unordered: bool,
    kind: char,
    /// Characters of `U`, else bytes.
    count: u64,
    /// `[25us]`, with its brackets.
    unit: &'a str,
}

impl<'a> Plain<'a> {
    /// Reads what `numpy.dtype` reads, but for structures written with commas.
    fn parse(text: &'a str) -> Option<Self> {
        let (order, code) = match text.chars().next()? {
            order @ ('<' | '>' | '|' | '=') => (Some(order), &text[1..]),
            _ => (None, text),
        };
        let plain = |kind, count, unit| Self {
            order: order.filter(|order| matches!(order, '<' | '>')),
            unordered: order == Some('|'),
            kind,
            count,
            unit,
        };
        if order.is_none() {
            if let Some((_, kind, count)) = NAMES.iter().find(|(name, ..)| *name == code) {
                return Some(plain(*kind, *count, ""));
            }
            for (name, kind) in [("datetime64", 'M'), ("timedelta64", 'm')] {
                if let Some(unit) = code.strip_prefix(name) {
                    return Some(plain(kind, 8, time_unit(unit)?));
                }
            }
        }
        let kind = code.chars().next()?;
        let rest = &code[kind.len_utf8()..];
        if rest.is_empty() {
            let (_, kind, count) = LETTERS.iter().find(|(letter, ..)| *letter == kind)?;
            return Some(plain(*kind, *count, ""));
        }
        let (digits, unit) = rest.split_at(rest.find('[').unwrap_or(rest.len()));
        // Digits only: `from_str` also takes a plus sign.
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        let count: u64 = digits.parse().ok().filter(|_| is_number)?;
        if matches!(kind, 'M' | 'm') {
            return (count == 8).then_some(plain(kind, count, time_unit(unit)?));
        }
        let exists = match (kind, count) {
            ('b', 1) | ('i' | 'u', 1 | 2 | 4 | 8) | ('f', 2 | 4 | 8 | 16) => true,
            ('c', 8 | 16 | 32) | ('O', 4 | 8) => true,
            ('S' | 'a' | 'V', _) => count <= MAX_BYTES,
            ('U', _) => count <= MAX_BYTES / CHARACTER,
            _ => false,
        };
        let kind = if kind == 'a' { 'S' } else { kind };
        (exists && unit.is_empty()).then_some(plain(kind, count, ""))
    }

    /// Bytes of an element.
    fn size(self) -> u64 {
        if self.kind == 'U' { self.count * CHARACTER } else { self.count }
    }

    fn has_order(self) -> bool {
        !matches!(self.kind, 'S' | 'V' | 'O') && (self.count > 1 || self.kind == 'U')
    }

    /// As numpy writes it.
    fn descr(self) -> String {
        let order = match self.order {
            _ if !self.has_order() => '|',
            Some(order) => order,
            None if cfg!(target_endian = "little") => '<',
            None => '>',
        };
        format!("{order}{}{}{}", self.kind, self.count, self.unit)
    }
}

/// A unit of time as numpy writes it, `[25us]`; that of no unit, and of the generic one, is empty.
fn time_unit(text: &str) -> Option<&str> {
    if matches!(text, "" | "[generic]") {
        return Some("");
    }
    let unit = text.strip_prefix('[')?.strip_suffix(']')?;
    let name = unit.trim_start_matches(|it: char| it.is_ascii_digit());
    let is_number =
        unit.len() == name.len() || unit[..unit.len() - name.len()].parse::<i32>().is_ok();
    (is_number && TIME_UNITS.contains(&name)).then_some(text)
}

/// The dtype as numpy itself writes it, with its byte order, and the bytes of an element: `f4` and `float32` are
/// `<f4` on a little-endian machine, `<u1` is `|u1`.
///
/// # Errors
///
/// If that is no type of numbers, bytes or text whose size follows from its name; says what would be.
pub fn canonical_dtype(dtype: &str) -> Result<(String, u64), &'static str> {
    match Plain::parse(dtype).filter(|it| it.size() > 0 && !matches!(it.kind, 'M' | 'm' | 'O')) {
        None => Err("numpy dtypes are i u f c and bytes (<i2 <c8), |b1, |S4, <U4 and |V4"),
        Some(plain) if plain.unordered && plain.has_order() => {
            Err("`|` is for elements without byte order; write < (little-endian) or >")
        }
        Some(plain) => Ok((plain.descr(), plain.size())),
    }
}

/// Names of types that say their size, and those of C and Python on the systems that this is built for.
const NAMES: [(&str, char, u64); 45] = [
    ("bool", 'b', 1),
    ("bool_", 'b', 1),
    ("int8", 'i', 1),
    ("int16", 'i', 2),
    ("int32", 'i', 4),
    ("int64", 'i', 8),
    ("uint8", 'u', 1),
    ("uint16", 'u', 2),
    ("uint32", 'u', 4),
    ("uint64", 'u', 8),
    ("float16", 'f', 2),
    ("float32", 'f', 4),
    ("float64", 'f', 8),
    ("float128", 'f', 16),
    ("complex64", 'c', 8),
    ("complex128", 'c', 16),
    ("complex256", 'c', 32),
    ("byte", 'i', 1),
    ("ubyte", 'u', 1),
    ("short", 'i', 2),
    ("ushort", 'u', 2),
    ("intc", 'i', 4),
    ("uintc", 'u', 4),
    ("int", 'i', WORD),
    ("int_", 'i', WORD),
    ("uint", 'u', WORD),
    ("intp", 'i', WORD),
    ("uintp", 'u', WORD),
    ("long", 'i', WORD),
    ("ulong", 'u', WORD),
    ("longlong", 'i', 8),
    ("ulonglong", 'u', 8),
    ("half", 'f', 2),
    ("single", 'f', 4),
    ("double", 'f', 8),
    ("float", 'f', 8),
    ("longdouble", 'f', 16),
    ("csingle", 'c', 8),
    ("cdouble", 'c', 16),
    ("complex", 'c', 16),
    ("clongdouble", 'c', 32),
    ("object", 'O', 8),
    ("str", 'U', 0),
    ("bytes", 'S', 0),
    ("void", 'V', 0),
];
/// Types of one letter.
const LETTERS: [(char, char, u64); 29] = [
    ('?', 'b', 1),
    ('b', 'i', 1),
    ('B', 'u', 1),
    ('h', 'i', 2),
    ('H', 'u', 2),
    ('i', 'i', 4),
    ('I', 'u', 4),
    ('l', 'i', WORD),
    ('L', 'u', WORD),
    ('q', 'i', 8),
    ('Q', 'u', 8),
    ('p', 'i', WORD),
    ('P', 'u', WORD),
    ('n', 'i', WORD),
    ('N', 'u', WORD),
    ('e', 'f', 2),
    ('f', 'f', 4),
    ('d', 'f', 8),
    ('g', 'f', 16),
    ('F', 'c', 8),
    ('D', 'c', 16),
    ('G', 'c', 32),
    ('c', 'S', 1),
    ('S', 'S', 0),
    ('U', 'U', 0),
    ('V', 'V', 0),
    ('O', 'O', 8),
    ('M', 'M', 8),
    ('m', 'm', 8),
];
const TIME_UNITS: [&str; 13] =
    ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"];
/// Bytes of C's long and of a pointer.
const WORD: u64 = size_of::<usize>() as u64;
/// Bytes of a character of `U`.
const CHARACTER: u64 = 4;
/// The longest element, which is numpy's own limit.
const MAX_BYTES: u64 = (1 << 31) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What numpy 2.4 makes of them, as `descr` and bytes: tests/interop compares more, with numpy itself.
    #[cfg(target_endian = "little")]
    #[test]
    fn what_numpy_reads_is_read() {
        for (text, descr, size) in [
            ("'float32'", "'<f4'", 4),
            ("u'>f4'", "'>f4'", 4),
            ("'f'", "'<f4'", 4),
            ("'>d'", "'>f8'", 8),
            ("'|i4'", "'<i4'", 4),
            ("'=u1'", "'|u1'", 1),
            ("'?'", "'|b1'", 1),
            ("'<U3'", "'<U3'", 12),
            ("'a5'", "'|S5'", 5),
            ("'<M8[25us]'", "'<M8[25us]'", 8),
            ("'timedelta64[D]'", "'<m8[D]'", 8),
            ("'M8[generic]'", "'<M8'", 8),
            ("[('a', 'float32'), (u'b', '|V4')]", "[('a', '<f4'), ('b', '|V4')]", 8),
            ("[('a', 'f', 3)]", "[('a', '<f4', (3,))]", 12),
            ("[('a', '<i2', (2, 3)), ]", "[('a', '<i2', (2, 3))]", 12),
            (
                "[(('t', 'n'), [('', '|V1')]), ('', '|V2')]",
                "[(('t', 'n'), [('', '|V1')]), ('', '|V2')]",
                3,
            ),
            (r#"[("it's", '|u1'), ('\'', '|u1')]"#, r#"[("it's", '|u1'), ('\'', '|u1')]"#, 2),
        ] {
            assert_eq!(canonical_descr(text), Ok((descr.to_owned(), size)), "{text}");
        }
    }

    #[test]
    fn what_numpy_has_not_is_refused() {
        for text in [
            "''",
            "'<'",
            "'<f3'",
            "'<c4'",
            "'i16'",
            "'b2'",
            "'<float32'",
            "'Float32'",
            "'f4 '",
            "'<+i4'",
            "'i4x'",
            "'M4[ns]'",
            "'M8[]'",
            "'M8[ns'",
            "'M8[parsec]'",
            "'M8[-1s]'",
            "'M[ns]'",
            "'f4[ns]'",
            "'S2147483648'",
            "'U536870912'",
            "'é'",
            "3",
            "True",
            "{'a': 'f4'}",
            "f4",
            "['f4']",
            "[('a',)]",
            "[('a', '<f4', 'b')]",
            "[(1, '<f4')]",
            "[('a', '<f4'), ('a', '<f4')]",
            "[(('a', 'b'), 'f'), ('b', 'f')]",
            "[('a', 'V2147483647'), ('b', 'u1')]",
            "[('a', '<f4', (4294967296, 4294967296))]",
        ] {
            assert!(canonical_descr(text).is_err(), "{text}");
        }
        assert!(canonical_descr("[('a', [('b', 'O')])]").unwrap_err().contains("Python objects"));
    }

    proptest! {
        #[test]
        fn what_comes_out_goes_in_again(
            text in r"'[<>|=]?[?a-zA-Z][0-9]{0,3}'|\[(\('[abc]?', '[<>]?[iufcSUV][1248]'(, (3|\(2, 1\)))?\), ?){0,3}\]",
        ) {
            if let Ok((descr, size)) = canonical_descr(&text) {
                prop_assert_eq!(canonical_descr(&descr), Ok((descr.clone(), size)));
            }
        }
    }
}
