//! `mendb audit`: what a server was asked that changes something.

use clap::Args;
use mendb_server::Store;
use mendb_server::store::audit::AuditRecord;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::Field;

/// Show what the server was asked that changes something: by whom, from where, and what became of it
///
/// The newest first. What has no outcome was cut off by a crash; the operation that it had begun is in mendb operation
/// list.
#[derive(Debug, Args)]
pub struct AuditCommand {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Those before this one, by its number
    #[arg(long, value_name = "N")]
    after: Option<u64>,
}

#[derive(Serialize)]
struct Record {
    #[serde(flatten)]
    record: AuditRecord,
    at: String,
}

impl AuditCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let records = match context.shared.is_some() || Store::exists(&context.journal_directory()?)
        {
            true => {
                let before = self.after.map(|it| i64::try_from(it).unwrap_or(i64::MAX));
                context.open_store()?.audit(before, self.limit)?
            }
            false => Vec::new(),
        };
        if let (Some(session), Some(last)) = (&context.session, records.last())
            && records.len() as u64 == u64::from(self.limit)
        {
            session.tell_more(&last.audit_id.to_string());
        }
        let records: Vec<_> = records
            .into_iter()
            .map(|record| Record {
                at: human::time(record.at_ms),
                record,
            })
            .collect();
        context.output.records(
            &records,
            &[
                Field::right("#", |r: &Record| r.record.audit_id.to_string()),
                Field::left("at", |r| r.at.clone()),
                Field::left("who", |r| r.record.who.clone()),
                Field::left("from", |r| r.record.peer.clone()),
                Field::left("request", |r| r.record.request.clone()),
                Field::left("outcome", |r| r.record.outcome.clone().unwrap_or_default()),
                Field::left("operation", |r| {
                    r.record.operation_id.clone().unwrap_or_default()
                }),
            ],
        )?;
        Ok(Verdict::Done)
    }
}
