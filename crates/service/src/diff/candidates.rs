//! Which keys may differ, where changes name them.

use std::sync::Arc;

use mendb_engines::{LiveRows, LockKind};
use mendb_model::manifest::Manifest;
use mendb_model::{Version, describe_error};

use super::report::DiffMethod;
use super::state::{After, Point};
use crate::error::{Error, Result};
use crate::front::Front;
use crate::front::chosen::Purpose;
use crate::front::stream::streams_of_chain;

/// What changed between two states.
pub(super) enum Between {
    /// What these increments changed and, after the last of them, the target.
    Changes {
        increments: Vec<Arc<Manifest>>,
        live: Option<LiveChanges>,
    },
    /// It is not known.
    Unknown { reason: String },
}

/// Changes on the target.
#[derive(Clone)]
pub(super) struct LiveChanges {
    /// The change stream that keeps them has one of these names: it is called after the full backup that
    /// the chain began with, which may have been folded into a later one.
    streams: Vec<String>,
    /// They begin after this commit.
    pub(super) since_version: Version,
}

impl Front {
    /// What changed between a restore point and another state. What is live was looked at before: a
    /// backup that was taken since goes on from a later commit, of which that knows nothing.
    pub(super) fn between(&self, before: &Point, after: &After<'_>) -> Result<Between> {
        match after {
            After::Point(after) => {
                let increments = after.after(before).or_else(|| before.after(after));
                Ok(match increments {
                    Some(increments) => Between::Changes {
                        increments: increments.to_vec(),
                        live: None,
                    },
                    None => unknown("they are backups of different chains"),
                })
            }
            After::Live { .. } => self.until_now(before),
        }
    }

    fn until_now(&self, before: &Point) -> Result<Between> {
        let collection = &before.manifest().collection;
        let newest = match self.chosen(collection, None, Purpose::Compare) {
            Ok(newest) => Point::new(newest.chain),
            Err(error @ Error::Refused { .. }) => {
                let reason = error.to_string();
                return Ok(Between::Unknown { reason });
            }
            Err(error @ Error::Repository(_)) if !error.is_retriable() => {
                let reason = describe_error(&error);
                return Ok(Between::Unknown { reason });
            }
            Err(error) => return Err(error),
        };
        let Some((newest, increments)) = newest
            .as_ref()
            .and_then(|newest| Some((newest, newest.after(before)?)))
        else {
            return Ok(unknown(
                "the backup is not of the chain that the change streams go on with",
            ));
        };
        let repository_id = self.repository_id()?;
        Ok(Between::Changes {
            increments: increments.to_vec(),
            live: Some(LiveChanges {
                streams: streams_of_chain(&newest.chain[0], &repository_id.unwrap_or_default()),
                since_version: newest.manifest().snapshot_version,
            }),
        })
    }
}

fn unknown(reason: &str) -> Between {
    Between::Unknown {
        reason: reason.to_owned(),
    }
}

impl Between {
    /// How the rows of a table that differ are found.
    ///
    /// # Errors
    /// The target cannot be read.
    pub(super) fn method(&self, table: &str, after: &After<'_>) -> Result<DiffMethod> {
        let by_rows = |reason: &str| {
            Ok(DiffMethod::Rows {
                reason: reason.to_owned(),
            })
        };
        let (increments, live) = match self {
            Self::Unknown { reason } => return by_rows(reason),
            Self::Changes { increments, live } => (increments, live),
        };
        if increments
            .iter()
            .any(|increment| increment.table(table).is_none())
        {
            return by_rows("a backup between does not have the table");
        }
        if let (Some(changes), After::Live { rows, .. }) = (live, after)
            && let Some(reason) = changes.are_lost(table, &**rows)?
        {
            return by_rows(&reason);
        }
        Ok(DiffMethod::Changes {
            increments: increments
                .iter()
                .map(|increment| increment.backup_id.clone())
                .collect(),
            live: live.is_some(),
        })
    }
}

impl LiveChanges {
    /// Why the target does not have all of them of a table; `None` where it has.
    fn are_lost(&self, table: &str, rows: &dyn LiveRows) -> Result<Option<String>> {
        let Some(live) = rows.inspect(table)? else {
            return Ok(Some("the table does not exist".to_owned()));
        };
        if live.locked == Some(LockKind::Mend) {
            return Ok(Some("the table is being mended".to_owned()));
        }
        let carries = |name: &&String| live.streams.iter().any(|stream| stream.name == **name);
        let stream = self.streams.iter().find(carries).or(self.streams.first());
        let now = rows.version()?;
        let lost = stream.and_then(|stream| live.changes_lost(stream, self.since_version, now));
        Ok(lost.map(|lost| format!("the changes since the newest backup are not known: {lost}")))
    }
}
