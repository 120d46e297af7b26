//! An engine that someone meddles with.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::{
    BlockSink, ConflictSink, Data, Engine, FreezeRequest, Frozen, HeldBack, HiddenTable, Hold,
    LiveRows, LiveShard, LiveTable, Lock, RebuildRequest, Result, RowSource, RowStore,
    StagedCounts,
};
use mendb_model::name::TablePath;
use mendb_model::{Digest, KeyRange, RowBlock, RowBlockBuilder, Version};

/// What is done to an engine. Nothing, as long as nothing is overridden.
pub trait Meddler: Send + Sync + 'static {
    /// Before each call, by its name; an error is what the call answers.
    fn call(&self, _method: &'static str) -> Result<()> {
        Ok(())
    }
    /// After each call that succeeded, by its name; an error is what the call answers although it was done.
    fn answer(&self, _method: &'static str) -> Result<()> {
        Ok(())
    }
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

    /// A call that only looks.
    fn look<T>(&self, method: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.meddler.call(method)?;
        let done = work()?;
        self.meddler.answer(method)?;
        Ok(done)
    }

    /// A call that changes something, or reads much.
    fn around<T>(&self, method: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.meddler.call(method)?;
        let done = self.surrounded(work)?;
        self.meddler.answer(method)?;
        Ok(done)
    }

    fn surrounded<T>(&self, work: impl FnOnce() -> T) -> T {
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
        self.look("identify", || self.engine.identify(new_id))
    }
    fn locks(&self) -> Result<Vec<Lock>> {
        self.look("locks", || self.engine.locks())
    }
    fn holds(&self) -> Result<Vec<Hold>> {
        self.look("holds", || self.engine.holds())
    }
    fn drop_kept(&self, operation: &str) -> Result<()> {
        self.look("drop_kept", || self.engine.drop_kept(operation))
    }
    fn is_frozen(&self, operation: &str) -> Result<bool> {
        self.look("is_frozen", || self.engine.is_frozen(operation))
    }
    fn thaw(&self, operation: &str) -> Result<()> {
        self.around("thaw", || self.engine.thaw(operation))
    }
    fn make_live(&self, operation: &str) -> Result<()> {
        self.around("make_live", || self.engine.make_live(operation))
    }
    fn drop_staged(&self, operation: &str) -> Result<()> {
        self.around("drop_staged", || self.engine.drop_staged(operation))
    }
}

impl<M: Meddler> LiveRows for Meddled<M> {
    fn snapshot(&self) -> Result<Box<dyn LiveRows + '_>> {
        self.look("snapshot", || self.rows().snapshot())
    }
    fn inspect(&self, table: &str) -> Result<Option<LiveTable>> {
        self.look("inspect", || self.rows().inspect(table))
    }
    fn version(&self) -> Result<Version> {
        self.look("version", || self.rows().version())
    }
    fn shards(&self, path: &TablePath, range: &KeyRange) -> Result<Vec<LiveShard>> {
        self.look("shards", || self.rows().shards(path, range))
    }
    fn scan(
        &self,
        path: &TablePath,
        range: &KeyRange,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        self.look("scan", || self.rows().scan(path, range, after, sink))
    }
    fn rows_of(&self, path: &TablePath, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        self.look("rows_of", || self.rows().rows_of(path, keys))
    }
    fn conflicts(
        &self,
        table: &str,
        wanted: &RowBlock<&[u8]>,
        found: ConflictSink<'_>,
    ) -> Result<()> {
        self.look("conflicts", || self.rows().conflicts(table, wanted, found))
    }
    fn changes_since(
        &self,
        path: &TablePath,
        range: &KeyRange,
        since_version: Version,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        self.look("changes_since", || {
            self.rows().changes_since(path, range, since_version, sink)
        })
    }
    fn bytes_changed_since(&self, path: &TablePath, since_version: Version) -> Result<u64> {
        self.look("bytes_changed_since", || {
            self.rows().bytes_changed_since(path, since_version)
        })
    }
    fn digest(&self, path: &TablePath, range: &KeyRange) -> Result<Digest> {
        self.around("digest", || self.rows().digest(path, range))
    }
    fn held_back(&self, table: &str) -> Result<Vec<HeldBack>> {
        self.look("held_back", || self.rows().held_back(table))
    }
}

