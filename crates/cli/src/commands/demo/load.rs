//! The rows of the demo into its tables, and its changes.

use mendb_model::name::TablePath;
use mendb_rowstore::{Database, Table, WriteBatch};

use crate::demo_data::{self, DemoChange, DemoTable};
use crate::failure::Failure;

/// Rows that are written together: a batch is one commit, on disk before the next begins.
const BATCH_ROWS: usize = 4000;

/// Creates a table with its shards and those of its indexes, fills it and packs it. `progress` is
/// told how many rows are written.
///
/// # Errors
/// The store cannot be written.
pub fn fill(
    database: &Database,
    table: DemoTable,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let DemoTable {
        name,
        schema,
        splits,
        index_splits,
        rows,
    } = table;
    let indexes: Vec<String> = schema.indexes.iter().map(|i| i.name.clone()).collect();
    database.create_table(name, schema, splits)?;
    for (index, keys) in index_splits {
        let path = TablePath::index(name, index);
        for key in keys {
            database.split(&path, &key)?;
        }
    }
    let table = database.open_table(name)?;
    write(database, rows, progress, |batch, row| {
        batch.replace(&table, row)
    })?;
    database.compact(&TablePath::table(name))?;
    for index in &indexes {
        database.compact(&TablePath::index(name, index))?;
    }
    Ok(())
}

/// What a round of changes did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// Rows of which some columns were set.
    pub updated: u64,
    /// Rows that were put in.
    pub inserted: u64,
    /// Rows that were erased.
    pub erased: u64,
}

impl Changed {
    /// All of them.
    pub fn rows(self) -> u64 {
        self.updated + self.inserted + self.erased
    }
}

/// Makes the changes of a round, from 0.
///
/// # Errors
/// The store cannot be written.
pub fn change(database: &Database, scale: f64, round: u32) -> Result<Changed, Failure> {
    let orders = database.open_table(demo_data::ORDERS)?;
    let lineitem = database.open_table(demo_data::LINEITEM)?;
    let customer = database.open_table(demo_data::CUSTOMER)?;
    let table = |name: &str| -> &Table {
        match name {
            demo_data::ORDERS => &orders,
            demo_data::LINEITEM => &lineitem,
            _ => &customer,
        }
    };
    let mut changed = Changed::default();
    let changes = demo_data::changes(scale, round);
    write(
        database,
        changes,
        &mut |_| {},
        |batch, change| match change {
            DemoChange::Upsert(name, values) => {
                changed.updated += 1;
                batch.upsert(table(name), values)
            }
            DemoChange::Replace(name, row) => {
                changed.inserted += 1;
                batch.replace(table(name), row)
            }
            DemoChange::Erase(name, key) => {
                changed.erased += 1;
                batch.erase(table(name), key)
            }
        },
    )?;
    Ok(changed)
}

/// Writes items in batches, as `add` adds them.
fn write<T>(
    database: &Database,
    items: impl Iterator<Item = T>,
    progress: &mut dyn FnMut(u64),
    mut add: impl FnMut(&mut WriteBatch, T) -> mendb_rowstore::Result<()>,
) -> Result<(), Failure> {
    let mut written = 0;
    let mut batch = WriteBatch::new();
    for item in items {
        add(&mut batch, item)?;
        if batch.len() == BATCH_ROWS {
            written += batch.len() as u64;
            database.write(std::mem::take(&mut batch))?;
            progress(written);
        }
    }
    if !batch.is_empty() {
        written += batch.len() as u64;
        database.write(batch)?;
        progress(written);
    }
    Ok(())
}
