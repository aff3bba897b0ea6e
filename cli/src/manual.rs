//! `doorbell completions` and `doorbell man`: what shells and `man` are to know of the program.

use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::args::{Arguments, CompletionsArguments, ManArguments};
use super::exit::Failure;
use super::standard_output;

/// Prints completions for a shell.
pub fn completions(arguments: &CompletionsArguments) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), NAME, &mut text);
    standard_output::print(&text);
    Ok(ExitCode::SUCCESS)
}

/// Prints a manual page.
pub fn page(arguments: &ManArguments) -> Result<ExitCode, Failure> {
    let mut program = Arguments::command();
    // So that flags that all commands have are on each page.
    program.build();
    let command = match &arguments.command {
        None => program,
        Some(name) => subcommand(&program, name)?,
    };
    let mut text = Vec::new();
    Man::new(command)
        .render(&mut text)
        .map_err(|error| Failure::Usage(format!("cannot write the page: {error}")))?;
    standard_output::print(&text);
    Ok(ExitCode::SUCCESS)
}

fn subcommand(program: &Command, name: &str) -> Result<Command, Failure> {
    program.find_subcommand(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = program.get_subcommands().map(Command::get_name).collect();
        Failure::Usage(format!("there is no command `{name}`; there are {}", known.join(", ")))
    })
}

const NAME: &str = "doorbell";

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    #[test]
    fn the_declarations_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_argument_says_what_it_does_and_what_it_is_without() {
        let program = Arguments::command();
        for command in program.get_subcommands() {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                let name = format!("{} {}", command.get_name(), argument.get_id());
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty(), "{name} has no help");
                assert!(
                    states_default(argument, &help),
                    "{name} does not state its default: {help}"
                );
            }
        }
    }

    /// Either clap prints it, or the text has it, or there is none: switches, and what must be given.
    fn states_default(argument: &Arg, help: &str) -> bool {
        !matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
            || argument.is_required_set()
            || !argument.get_default_values().is_empty()
            || help.contains("[default: ")
    }
}
