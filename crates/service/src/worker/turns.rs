//! Which attempt may work, and which waits for others to end.
//!
//! An attempt that was declared lost may still live, in the middle of a call of the server that nobody can interrupt. So
//! an attempt begins when every earlier one that could get in its way has ended: every earlier attempt of the same task,
//! and every attempt of an earlier step on the same table or on all tables. A step that begins again, as the cut of a
//! backup, has another floor of attempts and counts as another step.
//! Only so many attempts of an operation work at a time. Those that move few rows share a slot, as they mostly wait for
//! disks and for the network. The coordinator may request more, so that one can begin as soon as another ends.
//!
//! *Order*: attempts wait only for those that were requested before them, so one always goes on. *Crash*: threads end
//! with their process, and nobody waits for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mendb_model::name::OperationId;
use mendb_model::operation::TaskSpec;

use crate::wire::TaskRequest;

/// A task of rows that moves at most so many bytes takes a share of a slot only. So many of them keep about as much in
/// memory as one that moves much.
const LITTLE_BYTES: u64 = 1 << 20;

/// The shares of a slot.
const SHARES: usize = 8;

/// A task of an operation.
type TaskKey = (OperationId, u32, u32);

/// What is known of the attempts of this process.
#[derive(Default)]
pub(super) struct Turns {
    /// Attempts that work or wait, in the order in which they were requested.
    running: Vec<Running>,
    requested: u64,
    /// The newest attempt of each task: one that is older comes too late.
    newest: HashMap<TaskKey, u32>,
    /// The highest attempt floor that a request of an operation had: requests with a lower one come
    /// from an earlier step. Of an operation that is over, the highest number there is.
    floors: HashMap<OperationId, u32>,
}

/// An attempt that was requested and has not ended.
struct Running {
    number: u64,
    operation_id: OperationId,
    step: u32,
    floor: u32,
    shard_idx: u32,
    /// The shares of slots that it takes. One that was told to stop takes none, and may live on.
    shares: usize,
    /// The shares of all slots of the operation.
    all_shares: usize,
    /// What it works on; `None` for all tables of the operation.
    table: Option<String>,
    stopped: Arc<AtomicBool>,
}

