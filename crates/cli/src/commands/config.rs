//! `mendb config`: the settings and where they come from.

use std::fmt::Write;

use clap::Subcommand;
use serde::Serialize;

use crate::commands::config_import::ImportCommand;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::output::Field;
use crate::settings::{Entry, Sources, environment_name, file};

/// Show the settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a settings file with every setting at its default
    Default,
    /// Print every setting that is in force and where it came from
    Show,
    Import(ImportCommand),
}

impl ConfigCommand {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> Result<Verdict, Failure> {
        match self {
            Self::Default => {
                let directory = std::env::current_dir()
                    .map_err(|error| Failure::io("cannot find the current directory", &error))?;
                let defaults = Defaults(Sources::defaults(&directory));
                context.output.record(&defaults, |d| yaml(&d.0))?;
            }
            Self::Show => context.output.records(
                &context.entries,
                &[
                    Field::left("setting", |entry: &Entry| entry.key.to_owned()),
                    Field::left("value", |entry| entry.value.clone()),
                    Field::left("from", |entry| entry.from.clone()),
                ],
            )?,
            Self::Import(command) => return command.run(context),
        }
        Ok(Verdict::Done)
    }
}

#[derive(Serialize)]
struct Defaults(Vec<Entry>);

/// A settings file that says what each setting does.
fn yaml(entries: &[Entry]) -> String {
    let mut out = String::from(
        "# mendb.yml: put it where mendb is started, or name it with --config.\n\
         # A flag wins over the environment, the environment over this file.\n",
    );
    let mut open = None;
    for entry in entries {
        let (group, name) = file::place(entry.key);
        if open != group {
            open = group;
            // Writing to a String does not fail.
            let _ = writeln!(out, "\n{}:", group.unwrap_or_default());
        }
        let indent = if group.is_some() { "  " } else { "" };
        let variable = environment_name(entry.key);
        // Without quotes an empty value would be none.
        let value = match entry.value.as_str() {
            "" => "\"\"",
            value => value,
        };
        let _ = writeln!(out, "{indent}# {} ({variable})", entry.about);
        let _ = writeln!(out, "{indent}{name}: {value}");
    }
    out
}
