//! One declaration for all that is to know of a setting: flags, configuration files, keywords, their
//! documentation.

use std::fmt;
use std::str::FromStr;

use super::number::meant;

/// The name of a setting with its section: `pacing.rate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(&'static str);

impl Key {
    /// A key, written `section.name`.
    pub const fn new(key: &'static str) -> Self {
        Self(key)
    }

    /// The whole of it.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// The name within the section.
    pub fn name(self) -> &'static str {
        self.0.split_once('.').map_or(self.0, |(_, name)| name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Settings that belong together.
#[derive(Debug)]
pub struct Section<S: 'static> {
    /// The name in keys.
    pub name: &'static str,
    /// What it is about, as a heading.
    pub title: &'static str,
    /// Its settings.
    pub settings: &'static [Setting<S>],
}

/// One setting of `S`: its names, what it takes and means, and where its value lies.
pub struct Setting<S: 'static> {
    /// The key in configuration files.
    pub key: Key,
    /// The name among all settings, `batch_heaps`: a keyword, and with dashes a flag.
    pub keyword: &'static str,
    /// What the value is, in short: `HOST:PORT`, `auto|BYTES`.
    pub takes: &'static str,
    /// What it means, in a sentence without its full stop.
    pub help: &'static str,
    /// What holds where nothing is said.
    pub default: &'static str,
    /// How its value is written.
    pub form: Form,
    /// What the bare flag stands for, if it may stand without a value.
    pub bare: Option<&'static str>,
    /// Whether values may begin with a dash, be it that they are refused in words.
    pub dashes: bool,
    /// Whether a flag may hold several values with commas between.
    pub commas: bool,
    place: Field<S>,
}

/// How a value is written where text, numbers and booleans are told apart, as in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As text; a number will do where it is one.
    Text,
    /// As a list of texts, or a single one.
    Texts,
    /// As a whole number up to this.
    Number(u64),
    /// As `true` or `false`.
    Switch,
    /// As one of the names that [`Setting::takes`] lists.
    Choice,
}

enum Field<S> {
    One(fn(&mut S) -> &mut dyn One),
    Optional(fn(&mut S) -> &mut dyn Optional),
    List(fn(&mut S) -> &mut dyn List),
}

impl<S> Setting<S> {
    /// A setting that always has a value.
    pub const fn one(
        key: Key,
        keyword: &'static str,
        takes: &'static str,
        help: &'static str,
        default: &'static str,
        place: fn(&mut S) -> &mut dyn One,
    ) -> Self {
        Self::new(key, keyword, takes, help, default, Field::One(place))
    }

    /// A setting that may have none.
    pub const fn optional(
        key: Key,
        keyword: &'static str,
        takes: &'static str,
        help: &'static str,
        default: &'static str,
        place: fn(&mut S) -> &mut dyn Optional,
    ) -> Self {
        Self::new(key, keyword, takes, help, default, Field::Optional(place))
    }

    /// A setting that may have several.
    pub const fn list(
        key: Key,
        keyword: &'static str,
        takes: &'static str,
        help: &'static str,
        default: &'static str,
        place: fn(&mut S) -> &mut dyn List,
    ) -> Self {
        let setting = Self::new(key, keyword, takes, help, default, Field::List(place));
        Self { form: Form::Texts, ..setting }
    }

    const fn new(
        key: Key,
        keyword: &'static str,
        takes: &'static str,
        help: &'static str,
        default: &'static str,
        place: Field<S>,
    ) -> Self {
        let (form, bare, dashes, commas) = (Form::Text, None, false, false);
        Self { key, keyword, takes, help, default, form, bare, dashes, commas, place }
    }

    /// Its values are whole numbers up to `most`.
    #[must_use]
    pub const fn number(self, most: u64) -> Self {
        Self { form: Form::Number(most), dashes: true, ..self }
    }

    /// Its values are the names that it takes.
    #[must_use]
    pub const fn choice(self) -> Self {
        Self { form: Form::Choice, ..self }
    }

    /// Its values are `true`, which the bare flag stands for, and `false`.
    #[must_use]
    pub const fn switch(self) -> Self {
        Self { form: Form::Switch, bare: Some("true"), ..self }
    }

    /// The bare flag stands for `value`.
    #[must_use]
    pub const fn bare(self, value: &'static str) -> Self {
        Self { bare: Some(value), ..self }
    }

    /// Its values may begin with a dash: they do, or it is a mistake that can be explained, such as a negative
    /// rate.
    #[must_use]
    pub const fn dashes(self) -> Self {
        Self { dashes: true, ..self }
    }

    /// A flag may hold several values with commas between.
    #[must_use]
    pub const fn commas(self) -> Self {
        Self { commas: true, ..self }
    }

    /// The flag, without the two dashes before it.
    pub fn flag(&self) -> String {
        self.keyword.replace('_', "-")
    }

