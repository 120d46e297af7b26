//! Tables that are made of a backup: in the schema `mendb` until they are whole, then in their own under their names,
//! all in one transaction.
//!
//! *Crash*: rows and the cursor that counts them are one transaction; so is the moment all tables appear. *Left out*:
//! foreign keys, triggers, policies, rights and comments. A table is made with its columns, defaults, key, unique,
//! check and exclusion constraints, indexes, and sequences of its own.

use std::collections::{BTreeMap, BTreeSet};

use mendb_model::RowBlock;
use mendb_model::change::ChangeRef;
use mendb_model::{ChangeKind, Replaced};
use postgres::Client;

use super::catalogue::{self, Table};
use super::definition::{Definition, PartitionDefinition};
use super::error::{damaged, failed, refused};
use super::inheritance::{self, Family, Member};
use super::name::{TableName, own_rows, quoted, text};
use super::session::run;
use super::state::{self, Held};
use super::write::{NULL, Tuples, behind, bytes_field, copy_rows, row_fields};
use crate::contract::LockKind;
use crate::contract::rows::{HiddenTable, RowSource, StagedCounts};
use crate::error::Result;

/// What every table of what is staged has in front of the carried columns.
pub(super) const STAGED_COLUMNS: &str = "_mendb_key, _mendb_mark";

/// Makes the table of what is staged for another.
pub(super) fn create_staged(
    client: &mut Client,
    number: i64,
    definition: &Definition,
) -> Result<()> {
    run(
        client,
        "make a table to stage rows in",
        &format!(
            "CREATE UNLOGGED TABLE mendb.s{number} (_mendb_key bytea PRIMARY KEY, _mendb_mark bigint, {})",
            definition.plain_columns()
        ),
    )
}

/// Makes tables for an operation, hidden. Those that it has are left as they are.
pub(super) fn stage(client: &mut Client, operation: &str, tables: &[HiddenTable]) -> Result<()> {
    let mut definitions = Vec::new();
    for staged in tables {
        check_free(client, &staged.name)?;
        let native = staged.backup.native.as_ref().ok_or_else(|| {
            refused(format!(
                "table {} was not backed up from PostgreSQL, and can be restored into a row store only",
                staged.name
            ))
        })?;
        definitions.push(Definition::from_native(native)?);
    }
    let mut there = BTreeSet::new();
    for parent in definitions
        .iter()
        .flat_map(|definition| &definition.inherits)
    {
        let relation = TableName::parse(parent)?.to_string();
        if inheritance::can_be_parent(client, &relation)? {
            there.insert(parent.clone());
        }
    }
    let family = Family::of(tables, definitions, &|parent| there.contains(parent));
    let mut numbers = Vec::new();
    for (at, Member { name, definition }) in family.members().iter().enumerate() {
        let told = serde_json::to_string(definition).map_err(|error| damaged(error.to_string()))?;
        let (number, is_new) = state::hold(client, operation, "restore", name, &told)?;
        numbers.push(number);
        if is_new {
            let doing = format!("make table {name}");
            let create = family.create(at, &|at| format!("mendb.r{}", numbers[at]));
            run(client, doing, &create)?;
            let made = format!("mendb.r{number}");
            catalogue::check_made(client, name, &made, definition)?;
            let own = |at: usize| format!("mendb.r{number}_{at}");
            let all = PartitionDefinition::all(&definition.partitions).into_iter();
            for (at, (of, partition)) in all.enumerate() {
                let of = of.map_or_else(|| format!("mendb.r{number}"), own);
                let doing = format!("make partition {} of table {name}", partition.name);
                run(client, doing, &partition.create(&own(at), &of))?;
            }
            create_staged(client, number, definition)?;
        }
    }
    Ok(())
}

