//! How one value is read and written: the parse error that all value types share, and the serde glue
//! that lets a type with `FromStr` and `Display` stand in a TOML file.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::ValueEnum;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};

/// A piece of text that is not the value it was given for. The message says what was given, what it
/// was taken for, and what would be right; clap and the TOML reader put the flag or key before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not {what}: {hint}")]
pub struct InvalidValue {
    given: String,
    what: &'static str,
    hint: String,
}

impl InvalidValue {
    pub(super) fn new(given: &str, what: &'static str, hint: impl Into<String>) -> Self {
        Self { given: given.to_owned(), what, hint: hint.into() }
    }

    /// What would be right.
    pub(super) fn hint(&self) -> &str {
        &self.hint
    }

    /// The same complaint about the larger text that `self.given` was a part of.
    pub(super) fn within(self, given: &str, what: &'static str) -> Self {
        Self { given: given.to_owned(), what, hint: self.hint }
    }
}

/// One value in its textual form: `#[serde(with = "value::text")]` on an `Option<T>`.
pub(super) mod text {
    use super::*;

    pub(crate) fn serialize<T: fmt::Display, S: serde::Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: fmt::Display>,
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(Text(PhantomData)).map(Some)
    }
}

/// A list of values in textual form, where a list of one may be written without brackets.
pub(super) mod texts {
    use super::*;

    pub(crate) fn serialize<T: fmt::Display, S: serde::Serializer>(
        values: &Option<Vec<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match values {
            Some(values) => serializer.collect_seq(values.iter().map(T::to_string)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
    where
        T: FromStr<Err: fmt::Display>,
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(Texts(PhantomData)).map(Some)
    }
}

/// One of a few names, as clap's `ValueEnum` lists them.
pub(super) mod choice {
    use super::*;

    pub(crate) fn serialize<T: ValueEnum, S: serde::Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value.as_ref().and_then(T::to_possible_value) {
            Some(value) => serializer.serialize_str(value.get_name()),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: ValueEnum,
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(Choice(PhantomData)).map(Some)
    }
}

/// A whole number; serde's own visitor would tell the user about `u64`.
pub(super) fn number<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: TryFrom<i128>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(Number(PhantomData)).map(Some)
}

struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

struct Texts<T>(PhantomData<T>);

impl<'de, T: FromStr<Err: fmt::Display>> Visitor<'de> for Texts<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of strings")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
        Text(PhantomData).visit_str(text).map(|value| vec![value])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(Element(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(values)
    }
}

struct Element<T>(T);

impl<'de, T: FromStr<Err: fmt::Display>> serde::Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text(PhantomData)).map(Element)
    }
}

struct Choice<T>(PhantomData<T>);

impl<T: ValueEnum> Visitor<'_> for Choice<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = T::value_variants().iter().filter_map(T::to_possible_value);
        let names: Vec<String> = values.map(|value| format!("`{}`", value.get_name())).collect();
        write!(f, "one of {}", names.join(", "))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::from_str(text, false).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

struct Number<T>(PhantomData<T>);

impl<T: TryFrom<i128>> Visitor<'_> for Number<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match size_of::<T>() {
            size @ 1..=4 => write!(f, "a whole number from 0 to {}", u64::MAX >> (64 - 8 * size)),
            _ => f.write_str("a whole number, 0 or above"),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        T::try_from(number.into()).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        T::try_from(number.into())
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}
