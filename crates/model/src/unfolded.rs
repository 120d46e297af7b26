//! Changes one by one, as they were made: what an increment keeps beside its folded changes where a change stream told
//! them, so that what one transaction did can be told from what others did.
//!
//! | of | key | value |
//! |---|---|---|
//! | a table ([`table_schema`]) | its key, [`PLACE_COLUMN`], [`COMMITTED_COLUMN`] | a change: its version is the number of the transaction. A reset or an erase; an upsert where values of the row were not told, as they stayed what they were |
//! | all transactions ([`transactions_schema`]) | the place of its first change, the table | [`TransactionRows`], as a reset |
//!
//! Places ascend in the order in which transactions committed, and within each in the order of its changes; those of a
//! later increment are greater. An erase and a row in the place right behind it, of one transaction, are of one row whose key
//! changed. (Increments of before December 2026 may have a row that went and another that came in such places, too.)

use crate::change::ChangeRef;
use crate::key::{decode_column, encode_column};
use crate::name::TablePath;
use crate::row::{RowReader, encode_into};
use crate::value::{ColumnType, ValueRef};
use crate::{ChangeKind, Column, Malformed, Replaced, RowBlockBuilder, TableSchema};

/// What stands for the changes of a table in a path, in the place of an index.
pub const UNFOLDED: &str = "_mendb_unfolded";
/// What stands for the transactions of an increment in a path, in the place of a table.
pub const TRANSACTIONS: &str = "_mendb_transactions";
/// The place of a change among all.
pub const PLACE_COLUMN: &str = "_mendb_place";
/// When its transaction committed.
pub const COMMITTED_COLUMN: &str = "_mendb_committed";

/// Bytes of place and time behind the key of a row.
const TAIL_BYTES: usize = 18;

impl TablePath {
    /// The changes of a table, one by one.
    pub fn unfolded(table: impl Into<String>) -> Self {
        Self::index(table, UNFOLDED)
    }

    /// The transactions of an increment.
    pub fn transactions() -> Self {
        Self::table(TRANSACTIONS)
    }

    /// Whether it is one of [`Self::unfolded`].
    pub fn is_unfolded(&self) -> bool {
        self.index.as_deref() == Some(UNFOLDED)
    }

    /// Whether it is [`Self::transactions`].
    pub fn is_transactions(&self) -> bool {
        self.index.is_none() && self.table == TRANSACTIONS
    }
}

/// The schema of the changes of a table; `None` where it has columns of the names that they need.
pub fn table_schema(table: &TableSchema) -> Option<TableSchema> {
    let own = [
        column(PLACE_COLUMN, ColumnType::Uint64),
        column(COMMITTED_COLUMN, ColumnType::Timestamp),
    ];
    if own.iter().any(|own| table.column(&own.name).is_some()) {
        return None;
    }
    let names = own.iter().map(|own| own.name.clone());
    Some(TableSchema {
        key: table.key.iter().cloned().chain(names).collect(),
        columns: table.columns.iter().cloned().chain(own.clone()).collect(),
        indexes: Vec::new(),
    })
}

/// The schema of transactions.
pub fn transactions_schema() -> TableSchema {
    let columns = [
        ("place", ColumnType::Uint64),
        ("table", ColumnType::Utf8),
        ("transaction", ColumnType::Uint64),
        ("committed", ColumnType::Timestamp),
        ("inserted", ColumnType::Uint64),
        ("updated", ColumnType::Uint64),
        ("deleted", ColumnType::Uint64),
        ("truncated", ColumnType::Bool),
        ("first_key", ColumnType::String),
        ("last_key", ColumnType::String),
    ];
    TableSchema {
        columns: columns.map(|(name, of)| column(name, of)).to_vec(),
        key: vec!["place".to_owned(), "table".to_owned()],
        indexes: Vec::new(),
    }
}

fn column(name: &str, column_type: ColumnType) -> Column {
    Column {
        name: name.to_owned(),
        column_type,
        not_null: true,
    }
}

/// Which of the transactions made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Its place.
    pub place: u64,
    /// When its transaction committed, in microseconds since 1970.
    pub committed_us: i64,
}

/// Appends place and time to the key of a row.
pub fn append_made(key: &mut Vec<u8>, made: Made) {
    encode_column(key, ColumnType::Uint64, ValueRef::Uint(made.place));
    let committed = ValueRef::Int(made.committed_us);
    encode_column(key, ColumnType::Timestamp, committed);
}

/// The key of a row, and what stands behind it.
///
/// # Errors
/// It is the key of no change.
pub fn split_key(key: &[u8]) -> Result<(&[u8], Made), Malformed> {
    let cut_off = || Malformed::new("key", "of a change without its place");
    let at = key.len().checked_sub(TAIL_BYTES).ok_or_else(cut_off)?;
    let (key, mut tail) = key.split_at(at);
    let mut scratch = Vec::new();
    let place = match decode_column(&mut tail, ColumnType::Uint64, &mut scratch)? {
        ValueRef::Uint(place) => place,
        _ => return Err(cut_off()),
    };
    let committed_us = match decode_column(&mut tail, ColumnType::Timestamp, &mut scratch)? {
        ValueRef::Int(committed_us) => committed_us,
        _ => return Err(cut_off()),
    };
    Ok((
        key,
        Made {
            place,
            committed_us,
        },
    ))
}

/// What a transaction did to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRows {
    /// The place of its first change of any table.
    pub place: u64,
    /// The table.
    pub table: String,
    /// Its number, with the epoch; that of the transaction at the top, not of parts of it (savepoints).
    pub transaction: u64,
    /// When it committed, in microseconds since 1970.
    pub committed_us: i64,
    /// Rows that came.
    pub inserted: u64,
    /// Rows that changed.
    pub updated: u64,
    /// Rows that went one by one.
    pub deleted: u64,
    /// Whether all rows of the table went, or of a part of it.
    pub truncated: bool,
    /// The least key of a row that it wrote; empty where it wrote none.
    pub first_key: Vec<u8>,
    /// The greatest.
    pub last_key: Vec<u8>,
}

