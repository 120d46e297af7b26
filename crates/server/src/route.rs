//! The ways to ask: the table of routes is the one place that knows them.

use crate::compat::Compat;
use crate::role::Role;
pub use crate::verb::Verb;

/// One way to ask.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// What is done.
    pub verb: Verb,
    /// To what: `/v1/collections/{collection}/backups`.
    pub path: &'static str,
    /// Who may; `None` where anybody may.
    pub role: Option<Role>,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// What does it.
    pub does: Does,
}

/// What answers a request.
#[derive(Debug, Clone, Copy)]
pub enum Does {
    /// A command of the program.
    Command(Command),
    /// Says that the process is there.
    Live,
    /// Says whether it can work.
    Ready,
    /// Counts and measures.
    Metrics,
    /// Describes the routes.
    OpenApi,
    /// Reports all operations as they move.
    Events,
    /// Reports one operation as it moves.
    OperationEvents,
    /// Gives a browser that brings a token a cookie.
    LogIn,
    /// Takes the cookie back.
    LogOut,
    /// Who asks.
    WhoAmI,
    /// What another program answers here.
    Compat(Compat),
    /// A file of the dashboard.
    Page {
        /// Its media type.
        kind: &'static str,
        /// What is in it.
        content: &'static str,
    },
}

/// A command, and how a request names its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Its words: `operation`, `show`.
    pub words: &'static [&'static str],
    /// Parts of the path that stand for arguments of another name.
    pub names: &'static [(&'static str, &'static str)],
    /// Arguments that no request may name: those about files of this machine.
    pub without: &'static [&'static str],
    /// Arguments that every request has.
    pub fixed: &'static [(&'static str, &'static str)],
    /// Whether a part of the path is the name of a plan that the server keeps.
    pub carries_out: bool,
    /// Whether rows come as the body, or go as the answer.
    pub rows: Rows,
}

/// Which way rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// There are none.
    None,
    /// The body is a file of rows, and arguments stand in the query.
    In,
    /// The answer is a file of rows.
    Out,
}

impl Command {
    /// The argument that a part of the path stands for.
    pub fn argument<'a>(&'a self, parameter: &'a str) -> &'a str {
        let named = self.names.iter().find(|(part, _)| *part == parameter);
        named.map_or(parameter, |(_, argument)| argument)
    }
}

impl Route {
    /// The names of the parts of the path that vary.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> {
        let parts = self.path.split('/');
        parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// The command that it runs.
    pub fn command(&self) -> Option<&Command> {
        match &self.does {
            Does::Command(command) => Some(command),
            _ => None,
        }
    }

    /// Whether it changes something, so that it is written down who asked.
    pub fn changes(&self) -> bool {
        self.verb != Verb::Get && matches!(self.does, Does::Command(_))
    }
}
