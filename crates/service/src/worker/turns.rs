//! Which attempt may work, and which waits for others to end.
//!
//! An attempt that was declared lost may be alive: in the middle of a call of the server, which goes on
//! whatever anyone says. So an attempt begins when every earlier one has ended that could get in its way:
//! one of the same task, and of an earlier step one that works on the same table, or on all of them. A
//! step that is begun again, as the cut of a backup, has another floor of attempts: it is another step.
//! Of an operation only so many work at a time; more may be requested, so that one can begin as soon as another
//! ends.
//!
//! *Order*: attempts only wait for those that were requested before them, so one always goes on. *Crash*:
//! threads end with their process, and nobody waits for them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mendb_model::name::OperationId;

use super::LOOK_EVERY;
use crate::wire::TaskRequest;

/// A task of an operation.
type Place = (OperationId, u32, u32);

/// What is known of the attempts of this process.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Attempts that work or wait, in the order in which they were requested.
    running: Vec<Running>,
    requested: u64,
    /// The newest attempt of each task: one that is older comes too late.
    newest: HashMap<Place, u32>,
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
    /// The most attempts of the operation that work at a time; those that were told to stop are not counted, and
    /// may live on.
    at_once: usize,
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
}

/// The turn of an attempt: it ends when it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    number: u64,
    /// Whether the attempt was told to stop.
    pub(super) stopped: Arc<AtomicBool>,
}

impl Turns {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an attempt, and tells those to stop that are in its way; `None` when the request is stale or
    /// came before.
    pub(super) fn request(self: &Arc<Self>, request: &TaskRequest) -> Option<Turn> {
        let mut state = self.state();
        let floor = state
            .floors
            .entry(request.operation_id.clone())
            .or_default();
        if request.attempt_floor < *floor {
            return None;
        }
        *floor = request.attempt_floor;
        let operation_id = request.operation_id.clone();
        let place = (operation_id.clone(), request.step, request.shard_idx);
        let newest = state.newest.entry(place).or_default();
        if *newest >= request.attempt {
            return None;
        }
        *newest = request.attempt;
        state.requested += 1;
        let attempt = Running {
            number: state.requested,
            operation_id,
            step: request.step,
            floor: request.attempt_floor,
            shard_idx: request.shard_idx,
            at_once: usize::try_from(request.at_once).unwrap_or(usize::MAX),
            table: request.spec.table(),
            stopped: Arc::default(),
        };
        for earlier in &state.running {
            if earlier.is_in_the_way_of(&attempt) {
                earlier.stopped.store(true, Ordering::SeqCst);
            }
        }
        let turn = Turn {
            turns: Arc::clone(self),
            number: attempt.number,
            stopped: Arc::clone(&attempt.stopped),
        };
        state.running.push(attempt);
        Some(turn)
    }