impl TransactionRows {
    /// Appends it to a block.
    pub fn push_to(&self, block: &mut RowBlockBuilder) {
        let (key, change) = self.encode();
        block.push(&key, &change);
    }

    /// Its key, and the change that it is kept as.
    pub fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let mut key = Vec::new();
        encode_column(&mut key, ColumnType::Uint64, ValueRef::Uint(self.place));
        encode_column(&mut key, ColumnType::Utf8, ValueRef::Text(&self.table));
        let mut row = Vec::new();
        let values = [
            ValueRef::Uint(self.transaction),
            ValueRef::Int(self.committed_us),
            ValueRef::Uint(self.inserted),
            ValueRef::Uint(self.updated),
            ValueRef::Uint(self.deleted),
            ValueRef::Bool(self.truncated),
            ValueRef::Bytes(&self.first_key),
            ValueRef::Bytes(&self.last_key),
        ];
        encode_into(
            &mut row,
            &transactions_schema().value_types(),
            values.into_iter(),
        );
        let change = ChangeRef {
            version: self.transaction,
            kind: ChangeKind::Reset,
            replaced: Replaced::Unknown,
            bitmap: &[],
            row: &row,
        };
        (key, change.encode())
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(mut key: &[u8], change: &[u8]) -> Result<Self, Malformed> {
        let wrong = |what: &str| Malformed::new("transaction", what.to_owned());
        let (mut scratch, mut text) = (Vec::new(), Vec::new());
        let place = match decode_column(&mut key, ColumnType::Uint64, &mut scratch)? {
            ValueRef::Uint(place) => place,
            _ => return Err(wrong("without a place")),
        };
        let table = match decode_column(&mut key, ColumnType::Utf8, &mut text)? {
            ValueRef::Text(table) => table.to_owned(),
            _ => return Err(wrong("without a table")),
        };
        let change = ChangeRef::decode(change)?;
        let mut row = RowReader::new(change.row)?;
        let mut number = || match row.next(ColumnType::Uint64)? {
            ValueRef::Uint(number) => Ok(number),
            _ => Err(wrong("without a number")),
        };
        let transaction = number()?;
        let committed_us = match row.next(ColumnType::Timestamp)? {
            ValueRef::Int(committed_us) => committed_us,
            _ => return Err(wrong("without a time")),
        };
        let mut number = || match row.next(ColumnType::Uint64)? {
            ValueRef::Uint(number) => Ok(number),
            _ => Err(wrong("without a number")),
        };
        let (inserted, updated, deleted) = (number()?, number()?, number()?);
        let truncated = row.next(ColumnType::Bool)? == ValueRef::Bool(true);
        let mut bytes = || match row.next(ColumnType::String)? {
            ValueRef::Bytes(bytes) => Ok(bytes.to_vec()),
            _ => Err(wrong("without keys")),
        };
        Ok(Self {
            place,
            table,
            transaction,
            committed_us,
            inserted,
            updated,
            deleted,
            truncated,
            first_key: bytes()?,
            last_key: bytes()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows() -> impl Strategy<Value = TransactionRows> {
        let numbers = (any::<u64>(), any::<u64>(), any::<i64>());
        let counts = (any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>());
        let names = ("[a-z.]{1,12}", any::<Vec<u8>>(), any::<Vec<u8>>());
        (numbers, counts, names).prop_map(|(numbers, counts, names)| TransactionRows {
            place: numbers.0,
            transaction: numbers.1,
            committed_us: numbers.2,
            inserted: counts.0,
            updated: counts.1,
            deleted: counts.2,
            truncated: counts.3,
            table: names.0,
            first_key: names.1,
            last_key: names.2,
        })
    }

    proptest! {
        #[test]
        fn transactions_are_read_as_they_were_kept(rows in rows(), cut in any::<prop::sample::Index>()) {
            let (key, change) = rows.encode();
            prop_assert_eq!(TransactionRows::decode(&key, &change).unwrap(), rows);
            let _ = TransactionRows::decode(&key[..cut.index(key.len())], &change);
            prop_assert!(TransactionRows::decode(&key, &change[..cut.index(change.len())]).is_err());
        }

        #[test]
        fn changes_of_a_key_stand_behind_it_in_their_order(
            key: Vec<u8>, one: (u64, i64), other: (u64, i64),
        ) {
            let made = |(place, committed_us)| Made { place, committed_us };
            let whole = |of| {
                let mut whole = key.clone();
                append_made(&mut whole, made(of));
                whole
            };
            let (one_key, other_key) = (whole(one), whole(other));
            prop_assert_eq!(split_key(&one_key).unwrap(), (key.as_slice(), made(one)));
            prop_assert_eq!(one_key.cmp(&other_key), one.cmp(&other));
        }
    }

    #[test]
    fn a_table_with_a_column_of_the_same_name_has_no_such_schema() {
        let mut table = TableSchema {
            columns: vec![
                column("id", ColumnType::Int64),
                column("note", ColumnType::Utf8),
            ],
            key: vec!["id".to_owned()],
            indexes: Vec::new(),
        };
        let unfolded = table_schema(&table).unwrap();
        assert_eq!(unfolded.value_types(), table.value_types());
        assert_eq!(unfolded.key, ["id", PLACE_COLUMN, COMMITTED_COLUMN]);
        table.columns[1].name = PLACE_COLUMN.to_owned();
        assert_eq!(table_schema(&table), None);
    }
}
