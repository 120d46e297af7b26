//! Another replica in the place of one whose agent is lost, in the middle of work on a cluster.
//!
//! A user says so, or an agent was not heard for as long as the order allows. That time is counted from the first question
//! that got no answer, and anew by each process of the coordinator: what it did not ask, it cannot have heard. What is
//! fenced is the same either way: reports of the one before are those of an earlier attempt, and what it has begun waits
//! for a word to go on that never comes.

use super::cluster::ShardAgent;
use super::event::{Context, Effect, IllegalEvent};
use super::request::Request;
use super::step::StepKind;
use super::task::TaskStatus;
use super::{Operation, State, Stop};

impl Operation {
    /// Has another replica do the part of a shard, from its beginning, and goes on where it was stopped. Reports of the one
    /// before are those of an earlier attempt from now on.
    pub(super) fn take_over(
        &mut self,
        context: Context,
        by: ShardAgent,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IllegalEvent> {
        let operation_id = self.operation_id.to_string();
        if matches!(self.stop, Some(Stop::Cancel | Stop::Fail(_))) {
            return Err(IllegalEvent::Stopping { operation_id });
        }
        let step = self.step_kind();
        let at = self
            .place_of(&by, step)
            .map_err(|why| IllegalEvent::NoTakeOver { operation_id, why })?;
        let has_task = !self.request.is_one_task(step) && at < self.tasks.len();
        if let Request::Cluster(request) = &mut self.head.request {
            request.replace(at, by);
        }
        self.touched.request = true;
        if has_task {
            let shard_idx = at as u32;
            if self.tasks[at].status == TaskStatus::Running {
                effects.push(Effect::Abort {
                    step: self.current_step,
                    shard_idx,
                });
            }
            self.change_task(shard_idx, |task| {
                task.status = TaskStatus::Pending;
                task.failures = 0;
                task.not_before_ms = 0;
                task.last_key = None;
                task.rows = 0;
                task.bytes = 0;
                task.error = None;
                task.unheard_since_ms = None;
            });
        }
        if self.stop.is_some() || self.state == State::Failed {
            return self.resume(context, effects);
        }
        // The next step may have been about to begin.
        if self.state == State::Applying {
            self.state = State::Proposing;
        }
        Ok(())
    }

    /// Takes note that the agent of a shard was not heard, which is asked again later: once more at the latest when another
    /// replica may do its part.
    pub(super) fn agent_is_unheard(
        &mut self,
        context: Context,
        shard_idx: u32,
        (message, was_heard): (String, bool),
    ) {
        let known = self.tasks[shard_idx as usize].unheard_since_ms;
        let since_ms = known.filter(|_| !was_heard).unwrap_or(context.now_ms);
        self.task_failed(context, shard_idx, message);
        let lost_at_ms = self.lost_at_ms(since_ms);
        self.change_task(shard_idx, |task| {
            task.unheard_since_ms = Some(since_ms);
            if let Some(lost_at_ms) = lost_at_ms.filter(|lost_at_ms| *lost_at_ms > context.now_ms) {
                task.not_before_ms = task.not_before_ms.min(lost_at_ms);
            }
        });
    }

    /// Has another replica, which answers, do the part of a shard whose agent was not heard for too long; unless it may not:
    /// then the agent is waited for.
    pub(super) fn replace_unheard(
        &mut self,
        context: Context,
        shard_idx: u32,
        other: Option<ShardAgent>,
        effects: &mut Vec<Effect>,
    ) {
        let since_ms = self.tasks[shard_idx as usize].unheard_since_ms;
        let lost_at_ms = since_ms.and_then(|since_ms| self.lost_at_ms(since_ms));
        let is_lost = lost_at_ms.is_some_and(|lost_at_ms| lost_at_ms <= context.now_ms);
        let Some(by) = other.filter(|_| is_lost && self.stop.is_none()) else {
            return;
        };
        let step = self.step_kind();
        let is_its_task = !self.request.is_one_task(step);
        if is_its_task && self.place_of(&by, step) == Ok(shard_idx as usize) {
            let taken = self.take_over(context, by, effects);
            debug_assert!(taken.is_ok(), "it was asked before whether it may");
        }
    }

    /// When an agent is lost that is not heard since a time; `None` where it is waited for.
    fn lost_at_ms(&self, since_ms: u64) -> Option<u64> {
        let Request::Cluster(request) = &self.request else {
            return None;
        };
        let after_ms = request.take_over_after_ms;
        (after_ms > 0).then(|| since_ms.saturating_add(after_ms))
    }

    /// Forgets since when agents were not heard.
    pub(super) fn forget_unheard(&mut self) {
        self.change_tasks(
            |task| task.unheard_since_ms.is_some(),
            |task| task.unheard_since_ms = None,
        );
    }

    /// The place of the shard whose part another replica may do.
    fn place_of(&self, by: &ShardAgent, step: StepKind) -> Result<usize, String> {
        if matches!(self.state, State::Done | State::Cancelled) {
            return Err("it is over".to_owned());
        }
        let Request::Cluster(request) = &self.request else {
            return Err("it is of one server".to_owned());
        };
        let at = request.may_be_replaced(by, step)?;
        let task = self.tasks.get(at);
        if step == StepKind::Copy && task.is_some_and(|task| task.status == TaskStatus::Done) {
            return Err(format!(
                "what shard {} has is in the repository already",
                by.shard
            ));
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use crate::name::{BackupId, BackupKind};

    const AFTER_MS: u64 = 60_000;

    fn at(now_ms: u64) -> Context {
        Context {
            now_ms,
            jitter: 0.0,
        }
    }

    fn agent(shard: &str, replica: &str) -> ShardAgent {
        ShardAgent {
            shard: shard.to_owned(),
            replica: replica.to_owned(),
            agent: format!("https://{shard}-{replica}:7443"),
            server: format!("{shard}-{replica}:/data/"),
        }
    }

    fn by(shard: &str, replica: &str) -> Event {
        Event::TakeOver {
            by: agent(shard, replica),
        }
    }

    fn tasks() -> Vec<NewTask> {
        let task = |(shard_idx, shard): (u32, &str)| NewTask {
            spec: TaskSpec::Shard {
                shard: shard.to_owned(),
                shard_idx,
            },
            bytes_total: 0,
        };
        [(0, "one"), (1, "two")].map(task).to_vec()
    }

    fn report(operation: &Operation, shard_idx: u32) -> Event {
        Event::Reported(Report {
            step: operation.current_step,
            shard_idx,
            attempt: operation.tasks[shard_idx as usize].attempt,
            status: ReportStatus::Success,
            last_key: None,
            rows: 0,
            bytes: 0,
            output: TaskOutput::None,
            segments_before: 0,
        })
    }

    /// A mend of two shards in a step, whose tasks are requested.
    fn mend_in(wanted: StepKind) -> Operation {
        let backup_id = BackupId::new(0, BackupKind::Full).unwrap();
        let request = Request::Cluster(ClusterRequest {
            cluster: "pair".to_owned(),
            collection: "shop".to_owned(),
            work: ClusterWork::Mend { backup_id },
            shards: vec![agent("one", "a"), agent("two", "a")],
            left: Vec::new(),
            others: [("one", "b"), ("two", "b"), ("two", "c")]
                .map(|(shard, replica)| agent(shard, replica))
                .to_vec(),
            take_over_after_ms: AFTER_MS,
            arguments: serde_json::Map::from_iter([(HOLD.to_owned(), true.into())]),
            on_concurrent_insert: None,
        });
        let steps = plan(&request, &[]).unwrap();
        let repository = ("id".to_owned(), "memory:".to_owned());
        let id = "mend-1".parse().unwrap();
        let mut operation = Operation::new(id, request, steps, repository, Limits::default(), 0);
        operation.step(at(0), Event::Booted).unwrap();
        loop {
            let step = operation.current_step;
            let tasks = tasks();
            (operation.step(at(1), Event::Allocated { step, tasks })).unwrap();
            if operation.step_kind() == wanted {
                return operation;
            }
            for shard_idx in 0..2 {
                let done = report(&operation, shard_idx);
                operation.step(at(1), done).unwrap();
            }
            operation.step(at(1), Event::Advance).unwrap();
        }
    }

    #[test]
    fn another_replica_does_the_part_anew_and_nothing_that_the_one_before_says_counts() {
        let mut operation = mend_in(StepKind::Stage);
        let late = report(&operation, 0);
        for shard_idx in 0..2 {
            let done = report(&operation, shard_idx);
            operation.step(at(2), done).unwrap();
        }
        // All have staged: the next step was about to begin.
        operation.step(at(3), by("one", "b")).unwrap();
        for event in [Event::Advance, late] {
            operation.step(at(4), event).unwrap();
            assert_eq!(operation.step_kind(), StepKind::Stage);
            assert_eq!(operation.tasks[0].status, TaskStatus::Running);
            assert_eq!(operation.tasks[1].status, TaskStatus::Done);
        }
        let request = operation.request.cluster().unwrap();
        assert_eq!(request.shards, [agent("one", "b"), agent("two", "a")]);
        assert_eq!(request.left, [agent("one", "a")]);
        let done = report(&operation, 0);
        operation.step(at(5), done).unwrap();
        operation.step(at(5), Event::Advance).unwrap();
        assert_eq!(operation.step_kind(), StepKind::Commit);
        // It was given up, and is asked no more.
        let refused = operation.step(at(6), by("one", "a")).unwrap_err();
        assert!(refused.to_string().contains("in step commit"), "{refused}");
    }

    #[test]
    fn what_cannot_be_taken_over_is_refused_and_changes_nothing() {
        let mut operation = mend_in(StepKind::Stage);
        operation.step(at(2), by("two", "b")).unwrap();
        for (event, why) in [
            (by("three", "a"), "no shard three"),
            (by("one", "a"), "is the one that does"),
            (by("two", "a"), "was given up"),
        ] {
            let before = operation.clone();
            let refused = operation.step(at(3), event).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
            assert_eq!(operation, before);
        }
    }

    #[test]
    fn one_that_was_paused_goes_on_with_the_other_replica() {
        let mut operation = mend_in(StepKind::Stage);
        operation.step(at(2), Event::Pause).unwrap();
        operation.step(at(3), by("one", "b")).unwrap();
        assert!(!operation.is_paused());
        operation.step(at(4), Event::Tick).unwrap();
        assert_eq!(operation.tasks[0].status, TaskStatus::Running);
    }

    /// Says that the agent of shard two was not heard in the attempt that runs, and lets time pass until the next.
    fn unheard(operation: &mut Operation, now_ms: u64, was_heard: bool) {
        let request = operation.request.cluster().unwrap();
        let may = |other: &&ShardAgent| {
            let same = |known: &ShardAgent| known == *other;
            other.shard == "two" && !request.shards.iter().chain(&request.left).any(same)
        };
        let other = request.others.iter().find(may).cloned();
        unheard_beside(operation, now_ms, was_heard, other);
    }

    /// The same, with another replica that answers.
    fn unheard_beside(
        operation: &mut Operation,
        now_ms: u64,
        was_heard: bool,
        other: Option<ShardAgent>,
    ) {
        let report = Report {
            status: ReportStatus::Unheard {
                message: "nobody listens there".to_owned(),
                was_heard,
                other: other.map(Box::new),
            },
            ..match report(operation, 1) {
                Event::Reported(report) => report,
                _ => unreachable!("reports are events"),
            }
        };
        operation.step(at(now_ms), Event::Reported(report)).unwrap();
    }

    fn again(operation: &mut Operation, now_ms: u64) {
        operation.step(at(now_ms), Event::Tick).unwrap();
        assert_eq!(operation.tasks[1].status, TaskStatus::Running);
    }

    fn replica_of_two(operation: &Operation) -> &str {
        &operation.request.cluster().unwrap().shards[1].replica
    }

    #[test]
    fn an_agent_that_is_not_heard_for_too_long_is_replaced_by_itself_and_so_is_the_next_one() {
        let mut operation = mend_in(StepKind::Stage);
        unheard(&mut operation, 1_000, true);
        for asked_ms in [20_000, 40_000, 60_999] {
            again(&mut operation, asked_ms);
            unheard(&mut operation, asked_ms, false);
            assert_eq!(replica_of_two(&operation), "a", "{asked_ms}");
        }
        // It is asked once more when the time is over, whatever its backoff.
        assert_eq!(operation.tasks[1].not_before_ms, 61_000);
        again(&mut operation, 61_000);
        let late = report(&operation, 1);
        unheard(&mut operation, 61_000, false);
        assert_eq!(replica_of_two(&operation), "b");
        assert_eq!(operation.tasks[1].status, TaskStatus::Running);
        operation.step(at(61_001), late).unwrap();
        assert_eq!(operation.tasks[1].status, TaskStatus::Running);
        // The time of the other one begins anew.
        unheard(&mut operation, 62_000, false);
        assert_eq!(replica_of_two(&operation), "b");
        again(&mut operation, 122_000);
        unheard(&mut operation, 122_000, false);
        assert_eq!(replica_of_two(&operation), "c");
        assert_eq!(operation.request.cluster().unwrap().left.len(), 2);
        // No other is left: it is waited for.
        unheard(&mut operation, 123_000, false);
        again(&mut operation, 323_000);
        unheard(&mut operation, 323_000, false);
        assert_eq!(replica_of_two(&operation), "c");
    }

    #[test]
    fn the_time_of_an_agent_begins_anew_when_it_was_heard_and_with_each_process() {
        let mut operation = mend_in(StepKind::Stage);
        unheard(&mut operation, 1_000, false);
        again(&mut operation, 61_000);
        unheard(&mut operation, 61_000, true);
        assert_eq!(replica_of_two(&operation), "a");
        again(&mut operation, 120_000);
        operation.step(at(120_000), Event::Booted).unwrap();
        again(&mut operation, 200_000);
        unheard(&mut operation, 200_000, false);
        assert_eq!(replica_of_two(&operation), "a");
        // Another error is an answer.
        again(&mut operation, 250_000);
        let Event::Reported(report) = report(&operation, 1) else {
            unreachable!("reports are events");
        };
        let status = ReportStatus::Error {
            retriable: true,
            message: "it is busy".to_owned(),
        };
        let busy = Report { status, ..report };
        operation.step(at(250_000), Event::Reported(busy)).unwrap();
        again(&mut operation, 290_000);
        unheard(&mut operation, 290_000, false);
        assert_eq!(replica_of_two(&operation), "a");
    }

    #[test]
    fn nobody_is_replaced_by_itself_where_that_is_not_asked_for_or_shards_are_changed_already() {
        let mut operation = mend_in(StepKind::Stage);
        if let Request::Cluster(request) = &mut operation.head.request {
            request.take_over_after_ms = 0;
        }
        unheard(&mut operation, 1_000, false);
        again(&mut operation, 900_000);
        unheard(&mut operation, 900_000, false);
        assert_eq!(replica_of_two(&operation), "a");

        let mut operation = mend_in(StepKind::Commit);
        unheard(&mut operation, 1_000, false);
        again(&mut operation, 900_000);
        unheard(&mut operation, 900_000, false);
        assert_eq!(replica_of_two(&operation), "a");
    }

    #[test]
    fn an_agent_is_waited_for_where_no_other_answers_either_and_none_of_another_shard_replaces_it()
    {
        let mut operation = mend_in(StepKind::Stage);
        unheard_beside(&mut operation, 1_000, false, None);
        for (now_ms, other) in [(61_000, None), (200_000, Some(agent("one", "b")))] {
            again(&mut operation, now_ms);
            unheard_beside(&mut operation, now_ms, false, other);
            assert_eq!(replica_of_two(&operation), "a");
        }
        again(&mut operation, 300_000);
        unheard(&mut operation, 300_000, false);
        assert_eq!(replica_of_two(&operation), "b");
    }

    #[test]
    fn one_that_is_being_paused_waits_for_its_user() {
        let mut operation = mend_in(StepKind::Stage);
        unheard(&mut operation, 1_000, false);
        again(&mut operation, 61_000);
        operation.step(at(61_000), Event::Pause).unwrap();
        unheard(&mut operation, 61_500, false);
        assert_eq!(replica_of_two(&operation), "a");
        assert!(operation.is_paused());
    }
}
