//! Document `log.json`: which log this is. It is created once, with the log, and never again: a log that was moved away
//! or emptied is not made anew by those who knew it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Log;
use crate::error::{Error, Result};
use crate::objects::{Created, Objects};
use crate::random::random_id;
use crate::seal::{self, Unreadable};

/// The name of the document.
pub(super) const IDENTITY: &str = "log.json";
const FORMAT_VERSION: u32 = 1;

/// The id of a log, drawn at random when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogId(Arc<str>);

impl LogId {
    /// The id that somebody noted. Any text is one: one that is of no log is the id of no log that is there.
    pub fn noted(text: &str) -> Self {
        Self(text.into())
    }

    pub(super) fn draw() -> Self {
        Self(random_id().into())
    }

    /// The id as it is noted.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format_version: u32,
    id: String,
}

/// Which log is in a place; `None` where there is none.
pub(super) async fn read(objects: &Objects) -> Result<Option<LogId>> {
    let Some(seen) = objects.see(IDENTITY).await? else {
        return Ok(None);
    };
    match seal::open::<Document>(&seen.bytes, FORMAT_VERSION) {
        Ok(document) => Ok(Some(LogId(document.id.into()))),
        Err(Unreadable::Damaged(detail)) => Err(objects.damaged(IDENTITY, detail)),
        Err(Unreadable::UnknownFormat(version)) => Err(Error::UnknownFormat {
            object: objects.full_name(IDENTITY),
            version,
            newest: FORMAT_VERSION,
        }),
    }
}

/// Names the log in a place, unless another process has.
pub(super) async fn create(objects: &Objects, id: &LogId) -> Result<LogId> {
    let document = Document {
        format_version: FORMAT_VERSION,
        id: id.as_str().to_owned(),
    };
    let (Created::Yes | Created::AlreadyThere) = objects
        .create(IDENTITY, seal::seal(&document).into())
        .await?;
    let there = read(objects).await?;
    there.ok_or_else(|| gone(objects, id))
}

fn gone(objects: &Objects, id: &LogId) -> Error {
    Error::LogGone {
        log: objects.url().to_owned(),
        id: id.to_string(),
    }
}

impl Log {
    /// Its id.
    pub fn id(&self) -> &LogId {
        &self.id
    }

    /// Makes sure that this log, and no other, is where it was.
    ///
    /// # Errors
    /// [`Error::LogGone`] where none is, [`Error::OtherLog`]; or the store fails.
    pub async fn check_is_there(&self) -> Result<()> {
        match read(&self.objects).await? {
            Some(there) if there == self.id => Ok(()),
            Some(there) => Err(Error::OtherLog {
                log: self.url().to_owned(),
                known: self.id.to_string(),
                there: there.to_string(),
            }),
            None => Err(gone(&self.objects, &self.id)),
        }
    }
}
