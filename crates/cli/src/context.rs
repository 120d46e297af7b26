//! What every command gets: the settings and where to print.

use std::sync::Arc;

use crate::output::Output;
use crate::serve::session::Session;
use crate::settings::{Entry, Settings};

/// The surroundings of one run.
#[derive(Debug)]
pub struct Context {
    /// The settings that are in force.
    pub settings: Settings,
    /// Each setting with its origin.
    pub entries: Vec<Entry>,
    /// Where data is printed.
    pub output: Output,
    /// Of a command that a server runs, what that has open.
    pub session: Option<Arc<Session>>,
}

impl Context {
    /// Says something that is not data, on stderr; nothing when quiet.
    pub fn say(&self, text: &str) {
        self.output.say(text);
    }
}
