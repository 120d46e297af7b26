//! The transitions of an [`Operation`].

use std::sync::Arc;

use super::event::{Context, Effect, Event, IllegalEvent};
use super::plan::{PlannedStep, StepKind};
use super::task::{
    MendedShard, NewTask, Report, ReportStatus, Task, TaskOutput, TaskSpec, TaskStatus,
};
use super::{LostCut, Operation, Request, State, Stop};

impl Operation {
    /// Takes one event.
    ///
    /// # Errors
    /// The state does not allow what a user asked for; the operation is unchanged then. Events of
    /// coordinator and workers that come late or twice are no errors: they change nothing.
    pub fn step(&mut self, context: Context, event: Event) -> Result<Vec<Effect>, IllegalEvent> {
        let mut effects = Vec::new();
        match event {
            Event::Pause => self.pause(context, &mut effects)?,
            Event::Resume {
                on_concurrent_insert,
            } => {
                self.resume(context, &mut effects)?;
                if let (Some(policy), Request::Mend(request)) =
                    (on_concurrent_insert, &mut self.request)
                {
                    request.on_concurrent_insert = policy;
                }
            }
            Event::Cancel => self.cancel(&mut effects)?,
            _ if self.state.is_terminal() => return Ok(effects),
            Event::Booted => self.boot(&mut effects),
            Event::Tick => self.tick(context, &mut effects),
            Event::Advance => self.advance(context, &mut effects),
            Event::Allocated { step, tasks } => self.allocated(step, tasks),
            Event::AllocationFailed {
                step,
                retriable,
                is_cut_lost,
                message,
            } => {
                if step == self.current_step && !self.allocated {
                    if is_cut_lost && self.step_kind().can_cut_again() {
                        self.cut_again(context, message, &mut effects);
                    } else {
                        self.allocation_failed(context, retriable, &message, &mut effects);
                    }
                }
            }
            Event::Reported(report) => self.reported(context, report, &mut effects),
        }
        self.settle(context, &mut effects);
        self.updated_at_ms = self.updated_at_ms.max(context.now_ms);
        self.raise_floor();
        Ok(effects)
    }

    fn pause(&mut self, context: Context, effects: &mut Vec<Effect>) -> Result<(), IllegalEvent> {
        if self.state.is_terminal() {
            return Err(self.over("paused"));
        }
        if self.stop.is_some() {
            return Err(IllegalEvent::Stopping {
                operation_id: self.operation_id.to_string(),
            });
        }
        self.stop = Some(Stop::Pause {
            since_ms: context.now_ms,
        });
        self.abort_running(effects);
        Ok(())
    }

    fn resume(&mut self, context: Context, effects: &mut Vec<Effect>) -> Result<(), IllegalEvent> {
        match (&self.stop, self.state) {
            (Some(Stop::Pause { since_ms }), _) => {
                let paused_ms = context.now_ms.saturating_sub(*since_ms);
                self.step_deadline_ms = self.step_deadline_ms.saturating_add(paused_ms);
                self.operation_deadline_ms = self.operation_deadline_ms.saturating_add(paused_ms);
            }
            (None, State::Failed) => {
                self.step_deadline_ms = context.now_ms.saturating_add(self.limits.step_budget_ms);
                self.operation_deadline_ms = context
                    .now_ms
                    .saturating_add(self.limits.operation_budget_ms);
            }
            (None, State::Done | State::Cancelled) => return Err(self.over("resumed")),
            (None, _) => {
                return Err(IllegalEvent::NotStopped {
                    operation_id: self.operation_id.to_string(),
                });
            }
            (Some(Stop::Cancel | Stop::Fail(_)), _) => {
                return Err(IllegalEvent::Stopping {
                    operation_id: self.operation_id.to_string(),
                });
            }
        }
        self.stop = None;
        self.error = None;
        self.lost_cut = None;
        self.state = State::Allocating;
        for task in self.tasks.iter_mut().map(Arc::make_mut) {
            task.failures = 0;
            task.not_before_ms = 0;
            if task.status == TaskStatus::Failed {
                task.status = TaskStatus::Pending;
            }
        }
        self.allocation_failures = 0;
        self.allocate_if_needed(effects);
        Ok(())
    }

