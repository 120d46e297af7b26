//! Row groups of a level, one after another, the next ones fetched meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use mendb_model::RowBlock;
use tokio::task::JoinHandle;

use super::gallop::gallop;
use super::level::{Level, ReadCounts, Unit};
use crate::error::Result;
use crate::segment::groups::{FetchedGroups, Footer, GroupRequest};

/// The rows or changes of a row group, in key order.
#[derive(Debug)]
pub(super) struct DecodedGroup {
    pub(super) blocks: Vec<RowBlock>,
}

/// How far a search through a group came.
#[derive(Debug, Default)]
pub(super) struct Position {
    block: usize,
    row: usize,
}

impl DecodedGroup {
    /// The value of a key; keys ascend from a position on.
    pub(super) fn find(&self, key: &[u8], position: &mut Position) -> Option<&[u8]> {
        let ends_before = |block: usize| self.blocks[block].last_key() < Some(key);
        let block = gallop(position.block, self.blocks.len(), ends_before);
        if block != position.block {
            *position = Position { block, row: 0 };
        }
        let block = self.blocks.get(block)?;
        position.row = gallop(position.row, block.len(), |row| block.key(row) < key);
        (block.key(position.row) == key).then(|| block.value(position.row))
    }
}

/// The segment whose groups are read, and its footer.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) segment: usize,
    footer: Footer,
}

/// Fetches and decodes some units of a level in their order. Nothing is fetched before the first is
/// asked for. Dropping it ends its requests.
#[derive(Debug)]
pub(super) struct GroupStream {
    level: Arc<Level>,
    requests: VecDeque<(usize, GroupRequest)>,
    /// Requests under way, in order.
    under_way: VecDeque<UnderWay>,
    at_once: usize,
    opened: Option<Opened>,
    /// What came last, and its groups that are not decoded yet.
    fetched: Option<(FetchedGroups, VecDeque<usize>)>,
    counts: ReadCounts,
}

#[derive(Debug)]
struct UnderWay {
    segment: usize,
    request: GroupRequest,
    task: JoinHandle<Result<FetchedGroups>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl GroupStream {
    /// The units of a level with these numbers, which ascend. `opened` is the segment read before;
    /// requests are for at most `most_bytes`, or one group, with `at_once` of them under way.
    pub(super) fn new(
        level: Arc<Level>,
        units: &[usize],
        opened: Option<Opened>,
        most_bytes: u64,
        at_once: usize,
    ) -> Self {
        let known = opened.as_ref().map(|opened| opened.segment);
        Self {
            requests: level.requests(units, known, most_bytes).into(),
            under_way: VecDeque::new(),
            at_once,
            opened,
            fetched: None,
            counts: level.counts(),
            level,
        }
    }

    /// The segment that was read last, for the stream that goes on.
    pub(super) fn opened(self) -> Option<Opened> {
        self.opened.clone()
    }

    /// What was read so far.
    pub(super) fn counts(&self) -> &ReadCounts {
        &self.counts
    }

    /// The next unit, decoded where this is polled; `None` after the last.
    ///
    /// # Errors
    /// As [`crate::Repository::read_groups`], or the keys are not those of the manifest.
    pub(super) async fn next(&mut self) -> Result<Option<(Unit, DecodedGroup)>> {
        loop {
            if let Some((fetched, groups)) = &mut self.fetched
                && let Some(opened) = &self.opened
                && let Some(group) = groups.pop_front()
            {
                let unit = Unit {
                    segment: opened.segment,
                    group,
                };
                let decoded = decode(&self.level, unit, &opened.footer, fetched)?;
                self.counts.groups += 1;
                let rows = decoded.blocks.iter().map(|block| block.len() as u64);
                self.counts.rows += rows.sum::<u64>();
                return Ok(Some((unit, decoded)));
            }
            self.fetched = None;
            let is_only = self.under_way.is_empty() && self.requests.len() == 1;
            if let Some((segment, request)) = self.requests.front()
                && is_only
            {
                // Nothing is to be done beside it.
                let (segment, request) = (*segment, request.clone());
                let fetched = self.level.segments[segment].fetch(&request).await;
                self.requests.clear();
                self.counts.count(&request);
                self.take(segment, &request, fetched?)?;
                continue;
            }
            self.begin();
            let Some(first) = self.under_way.front_mut() else {
                return Ok(None);
            };
            let done = (&mut first.task).await;
            let Some(next) = self.under_way.pop_front() else {
                return Ok(None);
            };
            let segment = &self.level.segments[next.segment];
            let fetched = done.unwrap_or_else(|error| Err(segment.cut_off(error)))?;
            self.take(next.segment, &next.request, fetched)?;
            // While these are decoded, others come.
            self.begin();
        }
    }

    /// Takes what a request for a segment brought.
    fn take(
        &mut self,
        segment: usize,
        request: &GroupRequest,
        fetched: FetchedGroups,
    ) -> Result<()> {
        if request.footer {
            self.opened = Some(Opened {
                segment,
                footer: self.level.segments[segment].footer(&fetched)?,
            });
        }
        let groups = request.groups.iter().copied().collect();
        self.fetched = Some((fetched, groups));
        Ok(())
    }

    fn begin(&mut self) {
        while self.under_way.len() < self.at_once
            && let Some((segment, request)) = self.requests.pop_front()
        {
            self.counts.count(&request);
            let (level, wanted) = (Arc::clone(&self.level), request.clone());
            let task = async move { level.segments[segment].fetch(&wanted).await };
            self.under_way.push_back(UnderWay {
                segment,
                request,
                task: tokio::spawn(task),
            });
        }
    }
}

fn decode(
    level: &Level,
    unit: Unit,
    footer: &Footer,
    fetched: &FetchedGroups,
) -> Result<DecodedGroup> {
    let segment = &level.segments[unit.segment];
    let mut blocks: Vec<RowBlock> = Vec::new();
    for block in segment.read(footer, fetched, &[unit.group])? {
        blocks.push(block?);
    }
    blocks.retain(|block| !block.is_empty());
    let keys = blocks
        .iter()
        .flat_map(|block| block.iter().map(|(key, _)| key));
    let ordered = keys.is_sorted_by(|a, b| a < b);
    let first = blocks.first().map(|block| block.key(0));
    let last = blocks.last().and_then(|block| block.last_key());
    if !ordered
        || first != Some(level.first_key(unit))
        || !last.is_some_and(|last| level.reaches(unit, last))
    {
        let detail = format!(
            "row group {} has other keys than its manifest says",
            unit.group
        );
        return Err(segment.damaged(detail));
    }
    Ok(DecodedGroup { blocks })
}
