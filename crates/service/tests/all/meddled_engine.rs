//! An engine that someone meddles with.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::{
    BlockSink, ConflictSink, Data, Engine, FreezeRequest, Frozen, HeldBack, Hold, LiveRows,
    LiveShard, LiveTable, Lock, Result, RowStore, Source, StagedCounts, StagedTable,
};
use mendb_model::name::TablePath;
use mendb_model::{Digest, KeyRange, RowBlock, RowBlockBuilder};

/// What is done to an engine. Nothing, as long as nothing is overridden.
pub trait Meddler: Send + Sync + 'static {
    /// Before a call that changes or reads rows does its work.
    fn before(&self) {}
    /// After it.
    fn after(&self) {}
    /// To a block of rows that is read.
    fn read(&self, block: &RowBlock<&[u8]>) -> RowBlock {
        let mut same = RowBlockBuilder::new();
        same.extend(block);
        same.finish()
    }
    /// To a block of changes of a table or index that is read for an increment.
    fn changed(&self, _path: &TablePath, block: &RowBlock<&[u8]>) -> RowBlock {
        let mut same = RowBlockBuilder::new();
        same.extend(block);
        same.finish()
    }
}

pub struct Meddled<M> {
    engine: Arc<dyn Engine>,
    meddler: M,
}

impl<M: Meddler> Meddled<M> {
    pub fn wrap(engine: Arc<dyn Engine>, meddler: M) -> Arc<dyn Engine> {
        Arc::new(Self { engine, meddler })
    }

    fn rows(&self) -> &dyn RowStore {
        self.engine
            .rows()
            .expect("the engine that is meddled with is one of rows")
    }

    fn around<T>(&self, work: impl FnOnce() -> T) -> T {
        self.meddler.before();
        let value = work();
        self.meddler.after();
        value
    }
}

impl<M: Meddler> Engine for Meddled<M> {
    fn data(&self) -> Data<'_> {
        Data::Rows(self)
    }
    fn identify(&self, new_id: &str) -> Result<String> {
        self.engine.identify(new_id)
    }
    fn locks(&self) -> Vec<Lock> {
        self.engine.locks()
    }
    fn holds(&self) -> Vec<Hold> {
        self.engine.holds()
    }
    fn drop_kept(&self, operation: &str) -> Result<()> {
        self.engine.drop_kept(operation)
    }
    fn is_frozen(&self, operation: &str) -> bool {
        self.engine.is_frozen(operation)
    }
    fn thaw(&self, operation: &str) -> Result<()> {
        self.around(|| self.engine.thaw(operation))
    }
    fn commit(&self, operation: &str) -> Result<()> {
        self.around(|| self.engine.commit(operation))
    }
    fn undo(&self, operation: &str) -> Result<()> {
        self.around(|| self.engine.undo(operation))
    }
}

impl<M: Meddler> LiveRows for Meddled<M> {
    fn snapshot(&self) -> Result<Box<dyn LiveRows + '_>> {
        self.rows().snapshot()
    }
    fn inspect(&self, table: &str) -> Result<Option<LiveTable>> {
        self.rows().inspect(table)
    }
    fn version(&self) -> u64 {
        self.rows().version()
    }
    fn shards(&self, path: &TablePath, range: &KeyRange) -> Result<Vec<LiveShard>> {
        self.rows().shards(path, range)
    }
    fn scan(
        &self,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        self.rows().scan(path, range, after, sink)
    }
    fn rows_of(&self, path: &TablePath, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        self.rows().rows_of(path, keys)
    }
    fn conflicts(
        &self,
        table: &str,
        wanted: &RowBlock<&[u8]>,
        found: ConflictSink<'_>,
    ) -> Result<()> {
        self.rows().conflicts(table, wanted, found)
    }
    fn changes_since(
        &self,
        path: &TablePath,
        range: &KeyRange,
        since_version: u64,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        self.rows().changes_since(path, range, since_version, sink)
    }
    fn digest(&self, path: &TablePath, range: &KeyRange) -> Result<Digest> {
        self.around(|| self.rows().digest(path, range))
    }
    fn held_back(&self, table: &str) -> Result<Vec<HeldBack>> {
        self.rows().held_back(table)
    }
}

impl<M: Meddler> RowStore for Meddled<M> {
    fn freeze(&self, request: &FreezeRequest<'_>) -> Result<Frozen> {
        self.around(|| self.rows().freeze(request))
    }
    fn estimate_bytes(&self, operation: &str, path: &TablePath, range: &KeyRange) -> Result<u64> {
        self.rows().estimate_bytes(operation, path, range)
    }
    fn estimate_change_bytes(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        since_version: u64,
    ) -> Result<u64> {
        self.rows()
            .estimate_change_bytes(operation, path, range, since_version)
    }
    fn read_rows(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        let mut sink = |block: &RowBlock<&[u8]>| -> ControlFlow<()> {
            let block = self.meddler.read(block);
            self.around(|| sink(&block.view()))
        };
        self.rows()
            .read_rows(operation, path, range, after, &mut sink)
    }
    fn read_changes(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        since_version: u64,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        let mut sink = |block: &RowBlock<&[u8]>| -> ControlFlow<()> {
            sink(&self.meddler.changed(path, block).view())
        };
        self.rows()
            .read_changes(operation, path, range, since_version, after, &mut sink)
    }
    fn release_stream(&self, stream: &str, up_to: u64) -> Result<()> {
        self.around(|| self.rows().release_stream(stream, up_to))
    }
    fn detach_stream(&self, stream: &str) -> Result<()> {
        self.around(|| self.rows().detach_stream(stream))
    }
    fn stage(&self, operation: &str, tables: Vec<StagedTable>) -> Result<()> {
        self.around(|| self.rows().stage(operation, tables))
    }
    fn load(
        &self,
        operation: &str,
        path: &TablePath,
        source: Source,
        rows: &RowBlock<&[u8]>,
    ) -> Result<()> {
        self.around(|| self.rows().load(operation, path, source, rows))
    }
    fn apply(
        &self,
        operation: &str,
        path: &TablePath,
        source: Source,
        changes: &RowBlock<&[u8]>,
    ) -> Result<()> {
        self.around(|| self.rows().apply(operation, path, source, changes))
    }
    fn begin_mend(&self, operation: &str, tables: &[String]) -> Result<()> {
        self.around(|| self.rows().begin_mend(operation, tables))
    }
    fn stage_mend(
        &self,
        operation: &str,
        table: &str,
        source: Source,
        changes: &RowBlock<&[u8]>,
    ) -> Result<StagedCounts> {
        self.around(|| self.rows().stage_mend(operation, table, source, changes))
    }
    fn mended_shards(&self, operation: &str, path: &TablePath) -> Result<Vec<LiveShard>> {
        self.rows().mended_shards(operation, path)
    }
    fn mended_digest(&self, operation: &str, path: &TablePath, range: &KeyRange) -> Result<Digest> {
        self.rows().mended_digest(operation, path, range)
    }
    fn settle_mend(
        &self,
        operation: &str,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        self.around(|| self.rows().settle_mend(operation, progress))
    }

    fn is_published(&self, operation: &str) -> bool {
        self.rows().is_published(operation)
    }
    fn publish_mend(&self, operation: &str) -> Result<()> {
        self.around(|| self.rows().publish_mend(operation))
    }
}
