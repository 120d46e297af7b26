//! Another replica in the place of one whose agent is lost, in the middle of work on a cluster.

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
}
