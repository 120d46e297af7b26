//! The snapshot of a backup, and how the changes since its parent are found.
//!
//! ```text
//! stream     a full backup has one attached, where that was asked for; an increment looks whether that of its chain is whole
//! snapshot   all tables as of one moment
//! witness    it is noted in the database: what it sees is on disk by then
//! told       the stream tells what was written up to it
//! ```

use std::sync::Arc;

use mendb_model::digest::Digest;
use mendb_model::key::KeyRange;
use mendb_model::manifest::{ShardBackup, ShardedData, TableBackup};
use mendb_model::name::TablePath;

use super::cut::Cut;
use super::session::lock;
use super::stream::Standing;
use super::{Postgres, shards, standby, witness};
use crate::contract::rows::{FreezeRequest, Frozen};
use crate::error::Result;

impl Postgres {
    /// Takes the snapshot of a backup, and keeps it under the name of the operation.
    pub(super) fn take_cut(&self, request: &FreezeRequest<'_>) -> Result<Frozen> {
        let (stream, tables) = (request.stream, request.tables);
        let has_stream_elsewhere = match self.is_standby {
            true => self
                .server
                .with(|client| standby::check_backup(client, request))?,
            false => false,
        };
        let standing = match request.since_version {
            _ if self.is_standby => Standing::Without,
            Some(parent) => self.stand(stream, parent, tables)?,
            None if request.keeps_changes => {
                if let Err(error) = self.attach_stream(stream, tables) {
                    self.end_stream(stream)?;
                    return Err(error);
                }
                Standing::Begins(None)
            }
            None => Standing::Without,
        };
        let mut cut = Cut::take(&self.server, request.operation, tables)?;
        if let Some(parent) = request.since_version {
            cut.look_back(parent)?;
            if self.is_standby {
                standby::check_reached(cut.since(), parent, cut.moment)?;
            }
        }
        if self.is_standby {
            for name in tables.iter().filter(|_| has_stream_elsewhere) {
                let why = "it is on the primary, and the backup was taken of a standby";
                cut.untold.insert(name.clone(), why.to_owned());
            }
        } else {
            let relations = cut.tables.iter();
            let relations = relations.map(|(name, table)| (name.clone(), table.relation.clone()));
            let (at, relations) = (cut.moment, relations.collect::<Vec<_>>());
            self.change("note where a backup ends", |client| {
                witness::note(client, at, &relations)
            })?;
            self.tell(stream, standing, &mut cut)?;
        }
        let mut tables = Vec::new();
        for name in request.tables {
            let Some(table) = cut.tables.get(name).cloned() else {
                continue;
            };
            let mut session = cut.session()?;
            let bytes = shards::bytes_of(&mut session, &table)?;
            let ranges = shards::split(&mut session, &table)?;
            session.keep();
            cut.range_bytes
                .insert(name.clone(), bytes / ranges.len().max(1) as u64);
            let shard = |range| ShardBackup {
                range,
                digest: Digest::default(),
                segments: Vec::new(),
            };
            let unfolded = cut.unfolded_at(&TablePath::unfolded(name));
            tables.push(TableBackup {
                unfolded: unfolded.map(|_| without_segments()),
                changes_by: cut.methods.get(name).cloned(),
                untold: cut.untold.get(name).cloned(),
                ..table.backup(ranges.into_iter().map(shard).collect())
            });
        }
        let frozen = Frozen {
            version: cut.moment.version(),
            tables,
            transactions: cut.unfolded.as_ref().map(|_| without_segments()),
            commits: Some(cut.commits),
        };
        lock(&self.cuts).insert(request.operation.to_owned(), Arc::new(cut));
        Ok(frozen)
    }
}

/// The draft of what is one shard.
fn without_segments() -> ShardedData {
    let shard = ShardBackup {
        range: KeyRange::all(),
        digest: Digest::default(),
        segments: Vec::new(),
    };
    ShardedData::here(1, vec![shard])
}
