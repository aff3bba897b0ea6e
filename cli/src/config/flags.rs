//! Settings as flags of the command line.

use clap::builder::PossibleValue;
use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};
use doorbell::settings::Form;

use super::{ConfigError, Options, SECTIONS, rows};

/// A flag for each setting; its id is the key.
pub fn arguments() -> impl Iterator<Item = Arg> {
    rows().map(|row| {
        let (section, _) = row.key().as_str().split_once('.').unwrap_or_default();
        let heading = SECTIONS.iter().find(|(name, _)| *name == section).map(|(_, title)| *title);
        let is_list = row.form() == Form::Texts;
        let mut argument = Arg::new(row.key().as_str())
            .long(row.flag())
            .value_name(row.takes())
            .help(format!("{} [default: {}]", row.help(), row.default()))
            .help_heading(heading.unwrap_or_default())
            .allow_hyphen_values(row.dashes())
            // They are refused in words.
            .allow_negative_numbers(true)
            .action(if is_list { ArgAction::Append } else { ArgAction::Set });
        if row.commas() {
            argument = argument.value_delimiter(',');
        }
        if let Some(bare) = row.bare() {
            let is_switch = row.form() == Form::Switch;
            argument =
                argument.num_args(0..=1).require_equals(is_switch).default_missing_value(bare);
        }
        let choices = row.choices();
        if choices.is_empty() {
            let try_out = move |text: &str| {
                row.read(&mut Options::default(), &[text]).map(|()| text.to_owned())
            };
            argument.value_parser(try_out)
        } else {
            let names = choices.into_iter().map(PossibleValue::new);
            argument.value_parser(PossibleValuesParser::new(names)).hide_possible_values(true)
        }
    })
}

impl Options {
    /// Takes over what flags say.
    pub fn read_flags(&mut self, matches: &ArgMatches) -> Result<(), ConfigError> {
        for row in rows() {
            let id = row.key().as_str();
            if matches.value_source(id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let values = matches.get_many::<String>(id).into_iter().flatten();
            let values: Vec<&str> = values.map(String::as_str).collect();
            row.read(self, &values).map_err(|error| ConfigError::Flag {
                flag: row.flag(),
                reason: error.to_string(),
            })?;
        }
        Ok(())
    }
}
