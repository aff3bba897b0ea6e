//! The settings of the library and those of the program in one list.

use doorbell::settings::{Form, Setting};

use super::{InvalidValue, Key, Options, Program, Settings};

/// A setting, whosever it is.
#[derive(Clone, Copy)]
pub enum Row {
    /// Of the library's streams.
    Stream(&'static Setting<Settings>),
    /// Of the program.
    Program(&'static Setting<Program>),
}

/// Sections in the order in which people read them, and what they are about.
pub const SECTIONS: [(&str, &str); 8] = [
    ("stream", "Stream"),
    ("heap", "Heaps"),
    ("source", "Source"),
    ("batch", "Batches"),
    ("pacing", "Pacing"),
    ("backend", "Backend"),
    ("monitor", "Monitoring"),
    ("senders", "Many senders"),
];

/// All settings, section by section.
pub fn rows() -> impl Iterator<Item = Row> {
    SECTIONS.into_iter().flat_map(|(name, _)| {
        let program = Program::SECTIONS.iter().filter(move |section| section.name == name);
        let program = program.flat_map(|section| section.settings).map(Row::Program);
        let stream = Settings::SECTIONS.iter().filter(move |section| section.name == name);
        program.chain(stream.flat_map(|section| section.settings).map(Row::Stream))
    })
}

impl Row {
    /// The one of a key.
    pub fn find(key: &str) -> Option<Self> {
        rows().find(|row| row.key().as_str() == key)
    }

    pub fn key(self) -> Key {
        match self {
            Self::Stream(it) => it.key,
            Self::Program(it) => it.key,
        }
    }

    pub fn flag(self) -> String {
        match self {
            Self::Stream(it) => it.flag(),
            Self::Program(it) => it.flag(),
        }
    }

    pub fn takes(self) -> &'static str {
        match self {
            Self::Stream(it) => it.takes,
            Self::Program(it) => it.takes,
        }
    }

    pub fn help(self) -> &'static str {
        match self {
            Self::Stream(it) => it.help,
            Self::Program(it) => it.help,
        }
    }

    pub fn default(self) -> &'static str {
        match self {
            Self::Stream(it) => it.default,
            Self::Program(it) => it.default,
        }
    }

    pub fn form(self) -> Form {
        match self {
            Self::Stream(it) => it.form,
            Self::Program(it) => it.form,
        }
    }

    pub fn bare(self) -> Option<&'static str> {
        match self {
            Self::Stream(it) => it.bare,
            Self::Program(it) => it.bare,
        }
    }

    pub fn dashes(self) -> bool {
        match self {
            Self::Stream(it) => it.dashes,
            Self::Program(it) => it.dashes,
        }
    }

    pub fn commas(self) -> bool {
        match self {
            Self::Stream(it) => it.commas,
            Self::Program(it) => it.commas,
        }
    }

    pub fn choices(self) -> Vec<&'static str> {
        match self {
            Self::Stream(it) => it.choices().collect(),
            Self::Program(it) => it.choices().collect(),
        }
    }

    /// What a value must be, in words.
    pub fn expected(self) -> String {
        match self {
            Self::Stream(it) => it.expected(),
            Self::Program(it) => it.expected(),
        }
    }

    /// Takes values over into the options.
    pub fn read(self, options: &mut Options, values: &[&str]) -> Result<(), InvalidValue> {
        match self {
            Self::Stream(it) => it.read(&mut options.settings, values),
            Self::Program(it) => it.read(&mut options.program, values),
        }
    }

    /// The values that options have.
    pub fn show(self, options: &Options) -> Vec<String> {
        match self {
            Self::Stream(it) => it.show(&options.settings),
            Self::Program(it) => it.show(&options.program),
        }
    }
}
