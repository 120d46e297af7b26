//! Gives an engine the files that it puts parts together from: known files of the server, and the repository.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mendb_engines::Supplier;
use mendb_model::part::{FileChecksum, PartFile, TableName};

use super::local::LocalFiles;
use super::opened_source::{Content, OpenedSource};
use crate::attempt::Attempt;
use crate::task_error::{TaskError, TaskResult};

/// Has what some parts of a table are made of.
pub(super) struct Supply<'a> {
    pub attempt: &'a Attempt<'a>,
    pub source: &'a OpenedSource<'a>,
    /// The table, in the source.
    pub table: &'a TableName,
    pub local: &'a LocalFiles<'a>,
    /// The parts, by the numbers that the engine knows them by.
    pub contents: Vec<&'a Content>,
    /// Why it was ended.
    ended: Option<TaskError>,
}

impl<'a> Supply<'a> {
    pub(super) fn new(
        attempt: &'a Attempt<'a>,
        source: &'a OpenedSource<'a>,
        table: &'a TableName,
        local: &'a LocalFiles<'a>,
        contents: Vec<&'a Content>,
    ) -> Self {
        Self {
            attempt,
            source,
            table,
            local,
            contents,
            ended: None,
        }
    }

    /// Why it was ended, when the engine says that it was.
    pub(super) fn why_ended(self) -> TaskError {
        self.ended.unwrap_or(TaskError::Stopped)
    }

    fn answer<T>(&mut self, found: TaskResult<T>) -> ControlFlow<(), T> {
        match found {
            Ok(found) => ControlFlow::Continue(found),
            Err(error) => {
                self.ended = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

impl Supplier for Supply<'_> {
    fn go_on(&mut self) -> ControlFlow<()> {
        let goes_on = self.attempt.check_stopped();
        self.answer(goes_on)
    }

    fn place_of(&mut self, file: &FileChecksum) -> ControlFlow<(), Option<PathBuf>> {
        ControlFlow::Continue(self.local.place_of(file))
    }

    fn is_gone(&mut self, file: &FileChecksum) -> ControlFlow<(), Option<PathBuf>> {
        let elsewhere = self.local.is_gone(*file);
        self.answer(elsewhere)
    }

    fn is_nowhere(&mut self, file: &FileChecksum) {
        self.local.is_nowhere(*file);
    }

    fn fetch(&mut self, files: &[(&PartFile, PathBuf)]) -> ControlFlow<()> {
        let attempt = self.attempt;
        let fetched = attempt.wait(attempt.tools.repository.fetch_part_files(files));
        self.answer(fetched.map(|_| ()))
    }

    fn fetch_part(&mut self, at: usize, into: &Path) -> ControlFlow<(), u64> {
        let unpacked = match self.contents.get(at) {
            Some(Content::Imported(part)) => self.source.unpack(self.table, part, into),
            _ => Err(TaskError::Proof(format!(
                "a part of {} is in no imported backup",
                self.table
            ))),
        };
        self.answer(unpacked)
    }
}
