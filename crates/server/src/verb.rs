//! What a request does, as HTTP says it.

use axum::http::Method;

/// What a request does to what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Looks.
    Get,
    /// Makes or begins something.
    Post,
    /// Removes something.
    Delete,
}

impl Verb {
    /// As HTTP names it.
    pub fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Delete => Method::DELETE,
        }
    }
}
