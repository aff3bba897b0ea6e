//! How large the elements of numpy's types are.

use super::literal::Literal;
use super::printable::Printable;

/// Bytes of an element, from the `descr` of its dtype as it is written in a header; else what is wrong.
pub(crate) fn element_size(descr: &str) -> Result<usize, String> {
    item_size(&Literal::parse(descr).ok_or("not a Python literal")?)
}

/// Bytes of an element, from the `descr` of its dtype.
fn item_size(dtype: &Literal<'_>) -> Result<usize, String> {
    match dtype {
        Literal::Text(code) => plain_size(code),
        Literal::Sequence(fields) => fields.iter().try_fold(0_usize, |sum, field| {
            let not_a_field = || "a field is not (name, dtype) or (name, dtype, shape)";
            let Literal::Sequence(field) = field else { return Err(not_a_field().into()) };
            let (dtype, shape) = match field.as_slice() {
                [_, dtype] => (dtype, Vec::new()),
                [_, dtype, Literal::Integer(len)] => (dtype, vec![*len]),
                [_, dtype, shape] => (dtype, shape.dimensions().ok_or_else(not_a_field)?),
                _ => return Err(not_a_field().into()),
            };
            shape
                .iter()
                .try_fold(item_size(dtype)?, |size, &dimension| {
                    size.checked_mul(usize::try_from(dimension).ok()?)
                })
                .and_then(|size| sum.checked_add(size))
                .ok_or_else(|| "an element exceeds all memory".into())
        }),
        _ => Err("neither a type string nor a list of fields".into()),
    }
}

/// Bytes of an element whose type is a string such as `<f4`, `|S16`, `<U3` or `<M8[ns]`.
fn plain_size(code: &str) -> Result<usize, String> {
    let unknown = || format!("`{}` is not a type string such as <f4", Printable(code));
    let mut rest = code.trim_start_matches(['<', '>', '|', '=']).chars();
    let kind = rest.next().ok_or_else(unknown)?;
    if kind == 'O' {
        return Err(
            "Python objects are pickled, and mean nothing to a receiver: save an array of \
                    a numeric dtype"
                .into(),
        );
    }
    let digits = rest.as_str().split('[').next().unwrap_or_default();
    let size: usize = digits.parse().map_err(|_| unknown())?;
    match kind {
        // Characters of four bytes each.
        'U' => size.checked_mul(4).ok_or_else(unknown),
        'b' | 'i' | 'u' | 'f' | 'c' | 'm' | 'M' | 'S' | 'a' | 'V' => Ok(size),
        _ => Err(unknown()),
    }
}

/// The dtype as numpy itself writes it, with its byte order, and the bytes of an element: `f4` is `<f4` on a
/// little-endian machine, `<u1` is `|u1`.
///
/// # Errors
///
/// If that is no type of numbers, bytes or text whose size follows from its name; says what would be.
pub fn canonical_dtype(dtype: &str) -> Result<(String, u64), &'static str> {
    let (order, code) = match dtype.chars().next() {
        Some(order @ ('<' | '>' | '|' | '=')) => (Some(order), &dtype[1..]),
        _ => (None, dtype),
    };
    let mut characters = code.chars();
    let kind = characters.next().unwrap_or(' ');
    let digits = characters.as_str();
    // Digits only: `from_str` also takes a plus sign, and leading zeros would not come back.
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let width: Option<u64> = digits.parse().ok().filter(|_| is_plain);
    let bytes = match (kind, width) {
        ('b', Some(1)) => 1,
        ('i' | 'u', Some(width @ (1 | 2 | 4 | 8))) => width,
        ('f', Some(width @ (2 | 4 | 8 | 16))) => width,
        ('c', Some(width @ (8 | 16 | 32))) => width,
        ('S' | 'V', Some(width @ 1..=MAX_BYTES)) => width,
        ('U', Some(width @ 1..=MAX_BYTES)) => 4 * width,
        _ => return Err("numpy dtypes are i u f c and bytes (<i2 <c8), |b1, |S4, <U4 and |V4"),
    };
    let order = match order {
        _ if bytes == 1 || matches!(kind, 'S' | 'V') => '|',
        Some('|') => {
            return Err("`|` is for elements without byte order; write < (little-endian) or >");
        }
        Some(order @ ('<' | '>')) => order,
        _ if cfg!(target_endian = "little") => '<',
        _ => '>',
    };
    Ok((format!("{order}{code}"), bytes))
}

/// The longest numpy string or void element, which is numpy's own limit.
const MAX_BYTES: u64 = (1 << 31) - 1;
