//! The rows of the demo into its tables, and its changes.

use mendb_model::name::TablePath;
use mendb_rowstore::{Database, Table, WriteBatch};

use crate::demo_data::{self, DemoChange, DemoTable};
use crate::failure::Failure;

/// Rows that are written together: a batch is one commit, on disk before the next begins.
const BATCH_ROWS: usize = 4000;
/// How often progress is told.
const TOLD_ROWS: u64 = 4000;

/// Creates a table with its shards and those of its indexes, and fills it. `progress` is told how many rows it
/// has.
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
    database.create_table(name, schema, splits)?;
    for (index, keys) in index_splits {
        let path = TablePath::index(name, index);
        for key in keys {
            database.split(&path, &key)?;
        }
    }
    let mut bulk = database.bulk(&database.open_table(name)?);
    for row in rows {
        bulk.replace(&row)?;
        if bulk.changes().is_multiple_of(TOLD_ROWS) {
            progress(bulk.changes());
        }
    }
    let written = bulk.commit(&mut |_| {}).map_err(|refused| refused.error)?;
    progress(written.changes);
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
    write(database, changes, |batch, change| match change {
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
    })?;
    Ok(changed)
}

/// Writes items in batches, as `add` adds them.
fn write<T>(
    database: &Database,
    items: impl Iterator<Item = T>,
    mut add: impl FnMut(&mut WriteBatch, T) -> mendb_rowstore::Result<()>,
) -> Result<(), Failure> {
    let mut batch = WriteBatch::new();
    for item in items {
        add(&mut batch, item)?;
        if batch.len() == BATCH_ROWS {
            database.write(std::mem::take(&mut batch))?;
        }
    }
    if !batch.is_empty() {
        database.write(batch)?;
    }
    Ok(())
}
