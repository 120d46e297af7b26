//! How a command ends: the verdicts, the failures, and their exit codes.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed |
//! | 2 | misused: the command line or the settings are wrong, nothing was begun |
//! | 3 | the command worked and found drift or damage |
//!
//! Precise errors live in the crates below. Here they become one [`Failure`] of few kinds, named by
//! what the caller must do next.

use std::error::Error;
use std::fmt;
use std::io;

use mendb_model::part::Unmatched;
use mendb_service::Conflicts;
use serde::Serialize;

/// The result of a command that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Done, and all is well.
    Done,
    /// Done, and something is not as it should be.
    Drift,
}

/// What the caller must do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The command line or the settings: say it otherwise.
    FixCommand,
    /// What the command was given or found: a file, a name, a state of a table.
    FixInput,
    /// What the command runs in: disk, permissions, network, another process.
    FixEnvironment,
    /// Wait: another process has the target open.
    Busy,
    /// Nothing: the same command can work when run again.
    Retry,
    /// A defect of mendb.
    ReportBug,
    /// Nobody reads stdout any more; not an error of anyone.
    BrokenPipe,
}

/// Why a command did not do its work.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// What the caller must do.
    pub kind: FailureKind,
    /// What failed.
    pub message: String,
    /// Why, the nearest reason first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The operation that stands in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Box<str>>,
    /// Selectors that fit nothing.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub unmatched: Box<[Unmatched]>,
    /// Rows that stand in the way of a mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Box<Conflicts>>,
    /// Whether what was named is not there.
    #[serde(skip)]
    pub is_absent: bool,
    /// Whether a full backup would work where an increment was asked for.
    #[serde(skip)]
    pub needs_full: bool,
    /// Whether what stands in the way goes on by itself, so that the same command works some time.
    #[serde(skip)]
    pub passes: bool,
    /// Whether an operation stands otherwise than was asked for.
    #[serde(skip)]
    pub stands_otherwise: bool,
}

impl Failure {
    /// A failure without causes or hint.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            operation: None,
            unmatched: Box::default(),
            conflicts: None,
            is_absent: false,
            needs_full: false,
            passes: false,
            stands_otherwise: false,
        }
    }

    /// The command line or the settings are wrong.
    pub fn misuse(message: impl Into<String>) -> Self {
        Self::new(FailureKind::FixCommand, message)
    }

    /// What was given or found is wrong.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(FailureKind::FixInput, message)
    }

    /// An error of a crate below, with its causes.
    pub fn of(kind: FailureKind, error: &dyn Error) -> Self {
        let mut failure = Self::new(kind, error.to_string());
        failure.causes = causes(error);
        failure
    }

    /// An I/O error while doing something: `cannot read flights.csv`.
    pub fn io(doing: impl Into<String>, error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(FailureKind::BrokenPipe, doing);
        }
        let kind = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => FailureKind::FixInput,
            _ => FailureKind::FixEnvironment,
        };
        let mut failure = Self::new(kind, doing);
        failure.causes.push(error.to_string());
        failure
    }

    /// The same failure as the reason of a larger one.
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let cause = std::mem::replace(&mut self.message, message.into());
        self.causes.insert(0, cause);
        self
    }

    /// The same failure with one reason more.
    pub fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// The same failure with what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with the operation that stands in the way.
    pub fn in_the_way(mut self, operation: impl Into<String>) -> Self {
        self.operation = Some(operation.into().into_boxed_str());
        self
    }

    /// The exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            FailureKind::BrokenPipe => 0,
            FailureKind::FixCommand => 2,
            _ => 1,
        }
    }

    /// The status of HTTP that says the same to programs.
    pub fn status(&self) -> u16 {
        match self.kind {
            _ if self.is_absent => 404,
            _ if self.stands_otherwise => 409,
            FailureKind::FixCommand => 400,
            FailureKind::FixInput => 422,
            FailureKind::Busy => 409,
            FailureKind::Retry => 503,
            FailureKind::FixEnvironment | FailureKind::ReportBug | FailureKind::BrokenPipe => 500,
        }
    }

    /// That a full backup works where an increment was asked for.
    pub fn needing_full(mut self) -> Self {
        self.needs_full = true;
        self
    }

    /// That what was named is not there.
    pub fn absent(mut self) -> Self {
        self.is_absent = true;
        self
    }

    /// The hint to show: the failure's own or the one of its kind.
    fn advice(&self) -> Option<&str> {
        self.hint.as_deref().or(match self.kind {
            FailureKind::Retry => Some("run the same command again"),
            FailureKind::ReportBug => {
                Some("this is a defect of mendb: please report it with the command and this text")
            }
            _ => None,
        })
    }
}

/// The sources of an error, the nearest first, without those that the one before has said.
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Errors of other libraries often repeat their sources.
        if !said.contains(&text) {
            causes.push(text.clone());
            said = text;
        }
        next = cause.source();
    }
    causes
}

impl fmt::Display for Failure {
    /// One line `error: …`, one `caused by: …` per cause, one `hint: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for cause in &self.causes {
            write!(f, "\n  caused by: {cause}")?;
        }
        if let Some(advice) = self.advice() {
            write!(f, "\nhint: {advice}")?;
        }
        Ok(())
    }
}

impl From<mendb_model::schema::SchemaError> for Failure {
    fn from(error: mendb_model::schema::SchemaError) -> Self {
        Self::of(FailureKind::FixInput, &error)
    }
}

impl From<mendb_model::name::BadName> for Failure {
    fn from(error: mendb_model::name::BadName) -> Self {
        Self::of(FailureKind::FixCommand, &error)
    }
}

impl From<mendb_model::Malformed> for Failure {
    fn from(error: mendb_model::Malformed) -> Self {
        Self::of(FailureKind::FixEnvironment, &error)
            .hint("stored data is damaged: restore the table from a backup")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let failure = Failure::io(
            "cannot read flights.csv",
            &io::Error::other("the disk is on fire"),
        )
        .context("import into flights failed")
        .hint("put it out");
        assert_eq!(
            failure.to_string(),
            "error: import into flights failed\n  caused by: cannot read flights.csv\n  \
             caused by: the disk is on fire\nhint: put it out"
        );
        assert_eq!(failure.exit_code(), 1);
    }

    #[test]
    fn misuse_and_broken_pipes_have_codes_of_their_own() {
        assert_eq!(Failure::misuse("no").exit_code(), 2);
        let pipe = Failure::io("cannot write", &io::ErrorKind::BrokenPipe.into());
        assert_eq!(pipe.exit_code(), 0);
    }
}
