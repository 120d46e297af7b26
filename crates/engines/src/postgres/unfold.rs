//! Each change of the transactions of an increment by itself, out of the messages of a change stream, sorted by the keys
//! that were written ([`mendb_model::unfolded`]).
//!
//! A row that changed its key is an erase of the one and a row under the other, in places that follow each other: behind
//! an erase of a row that went, a place is left out. Where a value is stored beside its row and
//! did not change, the stream does not tell it: the change leaves it what it was. *Memory*: what the
//! [spool](super::spool) holds, and for each table what one transaction did to it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use mendb_model::schema::ColumnPosition;
use mendb_model::unfolded::{Made, TransactionRows, append_made, table_schema};
use mendb_model::value::ValueRef;
use mendb_model::{Change, ColumnSet, ColumnType, row};

use super::catalogue::Table;
use super::pgoutput::{MICROSECONDS, Message, Value};
use super::spool::{Spooled, Spooler};
use super::touched::{Watched, key_of};
use crate::error::Result;

/// The section of transactions; those of tables are their numbers.
const TRANSACTIONS: u32 = u32::MAX;

/// Takes messages as they come.
pub(super) struct Unfolder<'a> {
    tables: Vec<Unfolding<'a>>,
    relations: BTreeMap<u32, Relation>,
    spooler: Spooler,
    /// The place of the next change.
    next: u64,
    /// Of a change before that was a delete, its table and relation.
    deleted: Option<(usize, u32)>,
    /// The transaction that is being told, if it is in the increment.
    transaction: Option<Transaction>,
    transaction_bytes: u64,
}

/// A table.
struct Unfolding<'a> {
    watched: Watched<'a>,
    types: Vec<ColumnType>,
    /// Bytes of its changes, or why not all of them are known.
    found: std::result::Result<u64, String>,
}

/// A relation that was told.
struct Relation {
    /// Which table it has rows of.
    table: usize,
    /// Where its columns are; `None` where it lacks some.
    columns: Option<Rc<Places>>,
}

/// Where the columns of a table are in the rows of a relation.
struct Places {
    /// Of each column, and whether old rows tell it.
    all: Vec<(usize, bool)>,
    key: Vec<usize>,
}

/// A transaction.
struct Transaction {
    number: u64,
    committed_us: i64,
    first_place: u64,
    rows: BTreeMap<usize, TransactionRows>,
}

/// What a change did.
#[derive(Clone, Copy)]
enum Did {
    Insert,
    Update,
    Delete,
}

/// The changes of an increment one by one.
pub(super) struct Unfolded {
    spooled: Spooled,
    transaction_bytes: u64,
    /// Of each table whose changes are known, its section and their bytes.
    tables: BTreeMap<String, (u32, u64)>,
}

impl<'a> Unfolder<'a> {
    /// Of some tables.
    pub(super) fn new(tables: impl IntoIterator<Item = Watched<'a>>) -> Self {
        let tables = tables.into_iter().map(|watched| Unfolding {
            types: watched.table.schema.value_types(),
            found: match table_schema(&watched.table.schema) {
                Some(_) => Ok(0),
                None => Err("a column of it has a name that mendb needs itself".to_owned()),
            },
            watched,
        });
        Self {
            tables: tables.collect(),
            relations: BTreeMap::new(),
            spooler: Spooler::default(),
            next: 0,
            deleted: None,
            transaction: None,
            transaction_bytes: 0,
        }
    }

    /// Takes the next message; `within` is the transaction that it is of, if that is in the increment.
    ///
    /// # Errors
    /// A change cannot be put aside.
    pub(super) fn take(&mut self, message: &Message<'_>, within: Option<u64>) -> Result<()> {
        match message {
            Message::Begin { committed, .. } => {
                self.end_transaction()?;
                self.transaction = within.map(|number| Transaction {
                    number,
                    committed_us: committed.saturating_add(MICROSECONDS),
                    first_place: self.next,
                    rows: BTreeMap::new(),
                });
                Ok(())
            }
            Message::Relation { number, columns } => {
                self.relation(*number, columns);
                Ok(())
            }
            _ if self.transaction.is_none() => Ok(()),
            Message::Insert { relation, new } => self.change(*relation, Did::Insert, None, new),
            Message::Update { relation, old, new } => {
                self.change(*relation, Did::Update, old.as_deref(), new)
            }
            Message::Delete { relation, old } => self.change(*relation, Did::Delete, None, old),
            Message::Truncate { relations } => {
                for relation in relations {
                    if let Some(table) = self.relations.get(relation).map(|found| found.table) {
                        self.lose(table, "it was truncated");
                        if let Some(rows) = self.rows_of(table) {
                            rows.truncated = true;
                        }
                    }
                }
                Ok(())
            }
            Message::Other => Ok(()),
        }
    }

