//! The program as the server runs it: handed down by the command line, which knows the server and not the other way.

use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// The command line.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// What can be asked of it.
    pub define: fn() -> clap::Command,
    /// Runs the words of a command, the program's name first.
    pub run: fn(&[String], &Context) -> Result<Verdict, Failure>,
}
