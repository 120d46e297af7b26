//! What a server's refusals mean to the caller.

use std::fmt::Display;
use std::io;

use mendb_model::describe_error;
use postgres::Error;
use postgres::error::{DbError, SqlState};

use crate::error::{EngineError, Remedy};

/// Says that something failed on the server, why, and what kind of failure it is.
pub(super) fn failed(doing: impl Display, error: &Error) -> EngineError {
    let Some(refusal) = error.as_db_error() else {
        // No answer: the connection is gone, or could not be made.
        let message = format!("cannot {doing}: {}", describe_error(error));
        return EngineError::new(Remedy::Retry, message);
    };
    EngineError::new(
        remedy(refusal.code()),
        format!("cannot {doing}: {}", describe(refusal)),
    )
}

/// As [`failed`], of an error that came through a reader or a writer.
pub(super) fn broken(doing: impl Display, error: &io::Error) -> EngineError {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(inner) => failed(doing, inner),
        None => EngineError::new(
            Remedy::Retry,
            format!("cannot {doing}: {}", describe_error(error)),
        ),
    }
}

fn describe(refusal: &DbError) -> String {
    let mut text = refusal.message().to_owned();
    for more in [refusal.detail(), refusal.hint()].into_iter().flatten() {
        text += "; ";
        text += more.trim_end_matches('.');
    }
    text
}

fn remedy(code: &SqlState) -> Remedy {
    let passing = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::OBJECT_IN_USE,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::QUERY_CANCELED,
    ];
    if passing.contains(code) || code.code().starts_with("08") {
        return Remedy::Retry;
    }
    // The server's resources, its system, its files.
    match &code.code()[..2] {
        "53" | "58" | "XX" => Remedy::Repair,
        _ => Remedy::Request,
    }
}

/// Whether the server said that somebody else has a lock that was waited for.
pub(super) fn is_busy(error: &Error) -> bool {
    let busy = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    error.code().is_some_and(|code| busy.contains(code))
}

/// Whether the server said that the role may not do something.
pub(super) fn is_forbidden(error: &Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

/// That something was asked for that cannot be done.
pub(super) fn refused(message: impl Into<String>) -> EngineError {
    EngineError::new(Remedy::Request, message)
}

/// That something of the server cannot be believed.
pub(super) fn damaged(message: impl Into<String>) -> EngineError {
    EngineError::new(Remedy::Repair, message)
}
