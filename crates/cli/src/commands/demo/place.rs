//! Where a demo happens: a directory with a target and a repository of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::settings::{Entry, environment_name};

/// The directory of a demo and a context that works in it.
pub struct Place {
    /// The settings of the user, with the target and the repository of the demo.
    pub context: Context,
    directory: PathBuf,
    /// Removes the directory when it goes; absent when the directory is kept.
    temporary: Option<TempDir>,
}

impl Place {
    /// A new directory for temporary files, or `keep`, which must be new or empty.
    ///
    /// # Errors
    /// The directory cannot be made, or holds something.
    pub fn open(context: &Context, keep: Option<&Path>) -> Result<Self, Failure> {
        let (directory, temporary) = match keep {
            Some(directory) => (claim(directory)?, None),
            None => {
                let made = tempfile::Builder::new().prefix("mendb-demo-").tempdir();
                let made =
                    made.map_err(|error| Failure::io("cannot make a temporary directory", &error))?;
                (made.path().to_owned(), Some(made))
            }
        };
        let mut settings = context.settings.clone();
        settings.target = format!("mendb://{}", directory.join("target").display());
        settings.journal = None;
        settings.repository = format!("file://{}", directory.join("repository").display());
        let entries = context.entries.iter().map(|entry| Entry {
            value: match entry.key {
                "target" => settings.target.clone(),
                "repository" => settings.repository.clone(),
                _ => entry.value.clone(),
            },
            ..entry.clone()
        });
        let entries = entries.collect();
        Ok(Self {
            context: Context {
                settings,
                entries,
                output: context.output.clone(),
                session: None,
                shared: None,
            },
            directory,
            temporary,
        })
    }

    /// Tells the user something, on stderr; nothing when quiet.
    pub fn say(&self, text: &str) {
        self.context.say(text);
    }

    /// The directory as the user is told of it.
    pub fn introduction(&self) -> String {
        let shown = self.directory.display();
        match &self.temporary {
            Some(_) => format!("in {shown}, which is removed at the end"),
            None => format!("in {shown}, which stays"),
        }
    }

    /// This program on the target and the repository of the demo, with the settings of this run. It
    /// shows its progress where this run does.
    ///
    /// # Errors
    /// The operating system does not know where this program is.
    pub fn program(&self, arguments: &[&str]) -> Result<Command, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::io("cannot find the program of this process", &error))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(self.context.output.quiet.then_some("--quiet"))
            // Not where the user is: there may be a settings file, and its values are here already.
            .current_dir(&self.directory)
            .env_remove("MENDB_CONFIG")
            .env_remove("MENDB_SERVER")
            .envs(
                self.context
                    .entries
                    .iter()
                    // A demo has no server to ask, and what entries show of a password is none.
                    .filter(|entry| !entry.key.starts_with("clickhouse.") && entry.key != "server")
                    .map(|entry| (environment_name(entry.key), &entry.value)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Ok(command)
    }

    /// Removes the directory, or says how to look around in it.
    pub fn leave(self) {
        match self.temporary {
            Some(temporary) => {
                let path = temporary.path().display().to_string();
                if let Err(error) = temporary.close() {
                    self.context.say(&format!("{path} is still there: {error}"));
                }
            }
            None => self.context.say(&format!(
                "\nEverything is still in {}. To look around:\n\n  \
                 export MENDB_TARGET={} MENDB_REPOSITORY={}\n  \
                 mendb list\n  mendb table describe orders\n  mendb operation list",
                self.directory.display(),
                self.context.settings.target,
                self.context.settings.repository,
            )),
        }
    }
}

/// Makes a directory that must not hold anything; its absolute path.
fn claim(directory: &Path) -> Result<PathBuf, Failure> {
    let cannot = |doing: &str, error: &std::io::Error| {
        Failure::io(format!("cannot {doing} {}", directory.display()), error)
    };
    std::fs::create_dir_all(directory).map_err(|error| cannot("create", &error))?;
    let mut inside = std::fs::read_dir(directory).map_err(|error| cannot("read", &error))?;
    if inside.next().is_some() {
        return Err(Failure::new(
            FailureKind::FixInput,
            format!("{} is not empty", directory.display()),
        )
        .hint("--keep takes a new or empty directory: the demo overwrites nothing"));
    }
    std::path::absolute(directory).map_err(|error| cannot("find", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_holds_something_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        assert!(claim(&directory.path().join("a/b")).is_ok());
        let failure = claim(directory.path()).unwrap_err();
        assert!(
            failure.message.ends_with("is not empty"),
            "{}",
            failure.message
        );
    }
}
