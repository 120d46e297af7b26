//! The keys that the transactions of an increment have touched, out of the messages of a change stream.
//!
//! ```text
//! in the increment    changes of a transaction that the snapshot sees, and the one before did not see
//! before              the one before saw it already: the stream begins a little earlier than the increment
//! beyond              the snapshot does not see it: the next increment has it. The stream moves to the first of these
//! ```
//!
//! A commit is at a place of the log, and becomes visible a moment later: so the place alone says not what a snapshot
//! sees, and the number of the transaction does. *Memory*: at most [`MOST_BYTES`] of keys; a table of which more were
//! touched drops out, and is found in another way, which costs no more then.

use std::collections::{BTreeMap, BTreeSet};

use mendb_model::key::encode_column;

use super::catalogue::Table;
use super::pgoutput::{MICROSECONDS, Message, Value};
use super::transaction::Sees;

/// Keys of all tables are held up to about so many bytes.
const MOST_BYTES: usize = 64 << 20;
/// What a key costs beside its bytes, about.
const BYTES_A_KEY: usize = 64;

/// Keys of a table.
pub(super) type Keys = BTreeSet<Box<[u8]>>;

/// A table whose keys are looked for.
#[derive(Clone, Copy)]
pub(super) struct Watched<'a> {
    pub(super) table: &'a Table,
    /// The relations that have rows of it.
    pub(super) relations: &'a [u32],
}

/// What was found of a table: the keys that were touched, or why they are not known.
pub(super) type Found = Result<Keys, String>;

/// Takes messages as they come.
pub(super) struct Touched<'a> {
    tables: Vec<(Watched<'a>, Found)>,
    since: &'a Sees,
    now: &'a Sees,
    /// The relations of tables that are watched, as they were told last.
    relations: BTreeMap<u32, Relation>,
    /// The transaction that is being told, if it is in the increment.
    within: Option<u64>,
    /// The commit of the first transaction that is beyond it.
    beyond: Option<u64>,
    /// The first time of such a commit, in microseconds since 1970.
    beyond_us: Option<i64>,
    bytes: usize,
    most_bytes: usize,
}

/// A relation that was told.
struct Relation {
    /// Which table it has rows of.
    table: usize,
    /// Where the columns of the key are in its rows; `None` where it does not tell them of old rows.
    key: Option<Vec<usize>>,
}

impl<'a> Touched<'a> {
    /// Between what two snapshots see.
    pub(super) fn new(tables: Vec<Watched<'a>>, since: &'a Sees, now: &'a Sees) -> Self {
        let tables = tables.into_iter().map(|table| (table, Ok(Keys::new())));
        Self {
            tables: tables.collect(),
            since,
            now,
            relations: BTreeMap::new(),
            within: None,
            beyond: None,
            beyond_us: None,
            bytes: 0,
            most_bytes: MOST_BYTES,
        }
    }

    /// Takes the next message.
    pub(super) fn take(&mut self, message: &Message<'_>) {
        match message {
            Message::Begin {
                commit,
                committed,
                transaction,
            } => {
                let number = self.now.whole_number(*transaction);
                let is_seen = self.now.sees(number);
                if !is_seen {
                    self.beyond = self.beyond.or(Some(*commit));
                    let us = committed.saturating_add(MICROSECONDS);
                    self.beyond_us = Some(self.beyond_us.map_or(us, |first| first.min(us)));
                }
                self.within = (is_seen && !self.since.sees(number)).then_some(number);
            }
            Message::Relation { number, columns } => self.relation(*number, columns),
            _ if self.within.is_none() => {}
            Message::Insert { relation, new } => self.touch(*relation, None, new),
            Message::Update { relation, old, new } => {
                if let Some(old) = old {
                    self.touch(*relation, None, old);
                }
                self.touch(*relation, old.as_deref(), new);
            }
            Message::Delete { relation, old } => self.touch(*relation, None, old),
            Message::Truncate { relations } => {
                for relation in relations {
                    if let Some(relation) = self.relations.get(relation) {
                        lose(&mut self.tables[relation.table].1, "it was truncated");
                    }
                }
            }
            Message::Other => {}
        }
    }

    /// The transaction that is being told, if it is in the increment.
    pub(super) fn within(&self) -> Option<u64> {
        self.within
    }

    /// The first time of a commit that is beyond the increment, in microseconds since 1970.
    pub(super) fn beyond_us(&self) -> Option<i64> {
        self.beyond_us
    }

    /// What was found of each table, in their order, and the commit of the first transaction that is beyond.
    pub(super) fn finish(self) -> (Vec<Found>, Option<u64>) {
        let found = self.tables.into_iter().map(|(_, found)| found);
        (found.collect(), self.beyond)
    }