impl<M: Meddler> RowStore for Meddled<M> {
    fn keeps_digests(&self) -> bool {
        self.rows().keeps_digests()
    }
    fn keeps_native(&self) -> bool {
        self.rows().keeps_native()
    }
    fn freeze(&self, request: &FreezeRequest<'_>) -> Result<Frozen> {
        self.around("freeze", || self.rows().freeze(request))
    }
    fn estimate_bytes(&self, operation: &str, path: &TablePath, range: &KeyRange) -> Result<u64> {
        self.look("estimate_bytes", || {
            self.rows().estimate_bytes(operation, path, range)
        })
    }
    fn estimate_change_bytes(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        since_version: Version,
    ) -> Result<u64> {
        self.look("estimate_change_bytes", || {
            let rows = self.rows();
            rows.estimate_change_bytes(operation, path, range, since_version)
        })
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
            self.surrounded(|| sink(&block.view()))
        };
        self.look("read_rows", || {
            self.rows()
                .read_rows(operation, path, range, after, &mut sink)
        })
    }
    fn read_changes(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        since_version: Version,
        after: Option<&[u8]>,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        let mut sink = |block: &RowBlock<&[u8]>| -> ControlFlow<()> {
            sink(&self.meddler.changed(path, block).view())
        };
        self.look("read_changes", || {
            let rows = self.rows();
            rows.read_changes(operation, path, range, since_version, after, &mut sink)
        })
    }
    fn release_stream(&self, stream: &str, up_to: Version) -> Result<()> {
        self.around("release_stream", || {
            self.rows().release_stream(stream, up_to)
        })
    }
    fn detach_stream(&self, stream: &str) -> Result<()> {
        self.around("detach_stream", || self.rows().detach_stream(stream))
    }
    fn create_hidden(&self, operation: &str, tables: Vec<HiddenTable>) -> Result<()> {
        self.around("create_hidden", || {
            self.rows().create_hidden(operation, tables)
        })
    }
    fn load(
        &self,
        operation: &str,
        path: &TablePath,
        source: RowSource,
        rows: &RowBlock<&[u8]>,
    ) -> Result<()> {
        self.around("load", || self.rows().load(operation, path, source, rows))
    }
    fn apply(
        &self,
        operation: &str,
        path: &TablePath,
        source: RowSource,
        changes: &RowBlock<&[u8]>,
    ) -> Result<()> {
        self.around("apply", || {
            self.rows().apply(operation, path, source, changes)
        })
    }
    fn begin_mend(&self, operation: &str, tables: &[String]) -> Result<()> {
        self.around("begin_mend", || self.rows().begin_mend(operation, tables))
    }
    fn rebuild_mend(
        &self,
        request: &RebuildRequest<'_>,
        rows: &RowBlock<&[u8]>,
        is_last: bool,
    ) -> Result<StagedCounts> {
        self.around("rebuild_mend", || {
            self.rows().rebuild_mend(request, rows, is_last)
        })
    }
    fn stage_mend(
        &self,
        operation: &str,
        table: &str,
        source: RowSource,
        changes: &RowBlock<&[u8]>,
    ) -> Result<StagedCounts> {
        self.around("stage_mend", || {
            self.rows().stage_mend(operation, table, source, changes)
        })
    }
    fn mended_shards(&self, operation: &str, path: &TablePath) -> Result<Vec<LiveShard>> {
        self.look("mended_shards", || {
            self.rows().mended_shards(operation, path)
        })
    }
    fn mended_digest(&self, operation: &str, path: &TablePath, range: &KeyRange) -> Result<Digest> {
        self.look("mended_digest", || {
            self.rows().mended_digest(operation, path, range)
        })
    }
    fn settle_mend(
        &self,
        operation: &str,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        self.around("settle_mend", || {
            self.rows().settle_mend(operation, progress)
        })
    }

    fn is_published(&self, operation: &str) -> Result<bool> {
        self.look("is_published", || self.rows().is_published(operation))
    }
    fn publish_mend(&self, operation: &str) -> Result<()> {
        self.around("publish_mend", || self.rows().publish_mend(operation))
    }
}
