//! `mendb collection`: named sets of tables that are backed up together.

use clap::Subcommand;
use mendb_service::journal::collection::Collection;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::Field;

/// Sets of tables that are backed up together from one consistent snapshot.
#[derive(Debug, Subcommand)]
pub enum CollectionCommand {
    /// Make a collection of tables
    Create {
        /// Its name
        name: String,
        /// A table that belongs to it; repeat for each
        #[arg(long = "table", value_name = "TABLE", required = true)]
        tables: Vec<String>,
    },
    /// List the collections of the target
    List,
    /// Show a collection
    Show {
        /// The collection
        name: String,
    },
    /// Forget a collection; its tables and its backups stay
    Drop {
        /// The collection
        name: String,
    },
}

#[derive(Serialize)]
struct CollectionRecord {
    collection: String,
    tables: Vec<String>,
    created_at: String,
}

impl CollectionRecord {
    fn new(collection: Collection) -> Self {
        Self {
            collection: collection.collection,
            tables: collection.tables,
            created_at: human::time(collection.created_at_ms),
        }
    }
}

impl CollectionCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        context.rows_directory(
            "collection",
            "on a ClickHouse server a collection is what one backup is told to hold: \
             mendb backup NAME --tables 'database.*'",
        )?;
        match self {
            Self::Create { name, tables } => {
                let service = context.open_service()?;
                service.create_collection(&name, &tables)?;
                let record = CollectionRecord::new(service.collection(&name)?);
                context.output.report(&record, |record| {
                    format!(
                        "collection {} of {}\n",
                        record.collection,
                        record.tables.join(", ")
                    )
                })?;
            }
            Self::List => {
                let collections = match context.open_journal()? {
                    Some(journal) => journal.collections()?,
                    None => Vec::new(),
                };
                let records: Vec<_> = collections.into_iter().map(CollectionRecord::new).collect();
                context.output.records(
                    &records,
                    &[
                        Field::left("collection", |r: &CollectionRecord| r.collection.clone()),
                        Field::left("created", |r| r.created_at.clone()),
                        Field::left("tables", |r| r.tables.join(", ")),
                    ],
                )?;
            }
            Self::Show { name } => {
                let journal = context.open_journal()?;
                let collection = match &journal {
                    Some(journal) => journal.collection(&name)?,
                    None => None,
                };
                let collection = collection.ok_or(mendb_service::Error::UnknownCollection(name))?;
                context
                    .output
                    .record(&CollectionRecord::new(collection), |record| {
                        format!(
                            "collection {}\ncreated    {}\ntables     {}\n",
                            record.collection,
                            record.created_at,
                            record.tables.join(", ")
                        )
                    })?;
            }
            Self::Drop { name } => {
                context.open_service()?.drop_collection(&name)?;
                context.output.report(&serde_json::json!({ "dropped": name }), |_| {
                    format!("collection {name} dropped; its tables and backups are where they were\n")
                })?;
            }
        }
        Ok(Verdict::Done)
    }
}
