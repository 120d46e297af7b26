//! `mendb table digest`

use clap::Args;
use mendb_model::digest::Digest;
use mendb_model::name::TablePath;
use mendb_model::schema::{ColumnPosition, IndexSchema};
use mendb_model::{ColumnType, Malformed, TableSchema, Value, key, key_text, row};
use mendb_rowstore::Snapshot;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::output::Field;

/// Print the content digests of a table and its indexes, and check them by reading everything.
///
/// A digest is the number of rows and the sum of their hashes: it depends neither on their order nor
/// on shards, so two tables with the same digest hold the same rows. The store keeps digests up to
/// date with each write; here they are computed from the rows. Of each index it is proved as well that
/// it holds just the rows that follow from its table, and of a unique one that no two of them share a value.
/// Exit code 3: something differs.
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
    /// Whether an index holds just the rows that follow from its table; `None` for a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_agrees: Option<bool>,
    /// The first value of a unique index that more than one row has, as people write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_value: Option<String>,
}

impl Checked {
    fn is_well(&self) -> bool {
        self.equal && self.index_agrees != Some(false) && self.shared_value.is_none()
    }

    /// The result in words.
    fn result(&self) -> String {
        let kept = (!self.equal).then(|| format!("differs from the kept {}", self.kept));
        let disagrees = self.index_agrees == Some(false);
        let disagrees = disagrees.then(|| "does not agree with its table".to_owned());
        let shared = self.shared_value.as_ref();
        let shared = shared.map(|value| format!("is unique, and more than one row has {value}"));
        let findings: Vec<_> = kept.into_iter().chain(disagrees).chain(shared).collect();
        match (findings.is_empty(), self.index_agrees) {
            (true, None) => "equal".to_owned(),
            (true, Some(_)) => "equal, agrees with its table".to_owned(),
            (false, _) => findings.join(", "),
        }
    }
}

/// Runs the command.
pub fn run(args: &DigestArgs, context: &Context) -> Result<Verdict, Failure> {
    verify_table(context, &context.look_at_rows()?, &args.table)
}

/// Computes the digests of a table and its indexes from one snapshot, and prints whether they are
/// those that were kept and whether the indexes agree with the table.
///
/// # Errors
/// The table does not exist, or the store cannot be read.
pub fn verify_table(
    context: &Context,
    snapshot: &Snapshot,
    table: &str,
) -> Result<Verdict, Failure> {
    let checked = read(context, snapshot, table)?;
    context.output.records(
        &checked,
        &[
            Field::left("table", |c: &Checked| c.path.to_string()),
            Field::left("digest", |c| c.digest.to_string()),
            Field::left("check", Checked::result),
        ],
    )?;
    Ok(if checked.iter().all(Checked::is_well) {
        Verdict::Done
    } else {
        Verdict::Drift
    })
}

/// Reads every row of a table and of its indexes for their digests.
///
/// # Errors
/// The table does not exist, or the store cannot be read.
pub fn read(context: &Context, snapshot: &Snapshot, table: &str) -> Result<Vec<Checked>, Failure> {
    let schema = snapshot.describe(table)?.schema;
    let mut indexes: Vec<_> = schema
        .indexes
        .iter()
        .map(|index| Derived::new(&schema, index))
        .collect();
    let mut decoder = RowDecoder::new(&schema);
    let rows = check(context, snapshot, TablePath::table(table), |key, value| {
        if indexes.is_empty() {
            return Ok(());
        }
        let values = decoder.decode(key, value)?;
        indexes.iter_mut().for_each(|index| index.add(values));
        Ok(())
    })?;
    let mut checked = vec![rows];
    for index in indexes {
        let path = TablePath::index(table, index.name);
        let mut unique = index.unique.map(Unique::new);
        let rows = check(context, snapshot, path, |key, _| match &mut unique {
            Some(unique) => unique.see(key),
            None => Ok(()),
        })?;
        checked.push(Checked {
            index_agrees: Some(rows.digest == index.digest),
            shared_value: unique.and_then(|unique| unique.shared),
            ..rows
        });
    }
    Ok(checked)
}

