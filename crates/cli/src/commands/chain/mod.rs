//! `mendb chain`: a full backup and the increments after it.

mod compact;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// A full backup and the increments that stand on it.
#[derive(Debug, Subcommand)]
pub enum ChainCommand {
    Compact(compact::CompactCommand),
}

impl ChainCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        match self {
            Self::Compact(command) => command.run(context),
        }
    }
}
