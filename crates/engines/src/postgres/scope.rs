//! Which keys of a table are mended where not all of those that differ are.
//!
//! The rows that are wanted are on no server yet: they go into a table of the session, which ends with the transaction,
//! so that the condition is asked of them and of the live rows by the server, in the same words. The condition is what
//! the server makes of it as the predicate of an index: it knows nothing but the columns of one row, and answers always
//! the same.

use mendb_model::RowBlock;
use mendb_model::key::KeyRange;
use mendb_model::key_text::describe_range;
use mendb_model::operation::RowScope;
use postgres::Client;

use super::catalogue::Table;
use super::error::{damaged, failed, refused};
use super::name::{TableName, quoted};
use super::restore::copy_staged;
use super::session::run;
use crate::contract::beside_writers::KeyScope;
use crate::error::Result;

/// The table of the rows that are wanted, in the session.
const WANTED: &str = "pg_temp._mendb_wanted";

/// Checks what keys are chosen by, and tells it in the words of the server.
pub(super) fn check(client: &mut Client, table: &Table, scope: &RowScope) -> Result<RowScope> {
    let mut checked = scope.clone();
    if let Some(condition) = &scope.condition {
        checked.condition = Some(as_predicate(client, table, condition)?);
    }
    if scope.keep_newer_than_us.is_some() {
        let row = client.query_one(
            "SELECT current_setting('track_commit_timestamp') = 'on'",
            &[],
        );
        let row = row.map_err(|error| failed("ask whether commit times are kept", &error))?;
        if !row.get::<_, bool>(0) {
            return Err(refused(
                "--keep-newer-than needs the times of commits, and this server does not keep them: set \
                 track_commit_timestamp = on and start the server again, which tells them of rows that are written from \
                 then on",
            ));
        }
    }
    Ok(checked)
}

/// A condition as the server writes it.
fn as_predicate(client: &mut Client, table: &Table, condition: &str) -> Result<String> {
    let doing = "check a condition";
    let name = quoted(&TableName::parse(&table.name)?.name);
    run(
        client,
        doing,
        &format!(
            "BEGIN; CREATE TEMPORARY TABLE {name} ({}) ON COMMIT DROP",
            table.definition.plain_columns()
        ),
    )?;
    // In a statement of its own, so that it can be nothing but a condition. The line ends a comment in it.
    let made = client.execute(
        &format!("CREATE INDEX _mendb_chosen ON pg_temp.{name} ((1)) WHERE ({condition}\n)"),
        &[],
    );
    if let Err(error) = made {
        let Some(why) = error.as_db_error() else {
            return Err(failed(doing, &error));
        };
        return Err(refused(format!(
            "--where {condition:?} cannot be asked of table {}: {}. It is a condition on the columns of one row, as in the \
             predicate of an index: without subqueries, and of functions that are IMMUTABLE; generated columns are not \
             there; functions and types that are not of the system are named with their schema",
            table.name,
            why.message()
        )));
    }
    let row = client.query_one(
        "SELECT pg_catalog.pg_get_expr(i.indpred, i.indrelid) FROM pg_catalog.pg_index i
         WHERE i.indexrelid = 'pg_temp._mendb_chosen'::pg_catalog.regclass",
        &[],
    );
    let told: Option<String> = row.map_err(|error| failed(doing, &error))?.get(0);
    run(client, doing, "ROLLBACK")?;
    // One that is always true is none.
    Ok(told.unwrap_or_else(|| "true".to_owned()))
}

/// How keys stand that differ: for each of the changes, which lead from the live rows to the wanted ones.
pub(super) fn key_scopes(
    client: &mut Client,
    table: &Table,
    scope: &RowScope,
    changes: &RowBlock<&[u8]>,
) -> Result<Vec<KeyScope>> {
    let doing = format!("choose rows of table {}", table.name);
    run(
        client,
        &doing,
        &format!(
            "BEGIN; CREATE TEMPORARY TABLE _mendb_wanted (_mendb_key bytea, _mendb_mark bigint, {}) ON COMMIT DROP",
            table.definition.plain_columns()
        ),
    )?;
    copy_staged(client, table, WANTED, changes.iter())?;
    let key = quoted(&table.columns[table.key[0]].name);
    // A row of its own, so that the condition sees the columns of the table and nothing else.
    let of = |row: &str, there: &str| match &scope.condition {
        Some(condition) => {
            let columns = table.column_list(&format!("{row}."));
            format!("{there} AND EXISTS (SELECT FROM (SELECT {columns}) r WHERE {condition})")
        }
        None => "true".to_owned(),
    };
    let is_live = format!("t.{key} IS NOT NULL");
    let written = match scope.keep_newer_than_us {
        Some(_) => "pg_xact_commit_timestamp(t.xmin)",
        None => "NULL::timestamptz",
    };
    let query = format!(
        "SELECT w._mendb_key, ({live}) OR ({wanted}), {is_live},
                (extract(epoch FROM {written}) * 1000000)::int8
         FROM {WANTED} w LEFT JOIN {relation} t ON {same} ORDER BY w._mendb_key",
        live = of("t", &is_live),
        wanted = of("w", "w._mendb_mark IS NOT NULL"),
        relation = table.rows(),
        same = table.same_key("t", "w"),
    );
    let rows = client.query(&query, &[]);
    let rows = rows.map_err(|error| failed(&doing, &error))?;
    run(client, &doing, "ROLLBACK")?;
    let mut rows = rows.iter();
    let one = |(key, _): (&[u8], &[u8])| -> Result<KeyScope> {
        let row = rows.next().filter(|row| row.get::<_, &[u8]>(0) == key);
        let row = row.ok_or_else(|| damaged("the server lost a row of what it was sent"))?;
        let (is_chosen, is_live): (bool, bool) = (row.get(1), row.get(2));
        let Some(newest) = scope.keep_newer_than_us.filter(|_| is_chosen && is_live) else {
            return Ok(match is_chosen {
                true => KeyScope::Chosen,
                false => KeyScope::Beside,
            });
        };
        match row.get::<_, Option<i64>>(3) {
            Some(written_us) if written_us > newest => Ok(KeyScope::Newer { written_us }),
            Some(_) => Ok(KeyScope::Chosen),
            None => Err(refused(format!(
                "when the row {} of table {} was written is not known, so that --keep-newer-than cannot tell what becomes \
                 of it: track_commit_timestamp was switched on after it, or the server has forgotten it",
                describe_range(&KeyRange::only(key), &table.schema.key_types()),
                table.name
            ))),
        }
    };
    changes.iter().map(one).collect()
}
