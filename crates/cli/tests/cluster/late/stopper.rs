//! A library that a process is started with, which stops it right before it renames or links a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// It, for one process and what that does below one directory.
pub struct Stopper {
    library: PathBuf,
    below: PathBuf,
    /// Says how many calls are left to the one before which it stops; then which one that is.
    at: PathBuf,
}

impl Stopper {
    /// Builds it in a directory, with the compiler of C that SQLite is built with.
    pub fn build(directory: &Path, below: &Path) -> Self {
        let source = directory.join("stopper.c");
        fs::write(&source, include_str!("stopper.c")).unwrap();
        let stopper = Self {
            library: directory.join("stopper.so"),
            below: below.to_owned(),
            at: directory.join("stop-at"),
        };
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-pthread", "-o"])
            .args([&stopper.library, &source])
            .arg("-ldl")
            .status();
        assert!(
            built.unwrap().success(),
            "{} is not built",
            source.display()
        );
        stopper
    }

    /// Has a process be one that can be stopped.
    pub fn load(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("STOPPER_BELOW", &self.below)
            .env("STOPPER_AT", &self.at);
    }

    /// Has it stop before the n-th call from now on, counted from one.
    pub fn stop_before(&self, nth: u64) {
        // It reads the whole number or none.
        let written = self.at.with_extension("new");
        fs::write(&written, format!("{nth:<20}\n")).unwrap();
        fs::rename(&written, &self.at).unwrap();
    }

    /// The call before which it has stopped.
    pub fn stopped_before(&self) -> Option<String> {
        let told = fs::read_to_string(&self.at).ok()?;
        let told = told.lines().next()?;
        (told.contains('/')).then(|| told.to_owned())
    }

    /// Has it stop no more.
    pub fn let_go(&self) {
        let _ = fs::remove_file(&self.at);
    }
}