    /// The names that a choice is among; none of other forms.
    pub fn choices(&self) -> impl Iterator<Item = &'static str> {
        self.takes.split('|').filter(|_| self.form == Form::Choice)
    }

    /// What a value must be, in words.
    pub fn expected(&self) -> String {
        match self.form {
            Form::Text => "a string or a number".into(),
            Form::Texts => "a string or an array of strings".into(),
            Form::Number(u64::MAX) => "a whole number, 0 or above".into(),
            Form::Number(most) => format!("a whole number from 0 to {most}"),
            Form::Switch => "true or false".into(),
            Form::Choice => {
                let names: Vec<String> = self.choices().map(|name| format!("`{name}`")).collect();
                format!("one of {}", names.join(", "))
            }
        }
    }

    /// Takes values: one, or where it is a list any number.
    ///
    /// # Errors
    ///
    /// If a text is no value of this setting, in words that say what would be.
    pub fn read(&self, settings: &mut S, values: &[&str]) -> Result<(), InvalidValue> {
        let one = match (values, &self.place) {
            (values, Field::List(place)) => {
                let read = place(settings).read(values);
                return read.map_err(|error| error.quoting(&values.join(", "), self.takes));
            }
            ([one], _) => *one,
            (several, _) => {
                let hint = format!("it takes one value, not {}", several.len());
                return Err(InvalidValue::new(&several.join(", "), "a value", hint));
            }
        };
        let read = match &self.place {
            Field::One(place) => place(settings).read(one),
            Field::Optional(place) => place(settings).read(one),
            Field::List(_) => unreachable!("lists were read"),
        };
        // The messages of the standard library do not say what would be right.
        read.map_err(|error| match self.form {
            Form::Number(most) => match meant(one).filter(|number| *number <= most) {
                Some(number) => {
                    InvalidValue::not(one, format!("{}: write {number}", self.expected()))
                }
                None => InvalidValue::not(one, self.expected()),
            },
            Form::Switch | Form::Choice => InvalidValue::not(one, self.expected()),
            Form::Text | Form::Texts => error.quoting(one, self.takes),
        })
    }

    /// The values as text: none if it has none, and several of a list.
    pub fn show(&self, settings: &S) -> Vec<String>
    where
        S: Clone,
    {
        let mut settings = settings.clone();
        match &self.place {
            Field::One(place) => vec![place(&mut settings).show()],
            Field::Optional(place) => place(&mut settings).show().into_iter().collect(),
            Field::List(place) => place(&mut settings).show(),
        }
    }
}

impl<S> fmt::Debug for Setting<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A value that reads and shows itself as text.
pub trait One {
    /// Takes the value that `text` is.
    ///
    /// # Errors
    ///
    /// If it is none.
    fn read(&mut self, text: &str) -> Result<(), InvalidValue>;
    /// The value as text.
    fn show(&self) -> String;
}

/// As [`One`], of what may be absent.
pub trait Optional {
    /// Takes the value that `text` is.
    ///
    /// # Errors
    ///
    /// If it is none.
    fn read(&mut self, text: &str) -> Result<(), InvalidValue>;
    /// The value as text, if there is one.
    fn show(&self) -> Option<String>;
}

/// As [`One`], of any number of values.
pub trait List {
    /// Takes the values that `texts` are, in place of those that it has.
    ///
    /// # Errors
    ///
    /// If one is none.
    fn read(&mut self, texts: &[&str]) -> Result<(), InvalidValue>;
    /// The values as text.
    fn show(&self) -> Vec<String>;
}

impl<T: FromStr<Err: fmt::Display> + fmt::Display> One for T {
    fn read(&mut self, text: &str) -> Result<(), InvalidValue> {
        *self = parse(text)?;
        Ok(())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl<T: FromStr<Err: fmt::Display> + fmt::Display> Optional for Option<T> {
    fn read(&mut self, text: &str) -> Result<(), InvalidValue> {
        *self = Some(parse(text)?);
        Ok(())
    }

    fn show(&self) -> Option<String> {
        self.as_ref().map(T::to_string)
    }
}

impl<T: FromStr<Err: fmt::Display> + fmt::Display> List for Vec<T> {
    fn read(&mut self, texts: &[&str]) -> Result<(), InvalidValue> {
        *self = texts.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn show(&self) -> Vec<String> {
        self.iter().map(T::to_string).collect()
    }
}

fn parse<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, InvalidValue> {
    text.parse()
        .map_err(|error: T::Err| InvalidValue { message: error.to_string(), hint: String::new() })
}

/// A text that is not the value it was given for. The message says what was given, what it was taken for,
/// and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidValue {
    message: String,
    hint: String,
}

impl InvalidValue {
    /// `given` is not `what`; `hint` says what would be right.
    pub fn new(given: &str, what: &str, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        Self { message: format!("`{given}` is not {what}: {hint}"), hint }
    }

    /// With what was given, if the message lacks that, as the standard library's do.
    fn quoting(self, given: &str, what: &str) -> Self {
        match self.message.starts_with(['`', '"']) {
            true => self,
            false => Self::new(given, what, self.message),
        }
    }

    fn not(given: &str, expected: String) -> Self {
        Self { message: format!("`{given}` is not {expected}"), hint: expected }
    }

    /// What would be right.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// The same complaint about the larger text that what was given is a part of.
    #[must_use]
    pub fn within(self, given: &str, what: &str) -> Self {
        Self::new(given, what, self.hint)
    }
}

/// Gives an enum the names by which it is chosen: `FromStr` and `Display`.
macro_rules! choices {
    ($($type:ty: $($name:literal => $value:expr),+;)+) => {$(
        impl std::str::FromStr for $type {
            type Err = $crate::settings::InvalidValue;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = [$(($name, $value)),+].into_iter().find(|(name, _)| *name == text);
                found.map(|(_, value)| value).ok_or_else(|| {
                    $crate::settings::InvalidValue::new(text, "known here", [$($name),+].join(", "))
                })
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                [$(($name, $value)),+].iter().find(|(_, it)| it == self).map_or(Ok(()), |(name, _)| f.write_str(name))
            }
        }
    )+};
}
pub(crate) use choices;
