//! Whether the increments of a chain tell of all commits of a span of time.
//!
//! A backup has the commits that its snapshot sees, by the clock of the server: [`Commits`] says what that means for
//! moments. Of one that an older mendb wrote only the second is known in which it was ordered, on the machine that ran
//! mendb.

use std::sync::Arc;

use mendb_model::manifest::{Commits, Manifest};
use mendb_model::operation::ChangedBy;

use crate::env;

/// What is not known of a span.
pub(crate) struct Gap {
    /// That it is not.
    pub(crate) what: String,
    /// What helps.
    pub(crate) hint: String,
    /// Whether an increment within the span is silent.
    pub(crate) is_silent: bool,
}

/// What the increments of a chain do not tell of a span of time; nothing of one transaction.
pub(crate) fn gaps(changed_by: ChangedBy, chain: &[Arc<Manifest>]) -> Vec<Gap> {
    let ChangedBy::Span { from_us, before_us } = changed_by else {
        return Vec::new();
    };
    let (Some(full), Some(newest)) = (chain.first(), chain.last()) else {
        return Vec::new();
    };
    let collection = &full.collection;
    let mut gaps = Vec::new();
    let begins_us = commits(full).none_from_us;
    if from_us.is_some_and(|from| from < begins_us) {
        gaps.push(Gap {
            what: format!(
                "{changed_by} may have changes that are in the full backup {}, and of these it is not known who made them",
                full.backup_id
            ),
            hint: format!(
                "begin at {} or later, or name a backup of an earlier chain with --to",
                shown(begins_us)
            ),
            is_silent: false,
        });
    }
    let ends_us = all_before_us(newest);
    if let Some(before) = before_us.filter(|before| *before > ends_us) {
        let is_to_come = before > i64::try_from(env::now_ms() * 1_000).unwrap_or(i64::MAX);
        gaps.push(Gap {
            what: format!(
                "{changed_by} reaches beyond the newest backup {}, which has all that committed before {}{}",
                newest.backup_id,
                shown(ends_us),
                if is_to_come { ", and into the future" } else { "" }
            ),
            hint: match is_to_come {
                true => "leave its end out: then it ends with the newest backup".to_owned(),
                false => take_another(collection),
            },
            is_silent: false,
        });
    }
    let overlaps = |at: usize| {
        let ends_before_it =
            before_us.is_some_and(|before| before <= all_before_us(&chain[at - 1]));
        let begins_after_it = from_us.is_some_and(|from| from >= commits(&chain[at]).none_from_us);
        !ends_before_it && !begins_after_it
    };
    let silent = (1..chain.len()).filter(|at| chain[*at].transactions.is_none() && overlaps(*at));
    gaps.extend(silent.map(|at| Gap {
        what: format!(
            "increment {} may hold changes of {changed_by}, and does not keep them one by one",
            chain[at].backup_id
        ),
        hint: format!(
            "name one transaction, a span that ends by {}, or one that begins at {} or later: mendb diff {collection} \
             --changed-by {} shows what is known",
            shown(all_before_us(&chain[at - 1])),
            shown(commits(&chain[at]).none_from_us),
            changed_by.as_flag()
        ),
        is_silent: true,
    }));
    gaps
}

/// How to have later commits known.
pub(crate) fn take_another(collection: &str) -> String {
    format!(
        "take an increment first: mendb backup {collection} --incremental. Increments keep changes one by one where the full \
         backup before them was taken with --changes stream"
    )
}

fn commits(backup: &Manifest) -> Commits {
    let second_us = backup.backup_id.unix_seconds().saturating_mul(1_000_000);
    backup.commits.unwrap_or(Commits {
        none_from_us: second_us.saturating_add(1_000_000),
        all_before_us: None,
    })
}

fn all_before_us(backup: &Manifest) -> i64 {
    let second_us = backup.backup_id.unix_seconds().saturating_mul(1_000_000);
    commits(backup).all_before_us.unwrap_or(second_us)
}

fn shown(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |at| at.to_string())
}