    fn cancel(&mut self, effects: &mut Vec<Effect>) -> Result<(), IllegalEvent> {
        if matches!(self.state, State::Done | State::Cancelled) {
            return Err(self.over("cancelled"));
        }
        if matches!(self.stop, Some(Stop::Cancel)) {
            return Err(IllegalEvent::Stopping {
                operation_id: self.operation_id.to_string(),
            });
        }
        let operation_id = self.operation_id.to_string();
        let sealed = self.request.is_backup()
            && self.step_kind() == StepKind::Seal
            && self.state == State::Applying;
        match self.step_kind() {
            StepKind::Rollback => return Err(IllegalEvent::RollingBack { operation_id }),
            step if sealed || !step.can_cancel() => {
                let step = step.name();
                return Err(IllegalEvent::TooLate { operation_id, step });
            }
            _ => {}
        }
        if self.state == State::Failed {
            self.state = State::Allocating;
        }
        self.stop = Some(Stop::Cancel);
        self.abort_running(effects);
        Ok(())
    }

    fn over(&self, wanted: &'static str) -> IllegalEvent {
        IllegalEvent::Over {
            operation_id: self.operation_id.to_string(),
            state: self.state.name(),
            wanted,
        }
    }

    /// No attempt survives its process: what ran is to be requested again, which is nobody's failure.
    fn boot(&mut self, effects: &mut Vec<Effect>) {
        for task in self.tasks.iter_mut().map(Arc::make_mut) {
            if task.status == TaskStatus::Running {
                task.status = TaskStatus::Pending;
            }
        }
        if self.stop.is_none() {
            self.allocate_if_needed(effects);
            if self.state == State::Applying {
                effects.push(Effect::Advance);
            }
        }
    }

    fn tick(&mut self, context: Context, effects: &mut Vec<Effect>) {
        let now_ms = context.now_ms;
        let lease_ms = self.limits.lease_ms;
        for shard_idx in 0..self.tasks.len() {
            let task = &self.tasks[shard_idx];
            if task.status == TaskStatus::Running
                && task.last_heard_ms.saturating_add(lease_ms) <= now_ms
            {
                effects.push(Effect::Abort {
                    step: self.current_step,
                    shard_idx: shard_idx as u32,
                });
                let message = format!("no report for {} s", lease_ms / 1000);
                self.task_failed(context, shard_idx, message);
            }
        }
        if self.stop.is_none() && self.step_kind() != StepKind::Rollback {
            let late = if now_ms > self.operation_deadline_ms {
                Some("the operation has used up its time")
            } else if now_ms > self.step_deadline_ms {
                Some("the step has used up its time")
            } else {
                None
            };
            if let Some(late) = late {
                let cause = self.tasks.iter().find_map(|task| task.error.clone());
                let cause = cause
                    .map(|cause| format!("; last error: {cause}"))
                    .unwrap_or_default();
                self.fail(
                    format!("step {}: {late}{cause}", self.step_label()),
                    effects,
                );
            }
        }
        if self.stop.is_none() && self.allocation_failures > 0 && self.allocate_at_ms <= now_ms {
            self.allocate_if_needed(effects);
        }
    }

    fn allocate_if_needed(&self, effects: &mut Vec<Effect>) {
        if !self.allocated {
            effects.push(Effect::Allocate);
        }
    }

