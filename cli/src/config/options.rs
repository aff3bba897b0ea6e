//! What the user said.

use doorbell::settings::Form;
use serde::Serialize;

use super::{ConstantItem, Program, Row, SECTIONS, Settings, rows};

/// Everything that may be configured, with what holds where nothing was said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Of the stream.
    pub settings: Settings,
    /// Of the program.
    pub program: Program,
    /// Items that are the same in every heap: `[[item]]`, in a file alone.
    pub constants: Vec<ConstantItem>,
}

impl Options {
    /// As a TOML file, complete: reading it back gives the same options.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (section, _) in SECTIONS {
            let of = |row: &Row| row.key().as_str().starts_with(&format!("{section}."));
            let lines: Vec<String> = rows().filter(of).filter_map(|row| self.line(row)).collect();
            if !lines.is_empty() {
                text += &format!("[{section}]\n{}\n\n", lines.join("\n"));
            }
        }
        #[derive(Serialize)]
        struct Items<'a> {
            item: &'a [ConstantItem],
        }
        if !self.constants.is_empty() {
            let items = toml::to_string(&Items { item: &self.constants });
            text += &items.expect("tables of text and numbers are TOML");
        }
        text
    }

    /// `name = value`, if there is one.
    fn line(&self, row: Row) -> Option<String> {
        let quoted = |text: &String| toml::Value::String(text.clone()).to_string();
        let values = row.show(self);
        let value = match (row.form(), values.as_slice()) {
            (_, []) => return None,
            (Form::Texts, values) => {
                format!("[{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", "))
            }
            (Form::Number(_) | Form::Switch, [value, ..]) => value.clone(),
            (Form::Text | Form::Choice, [value, ..]) => quoted(value),
        };
        Some(format!("{} = {value}", row.key().name()))
    }
}