    /// Tells the attempts of a task to stop.
    pub(super) fn abort(&self, operation_id: &OperationId, step: u32, shard_idx: u32) {
        for attempt in &self.state().running {
            let is_meant = attempt.operation_id == *operation_id
                && (attempt.step, attempt.shard_idx) == (step, shard_idx);
            if is_meant {
                attempt.stopped.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Lets nothing of an operation begin any more: it is done or cancelled.
    pub(super) fn end(&self, operation_id: &OperationId) {
        let mut state = self.state();
        state.newest.retain(|(of, _, _), _| of != operation_id);
        state.floors.insert(operation_id.clone(), u32::MAX);
    }
}

impl Turn {
    /// Waits until nothing is in the way of the attempt, or it is told to stop.
    pub(super) fn wait(&self) {
        let mut state = self.turns.state();
        while !self.stopped.load(Ordering::SeqCst) && state.is_blocked(self.number) {
            let waited = self.turns.ended.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn is_blocked(&self, number: u64) -> bool {
        let Some(at) = self.running.iter().position(|of| of.number == number) else {
            return false;
        };
        let (earlier, rest) = self.running.split_at(at);
        let Some(attempt) = rest.first() else {
            return false;
        };
        let of_operation = earlier.iter().filter(|of| {
            of.operation_id == attempt.operation_id && !of.stopped.load(Ordering::SeqCst)
        });
        of_operation.count() >= attempt.at_once
            || earlier.iter().any(|of| of.is_in_the_way_of(attempt))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns
            .state()
            .running
            .retain(|attempt| attempt.number != self.number);
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use mendb_model::name::{BackupId, BackupKind};
    use mendb_model::operation::{BackupRequest, Request, TaskSpec};
    use mendb_model::part::TableName;

    use super::*;

    /// The place of a task: its step, the floor of the attempts there, its number.
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
        });
        let spec = match table {
            Some(table) => TaskSpec::Mend {
                target: TableName::new("d", table),
                table_idx: shard_idx,
            },
            None => TaskSpec::Whole,
        };
        TaskRequest {
            step,
            shard_idx,
            attempt,
            attempt_floor: floor,
            spec,
            ..TaskRequest::preview(request).unwrap()
        }
    }

    fn is_free(turn: &Turn) -> bool {
        !turn.turns.state().is_blocked(turn.number)
    }

    #[test]
    fn a_table_waits_for_every_earlier_attempt_on_it_and_no_other() {
        let turns = Arc::new(Turns::default());
        let begin = |at, attempt, table| turns.request(&request(at, attempt, table)).unwrap();
        let stage = begin((2, 0, 0), 1, Some("t"));
        let beside = begin((2, 0, 1), 1, Some("t"));
        assert!(
            is_free(&stage) && is_free(&beside),
            "tasks of one step work side by side"
        );
        let again = begin((2, 0, 0), 2, Some("t"));
        assert!(!is_free(&again) && stage.stopped.load(Ordering::SeqCst));
        let commit = begin((3, 2, 0), 3, Some("t"));
        let other = begin((3, 2, 1), 3, Some("u"));
        assert!(!is_free(&commit) && is_free(&other));
        let rollback = begin((4, 3, 0), 4, None);
        assert!(!is_free(&rollback), "the whole waits for all");
        drop((stage, beside));
        assert!(is_free(&again) && !is_free(&commit));
        drop(again);
        assert!(is_free(&commit) && !is_free(&rollback));
        drop((commit, other));
        assert!(is_free(&rollback));
    }

    #[test]
    fn of_an_operation_so_many_work_at_a_time_but_for_those_that_were_told_to_stop() {
        let turns = Arc::new(Turns::default());
        let begin = |shard_idx| {
            let request = TaskRequest {
                at_once: 2,
                ..request((1, 0, shard_idx), 1, Some("t"))
            };
            turns.request(&request).unwrap()
        };
        let [first, second, third, fourth] = [0, 1, 2, 3].map(begin);
        assert!(is_free(&first) && is_free(&second));
        assert!(!is_free(&third) && !is_free(&fourth));
        drop(second);
        assert!(is_free(&third) && !is_free(&fourth));
        turns.abort(&"preview".parse().unwrap(), 1, 0);
        assert!(is_free(&fourth), "the first was given up, and may live on");
    }

    #[test]
    fn a_request_that_is_stale_or_came_before_begins_nothing() {
        let turns = Arc::new(Turns::default());
        let begins = |at, attempt| turns.request(&request(at, attempt, Some("t"))).is_some();
        assert!(begins((1, 0, 0), 1));
        assert!(!begins((1, 0, 0), 1));
        assert!(begins((1, 0, 0), 2));
        assert!(begins((2, 2, 0), 3));
        assert!(!begins((1, 0, 0), 3), "its step is over");
        turns.end(&"preview".parse().unwrap());
        assert!(!begins((3, 3, 0), 4), "its operation is over");
    }

    #[test]
    fn an_attempt_that_is_told_to_stop_waits_no_longer() {
        let turns = Arc::new(Turns::default());
        let first = turns.request(&request((1, 0, 0), 1, Some("t"))).unwrap();
        let second = turns.request(&request((1, 0, 0), 2, Some("t"))).unwrap();
        turns.abort(&"preview".parse().unwrap(), 1, 0);
        second.wait();
        assert!(!is_free(&second));
        drop(first);
        assert!(is_free(&second));
    }
}
