//! `mendb table digest`

use clap::Args;
use mendb_model::digest::Digest;
use mendb_model::name::TablePath;
use mendb_rowstore::{Database, Snapshot};
use serde::Serialize;

use super::paths_of;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::output::Field;

/// Print the content digests of a table and its indexes, and check them by reading everything.
///
/// A digest is the number of rows and the sum of their hashes: it depends neither on their order nor
/// on shards, so two tables with the same digest hold the same rows. The store keeps digests up to
/// date with each write; here they are computed from the rows. Exit code 3: they differ.
#[derive(Debug, Args)]
pub struct DigestArgs {
    /// The table
    table: String,
}

/// The digest of a sharded table, computed and kept.
#[derive(Serialize)]
pub struct Checked {
    /// The table or index.
    pub path: TablePath,
    /// Of the rows that were read.
    pub digest: Digest,
    /// What the store kept.
    pub kept: Digest,
    /// Whether the two agree, in every shard.
    pub equal: bool,
}

/// Runs the command.
pub fn run(args: &DigestArgs, context: &Context) -> Result<Verdict, Failure> {
    verify_table(context, &context.open_rows()?, &args.table)
}

/// Computes the digests of a table and its indexes from one snapshot, and prints whether they are
/// those that were kept.
///
/// # Errors
/// The table does not exist, or the store cannot be read.
pub fn verify_table(
    context: &Context,
    database: &Database,
    table: &str,
) -> Result<Verdict, Failure> {
    let checked = read(&database.snapshot(), table)?;
    context.output.records(
        &checked,
        &[
            Field::left("table", |c: &Checked| c.path.to_string()),
            Field::left("digest", |c| c.digest.to_string()),
            Field::left("check", |c| {
                if c.equal {
                    "equal".to_owned()
                } else {
                    format!("differs from the kept {}", c.kept)
                }
            }),
        ],
    )?;
    Ok(if checked.iter().all(|checked| checked.equal) {
        Verdict::Done
    } else {
        Verdict::Drift
    })
}

/// Reads every row of a table and of its indexes for their digests.
///
/// # Errors
/// The table does not exist, or the store cannot be read.
pub fn read(snapshot: &Snapshot, table: &str) -> Result<Vec<Checked>, Failure> {
    let schema = snapshot.describe(table)?.schema;
    let paths = paths_of(table, &schema).into_iter();
    paths.map(|path| check(snapshot, path)).collect()
}

fn check(snapshot: &Snapshot, path: TablePath) -> Result<Checked, Failure> {
    let mut digest = Digest::default();
    let mut kept = Digest::default();
    let mut equal = true;
    for shard in snapshot.shards(&path)? {
        let mut of_shard = Digest::default();
        for block in snapshot.blocks(&path, &shard.range, None)? {
            for (key, value) in block?.iter() {
                of_shard.add(key, value);
            }
        }
        equal &= of_shard == shard.digest;
        digest.merge(of_shard);
        kept.merge(shard.digest);
    }
    Ok(Checked {
        path,
        digest,
        kept,
        equal,
    })
}