    /// What was found, of the tables that `is_whole` of: what else may have changed them is known, too.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn finish(mut self, is_whole: impl Fn(&str) -> bool) -> Result<Unfolded> {
        self.end_transaction()?;
        let tables = self.tables.iter().zip(0..);
        let tables = tables.filter_map(|(table, section)| {
            let name = &table.watched.table.name;
            let bytes = table.found.as_ref().ok().filter(|_| is_whole(name))?;
            Some((name.clone(), (section, *bytes)))
        });
        Ok(Unfolded {
            tables: tables.collect(),
            transaction_bytes: self.transaction_bytes,
            spooled: self.spooler.finish(),
        })
    }

    fn relation(&mut self, number: u32, columns: &[(&str, bool)]) {
        let is_its = |table: &Unfolding<'_>| table.watched.relations.contains(&number);
        let Some(at) = self.tables.iter().position(is_its) else {
            return;
        };
        let table = self.tables[at].watched.table;
        let place = |name: &str| {
            let mut told = columns.iter();
            let place = told.position(|(column, _)| *column == name)?;
            Some((place, columns[place].1))
        };
        let found = table.columns.iter().map(|column| place(&column.name));
        let found = found.collect::<Option<Vec<_>>>();
        if found.is_none() {
            self.lose(at, "it had other columns");
        }
        let columns = found.map(|all| {
            let key = table.key.iter().map(|column| all[*column].0);
            let key = key.collect();
            Rc::new(Places { all, key })
        });
        self.relations
            .insert(number, Relation { table: at, columns });
    }

    /// Puts a change aside: the row that it leaves, or of a delete the one that went.
    fn change(
        &mut self,
        number: u32,
        did: Did,
        old: Option<&[Value<'_>]>,
        row: &[Value<'_>],
    ) -> Result<()> {
        let Some(relation) = self.relations.get(&number) else {
            // Of a table that is not watched, or of a partition that is none any more.
            return Ok(());
        };
        let (at, places) = (relation.table, relation.columns.clone());
        if let Some((table, other)) = self.deleted.take() {
            // A row that goes from one partition into another is told as a delete and an insert.
            let is_moved = matches!(did, Did::Insert) && table == at && other != number;
            self.next += u64::from(!is_moved);
        }
        if let Did::Delete = did {
            self.deleted = Some((at, number));
        }
        if let Some(rows) = self.rows_of(at) {
            *match did {
                Did::Insert => &mut rows.inserted,
                Did::Update => &mut rows.updated,
                Did::Delete => &mut rows.deleted,
            } += 1;
        }
        let Some(places) = places else { return Ok(()) };
        let table = self.tables[at].watched.table;
        let keys = key_of(table, &places.key, old, row).and_then(|key| {
            let was = old.map(|old| key_of(table, &places.key, None, old));
            Ok((key, was.transpose()?))
        });
        let (key, was) = match keys {
            Ok(keys) => keys,
            Err(why) => {
                self.lose(at, why);
                return Ok(());
            }
        };
        let Some(transaction) = &self.transaction else {
            return Ok(());
        };
        let version = transaction.number;
        let after = match did {
            Did::Delete => Ok(Change::erase(version)),
            Did::Insert | Did::Update => {
                let types = &self.tables[at].types;
                change_to(table, types, &places, (old, row), version)
            }
        };
        let after = match after {
            Ok(after) => after,
            Err(why) => {
                self.lose(at, &why);
                return Ok(());
            }
        };
        if let Some(was) = was.filter(|was| *was != key) {
            self.put(at, was, &Change::erase(version))?;
        }
        self.put(at, key, &after)
    }

    fn put(&mut self, at: usize, mut key: Vec<u8>, change: &Change) -> Result<()> {
        if let Some(rows) = self.rows_of(at) {
            if rows.first_key.is_empty() || key < rows.first_key {
                rows.first_key.clone_from(&key);
            }
            if key > rows.last_key {
                rows.last_key.clone_from(&key);
            }
        }
        let committed_us = self.transaction.as_ref().map(|of| of.committed_us);
        let (Some(committed_us), Ok(bytes)) = (committed_us, &mut self.tables[at].found) else {
            return Ok(());
        };
        let made = Made {
            place: self.next,
            committed_us,
        };
        self.next += 1;
        append_made(&mut key, made);
        let change = change.encode();
        *bytes += (key.len() + change.len()) as u64;
        self.spooler.push(at as u32, &key, &change)
    }

    /// What the transaction that is being told did to a table so far.
    fn rows_of(&mut self, at: usize) -> Option<&mut TransactionRows> {
        let transaction = self.transaction.as_mut()?;
        let (place, number) = (transaction.first_place, transaction.number);
        let committed_us = transaction.committed_us;
        let table = &self.tables[at].watched.table.name;
        let rows = transaction.rows.entry(at);
        Some(rows.or_insert_with(|| TransactionRows {
            place,
            table: table.clone(),
            transaction: number,
            committed_us,
            inserted: 0,
            updated: 0,
            deleted: 0,
            truncated: false,
            first_key: Vec::new(),
            last_key: Vec::new(),
        }))
    }

    fn end_transaction(&mut self) -> Result<()> {
        let Some(transaction) = self.transaction.take() else {
            return Ok(());
        };
        if self.deleted.take().is_some() {
            self.next += 1;
        }
        // Each has a place of its own, also where its changes are not kept.
        self.next = self.next.max(transaction.first_place + 1);
        for rows in transaction.rows.values() {
            let (key, change) = rows.encode();
            self.transaction_bytes += (key.len() + change.len()) as u64;
            self.spooler.push(TRANSACTIONS, &key, &change)?;
        }
        Ok(())
    }

    fn lose(&mut self, at: usize, why: &str) {
        let found = &mut self.tables[at].found;
        if found.is_ok() {
            *found = Err(why.to_owned());
        }
    }
}

/// What a change tells of a value.
enum Told<'a> {
    /// Nothing: it stays what it was.
    Nothing,
    Null,
    Bytes(Cow<'a, [u8]>),
}

/// The change that makes a row: a reset, or an upsert where it does not tell all values.
fn change_to(
    table: &Table,
    types: &[ColumnType],
    places: &Places,
    (old, new): (Option<&[Value<'_>]>, &[Value<'_>]),
    version: u64,
) -> std::result::Result<Change, String> {
    let mut told: Vec<Told<'_>> = Vec::with_capacity(types.len());
    let slots = table.columns.iter().zip(&places.all);
    let slots = slots.filter(|(column, _)| matches!(column.place, ColumnPosition::Slot(_)));
    let slots: Vec<_> = slots.collect();
    for (column, (place, old_tells)) in &slots {
        let value = match new.get(*place) {
            Some(Value::Unchanged) if *old_tells => old.and_then(|old| old.get(*place)),
            value => value,
        };
        told.push(match value {
            None | Some(Value::Unchanged) => Told::Nothing,
            Some(Value::Null) => Told::Null,
            Some(Value::Text) => {
                return Err(format!("it does not tell {} in binary", column.name));
            }
            Some(Value::Binary(bytes)) => match &column.form {
                None => Told::Bytes(Cow::Borrowed(*bytes)),
                Some(form) => {
                    let mut bytes = bytes.to_vec();
                    table.numbers.take_out(form, &mut bytes)?;
                    Told::Bytes(Cow::Owned(bytes))
                }
            },
        });
    }
    let mut values = Vec::with_capacity(types.len());
    for ((column, _), told) in slots.iter().zip(&told) {
        values.push(match told {
            Told::Bytes(bytes) => column.wire.decode(bytes)?,
            Told::Null | Told::Nothing => ValueRef::Null,
        });
    }
    let mut row = Vec::new();
    row::encode_into(&mut row, types, values.iter().copied());
    let set = told.iter().enumerate();
    let set = set.filter(|(_, told)| !matches!(told, Told::Nothing));
    let set: Vec<usize> = set.map(|(slot, _)| slot).collect();
    Ok(match set.len() == types.len() {
        true => Change::reset(row, version),
        false => Change::upsert(ColumnSet::of(set), row, version),
    })
}

impl Unfolded {
    /// The changes of a table, by its name: their section and their bytes.
    pub(super) fn of_table(&self, table: &str) -> Option<(u32, u64)> {
        self.tables.get(table).copied()
    }

    /// The transactions, likewise.
    pub(super) fn transactions(&self) -> (u32, u64) {
        (TRANSACTIONS, self.transaction_bytes)
    }

    /// What was put aside.
    pub(super) fn spooled(&self) -> &Spooled {
        &self.spooled
    }
}
