//! What does what is asked: the program behind the server.

use std::sync::Arc;

use mendb_service::Rates;
use serde_json::{Map, Value};

use crate::listener::{End, Listener};
use crate::metrics::Family;
use crate::role::Role;
use crate::route::Route;
use crate::upload::Upload;

/// How an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON document.
    Json,
    /// As people read it on a terminal.
    Text,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the token.
    pub name: String,
    /// What it may.
    pub role: Role,
    /// Whether a browser brought it in a cookie.
    pub by_cookie: bool,
}

/// A request that was let in.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How it came.
    pub route: &'static Route,
    /// What varies in its path, by the names in it.
    pub parameters: Vec<(String, String)>,
    /// Arguments, by the names of the command line.
    pub fields: Map<String, Value>,
    /// How the answer is wanted.
    pub format: Format,
    /// Whether nothing but data and errors is wanted.
    pub quiet: bool,
    /// Whether a plan that is shown is kept, to be carried out later.
    pub keeps_plan: bool,
    /// What the client calls the request, and means once.
    pub key: Option<String>,
    /// Whether it is only asked what was begun with the key, whatever was asked for then.
    pub known_only: bool,
    /// Who asks.
    pub caller: Caller,
    /// The rows that come along.
    pub upload: Option<Arc<Upload>>,
}

/// What an argument is, to those who read about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldKind {
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// Text.
    Text,
    /// One of these.
    OneOf(Vec<String>),
    /// Several texts.
    Texts,
}

/// An argument of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it does.
    pub about: String,
    /// What it is.
    pub kind: FieldKind,
    /// Whether it must be there.
    pub is_required: bool,
}

/// Does what is asked. Its functions may wait for disks and networks.
pub trait Desk: Send + Sync + 'static {
    /// Runs the command of a request, and tells the listener of it. When that has gone, nobody waits for the rest of
    /// an operation that has begun: it goes on by itself.
    fn perform(&self, asked: &Asked, listener: Listener) -> End;

    /// The operation that an earlier request of this key has made, if it was the same request, or only that is asked.
    ///
    /// # Errors
    /// It was another one, or it cannot be found out.
    fn ordered(&self, asked: &Asked) -> Result<Option<String>, Box<End>>;

    /// The arguments of the command of a route, but for those in its path.
    fn fields(&self, route: &Route) -> Vec<Field>;

    /// Why it cannot work now.
    ///
    /// # Errors
    /// It cannot.
    fn ready(&self) -> Result<(), String>;

    /// The coordinator of the cluster says how fast this agent may speak with the repository.
    fn take_rates(&self, rates: Rates);

    /// What is counted and measured.
    fn measure(&self) -> Vec<Family>;
}