/// Refuses a name that a table cannot get.
fn check_free(client: &mut Client, table: &str) -> Result<()> {
    let name = TableName::parse(table)?;
    let found = client.query_one(
        "SELECT to_regclass($1::text) IS NOT NULL, to_regnamespace(quote_ident($2)) IS NOT NULL",
        &[&name.to_string(), &name.schema],
    );
    let found = found.map_err(|error| failed(format!("look for table {table}"), &error))?;
    if found.get(0) {
        return Err(refused(format!("table {table} exists already")));
    }
    if !found.get::<_, bool>(1) {
        return Err(refused(format!(
            "there is no schema {0} for table {table}: CREATE SCHEMA {0}",
            quoted(&name.schema)
        )));
    }
    Ok(())
}

/// The table that an operation restores.
pub(super) fn restored(client: &mut Client, operation: &str, table: &str) -> Result<(Held, Table)> {
    let held = state::held(client, Some(operation))?.into_iter();
    let held = held.map(|(_, held)| held).find(|held| held.table == table);
    let held = held.filter(|held| held.kind == LockKind::Restore);
    let held = held.ok_or_else(|| {
        refused(format!(
            "operation {operation} does not restore table {table}"
        ))
    })?;
    let definition = serde_json::from_str(&held.definition).map_err(|error| {
        damaged(format!(
            "the definition of table {table} in mendb.held: {error}"
        ))
    })?;
    let table = Table::new(client, table, held.restored(), definition)?;
    Ok((held, table))
}

/// Brings rows, or changes, of a source that are not there yet.
pub(super) fn bring(
    client: &mut Client,
    operation: &str,
    table: &str,
    source: RowSource,
    rows: &RowBlock<&[u8]>,
    are_changes: bool,
) -> Result<()> {
    let (held, table) = restored(client, operation, table)?;
    let doing = format!("restore table {}", table.name);
    let (step, index) = (i64::from(source.step), i64::from(source.index));
    let cursor = client
        .query_opt(
            "SELECT last_key FROM mendb.cursor WHERE held = $1 AND step = $2 AND source = $3 FOR UPDATE",
            &[&held.number, &step, &index],
        )
        .map_err(|error| failed(&doing, &error))?;
    let cursor: Option<Vec<u8>> = cursor.map(|row| row.get(0));
    let Some(last) = rows
        .last_key()
        .filter(|last| cursor.as_deref() < Some(*last))
    else {
        return Ok(());
    };
    let new = behind(rows, cursor.as_deref());
    if are_changes {
        let staged = held.staged();
        copy_staged(client, &table, &staged, new)?;
        let columns = table.column_list("");
        run(
            client,
            &doing,
            &format!(
                "DELETE FROM {rows} t USING {staged} s WHERE {same};
                 INSERT INTO {relation} ({columns}) OVERRIDING SYSTEM VALUE
                     SELECT {columns} FROM {staged} s WHERE s._mendb_mark IS NOT NULL;
                 DELETE FROM {staged}",
                rows = table.rows(),
                relation = table.relation,
                same = table.same_key("t", "s"),
            ),
        )?;
    } else {
        copy_rows(client, &table, &table.relation, new)?;
    }
    let moved = client.execute(
        "INSERT INTO mendb.cursor (held, step, source, last_key) VALUES ($1, $2, $3, $4)
         ON CONFLICT (held, step, source) DO UPDATE SET last_key = excluded.last_key",
        &[&held.number, &step, &index, &last],
    );
    moved.map_err(|error| failed(&doing, &error))?;
    Ok(())
}

