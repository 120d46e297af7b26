//! Replicas of tables, as the keeper knows them.

use mendb_engines::{Agreement, Replica};
use mendb_model::part::TableName;
use mendb_service::{MendPreview, Service};
use serde::Serialize;

use crate::failure::Failure;
use crate::human;
use crate::output::{Field, table};

/// Another replica of a table, beside the one here.
#[derive(Debug, Serialize)]
pub struct OtherReplica {
    pub equal: bool,
    table: String,
    replica: String,
    /// Whether it is at work.
    active: bool,
    /// Steps of replication that it has to do.
    steps: u64,
    /// Parts that only the replica here has.
    missing: Vec<String>,
    /// Parts that only this one has.
    surplus: Vec<String>,
    /// Parts that both have, with other content.
    other_content: Vec<String>,
}

impl OtherReplica {
    /// Those of all tables that a backup was compared with.
    pub fn all(service: &Service, preview: &MendPreview) -> Result<Vec<Self>, Failure> {
        let compared = preview.tables.iter().filter(|plan| !plan.create);
        let compared = compared.map(|plan| plan.target.clone());
        let stopped = preview.stopped.iter().map(|table| table.target.clone());
        let tables: Vec<TableName> = compared.chain(stopped).collect();
        let found = service.replicas(&tables)?.into_iter();
        let each = found.flat_map(|(table, replicas)| {
            let of_table = move |replica| Self::new(&table, replica);
            replicas.into_iter().map(of_table)
        });
        Ok(each.collect())
    }

    fn new(table: &TableName, replica: Replica) -> Self {
        let mut told = Self {
            equal: replica.is_same(),
            table: table.to_string(),
            replica: replica.name,
            active: replica.is_active,
            steps: 0,
            missing: Vec::new(),
            surplus: Vec::new(),
            other_content: Vec::new(),
        };
        match replica.agreement {
            Agreement::Same => {}
            Agreement::Behind { steps } => told.steps = steps,
            Agreement::Different {
                missing,
                surplus,
                other_content,
            } => {
                (told.missing, told.surplus, told.other_content) =
                    (missing, surplus, other_content);
            }
        }
        told
    }

    fn result(&self) -> &'static str {
        match (self.equal, self.steps) {
            (true, _) => "equal",
            (false, 0) => "different",
            (false, _) => "behind",
        }
    }

    /// Records as lines.
    pub fn describe(records: &[Self]) -> String {
        table(
            records,
            &[
                Field::left("table", |r: &Self| r.table.clone()),
                Field::left("replica", |r| r.replica.clone()),
                Field::left("result", |r| r.result().to_owned()),
                Field::left("at work", |r| {
                    if r.active { "yes" } else { "no" }.to_owned()
                }),
                Field::right("steps to do", |r| human::count(r.steps)),
                Field::right("missing", |r| count(&r.missing)),
                Field::right("surplus", |r| count(&r.surplus)),
                Field::right("other content", |r| count(&r.other_content)),
            ],
        )
    }
}

fn count(parts: &[String]) -> String {
    human::count(parts.len() as u64)
}
