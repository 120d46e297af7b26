//! The rows that are there, for callers that only read.

use std::ops::ControlFlow;

use mendb_model::digest::Digest;
use mendb_model::key::KeyRange;
use mendb_model::manifest::TableBackup;
use mendb_model::name::TablePath;
use mendb_model::{RowBlock, TableSchema, Version};

use serde::Serialize;

use super::LockKind;
use super::changes::{Born, ChangesLost, HeldBack, LiveStream};
use crate::error::Result;

/// The tables of a row store, either as they are at each call or all as of one commit: [`Self::snapshot`].
pub trait LiveRows: Send + Sync {
    /// *inspect*: all of it as of one commit. Nothing is locked: what it held is kept on disk until this is
    /// dropped, and in this process only.
    ///
    /// # Errors
    /// The store failed.
    fn snapshot(&self) -> Result<Box<dyn LiveRows + '_>>;

    /// *inspect*: a live table, or `None`.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    fn inspect(&self, table: &str) -> Result<Option<LiveTable>>;

    /// *inspect*: the last commit. Versions order; what else they are is the engine's.
    ///
    /// # Errors
    /// It cannot be told.
    fn version(&self) -> Result<Version>;

    /// *inspect*: in what a live table is another than one of a backup, beside its schema; `None` where in
    /// nothing, or there is none.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    fn difference(&self, _backup: &TableBackup) -> Result<Option<String>> {
        Ok(None)
    }

    /// *assess*: the shards of a table or index that have keys of a range, as they are now, in key order,
    /// covering it, with their digests. Where these are kept with each write, what it costs does not depend on
    /// the others; else ([`super::rows::RowStore::keeps_digests`]) the range is read, and is the shard.
    ///
    /// # Errors
    /// The table or index is missing.
    fn shards(&self, path: &TablePath, range: &KeyRange) -> Result<Vec<LiveShard>>;

    /// *assess*: the rows of a range as they are now, in key order, those after `after`.
    ///
    /// # Errors
    /// The table or index is missing, or the store cannot be read.
    fn scan(
        &self,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()>;

    /// *assess*: the rows of ascending keys as they are now; `None` for a key that has none. Holds the
    /// rows of all keys given.
    ///
    /// # Errors
    /// The table or index is missing, or the store cannot be read.
    fn rows_of(&self, path: &TablePath, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>>;

    /// *assess*: which live rows keep some wanted ones from being there too, by the rules that the schema
    /// of the table has now, as that of a unique index. The wanted rows are encoded, with their keys. Each
    /// meets live rows of other keys, whether these are wanted too or not.
    ///
    /// # Errors
    /// The table is missing, a row is none of it, or the store cannot be read.
    fn conflicts(
        &self,
        table: &str,
        wanted: &RowBlock<&[u8]>,
        found: ConflictSink<'_>,
    ) -> Result<()>;

    /// *assess*: the changes of a range after a version until now, one a key, in key order. They are
    /// complete only where a stream has needed all of them.
    ///
    /// # Errors
    /// The table or index is missing, or the store cannot be read.
    fn changes_since(
        &self,
        path: &TablePath,
        range: &KeyRange,
        since_version: Version,
        sink: BlockSink<'_>,
    ) -> Result<()>;

    /// *assess*: the most bytes that the changes of a table or index after a version may be, without reading them.
    ///
    /// # Errors
    /// The table or index is missing.
    fn bytes_changed_since(&self, path: &TablePath, since_version: Version) -> Result<u64>;

    /// *verify*: the digest of the rows in a range as they are now, by reading each of them.
    ///
    /// # Errors
    /// The table is missing, or the store cannot be read.
    fn digest(&self, path: &TablePath, range: &KeyRange) -> Result<Digest>;

    /// *verify*: whether the indexes of a table find its rows, where the target can check that. `None` where it cannot.
    ///
    /// # Errors
    /// The table is missing, or the store cannot be read. Damage is no error.
    fn check_indexes(&self, _table: &str) -> Result<Option<IndexCheck>> {
        Ok(None)
    }

    /// *inspect*: what the change logs of a table keep for each of its streams, by reading them.
    ///
    /// # Errors
    /// The table is missing, or the store cannot be read.
    fn held_back(&self, table: &str) -> Result<Vec<HeldBack>>;
}

/// A shard as it is on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveShard {
    /// Its keys.
    pub range: KeyRange,
    /// The digest of its rows.
    pub digest: Digest,
    /// The bytes of its rows, roughly.
    pub bytes: u64,
}

/// What a check of the indexes of a table found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IndexCheck {
    /// Indexes that were checked.
    pub checked: u64,
    /// What is wrong with them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<String>,
    /// Why they were not checked, and what allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_checked: Option<String>,
}

/// Takes blocks as they are read; it stops the reading by breaking.
pub type BlockSink<'a> = &'a mut dyn FnMut(&RowBlock<&[u8]>) -> ControlFlow<()>;

/// Two rows of which a rule of the schema allows one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict<'a> {
    /// The rule: the name of a unique index.
    pub rule: &'a str,
    /// What both rows have there, as people write it.
    pub value: &'a str,
    /// The key of the row that is wanted.
    pub wanted: &'a [u8],
    /// The key of the row that lives.
    pub holder: &'a [u8],
}

