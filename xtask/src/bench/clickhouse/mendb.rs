//! mendb on the server: one process a command, with the memory of that process alone.

use std::path::PathBuf;
use std::process::Command;

use super::measured::Measured;
use super::report;
use super::start_state::{self, STATE};
use crate::bench::measure;
use crate::bench::program::Program;
use crate::bench::scratch::{Scratch, remove};

const REPOSITORY: &str = "repository";
const COLLECTION: &str = "bench";
const FIRST: &str = "first";

/// The program, its directories and its target.
pub struct Mendb<'a> {
    program: &'a Program,
    scratch: &'a Scratch,
    target: String,
}

impl<'a> Mendb<'a> {
    pub fn new(program: &'a Program, scratch: &'a Scratch, target: String) -> Self {
        Self {
            program,
            scratch,
            target,
        }
    }

    /// Backs up into a new repository, with a new journal, in place of earlier ones.
    ///
    /// # Errors
    /// The program failed.
    pub fn first(&self) -> Result<Measured, String> {
        remove(&self.repository())?;
        remove(&self.scratch.path(STATE))?;
        // There the server's data directory names the earlier journal.
        remove(&start_state::data(self.scratch).join("mendb"))?;
        self.back_up(FIRST)
    }

    /// Backs up, and gives the bytes that the repository did not have.
    ///
    /// # Errors
    /// The program failed.
    pub fn back_up(&self, label: &str) -> Result<Measured, String> {
        let mut backup = self.command("backup");
        backup.args(["--tables", "bench.*", "--label", label]);
        let (cost, said) = measure::run_alone(&mut backup)?;
        Ok(Measured {
            cost,
            bytes: report::uploaded_bytes(&said)?,
        })
    }

    /// Mends the table from the first backup, and gives the bytes that came from the repository.
    ///
    /// # Errors
    /// The program failed.
    pub fn mend(&self) -> Result<Measured, String> {
        let mut restore = self.command("restore");
        restore.args(["--in-place", "--data", "--to", FIRST]);
        let (cost, said) = measure::run_alone(&mut restore)?;
        Ok(Measured {
            cost,
            bytes: report::downloaded_bytes(&said)?,
        })
    }

    /// Where the backups are.
    pub fn repository(&self) -> PathBuf {
        self.scratch.path(REPOSITORY)
    }

    fn command(&self, verb: &str) -> Command {
        let directory = self.scratch.path("");
        let mut command = self
            .program
            .command(&directory, &self.target, &self.repository());
        command.arg("--state").arg(self.scratch.path(STATE));
        command.args(["--output", "json", verb, COLLECTION]);
        command
    }
}
