//! Routes of another program: each is translated into routes of ours, and their answers into what its clients expect.
//! Nothing is done here that those do not do, with their roles, limits and audit.

use serde_json::{Map, Value, json};

use crate::problem::Problem;
use crate::verb::Verb;

/// A route of another program.
#[derive(Debug, Clone, Copy)]
pub struct Compat {
    /// What that program calls it.
    pub operation: &'static str,
    /// What it comes to.
    pub asks: fn(&Foreign) -> Result<Vec<Native>, Problem>,
}

/// A request as that program would get it.
#[derive(Debug, Clone, Default)]
pub struct Foreign {
    /// What varies in the path, by its names.
    pub parameters: Vec<(String, String)>,
    /// The query, without who asks.
    pub query: Map<String, Value>,
    /// The body.
    pub body: String,
    /// Now, in milliseconds since 1970.
    pub now_ms: u64,
}

impl Foreign {
    /// A part of the path; empty where there is none.
    pub fn parameter(&self, name: &str) -> &str {
        let mut parameters = self.parameters.iter();
        let found = parameters.find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// A text of the query.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.query
            .get(name)?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    /// Whether the query says yes to something: by its name alone, or by a word for it.
    pub fn says(&self, name: &str) -> bool {
        let no = ["0", "false", "no"];
        self.query
            .get(name)
            .is_some_and(|value| !value.as_str().is_some_and(|text| no.contains(&text)))
    }
}

/// What a request of another program comes to.
#[derive(Debug)]
pub struct Native {
    /// What that program calls it.
    pub operation: String,
    /// What does it.
    pub does: NativeDoes,
}

/// What does something.
#[derive(Debug)]
pub enum NativeDoes {
    /// A route of ours.
    Route {
        /// Its verb and path.
        at: (Verb, &'static str),
        /// What varies in its path.
        parameters: Vec<(String, String)>,
        /// Its arguments.
        fields: Map<String, Value>,
        /// What is told of its answer: a line for each.
        tells: Tells,
    },
    /// Nothing has to be done, and that is told.
    Nothing(Value),
}

/// How an answer of ours is told.
pub enum Tells {
    /// As lines, one made of each value of a list.
    Lines(fn(&Value) -> Value),
    /// As this, with the operation that has begun.
    Begun(Value),
}

impl std::fmt::Debug for Tells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lines(_) => f.write_str("Lines"),
            Self::Begun(told) => write!(f, "Begun({told})"),
        }
    }
}

impl Tells {
    /// The lines of an answer.
    ///
    /// # Errors
    /// A list was expected, and the answer is none.
    pub(crate) fn lines(self, answer: &Value) -> Result<Vec<Value>, Problem> {
        match self {
            Self::Lines(line) => {
                let values = answer.as_array();
                let values = values
                    .ok_or_else(|| Problem::defect("an answer that is translated is no list"))?;
                Ok(values.iter().map(line).collect())
            }
            Self::Begun(mut told) => {
                if let Some(id) = answer.get("operation_id") {
                    told["operation_id"] = id.clone();
                }
                Ok(vec![told])
            }
        }
    }
}

/// How a request that was not done is told.
pub(crate) fn refused(operation: &str, problem: &Problem) -> Value {
    let mut error = problem.detail.clone();
    if let Some(hint) = problem.members.get("hint").and_then(Value::as_str) {
        error = format!("{error}; {hint}");
    }
    json!({ "status": "error", "operation": operation, "error": error })
}

/// The fields that name who asks.
pub(crate) const USER: &str = "user";
/// What lets in, in the query.
pub(crate) const PASS: &str = "pass";
