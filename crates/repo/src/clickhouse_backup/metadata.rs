//! The documents of a backup of clickhouse-backup: `metadata.json`, and one for each table.
//!
//! Only what is needed is read, and what is not there counts as empty: versions of the program differ
//! in what they write.

use std::collections::BTreeMap;

use mendb_model::part::Hash128;
use serde::{Deserialize, Deserializer, de};

/// `metadata.json`. It is written last: a backup without it is broken.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct BackupMetadata {
    /// Disks of the server, with their paths there.
    #[serde(deserialize_with = "or_empty")]
    pub(super) disks: BTreeMap<String, String>,
    /// Disks with their types, as the server calls them.
    #[serde(deserialize_with = "or_empty")]
    pub(super) disk_types: BTreeMap<String, String>,
    pub(super) version: String,
    /// As RFC 3339 writes it.
    pub(super) creation_date: String,
    /// `regular`, or `embedded` for what the server itself wrote; with others at times.
    pub(super) tags: String,
    pub(super) clickhouse_version: String,
    pub(super) data_size: u64,
    pub(super) metadata_size: u64,
    pub(super) compressed_size: u64,
    /// Bytes of users and rights.
    pub(super) rbac_size: u64,
    /// Bytes of configuration files.
    pub(super) config_size: u64,
    pub(super) named_collections_size: u64,
    #[serde(deserialize_with = "or_empty")]
    pub(super) functions: Vec<FunctionTitle>,
    #[serde(deserialize_with = "or_empty")]
    pub(super) databases: Vec<DatabaseMetadata>,
    #[serde(deserialize_with = "or_empty")]
    pub(super) tables: Vec<TableTitle>,
    /// Empty in local backups, `directory` for plain files, else the compression of archives.
    pub(super) data_format: String,
    /// The backup that has the parts which this one calls required.
    pub(super) required_backup: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct DatabaseMetadata {
    pub(super) name: String,
    pub(super) engine: String,
    pub(super) query: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct TableTitle {
    pub(super) database: String,
    pub(super) table: String,
}

/// A function that users made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct FunctionTitle {
    pub(super) name: String,
}

/// The document of a table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct TableMetadata {
    /// Parts by the disk they were on.
    #[serde(deserialize_with = "or_empty")]
    pub(super) parts: BTreeMap<String, Vec<PartMetadata>>,
    /// The statement that creates it.
    pub(super) query: String,
    /// Its UUID, in databases that give them.
    pub(super) uuid: String,
    pub(super) total_bytes: u64,
    #[serde(deserialize_with = "or_empty")]
    pub(super) mutations: Vec<MutationMetadata>,
    /// Only the schema was backed up.
    pub(super) metadata_only: bool,
    /// Hashes by part. Names of parts that are not in the backup stand there too, and some that are
    /// in it may be missing.
    #[serde(deserialize_with = "hashes")]
    pub(super) hash_of_all_files: BTreeMap<String, Hash128>,
    /// CRC64 of `checksums.txt` by part, of servers that knew no hashes.
    #[serde(deserialize_with = "or_empty")]
    pub(super) checksums: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct PartMetadata {
    pub(super) name: String,
    /// It is not in this backup, but in the one that this one requires.
    pub(super) required: bool,
    pub(super) size: u64,
    /// The disk that was taken instead of one that did not exist when the backup was downloaded.
    pub(super) rebalanced_disk: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct MutationMetadata {
    pub(super) mutation_id: String,
    pub(super) command: String,
}

/// Go writes an empty list or map as `null`.
fn or_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Parts without a hash may stand there with an empty one.
fn hashes<'de, D>(deserializer: D) -> Result<BTreeMap<String, Hash128>, D::Error>
where
    D: Deserializer<'de>,
{
    let hashes: BTreeMap<String, String> = or_empty(deserializer)?;
    hashes
        .into_iter()
        .filter(|(_, hash)| !hash.is_empty())
        .map(|(part, hash)| Ok((part, hash.parse().map_err(de::Error::custom)?)))
        .collect()
}

impl BackupMetadata {
    /// Whether the server itself wrote the data, with `BACKUP`.
    pub(super) fn is_embedded(&self) -> bool {
        self.tags.split(',').any(|tag| tag.trim() == "embedded")
    }

    /// What it has beside databases and tables, in words.
    pub(super) fn beside_tables(&self) -> Vec<String> {
        let sized = [
            (self.rbac_size, "users and rights"),
            (self.config_size, "configuration files"),
            (self.named_collections_size, "named collections"),
        ];
        let has = sized.iter().filter(|(bytes, _)| *bytes > 0);
        let mut beside: Vec<String> = has.map(|(_, what)| (*what).to_owned()).collect();
        let names: Vec<&str> = self.functions.iter().map(|f| f.name.as_str()).collect();
        if !names.is_empty() {
            beside.push(format!("functions ({})", names.join(", ")));
        }
        beside
    }

    /// Whether parts are directories of files, at the place itself or on the disks of the server.
    pub(super) fn has_directories(&self) -> bool {
        matches!(self.data_format.as_str(), "" | "directory")
    }

    /// Whether it was made where it is, so that each disk of the server has its own piece of it.
    pub(super) fn is_local(&self) -> bool {
        self.data_format.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_null_is_empty_and_what_is_new_is_ignored() {
        let table: TableMetadata = serde_json::from_str(
            r#"{"parts":{"default":[{"name":"all_1_1_0","required":true}]},"query":"CREATE TABLE t",
                "mutations":null,"files":null,"surprise":[1]}"#,
        )
        .unwrap();
        assert!(table.parts["default"][0].required);
        assert!(table.mutations.is_empty());
        let backup: BackupMetadata =
            serde_json::from_str(r#"{"tags":"regular, embedded","tables":null}"#).unwrap();
        assert!(backup.is_embedded() && backup.is_local() && backup.tables.is_empty());
        assert_eq!(backup.beside_tables(), Vec::<String>::new());
    }

    #[test]
    fn what_is_beside_tables_is_told() {
        let backup: BackupMetadata = serde_json::from_str(
            r#"{"rbac_size":1,"config_size":0,"named_collections_size":7,
                "functions":[{"name":"f","create_query":"x"},{"name":"g"}]}"#,
        )
        .unwrap();
        assert_eq!(
            backup.beside_tables(),
            ["users and rights", "named collections", "functions (f, g)"]
        );
    }
}
