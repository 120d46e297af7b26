//! Mends whose writers go on until the publish.

use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::operation::RowScope;
use mendb_model::{RowBlock, Version};

use super::error::{failed, refused};
use super::live::existing;
use super::publish::Locked;
use super::transaction::number;
use super::{Postgres, mend, read, scope, versions, witness};
use crate::contract::beside_writers::{
    BesideWriters, KeyScope, Look, LookedDigests, Publishing, RowsSince, WantedTable,
};
use crate::contract::live_rows::BlockSink;
use crate::contract::only_read;
use crate::error::Result;

impl BesideWriters for Postgres {
    fn begin_look(&self, operation: &str, table: &str, range: &KeyRange) -> Result<Look> {
        let since = self.change("look at a table", |client| {
            mend::begin_look(client, operation, table, range)
        })?;
        Ok(Look(since))
    }

    fn end_look(
        &self,
        operation: &str,
        table: &str,
        range: &KeyRange,
        look: &Look,
        digests: LookedDigests,
    ) -> Result<()> {
        self.change("look at a table", |client| {
            mend::end_look(client, operation, table, range, look.0, digests)
        })
    }

    fn check_scope(&self, table: &str, scope: &RowScope) -> Result<RowScope> {
        self.server.with(|client| {
            let table = existing(client, &TablePath::table(table))?;
            scope::check(client, &table, scope)
        })
    }

    fn key_scopes(
        &self,
        table: &str,
        scope: &RowScope,
        changes: &RowBlock<&[u8]>,
    ) -> Result<Vec<KeyScope>> {
        self.server.with(|client| {
            let table = existing(client, &TablePath::table(table))?;
            scope::key_scopes(client, &table, scope, changes)
        })
    }

    fn writers_of(&self, table: &str, keys: &[&[u8]]) -> Result<Vec<Option<u32>>> {
        self.server.with(|client| {
            let table = existing(client, &TablePath::table(table))?;
            read::writers_of(client, &table, keys)
        })
    }

    fn read_written_since(
        &self,
        table: &str,
        range: &KeyRange,
        since: Version,
        most: u64,
        sink: BlockSink<'_>,
    ) -> Result<RowsSince> {
        versions::read_since(&self.server, (table, range), since, most, sink)
    }

    fn are_staged(&self, operation: &str, table: &str, keys: &[&[u8]]) -> Result<Vec<bool>> {
        self.server
            .with(|client| mend::are_staged(client, operation, table, keys))
    }

    fn lock_out<'a>(
        &'a self,
        operation: &str,
        wanted: &[WantedTable],
        max_wait_ms: Option<u64>,
    ) -> Result<Box<dyn Publishing + 'a>> {
        let epoch = self.epoch.ok_or_else(only_read)?;
        let locked = Locked::take(&self.server, epoch, operation, wanted, max_wait_ms)?;
        Ok(Box::new(locked))
    }

    fn exchanged(&self, operation: &str, table: &str) -> Result<Vec<(KeyRange, LookedDigests)>> {
        self.server
            .with(|client| mend::exchanged(client, operation, table))
    }

    fn version_before(&self, operation: &str) -> Result<Version> {
        self.server.with(|client| {
            let row = client.query_opt(
                "SELECT transaction, drawn FROM mendb.published WHERE operation = $1",
                &[&operation],
            );
            let row = row.map_err(|error| failed("read what was replaced", &error))?;
            let row =
                row.ok_or_else(|| refused(format!("operation {operation} has not published")))?;
            Ok(witness::version(number(row.get(0))?, row.get(1)))
        })
    }

    fn writers_waited_ms(&self, operation: &str) -> Result<u64> {
        self.server.with(|client| {
            let row = client.query_opt(
                "SELECT waited_ms FROM mendb.published WHERE operation = $1",
                &[&operation],
            );
            let row = row.map_err(|error| failed("ask how long writers waited", &error))?;
            Ok(row.map_or(0, |row| u64::try_from(row.get::<_, i64>(0)).unwrap_or(0)))
        })
    }
}