impl Running {
    /// Whether an attempt must not work while this earlier one does.
    fn is_in_the_way_of(&self, later: &Self) -> bool {
        if self.operation_id != later.operation_id {
            return false;
        }
        if (self.step, self.floor) == (later.step, later.floor) {
            return self.shard_idx == later.shard_idx;
        }
        match (&self.table, &later.table) {
            (Some(table), Some(other)) => table == other,
            _ => true,
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// The turn of an attempt.
#[derive(Clone)]
pub(super) struct Turn {
    pub(super) number: u64,
    /// Whether the attempt was told to stop.
    pub(super) stopped: Arc<AtomicBool>,
}

/// Whether a task is about rows of one shard. A server of parts has as many at a time as its user said.
fn is_of_rows(spec: &TaskSpec) -> bool {
    match spec {
        TaskSpec::Copy { .. }
        | TaskSpec::Fold { .. }
        | TaskSpec::Restore { .. }
        | TaskSpec::Verify { .. }
        | TaskSpec::MendRows { .. } => true,
        TaskSpec::Whole
        | TaskSpec::CopyParts { .. }
        | TaskSpec::Mend { .. }
        | TaskSpec::Shard { .. } => false,
    }
}

impl Turns {
    /// Queues an attempt, and tells those to stop that are in its way; `None` when the request is stale or
    /// came before.
    pub(super) fn request(&mut self, request: &TaskRequest) -> Option<Turn> {
        let floor = self.floors.entry(request.operation_id.clone()).or_default();
        if request.attempt_floor < *floor {
            return None;
        }
        *floor = request.attempt_floor;
        let operation_id = request.operation_id.clone();
        let task = (operation_id.clone(), request.step, request.shard_idx);
        let newest = self.newest.entry(task).or_default();
        if *newest >= request.attempt {
            return None;
        }
        *newest = request.attempt;
        self.requested += 1;
        let is_little =
            is_of_rows(&request.spec) && (1..=LITTLE_BYTES).contains(&request.bytes_total);
        let slots = usize::try_from(request.at_once).unwrap_or(usize::MAX);
        let attempt = Running {
            number: self.requested,
            operation_id,
            step: request.step,
            floor: request.attempt_floor,
            shard_idx: request.shard_idx,
            shares: if is_little { 1 } else { SHARES },
            all_shares: slots.saturating_mul(SHARES),
            table: request.spec.table(),
            stopped: Arc::default(),
        };
        for earlier in &self.running {
            if earlier.is_in_the_way_of(&attempt) {
                earlier.stopped.store(true, Ordering::SeqCst);
            }
        }
        let turn = Turn {
            number: attempt.number,
            stopped: Arc::clone(&attempt.stopped),
        };
        self.running.push(attempt);
        Some(turn)
    }

    /// Which of some attempts may go on: nothing is in their way any more, or they were told to stop. Both in the
    /// order in which they were requested.
    pub(super) fn may_go_on(&self, waiting: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut may = Vec::new();
        let mut taken: HashMap<&OperationId, usize> = HashMap::new();
        let mut waiting = waiting.into_iter().peekable();
        for (at, attempt) in self.running.iter().enumerate() {
            let is_stopped = attempt.is_stopped();
            let earlier = taken.entry(&attempt.operation_id).or_default();
            let has_room = *earlier + attempt.shares <= attempt.all_shares;
            if !is_stopped {
                *earlier = earlier.saturating_add(attempt.shares);
            }
            if waiting.next_if_eq(&attempt.number).is_none() {
                continue;
            }
            let is_blocked = || {
                let mut earlier = self.running[..at].iter();
                earlier.any(|of| of.is_in_the_way_of(attempt))
            };
            if is_stopped || (has_room && !is_blocked()) {
                may.push(attempt.number);
            }
        }
        may
    }

    /// Lets those go on that waited for an attempt.
    pub(super) fn ended(&mut self, number: u64) {
        self.running.retain(|attempt| attempt.number != number);
    }

    /// Tells the attempts of a task to stop.
    pub(super) fn abort(&self, operation_id: &OperationId, step: u32, shard_idx: u32) {
        for attempt in &self.running {
            let is_meant = attempt.operation_id == *operation_id
                && (attempt.step, attempt.shard_idx) == (step, shard_idx);
            if is_meant {
                attempt.stopped.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Tells all attempts to stop.
    pub(super) fn stop_all(&self) {
        for attempt in &self.running {
            attempt.stopped.store(true, Ordering::SeqCst);
        }
    }

    /// Whether no attempt waits or works.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Lets nothing of an operation begin any more: it is done or cancelled.
    pub(super) fn end(&mut self, operation_id: &OperationId) {
        self.newest.retain(|(of, _, _), _| of != operation_id);
        self.floors.insert(operation_id.clone(), u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::key::KeyRange;
    use mendb_model::name::{BackupId, BackupKind, TablePath};
    use mendb_model::operation::{BackupRequest, Request};
    use mendb_model::part::TableName;

    use super::*;
    use crate::wire::StepRequest;

    /// A task: its step, the floor of the attempts there, its number.
    type At = (u32, u32, u32);

    fn request((step, floor, shard_idx): At, attempt: u32, table: Option<&str>) -> TaskRequest {
        let request = Request::Backup(BackupRequest {
            collection: "shop".into(),
            backup_id: BackupId::new(0, BackupKind::Full).unwrap(),
            label: None,
            tables: vec!["orders".into()],
            parent: None,
            stream: "shop/1".into(),
            since_version: None,
            old_streams: Vec::new(),
            keeps_changes: false,
            found: None,
        });
        let spec = match table {
            Some(table) => TaskSpec::Mend {
                target: TableName::new("d", table),
                table_idx: shard_idx,
            },
            None => TaskSpec::Whole,
        };
        let preview = TaskRequest::preview(request).unwrap();
        TaskRequest {
            of_step: StepRequest {
                step,
                attempt_floor: floor,
                ..preview.of_step
            },
            shard_idx,
            attempt,
            spec,
            ..preview
        }
    }

    fn is_free(turns: &Turns, turn: &Turn) -> bool {
        let of_all: Vec<_> = turns.running.iter().map(|of| of.number).collect();
        let together = turns.may_go_on(of_all).contains(&turn.number);
        assert_eq!(turns.may_go_on([turn.number]) == [turn.number], together);
        together
    }

    #[test]
    fn a_table_waits_for_every_earlier_attempt_on_it_and_no_other() {
        let mut turns = Turns::default();
        let begin = |turns: &mut Turns, at, attempt, table| {
            turns.request(&request(at, attempt, table)).unwrap()
        };
        let stage = begin(&mut turns, (2, 0, 0), 1, Some("t"));
        let beside = begin(&mut turns, (2, 0, 1), 1, Some("t"));
        assert!(
            is_free(&turns, &stage) && is_free(&turns, &beside),
            "tasks of one step work side by side"
        );
        let again = begin(&mut turns, (2, 0, 0), 2, Some("t"));
        assert!(!is_free(&turns, &again) && stage.stopped.load(Ordering::SeqCst));
        let commit = begin(&mut turns, (3, 2, 0), 3, Some("t"));
        let other = begin(&mut turns, (3, 2, 1), 3, Some("u"));
        assert!(!is_free(&turns, &commit) && is_free(&turns, &other));
        turns.ended(stage.number);
        turns.ended(beside.number);
        assert!(is_free(&turns, &again) && !is_free(&turns, &commit));
        turns.ended(again.number);
        assert!(is_free(&turns, &commit));
        let rollback = begin(&mut turns, (4, 3, 0), 4, None);
        assert!(!is_free(&turns, &rollback), "the whole waits for all");
        turns.ended(commit.number);
        turns.ended(other.number);
        assert!(is_free(&turns, &rollback));
    }

    fn two_at_a_time(turns: &mut Turns, shard_idx: u32) -> Turn {
        let request = TaskRequest {
            at_once: 2,
            bytes_total: 1,
            ..request((1, 0, shard_idx), 1, Some("t"))
        };
        turns.request(&request).unwrap()
    }

    #[test]
    fn of_an_operation_so_many_work_at_a_time_but_for_those_that_were_told_to_stop() {
        let mut turns = Turns::default();
        let [first, second, third, fourth] =
            [0, 1, 2, 3].map(|shard_idx| two_at_a_time(&mut turns, shard_idx));
        assert!(is_free(&turns, &first) && is_free(&turns, &second));
        assert!(!is_free(&turns, &third) && !is_free(&turns, &fourth));
        turns.ended(second.number);
        assert!(is_free(&turns, &third) && !is_free(&turns, &fourth));
        turns.abort(&"preview".parse().unwrap(), 1, 0);
        assert!(
            is_free(&turns, &fourth),
            "the first was given up, and may live on"
        );
    }

    #[test]
    fn shards_that_move_few_rows_share_a_slot_and_those_of_which_that_is_not_known_do_not() {
        let mut turns = Turns::default();
        let so_many_at_a_time = |turns: &mut Turns, bytes_total, shard| {
            let spec = TaskSpec::Copy {
                path: TablePath::table("t"),
                shard,
                range: KeyRange::all(),
                digest: None,
            };
            let request = TaskRequest {
                at_once: 2,
                bytes_total,
                spec,
                ..request((1, 0, shard), 1, None)
            };
            turns.request(&request).unwrap()
        };
        let unknown = so_many_at_a_time(&mut turns, 0, 0);
        let shares = 1..=SHARES as u32;
        let little: Vec<Turn> = shares
            .map(|shard_idx| so_many_at_a_time(&mut turns, 1, shard_idx))
            .collect();
        let one_more = so_many_at_a_time(&mut turns, 1, 100);
        let much = so_many_at_a_time(&mut turns, LITTLE_BYTES + 1, 101);
        assert!(is_free(&turns, &unknown) && little.iter().all(|one| is_free(&turns, one)));
        assert!(!is_free(&turns, &one_more) && !is_free(&turns, &much));
        turns.ended(unknown.number);
        assert!(is_free(&turns, &one_more));
        assert!(!is_free(&turns, &much), "it needs a whole slot");
        for one in &little {
            turns.ended(one.number);
        }
        assert!(is_free(&turns, &much));
    }

    #[test]
    fn a_request_that_is_stale_or_came_before_begins_nothing() {
        let mut turns = Turns::default();
        let mut begins = |at, attempt| turns.request(&request(at, attempt, Some("t"))).is_some();
        assert!(begins((1, 0, 0), 1));
        assert!(!begins((1, 0, 0), 1));
        assert!(begins((1, 0, 0), 2));
        assert!(begins((2, 2, 0), 3));
        assert!(!begins((1, 0, 0), 3), "its step is over");
        turns.end(&"preview".parse().unwrap());
        let begins = turns.request(&request((3, 3, 0), 4, Some("t"))).is_some();
        assert!(!begins, "its operation is over");
    }

    #[test]
    fn an_attempt_that_is_told_to_stop_waits_no_longer() {
        let mut turns = Turns::default();
        let first = turns.request(&request((1, 0, 0), 1, Some("t"))).unwrap();
        let second = turns.request(&request((1, 0, 0), 2, Some("t"))).unwrap();
        assert!(!is_free(&turns, &second), "the first has not ended");
        turns.abort(&"preview".parse().unwrap(), 1, 0);
        assert!(is_free(&turns, &second), "to say that it stopped");
        turns.ended(first.number);
        assert!(is_free(&turns, &second));
    }
}