/// Takes conflicts as they are found; it stops the search by breaking.
pub type ConflictSink<'a> = &'a mut dyn FnMut(Conflict<'_>) -> ControlFlow<()>;

/// A table as it lives on the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTable {
    /// Its schema.
    pub schema: TableSchema,
    /// Its change streams.
    pub streams: Vec<LiveStream>,
    /// Whether the changes that they keep can be read as such ([`LiveRows::changes_since`]).
    pub keeps_changes: bool,
    /// How it came to be; `None` where the store did not keep that yet.
    pub born: Option<Born>,
    /// What is done to it. Of a table that is being mended changes are not complete between the moment
    /// readers see the mend and its end; one that is being restored is hidden from readers.
    pub locked: Option<LockKind>,
}

impl LiveTable {
    /// Why the changes since a backup are not known; `None` where they are. The backup was cut at `version`
    /// with the stream of its chain, and the target is at version `now`.
    pub fn changes_lost(
        &self,
        stream: &str,
        version: Version,
        now: Version,
    ) -> Option<ChangesLost> {
        if !self.keeps_changes {
            return Some(ChangesLost::NotKept);
        }
        let Some(found) = self.streams.iter().find(|found| found.name == stream) else {
            let born = self.born.as_ref();
            return Some(match born {
                _ if now < version => ChangesLost::SetBack,
                Some(born) if born.version > version => match &born.restored_by {
                    Some(operation) => ChangesLost::Restored {
                        operation: operation.clone(),
                    },
                    None => ChangesLost::Created,
                },
                Some(_) => ChangesLost::StreamEnded,
                None => ChangesLost::Untold,
            });
        };
        match found.outgrew_bytes {
            Some(bytes) => Some(ChangesLost::Outgrown { bytes }),
            None if found.continues(version) => None,
            None if found.cut_version < version => Some(ChangesLost::SetBack),
            None => Some(ChangesLost::LetGoUpTo),
        }
    }
}

impl LiveTable {
    /// Whether its rows stand in each other's way by rules: [`LiveRows::conflicts`].
    pub fn has_rules(&self) -> bool {
        self.schema.indexes.iter().any(|index| index.unique)
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::{Column, ColumnType, TableSchema};

    use super::*;

    fn table(born: Option<Born>, streams: &[(u64, u64, Option<u64>)]) -> LiveTable {
        let stream = |(since, cut, outgrew): &(u64, u64, Option<u64>)| LiveStream {
            name: "s".to_owned(),
            since_version: (*since).into(),
            cut_version: (*cut).into(),
            outgrew_bytes: *outgrew,
        };
        LiveTable {
            schema: TableSchema {
                columns: vec![Column {
                    name: "id".to_owned(),
                    column_type: ColumnType::Int64,
                    not_null: true,
                }],
                key: vec!["id".to_owned()],
                indexes: Vec::new(),
            },
            streams: streams.iter().map(stream).collect(),
            keeps_changes: true,
            born,
            locked: None,
        }
    }

    #[test]
    fn each_cause_of_lost_changes_is_told_from_the_others() {
        let born = |version: u64, restored_by: Option<&str>| {
            Some(Born {
                version: version.into(),
                restored_by: restored_by.map(str::to_owned),
            })
        };
        let restored = ChangesLost::Restored {
            operation: "restore-1".to_owned(),
        };
        let cases = [
            (table(born(1, None), &[(10, 10, None)]), None),
            (table(born(11, None), &[]), Some(ChangesLost::Created)),
            (table(born(11, Some("restore-1")), &[]), Some(restored)),
            (table(born(1, None), &[]), Some(ChangesLost::StreamEnded)),
            (table(None, &[]), Some(ChangesLost::Untold)),
            (
                table(born(1, None), &[(5, 5, None)]),
                Some(ChangesLost::SetBack),
            ),
            (
                table(born(1, None), &[(15, 15, None)]),
                Some(ChangesLost::LetGoUpTo),
            ),
            (
                table(born(1, None), &[(u64::MAX, 10, Some(7))]),
                Some(ChangesLost::Outgrown { bytes: 7 }),
            ),
        ];
        let mut told = Vec::new();
        for (table, expected) in cases {
            let found = table.changes_lost("s", 10.into(), 20.into());
            assert_eq!(found, expected);
            told.extend(found.map(|lost| lost.to_string()));
        }
        let foreign = LiveTable {
            keeps_changes: false,
            ..table(None, &[(10, 10, None)])
        };
        let found = foreign.changes_lost("s", 10.into(), 20.into());
        assert_eq!(found, Some(ChangesLost::NotKept));
        told.extend(found.map(|lost| lost.to_string()));
        let set_back = table(born(1, None), &[]).changes_lost("s", 10.into(), 9.into());
        assert_eq!(set_back, Some(ChangesLost::SetBack));
        let count = told.len();
        told.sort();
        told.dedup();
        assert_eq!(told.len(), count, "{told:?}");
    }
}