/// Writes what keys are to hold into a table of what is staged: resets and erases.
pub(super) fn copy_staged<'c>(
    client: &mut Client,
    table: &Table,
    staged: &str,
    changes: impl Iterator<Item = (&'c [u8], &'c [u8])>,
) -> Result<StagedCounts> {
    let mut counts = StagedCounts::default();
    let columns = format!("{STAGED_COLUMNS}, {}", table.column_list(""));
    let mut tuples = Tuples::begin(client, staged, &columns)?;
    for (key, change) in changes {
        let change = ChangeRef::decode(change)
            .map_err(|error| damaged(format!("a change for table {}: {error}", table.name)))?;
        let row = match change.kind {
            ChangeKind::Erase => None,
            ChangeKind::Reset => Some(change.row),
            ChangeKind::Upsert => {
                return Err(refused(format!(
                    "the backup has changes of table {} that set some columns, as no backup of PostgreSQL has",
                    table.name
                )));
            }
        };
        counts.bytes += key.len() as u64;
        match row {
            Some(row) => {
                counts.upserted += 1;
                counts.bytes += row.len() as u64;
            }
            None => counts.erased += 1,
        }
        tuples.push(2 + table.columns.len(), |out| {
            bytes_field(out, key);
            match Replaced::of(key, row) {
                Replaced::Row(mark) => bytes_field(out, &mark.to_be_bytes()),
                Replaced::Nothing | Replaced::Unknown => out.extend_from_slice(&NULL),
            }
            row_fields(out, table, key, row)
        })?;
    }
    tuples.finish()?;
    Ok(counts)
}

/// Gives all tables of an operation their names, with all that they lack. Those that inherit come first, so that what
/// they get from their parents is given to them under their names.
pub(super) fn finish(client: &mut Client, operation: &str) -> Result<()> {
    let mut members = Vec::new();
    for (_, held) in state::held(client, Some(operation))? {
        if held.kind == LockKind::Restore {
            let (_, table) = restored(client, operation, &held.table)?;
            members.push(Member {
                name: held.table,
                definition: table.definition,
            });
        }
    }
    let family = Family::sorted(members);
    for at in (0..family.members().len()).rev() {
        let (held, _) = restored(client, operation, &family.members()[at].name)?;
        show(client, &held, &family, at)?;
    }
    state::let_go(client, operation)
}