/// Reads a sharded table, and tells `visit` of each row.
fn check(
    context: &Context,
    snapshot: &Snapshot,
    path: TablePath,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Malformed>,
) -> Result<Checked, Failure> {
    let mut digest = Digest::default();
    let mut kept = Digest::default();
    let mut equal = true;
    for shard in snapshot.shards(&path)? {
        let mut of_shard = Digest::default();
        for block in snapshot.blocks(&path, &shard.range, None)? {
            context.check_heard()?;
            for (key, value) in block?.iter() {
                of_shard.add(key, value);
                visit(key, value)?;
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
        index_agrees: None,
        shared_value: None,
    })
}

/// Looks whether rows of a unique index, which come in key order, have a value that the one before has.
struct Unique {
    /// Of the indexed columns.
    types: Vec<ColumnType>,
    before: Vec<u8>,
    shared: Option<String>,
}

impl Unique {
    fn new(types: Vec<ColumnType>) -> Self {
        Self {
            types,
            before: Vec::new(),
            shared: None,
        }
    }

    fn see(&mut self, key: &[u8]) -> Result<(), Malformed> {
        let (mut rest, mut scratch) = (key, Vec::new());
        for column_type in &self.types {
            let value = key::decode_column(&mut rest, *column_type, &mut scratch)?;
            // NULL is no value that could be shared.
            if value.is_null() {
                return Ok(());
            }
        }
        let value = &key[..key.len() - rest.len()];
        if value == self.before && self.shared.is_none() {
            self.shared = Some(key_text::display(value, &self.types));
        }
        value.clone_into(&mut self.before);
        Ok(())
    }
}

/// Turns encoded rows into the values of all columns, in the order of the schema.
struct RowDecoder {
    key_types: Vec<ColumnType>,
    value_types: Vec<ColumnType>,
    places: Vec<ColumnPosition>,
    values: Vec<Value>,
}

impl RowDecoder {
    fn new(schema: &TableSchema) -> Self {
        Self {
            key_types: schema.key_types(),
            value_types: schema.value_types(),
            places: schema.column_positions(),
            values: Vec::new(),
        }
    }

    fn decode(&mut self, key: &[u8], value: &[u8]) -> Result<&[Value], Malformed> {
        let mut key = key::decode(key, &self.key_types)?;
        let mut slots = row::decode(value, &self.value_types)?;
        self.values.clear();
        for place in &self.places {
            let value = match place {
                ColumnPosition::Key(at) => key.get_mut(*at),
                ColumnPosition::Slot(at) => slots.get_mut(*at),
            };
            let value = value.ok_or_else(|| Malformed {
                what: "key",
                detail: "it has too few columns".to_owned(),
            })?;
            self.values.push(std::mem::replace(value, Value::Null));
        }
        Ok(&self.values)
    }
}

/// The digest of the rows that an index must have, going by its table. They come in the table's order:
/// a digest does not depend on it.
struct Derived<'a> {
    name: &'a str,
    /// The types of the columns that are unique together.
    unique: Option<Vec<ColumnType>>,
    key_types: Vec<ColumnType>,
    value_types: Vec<ColumnType>,
    /// Where the columns of the index row are in the table's schema.
    key: Vec<usize>,
    cover: Vec<usize>,
    row: Vec<u8>,
    digest: Digest,
}

impl<'a> Derived<'a> {
    fn new(table: &TableSchema, index: &'a IndexSchema) -> Self {
        let rows = table.implementation(index);
        let place = |name: &str| table.columns.iter().position(|column| column.name == name);
        Self {
            name: &index.name,
            unique: (index.unique).then(|| rows.key_types()[..index.columns.len()].to_vec()),
            key_types: rows.key_types(),
            value_types: rows.value_types(),
            key: rows.key.iter().filter_map(|name| place(name)).collect(),
            cover: rows
                .value_columns()
                .filter_map(|column| place(&column.name))
                .collect(),
            row: Vec::new(),
            digest: Digest::default(),
        }
    }

    /// Counts in the index row of a table row.
    fn add(&mut self, values: &[Value]) {
        let key = self.key.iter().map(|at| values[*at].as_ref());
        let key = key::encode(&self.key_types, key);
        let cover = self.cover.iter().map(|at| values[*at].as_ref());
        self.row.clear();
        row::encode_into(&mut self.row, &self.value_types, cover);
        self.digest.add(&key, &self.row);
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::Column;

    use super::*;

    #[test]
    fn a_value_of_a_unique_index_is_seen_twice_unless_it_is_null() {
        let types = [ColumnType::Utf8, ColumnType::Int64];
        let shared = |rows: &[(Option<&str>, i64)]| {
            let mut unique = Unique::new(types[..1].to_vec());
            for (mail, id) in rows {
                let mail = mail.map_or(Value::Null, |mail| Value::Text(mail.into()));
                let key = key::encode(&types, [mail.as_ref(), Value::Int(*id).as_ref()]);
                unique.see(&key).unwrap();
            }
            unique.shared
        };
        assert_eq!(
            shared(&[(None, 1), (None, 2), (Some("a"), 3), (Some("ab"), 4)]),
            None
        );
        assert_eq!(
            shared(&[(Some("a"), 1), (Some("a,b"), 2), (Some("a,b"), 3)]).as_deref(),
            Some("\"a,b\"")
        );
    }

    #[test]
    fn index_rows_follow_from_table_rows_also_with_null_and_covered_key_columns() {
        let column = |name: &str, column_type| Column {
            name: name.into(),
            column_type,
            not_null: false,
        };
        let schema = TableSchema {
            columns: vec![
                column("note", ColumnType::Utf8),
                column("id", ColumnType::Int64),
                column("city", ColumnType::Utf8),
            ],
            key: vec!["id".into()],
            indexes: vec![IndexSchema {
                name: "by_city".into(),
                columns: vec!["city".into()],
                cover: vec!["note".into()],
                unique: false,
            }],
        };
        let mut decoder = RowDecoder::new(&schema);
        let mut derived = Derived::new(&schema, &schema.indexes[0]);
        let mut expected = Digest::default();
        for (id, note, city) in [
            (1, Value::Text("x".into()), Value::Null),
            (2, Value::Null, Value::Text("Köln".into())),
        ] {
            let id = Value::Int(id);
            let key = key::encode(&schema.key_types(), [id.as_ref()]);
            let value = row::encode(&schema.value_types(), &[note.clone(), city.clone()]);
            derived.add(decoder.decode(&key, &value).unwrap());
            let rows = schema.implementation(&schema.indexes[0]);
            expected.add(
                &key::encode(&rows.key_types(), [city.as_ref(), id.as_ref()]),
                &row::encode(&rows.value_types(), &[note]),
            );
        }
        assert_eq!(derived.digest, expected);
    }
}
