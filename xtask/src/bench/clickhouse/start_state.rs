//! The state of server and journal that every measure starts from.
//!
//! What is kept are hard links: the server never writes into a file of a part, only makes and removes
//! them, and writes its own small files anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::dataset::OLD_PARTS_LIFETIME_S;
use super::native;
use super::servers::{Flavor, Server, ServerOptions};
use crate::bench::measure;
use crate::bench::scratch::{Scratch, remove};

/// Where its journal is, in the directory of the benchmark.
pub const STATE: &str = "state";

/// A server, and what it was when the table had been loaded.
pub struct StartState<'a> {
    scratch: &'a Scratch,
    server: Server,
}

impl<'a> StartState<'a> {
    /// Starts the server on an empty directory.
    ///
    /// # Errors
    /// The directories cannot be made.
    pub fn start(scratch: &'a Scratch) -> Result<Self, String> {
        let backups = scratch.path(native::DIRECTORY);
        std::fs::create_dir_all(&backups)
            .map_err(|error| format!("cannot make {}: {error}", backups.display()))?;
        let options = ServerOptions {
            data: Some(data(scratch)),
            old_parts_lifetime_s: Some(OLD_PARTS_LIFETIME_S),
            more_config: format!(
                "<backups><allowed_path>{}/</allowed_path></backups>",
                backups.display()
            ),
            ..ServerOptions::default()
        };
        Ok(Self {
            scratch,
            server: Server::start(Flavor::Current, options),
        })
    }

    /// The server as it is now.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Makes what the server has now the state to start from.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn keep(&mut self) -> Result<(), String> {
        self.server.kill();
        let data = data(self.scratch);
        copy(&data, &kept(&data), "-al")?;
        self.server.restart();
        Ok(())
    }

    /// Makes mendb's journal as it is now part of the state to start from.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn keep_journal(&mut self) -> Result<(), String> {
        let journal = self.scratch.path(STATE);
        copy(&journal, &kept(&journal), "-a")
    }

    /// Goes back to the state to start from.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn return_to(&mut self) -> Result<(), String> {
        self.server.kill();
        let (data, journal) = (data(self.scratch), self.scratch.path(STATE));
        copy(&kept(&data), &data, "-al")?;
        copy(&kept(&journal), &journal, "-a")?;
        self.server.restart();
        Ok(())
    }
}

/// Where the server has its data.
pub fn data(scratch: &Scratch) -> PathBuf {
    scratch.path("server")
}

/// Where a directory is kept.
fn kept(path: &Path) -> PathBuf {
    path.with_extension("kept")
}

fn copy(from: &Path, to: &Path, how: &str) -> Result<(), String> {
    remove(to)?;
    measure::output(Command::new("cp").arg(how).arg(from).arg(to)).map(drop)
}
