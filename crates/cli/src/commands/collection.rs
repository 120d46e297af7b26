//! `mendb collection`: named sets of tables that are backed up together.

use clap::Subcommand;
use mendb_engines::postgres::Postgres;
use mendb_model::name::matches;
use mendb_service::ChainHold;
use mendb_service::journal::collection::Collection;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::{Field, table};
use crate::proven::Proven;
use crate::target::Target;

/// Sets of tables that are backed up together from one consistent snapshot.
#[derive(Debug, Subcommand)]
pub enum CollectionCommand {
    /// Make a collection of tables
    Create {
        /// Its name
        name: String,
        /// A table that belongs to it, or a pattern of tables with * and ?, as in 'public.*'; repeat for each.
        /// Tables that match a pattern and cannot be backed up are left out, and named
        #[arg(long = "table", value_name = "TABLE", required = true)]
        tables: Vec<String>,
    },
    /// List the collections of the target
    List,
    /// Show a collection, and what each repository it was backed up into holds back
    ///
    /// The target keeps the changes since the last backup in each repository, for the next increment there.
    /// They are counted by reading them.
    Show {
        /// The collection
        name: String,
    },
    /// Release the changes that are kept for a repository which will not be used any more
    ///
    /// The next backup into it has to be a full one. The repository itself is not touched.
    ForgetRepository {
        /// The collection
        name: String,
        /// The repository: its id, where it was, or the full backup that its chain begins with, as mendb
        /// collection show tells them
        #[arg(id = "which", value_name = "REPOSITORY")]
        repository: String,
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
    /// When a drill last proved that a backup of it can be restored, from whichever repository.
    last_proven_restorable_at: Option<String>,
}

impl CollectionRecord {
    fn new(collection: Collection, proven: &Proven) -> Self {
        Self {
            last_proven_restorable_at: proven.last_of(&collection.collection),
            collection: collection.collection,
            tables: collection.tables,
            created_at: human::time(collection.created_at_ms),
        }
    }
}

/// The tables that are named, or match a pattern, each once.
fn chosen(context: &Context, written: &[String]) -> Result<Vec<String>, Failure> {
    let is_pattern = |text: &&String| text.contains(['*', '?']);
    if !written.iter().any(|text| is_pattern(&text)) {
        return Ok(written.to_vec());
    }
    let there: Vec<(String, Option<String>)> = match context.target()? {
        Target::Postgres(address) => {
            let tables = Postgres::look(&address)?.tables()?.into_iter();
            tables.map(|table| (table.table, table.refused)).collect()
        }
        _ => {
            let names = context.look_at_rows()?.tables();
            names.into_iter().map(|name| (name, None)).collect()
        }
    };
    let mut tables: Vec<String> = Vec::new();
    for text in written {
        if !is_pattern(&text) {
            tables.push(text.clone());
            continue;
        }
        let matching = there.iter().filter(|(name, _)| matches(text, name));
        let mut found = false;
        for (name, refused) in matching {
            match refused {
                None => {
                    found = true;
                    if !tables.contains(name) {
                        tables.push(name.clone());
                    }
                }
                Some(why) => context.say(&format!("left out: {why}")),
            }
        }
        if !found {
            return Err(
                Failure::input(format!("no table that can be backed up matches {text}"))
                    .hint("mendb table list shows those there are"),
            );
        }
    }
    Ok(tables)
}

/// A collection with what is kept for its repositories.
#[derive(Serialize)]
struct CollectionDetails {
    #[serde(flatten)]
    collection: CollectionRecord,
    repositories: Vec<ChainHold>,
}

fn show(context: &Context, collection: Collection, proven: &Proven) -> Result<(), Failure> {
    let repositories = context.look()?.chain_holds(&collection.collection)?;
    let details = CollectionDetails {
        collection: CollectionRecord::new(collection, proven),
        repositories,
    };
    context.output.record(&details, describe)?;
    Ok(())
}

fn describe(details: &CollectionDetails) -> String {
    let record = &details.collection;
    let mut text = format!(
        "collection {}\ncreated    {}\ntables     {}\n",
        record.collection,
        record.created_at,
        record.tables.join(", ")
    );
    if let Some(at) = &record.last_proven_restorable_at {
        text += &format!("proven     restorable at {at}\n");
    }
    if !details.repositories.is_empty() {
        text.push('\n');
        text += &table(&details.repositories, &fields());
    }
    text
}

fn shown(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "unknown".to_owned())
}

fn fields() -> [Field<ChainHold>; 6] {
    [
        Field::left("repository", |r: &ChainHold| shown(&r.repository_id)),
        Field::left("at", |r| shown(&r.url)),
        Field::left("last backup", |r| shown(&r.backup_id)),
        Field::left("goes on from", |r| {
            let full = r.full_backup.clone();
            full.unwrap_or_else(|| "a full backup".to_owned())
        }),
        Field::right("changes kept", |r| match r.held.changes {
            Some(changes) => human::count(changes),
            None => "not counted".to_owned(),
        }),
        Field::right("bytes", |r| match r.held.outgrew_bytes {
            Some(bytes) => format!("let go at {}", human::bytes(bytes)),
            None => human::bytes(r.held.bytes),
        }),
    ]
}

impl CollectionCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        if !matches!(context.target()?, Target::Postgres(_)) {
            context.rows_directory(
                "collection",
                "on a ClickHouse server a collection is what one backup is told to hold: \
                 mendb backup NAME --tables 'database.*'",
            )?;
        }
        match self {
            Self::Create { name, tables } => {
                let tables = chosen(context, &tables)?;
                let service = context.open_service()?;
                service.create_collection(&name, &tables)?;
                for note in service.relatives(&tables)? {
                    context.say(&format!("note: {note}"));
                }
                let record = CollectionRecord::new(
                    service.collection(&name)?,
                    &Proven::last(service.journal())?,
                );
                context.output.report(&record, |record| {
                    format!(
                        "collection {} of {}\n",
                        record.collection,
                        record.tables.join(", ")
                    )
                })?;
            }
            Self::List => {
                let records: Vec<_> = match context.open_journal()? {
                    Some(journal) => {
                        let proven = Proven::last(&journal)?;
                        let collections = journal.collections()?.into_iter();
                        collections
                            .map(|collection| CollectionRecord::new(collection, &proven))
                            .collect()
                    }
                    None => Vec::new(),
                };
                context.output.records(
                    &records,
                    &[
                        Field::left("collection", |r: &CollectionRecord| r.collection.clone()),
                        Field::left("created", |r| r.created_at.clone()),
                        Field::left("proven restorable", |r| {
                            r.last_proven_restorable_at.clone().unwrap_or_default()
                        }),
                        Field::left("tables", |r| r.tables.join(", ")),
                    ],
                )?;
            }
            Self::Show { name } => {
                let unknown = mendb_service::Error::UnknownCollection;
                let Some(journal) = context.open_journal()? else {
                    return Err(unknown(name).into());
                };
                let Some(collection) = journal.collection(&name)? else {
                    return Err(unknown(name).into());
                };
                show(context, collection, &Proven::last(&journal)?)?;
            }
            Self::ForgetRepository { name, repository } => {
                let service = context.open_service()?;
                let forgotten = service.forget_repository(&name, &repository)?;
                context.output.report(&forgotten, |forgotten| {
                    let bytes = forgotten.held.bytes;
                    format!(
                        "forgot {repository}: {} of changes are not kept for it any more; the next backup of \
                         {name} there has to be a full one\n",
                        human::bytes(bytes)
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