fn show(client: &mut Client, held: &Held, family: &Family, at: usize) -> Result<()> {
    let definition = &family.members()[at].definition;
    let name = TableName::parse(&held.table)?;
    let doing = format!("finish table {}", held.table);
    let (schema, short) = (quoted(&name.schema), quoted(&name.name));
    let number = held.number;
    run(
        client,
        &doing,
        &format!(
            "ALTER TABLE {} SET SCHEMA {schema}; ALTER TABLE {schema}.r{number} RENAME TO {short}",
            held.restored()
        ),
    )?;
    let key = free_name(client, &name.schema, &format!("{}_pkey", name.name), &doing)?;
    let mut statements = vec![format!(
        "ALTER TABLE {name} RENAME CONSTRAINT r{number}_pkey TO {}",
        quoted(&key)
    )];
    for sequence in &definition.sequences {
        let column = &sequence.column;
        let of_name = format!("{}_{column}_seq", name.name);
        let own = free_name(client, &name.schema, &of_name, &doing)?;
        let own = TableName {
            schema: name.schema.clone(),
            name: own,
        };
        let is_identity = definition.columns.iter();
        let is_identity = is_identity
            .filter(|c| c.identity.is_some())
            .any(|c| c.name == *column);
        if is_identity {
            let found = client.query_one(
                "SELECT pg_get_serial_sequence($1, $2)",
                &[&name.to_string(), &column],
            );
            let found: String = found.map_err(|error| failed(&doing, &error))?.get(0);
            statements.push(format!(
                "ALTER SEQUENCE {found} RENAME TO {}",
                quoted(&own.name)
            ));
        } else {
            statements.push(format!(
                "CREATE SEQUENCE {own} AS {} {} OWNED BY {name}.{}",
                sequence.type_name,
                sequence.options(),
                quoted(column)
            ));
            let sequence = text(&own.to_string());
            let is_partitioned = definition.partition_by.is_some();
            let rows = own_rows(&name.to_string(), is_partitioned);
            statements.push(inheritance::default_of(&rows, column, &sequence));
            for heir in family.heirs_of_sequence(at, column) {
                let heir = TableName::parse(&family.members()[heir].name)?;
                let rows = own_rows(&heir.to_string(), false);
                statements.push(inheritance::default_of(&rows, column, &sequence));
            }
        }
        let own = text(&own.to_string());
        if sequence.increment > 0 {
            // An increment has rows that the sequence had not given yet when the full backup was made.
            statements.push(format!(
                "SELECT setval({own}::regclass, m.value)
                 FROM (SELECT greatest(max({column})::int8, {last}) AS value FROM {name}) m
                 WHERE m.value BETWEEN {min} AND {max}",
                column = quoted(column),
                last = sequence
                    .last
                    .map_or("NULL".to_owned(), |last| last.to_string()),
                min = sequence.min,
                max = sequence.max
            ));
        } else if let Some(last) = sequence.last {
            statements.push(format!("SELECT setval({own}::regclass, {last})"));
        }
    }
    let all = PartitionDefinition::all(&definition.partitions).into_iter();
    for (at, (_, partition)) in all.enumerate() {
        let wanted = partition.name_below(&name.name);
        let own = quoted(&free_name(client, &name.schema, &wanted, &doing)?);
        let key = free_name(client, &name.schema, &format!("{wanted}_pkey"), &doing)?;
        // At once: the next names have to be free beside these.
        run(
            client,
            &doing,
            &format!(
                "ALTER TABLE mendb.r{number}_{at} SET SCHEMA {schema};
                 ALTER TABLE {schema}.r{number}_{at} RENAME TO {own};
                 ALTER INDEX {schema}.r{number}_{at}_pkey RENAME TO {}",
                quoted(&key)
            ),
        )?;
    }
    let mut from_beside = BTreeMap::new();
    let mut parents = Vec::new();
    for parent in family.parents_beside(at) {
        let parent = TableName::parse(parent)?.to_string();
        from_beside.extend(inheritance::passed_on(client, &parent)?);
        parents.push(parent);
    }
    for (constraint, text) in &from_beside {
        let constraint = quoted(constraint);
        statements.push(format!(
            "ALTER TABLE {name} ADD CONSTRAINT {constraint} {text}"
        ));
    }
    for constraint in &definition.constraints {
        if !from_beside.values().any(|text| text == constraint) {
            statements.push(format!("ALTER TABLE {name} ADD {constraint}"));
        }
    }
    let inherit = |parent: &String| format!("ALTER TABLE {name} INHERIT {parent}");
    statements.extend(parents.iter().map(inherit));
    for index in &definition.indexes {
        let unique = if index.unique { "UNIQUE " } else { "" };
        statements.push(format!("CREATE {unique}INDEX ON {name} {}", index.text));
    }
    for statement in statements {
        run(client, &doing, &statement)?;
    }
    Ok(())
}

/// A name of a relation that is not taken in a schema: this one, or with a number behind it.
fn free_name(client: &mut Client, schema: &str, wanted: &str, doing: &str) -> Result<String> {
    /// The server cuts what is longer, bytes of a number left over.
    const MOST_BYTES: usize = 58;
    let mut cut = wanted.len().min(MOST_BYTES);
    while !wanted.is_char_boundary(cut) {
        cut -= 1;
    }
    let wanted = &wanted[..cut];
    for number in 0..1_000 {
        let name = match number {
            0 => wanted.to_owned(),
            number => format!("{wanted}{number}"),
        };
        let row = client.query_one(
            "SELECT NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                                WHERE n.nspname = $1::text AND c.relname = $2::text)",
            &[&schema, &name],
        );
        if row.map_err(|error| failed(doing, &error))?.get(0) {
            return Ok(name);
        }
    }
    Err(refused(format!(
        "schema {schema} has a thousand relations that are called {wanted}"
    )))
}