    fn allocated(&mut self, step: u32, tasks: Vec<NewTask>) {
        if step != self.current_step || self.allocated {
            return;
        }
        self.allocated = true;
        self.allocation_failures = 0;
        let bytes: u64 = tasks.iter().map(|task| task.bytes_total).sum();
        if let Some(planned) = self.steps.get_mut(step as usize) {
            planned.bytes_total = planned.bytes_total.max(bytes);
        }
        self.tasks = tasks
            .into_iter()
            .map(|task| Arc::new(Task::new(task, self.attempt_floor)))
            .collect();
        if let Some(lost) = self.lost_cut.as_ref().filter(|_| step == 0) {
            for task in self.tasks.iter_mut().map(Arc::make_mut) {
                task.not_before_ms = lost.not_before_ms;
                task.error = Some(lost.message.clone());
            }
        }
    }

    fn allocation_failed(
        &mut self,
        context: Context,
        retriable: bool,
        message: &str,
        effects: &mut Vec<Effect>,
    ) {
        if !retriable {
            return self.fail(format!("step {}: {message}", self.step_label()), effects);
        }
        self.allocation_failures += 1;
        self.allocate_at_ms =
            context.now_ms + self.backoff_ms(self.allocation_failures, context.jitter);
    }

    fn reported(&mut self, context: Context, report: Report, effects: &mut Vec<Effect>) {
        let shard_idx = report.shard_idx as usize;
        if !self.is_current(report.step, report.shard_idx, report.attempt) {
            return;
        }
        let step = self.step_kind();
        let isolates = step.isolates_failures();
        let task = Arc::make_mut(&mut self.tasks[shard_idx]);
        task.last_heard_ms = context.now_ms;
        let moved =
            report.last_key > task.last_key || report.rows > task.rows || report.bytes > task.bytes;
        if moved || report.status == ReportStatus::Success {
            task.failures = 0;
            task.error = None;
            task.last_key = report.last_key.max(task.last_key.take());
            task.rows = task.rows.max(report.rows);
            task.bytes = task.bytes.max(report.bytes);
            task.output = report.output;
        }
        match report.status {
            ReportStatus::InProgress => {}
            ReportStatus::Success => task.status = TaskStatus::Done,
            ReportStatus::Stopped => task.status = TaskStatus::Pending,
            ReportStatus::Error {
                retriable: true,
                message,
            } => self.task_failed(context, shard_idx, message),
            ReportStatus::Error {
                retriable: false,
                message,
            } => self.task_is_fatal(shard_idx, &message, effects),
            ReportStatus::CutLost { message } => match step {
                // It went away while it was being taken.
                StepKind::Cut => self.task_failed(context, shard_idx, message),
                step if !step.can_cut_again() => self.task_is_fatal(shard_idx, &message, effects),
                _ => {
                    task.status = TaskStatus::Pending;
                    task.error = Some(message.clone());
                    self.cut_again(context, message, effects);
                }
            },
        }
        if isolates {
            self.fail_when_others_are_done(effects);
        }
    }

    fn task_is_fatal(&mut self, shard_idx: usize, message: &str, effects: &mut Vec<Effect>) {
        let isolates = self.step_kind().isolates_failures();
        let task = Arc::make_mut(&mut self.tasks[shard_idx]);
        task.error = Some(message.to_owned());
        if isolates {
            task.status = TaskStatus::Failed;
        } else {
            task.status = TaskStatus::Pending;
            self.fail(format!("step {}: {message}", self.step_label()), effects);
        }
    }

    /// Fails with what each failed task said, once no other has anything left to do.
    fn fail_when_others_are_done(&mut self, effects: &mut Vec<Effect>) {
        let failed = |task: &&Arc<Task>| task.status == TaskStatus::Failed;
        let over = |task: &Arc<Task>| matches!(task.status, TaskStatus::Done | TaskStatus::Failed);
        if !self.tasks.iter().all(over) {
            return;
        }
        let errors: Vec<String> = (self.tasks.iter().filter(failed))
            .map(|task| {
                let table = task.spec.table().map(|table| format!("{table}: "));
                let error = task.error.as_deref().unwrap_or_default();
                format!("{}{error}", table.unwrap_or_default())
            })
            .collect();
        if !errors.is_empty() {
            self.fail(
                format!("step {}: {}", self.step_label(), errors.join("; ")),
                effects,
            );
        }
    }

