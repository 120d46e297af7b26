//! What `mendb table` shows of the tables of a PostgreSQL database.

use std::io::Write;
use std::ops::ControlFlow;

use mendb_engines::postgres::{
    Address, ColumnDescription, ListedTable, Postgres, TableDescription,
};
use mendb_model::name::TablePath;
use mendb_model::{KeyRange, TableSchema};
use mendb_service::row_values;

use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::formats::sink::Sink;
use crate::human;
use crate::output::{Field, table};
use crate::progress::Progress;

/// Lists the tables, with why some cannot be backed up.
pub fn list(address: &Address, context: &Context) -> Result<Verdict, Failure> {
    let tables = Postgres::look(address)?.tables()?;
    context.output.records(
        &tables,
        &[
            Field::left("table", |t: &ListedTable| t.table.clone()),
            Field::right("rows, about", |t| {
                t.rows.map_or_else(|| "unknown".to_owned(), human::count)
            }),
            Field::right("size", |t| human::bytes(t.bytes)),
            Field::right("indexes", |t| human::bytes(t.index_bytes)),
            Field::left("", |t| t.refused.clone().unwrap_or_default()),
        ],
    )?;
    Ok(Verdict::Done)
}

/// Shows a table.
pub fn describe(address: &Address, name: &str, context: &Context) -> Result<Verdict, Failure> {
    let found = Postgres::look(address)?.describe(name)?;
    let found = found.ok_or_else(|| no_such_table(name))?;
    context.output.record(&found, text)?;
    Ok(Verdict::Done)
}

fn text(described: &TableDescription) -> String {
    let mut text = format!("table {}\n\n", described.table);
    text += &table(
        &described.columns,
        &[
            Field::left("column", |c: &ColumnDescription| c.column.clone()),
            Field::left("type", |c| c.type_name.clone()),
            Field::left("backed up as", |c| {
                c.backed_up_as
                    .clone()
                    .unwrap_or_else(|| "generated".to_owned())
            }),
            Field::left("", |c| {
                if c.not_null {
                    "not null".into()
                } else {
                    String::new()
                }
            }),
            Field::left("key", |c| {
                c.key.map_or_else(String::new, |at| at.to_string())
            }),
        ],
    );
    for (what, lines) in [
        ("constraint", &described.constraints),
        ("index", &described.indexes),
    ] {
        for line in lines {
            text += &format!("\n{what} {line}");
        }
    }
    text + "\n"
}

/// The rows of a table, all of one snapshot.
pub struct LiveTable {
    engine: Postgres,
    path: TablePath,
    /// What they are.
    pub schema: TableSchema,
}

impl LiveTable {
    /// Looks for a table.
    ///
    /// # Errors
    /// There is none, it cannot be read, or the server does not answer.
    pub fn open(address: &Address, name: &str) -> Result<Self, Failure> {
        let engine = Postgres::look(address)?;
        let found = engine.now().inspect(name)?;
        let found = found.ok_or_else(|| no_such_table(name))?;
        Ok(Self {
            engine,
            path: TablePath::table(name),
            schema: found.schema,
        })
    }

    /// Writes them in key order.
    ///
    /// # Errors
    /// They cannot be read or written.
    pub fn write<W: Write + Send>(
        &self,
        mut sink: Sink<W>,
        progress: &Progress,
    ) -> Result<(u64, W), Failure> {
        let snapshot = self.engine.now().snapshot()?;
        let (mut written, mut outcome) = (0, Ok(()));
        let read = snapshot.scan(&self.path, &KeyRange::all(), None, &mut |block| {
            for (key, row) in block.iter() {
                let values = row_values(&self.schema, key, row);
                let pushed = values
                    .map_err(|error| Failure::of(FailureKind::ReportBug, &error))
                    .and_then(|values| Ok(sink.push(&values)?));
                if let Err(failure) = pushed {
                    outcome = Err(failure);
                    return ControlFlow::Break(());
                }
                written += 1;
            }
            progress.update(written, &human::rows(written));
            ControlFlow::Continue(())
        });
        outcome?;
        read?;
        Ok((written, sink.finish()?))
    }
}

fn no_such_table(name: &str) -> Failure {
    Failure::input(format!("there is no table {name}"))
        .hint("mendb table list shows those there are; a table is named with its schema, as in public.orders")
}