    fn relation(&mut self, number: u32, columns: &[(&str, bool)]) {
        let is_its = |(table, _): &(Watched<'_>, Found)| table.relations.contains(&number);
        let Some(at) = self.tables.iter().position(is_its) else {
            return;
        };
        let table = self.tables[at].0.table;
        let key = table.key_columns().map(|key| {
            let mut columns = columns.iter();
            columns.position(|(name, is_told)| *name == key.name && *is_told)
        });
        let relation = Relation {
            table: at,
            key: key.collect(),
        };
        self.relations.insert(number, relation);
    }

    /// Adds the key of a row. What it does not tell of its key the old row does.
    fn touch(&mut self, relation: u32, old: Option<&[Value<'_>]>, row: &[Value<'_>]) {
        let Some(relation) = self.relations.get(&relation) else {
            // Of a table that is not watched, or of a partition that is none any more.
            return;
        };
        let (watched, found) = &mut self.tables[relation.table];
        let Ok(keys) = found else { return };
        let key = relation
            .key
            .as_ref()
            .ok_or("its replica identity has changed")
            .and_then(|places| key_of(watched.table, places, old, row));
        match key {
            Ok(key) => {
                let bytes = key.len() + BYTES_A_KEY;
                if keys.insert(key.into()) {
                    self.bytes += bytes;
                }
            }
            Err(why) => return lose(found, why),
        }
        if self.bytes > self.most_bytes {
            self.make_room();
        }
    }

    /// The table with the most keys drops out.
    fn make_room(&mut self) {
        let size = |found: &Found| {
            let keys = found.iter().flatten();
            keys.map(|key| key.len() + BYTES_A_KEY).sum::<usize>()
        };
        let largest = self.tables.iter_mut().max_by_key(|(_, found)| size(found));
        if let Some((_, found)) = largest {
            self.bytes -= size(found);
            lose(
                found,
                "more of its rows were written than are looked up one by one",
            );
        }
    }
}

fn lose(found: &mut Found, why: &str) {
    if found.is_ok() {
        *found = Err(why.to_owned());
    }
}

/// The key of a row.
///
/// # Errors
/// Why the stream does not tell it.
pub(super) fn key_of(
    table: &Table,
    places: &[usize],
    old: Option<&[Value<'_>]>,
    row: &[Value<'_>],
) -> Result<Vec<u8>, &'static str> {
    let mut key = Vec::new();
    for (column, place) in table.key_columns().zip(places) {
        let value = match row.get(*place) {
            Some(Value::Unchanged) => old.and_then(|old| old.get(*place)),
            told => told,
        };
        let Some(Value::Binary(bytes)) = value else {
            return Err("it does not tell the keys of all rows");
        };
        let value = column.wire.decode(bytes);
        let value = value.map_err(|_| "it tells keys that are none of the table")?;
        encode_column(&mut key, column.wire.column_type(), value);
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use mendb_model::schema::ColumnPosition;
    use mendb_model::value::ValueRef;
    use mendb_model::{Column, ColumnType, TableSchema};

    use super::super::catalogue::Carried;
    use super::super::definition::Definition;
    use super::super::nested::Numbers;
    use super::super::pgoutput::written;
    use super::super::wire::Wire;
    use super::*;

    const REL: u32 = 5;
    const COLUMNS: [(&str, bool); 2] = [("note", false), ("id", true)];

    fn table() -> Table {
        let schema = TableSchema {
            columns: vec![Column {
                name: "id".to_owned(),
                column_type: ColumnType::Int32,
                not_null: true,
            }],
            key: vec!["id".to_owned()],
            indexes: Vec::new(),
        };
        Table {
            name: "public.t".to_owned(),
            relation: "public.t".to_owned(),
            definition: Definition {
                server: 150_000,
                columns: Vec::new(),
                key: vec!["id".to_owned()],
                constraints: Vec::new(),
                indexes: Vec::new(),
                sequences: Vec::new(),
                partition_by: None,
                partitions: Vec::new(),
                inherits: Vec::new(),
                inherited_constraints: Vec::new(),
            },
            schema,
            columns: vec![Carried {
                name: "id".to_owned(),
                wire: Wire::Int4,
                form: None,
                base_type: "integer".to_owned(),
                collate: "",
                place: ColumnPosition::Key(0),
            }],
            key: vec![0],
            numbers: Numbers::default(),
        }
    }

    fn keys(ids: &[i32]) -> Keys {
        let key = |id: &i32| {
            let mut key = Vec::new();
            encode_column(&mut key, ColumnType::Int32, ValueRef::Int((*id).into()));
            key.into()
        };
        ids.iter().map(key).collect()
    }

    fn id(bytes: &[u8; 4]) -> [Value<'_>; 2] {
        [Value::Null, Value::Binary(bytes)]
    }

    /// What is found in messages between a snapshot that sees all before 100 but for 90, and one that sees all before 110
    /// but for 95.
    fn found_within(most_bytes: usize, messages: &[Vec<u8>]) -> (Found, Option<u64>) {
        let (since, now) = ("90:100:90,95", "95:110:95");
        let (since, now) = (Sees::parse(since).unwrap(), Sees::parse(now).unwrap());
        let table = table();
        let watched = vec![Watched {
            table: &table,
            relations: &[REL],
        }];
        let mut touched = Touched::new(watched, &since, &now);
        touched.most_bytes = most_bytes;
        for message in messages {
            touched.take(&Message::parse(message).unwrap());
        }
        let (mut found, beyond) = touched.finish();
        (found.remove(0), beyond)
    }

    fn found(messages: &[Vec<u8>]) -> (Found, Option<u64>) {
        found_within(MOST_BYTES, messages)
    }

    #[test]
    fn just_the_transactions_that_the_later_snapshot_sees_and_the_earlier_did_not_are_in() {
        let mut messages = vec![written::relation(REL, &COLUMNS)];
        // Those with even numbers write; their keys are their numbers.
        for (commit, transaction) in [(1, 80), (2, 90), (3, 96), (4, 110), (5, 104), (6, 95)] {
            messages.push(written::begin(commit, transaction));
            let key = transaction.to_be_bytes();
            messages.push(written::insert(REL, &id(&key)));
            // Another table.
            messages.push(written::insert(REL + 1, &[Value::Null]));
        }
        // 90 ran at the earlier one, 110 began after the later one, 95 ran at both, 80 and 96 were in the earlier.
        assert_eq!(found(&messages), (Ok(keys(&[90, 104])), Some(4)));
    }

    #[test]
    fn a_key_that_changed_touches_both_and_one_that_is_not_told_again_is_the_old_one() {
        let (one, two, three) = (
            1_i32.to_be_bytes(),
            2_i32.to_be_bytes(),
            3_i32.to_be_bytes(),
        );
        let unchanged = [Value::Null, Value::Unchanged];
        let messages = [
            written::relation(REL, &COLUMNS),
            written::begin(1, 100),
            written::update(REL, Some(&id(&one)), &id(&two)),
            written::update(REL, Some(&id(&three)), &unchanged),
        ];
        assert_eq!(found(&messages), (Ok(keys(&[1, 2, 3])), None));
    }

    #[test]
    fn what_does_not_tell_all_keys_is_lost_with_the_reason() {
        let one = 1_i32.to_be_bytes();
        let (relation, begin) = (written::relation(REL, &COLUMNS), written::begin(1, 100));
        let other = written::relation(REL, &[("note", true), ("id", false)]);
        for (messages, why) in [
            (vec![begin.clone(), written::truncate(&[REL])], "truncated"),
            (
                vec![
                    begin.clone(),
                    written::update(REL, None, &[Value::Null, Value::Unchanged]),
                ],
                "does not tell the keys",
            ),
            (
                vec![
                    begin.clone(),
                    written::insert(REL, &[Value::Null, Value::Text]),
                ],
                "does not tell the keys",
            ),
            (
                vec![
                    begin.clone(),
                    written::insert(REL, &[Value::Null, Value::Binary(b"x")]),
                ],
                "none of the table",
            ),
            (
                vec![other, begin, written::insert(REL, &id(&one))],
                "replica identity",
            ),
        ] {
            let messages = [vec![relation.clone()], messages].concat();
            let lost = found(&messages).0.unwrap_err();
            assert!(lost.contains(why), "{lost}");
        }
    }

    #[test]
    fn a_table_of_which_too_much_was_written_drops_out() {
        let mut messages = vec![written::relation(REL, &COLUMNS), written::begin(1, 100)];
        for key in [1_i32, 2, 2, 3] {
            let key = key.to_be_bytes();
            messages.push(written::insert(REL, &id(&key)));
        }
        let each = BYTES_A_KEY + keys(&[1]).first().unwrap().len();
        assert_eq!(
            found_within(3 * each, &messages),
            (Ok(keys(&[1, 2, 3])), None)
        );
        let lost = found_within(3 * each - 1, &messages).0.unwrap_err();
        assert!(lost.contains("more of its rows"), "{lost}");
    }
}
