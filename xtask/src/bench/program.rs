//! The program under measure: the release build of mendb, run as a user would, one process a command.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::measure;
use crate::run::Step;

/// The built program.
pub struct Program {
    binary: PathBuf,
}

impl Program {
    /// Builds it.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn build() -> Result<Self, String> {
        Step::new("cargo build --release -p mendb").run()?;
        // This runner is in the debug directory beside the release's.
        let this =
            std::env::current_exe().map_err(|error| format!("cannot find xtask: {error}"))?;
        let target = this.ancestors().nth(2).unwrap_or(Path::new("target"));
        Ok(Self {
            binary: target.join("release/mendb"),
        })
    }

    /// Its version.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn version(&self) -> Result<String, String> {
        let version = measure::output(Command::new(&self.binary).arg("--version"))?;
        Ok(version.trim().to_owned())
    }

    /// A command on a target and a repository, whose relative paths are those of a directory.
    pub fn command(&self, directory: &Path, target: &str, repository: &Path) -> Command {
        let mut command = self.on_repository(directory, repository);
        command.args(["--quiet", "--target", target]);
        command
    }

    /// The same without a target, that says what it does.
    pub fn on_repository(&self, directory: &Path, repository: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        // Settings of the caller would not be those of the page.
        let set = std::env::vars_os().map(|(name, _)| name);
        for name in set.filter(|name| name.to_string_lossy().starts_with("MENDB_")) {
            command.env_remove(name);
        }
        command
            .current_dir(directory)
            .args(["--repository", &format!("file://{}", repository.display())]);
        command
    }
}