    fn task_failed(&mut self, context: Context, shard_idx: usize, message: String) {
        let failures = self.tasks[shard_idx].failures + 1;
        let not_before_ms = context
            .now_ms
            .saturating_add(self.backoff_ms(failures, context.jitter));
        let task = Arc::make_mut(&mut self.tasks[shard_idx]);
        task.status = TaskStatus::Pending;
        task.failures = failures;
        task.not_before_ms = not_before_ms;
        task.error = Some(message);
    }

    /// Doubles with each failure up to its bound, then takes half of it away at random.
    fn backoff_ms(&self, failures: u32, jitter: f64) -> u64 {
        let doubled = self
            .limits
            .first_backoff_ms
            .saturating_mul(1 << (failures - 1).min(20));
        let bound = doubled.min(self.limits.max_backoff_ms);
        bound - (bound as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as u64
    }

    /// Fails once nothing runs, in spite of a pause; a cancel is about to undo what failed.
    fn fail(&mut self, message: String, effects: &mut Vec<Effect>) {
        match self.stop {
            Some(Stop::Cancel | Stop::Fail(_)) => {}
            None | Some(Stop::Pause { .. }) => {
                self.stop = Some(Stop::Fail(message));
                self.abort_running(effects);
            }
        }
    }

    fn abort_running(&self, effects: &mut Vec<Effect>) {
        let step = self.current_step;
        let tasks = self.tasks.iter().enumerate();
        let running = tasks.filter(|(_, task)| task.status == TaskStatus::Running);
        effects.extend(running.map(|(shard_idx, _)| Effect::Abort {
            step,
            shard_idx: shard_idx as u32,
        }));
    }

    /// Whether a message speaks of the running attempt of a task.
    fn is_current(&self, step: u32, shard_idx: u32, attempt: u32) -> bool {
        let task = self.tasks.get(shard_idx as usize);
        step == self.current_step
            && task
                .is_some_and(|task| task.attempt == attempt && task.status == TaskStatus::Running)
    }

    /// Goes back to the cut: what was copied of another is of no use. The first time at once, as after a
    /// restart, which loses the snapshots of a row store.
    fn cut_again(&mut self, context: Context, message: String, effects: &mut Vec<Effect>) {
        if self.stop.is_some() {
            return;
        }
        let times = self.lost_cut.as_ref().map_or(1, |lost| lost.times + 1);
        let backoff_ms = match times {
            1 => 0,
            again => self.backoff_ms(again - 1, context.jitter),
        };
        self.lost_cut = Some(LostCut {
            times,
            not_before_ms: context.now_ms.saturating_add(backoff_ms),
            message,
        });
        self.abort_running(effects);
        self.draft = None;
        self.rows_before = 0;
        self.bytes_before = 0;
        self.enter(0, context, effects);
    }

    fn advance(&mut self, context: Context, effects: &mut Vec<Effect>) {
        if self.state != State::Applying || self.stop.is_some() {
            return;
        }
        self.absorb();
        if self.step_kind().can_cut_again() {
            self.lost_cut = None;
        }
        if self.current_step as usize + 1 < self.steps.len() {
            return self.enter(self.current_step + 1, context, effects);
        }
        let rolled_back = self.step_kind() == StepKind::Rollback;
        self.state = if rolled_back {
            State::Cancelled
        } else {
            State::Done
        };
        self.draft = None;
        effects.push(Effect::Finished);
    }

    /// Keeps what the tasks of the step counted and brought about.
    fn absorb(&mut self) {
        let bytes = self.tasks.iter().map(|task| task.bytes).sum::<u64>();
        self.rows_before += self.task_rows();
        self.bytes_before += bytes;
        if let Some(step) = self.steps.get_mut(self.current_step as usize) {
            step.bytes_total = bytes;
        }
        let mut lacks = Vec::new();
        for task in self.tasks.iter_mut().map(Arc::make_mut) {
            match std::mem::take(&mut task.output) {
                TaskOutput::None => {}
                TaskOutput::Mended(rows) => {
                    if let TaskSpec::MendRows { path, range, .. } = &task.spec {
                        self.mended.push(MendedShard {
                            path: path.clone(),
                            range: range.clone(),
                            rows,
                        });
                    }
                }
                TaskOutput::Draft(draft) => self.draft = Some(Arc::from(draft)),
                TaskOutput::Parts(list) => {
                    if let Some(draft) = &mut self.draft {
                        Arc::make_mut(draft).put_part_list(&task.spec, list);
                    }
                }
                TaskOutput::Lacks(reason) => lacks.push((&task.spec, reason)),
                TaskOutput::Segments(segments) => {
                    if let Some(draft) = &mut self.draft {
                        Arc::make_mut(draft).put_segments(&task.spec, segments);
                    }
                }
            }
        }
        // At the end: lists go to tables by their places.
        if let Some(draft) = &mut self.draft {
            for (spec, reason) in lacks {
                Arc::make_mut(draft).lack(spec, reason);
            }
        }
    }

    fn enter(&mut self, step: u32, context: Context, effects: &mut Vec<Effect>) {
        self.attempt_floor = self
            .tasks
            .iter()
            .map(|task| task.attempt)
            .fold(self.attempt_floor, u32::max);
        self.current_step = step;
        self.state = State::Allocating;
        self.allocated = false;
        self.allocation_failures = 0;
        self.tasks.clear();
        self.step_deadline_ms = context.now_ms.saturating_add(self.limits.step_budget_ms);
        effects.push(Effect::Allocate);
    }

    /// Derives the state from the tasks, and requests what may be requested.
    fn settle(&mut self, context: Context, effects: &mut Vec<Effect>) {
        if self.state.is_terminal() {
            return;
        }
        let running = self
            .tasks
            .iter()
            .filter(|task| task.status == TaskStatus::Running)
            .count();
        match &self.stop {
            Some(_) if running > 0 => {
                self.state = State::Waiting;
                return;
            }
            Some(Stop::Fail(message)) => {
                self.error = Some(message.clone());
                self.stop = None;
                self.state = State::Failed;
                return effects.push(Effect::Finished);
            }
            Some(Stop::Cancel) => {
                self.stop = None;
                self.error = None;
                self.absorb();
                self.steps.truncate(self.current_step as usize + 1);
                self.steps.push(PlannedStep::rollback());
                return self.enter(self.current_step + 1, context, effects);
            }
            Some(Stop::Pause { .. }) | None => {}
        }
        if !self.allocated {
            self.state = State::Allocating;
            return;
        }
        if self
            .tasks
            .iter()
            .all(|task| task.status == TaskStatus::Done)
        {
            if self.state != State::Applying && self.stop.is_none() {
                effects.push(Effect::Advance);
            }
            self.state = State::Applying;
            return;
        }
        if self.stop.is_none() {
            self.propose(context, running, effects);
        }
        let pending = || {
            self.tasks
                .iter()
                .filter(|task| task.status == TaskStatus::Pending)
        };
        self.state = if pending().any(|task| task.not_before_ms > context.now_ms) {
            State::Allocating
        } else if pending().next().is_some() {
            State::Proposing
        } else {
            State::Waiting
        };
    }

    fn propose(&mut self, context: Context, running: usize, effects: &mut Vec<Effect>) {
        let free = (self.limits.max_in_flight.max(1) as usize).saturating_sub(running);
        let ready = |task: &Task| {
            task.status == TaskStatus::Pending && task.not_before_ms <= context.now_ms
        };
        let next = self
            .tasks
            .iter_mut()
            .enumerate()
            .filter(|(_, task)| ready(task))
            .take(free);
        for (shard_idx, task) in next {
            let task = Arc::make_mut(task);
            task.status = TaskStatus::Running;
            task.attempt += 1;
            task.last_heard_ms = context.now_ms;
            effects.push(Effect::Propose {
                shard_idx: shard_idx as u32,
            });
        }
    }
}
