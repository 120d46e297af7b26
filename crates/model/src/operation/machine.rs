//! The transitions of an [`Operation`].

use super::event::{Context, Effect, Event, IllegalEvent};
use super::standing::Standing;
use super::step::{PlannedStep, StepKind};
use super::task::{NewTask, Report, ReportStatus, Task, TaskStatus};
use super::{LostCut, Operation, Outcome, State, Stop, Tasks, TouchedDraft};

impl Operation {
    /// Takes one event.
    ///
    /// # Errors
    /// The state does not allow what a user asked for; the operation is unchanged then. Events of
    /// coordinator and workers that come late or twice are no errors: they change nothing.
    pub fn step(&mut self, context: Context, event: Event) -> Result<Outcome, IllegalEvent> {
        let before = Standing::of(self);
        let mut effects = Vec::new();
        self.take(context, event, &mut effects)?;
        let mut touched = std::mem::take(&mut self.touched);
        let after = Standing::of(self);
        touched.standing = before != after || !effects.is_empty() || !touched.tasks.is_empty();
        if before.state.is_terminal() != after.state.is_terminal() {
            touched.steps.insert(self.current_step);
        }
        Ok(Outcome { effects, touched })
    }

    fn take(
        &mut self,
        context: Context,
        event: Event,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IllegalEvent> {
        match event {
            Event::Pause => self.pause(context, effects)?,
            Event::Resume {
                on_concurrent_insert,
            } => {
                self.resume(context, effects)?;
                self.take_policy(on_concurrent_insert);
            }
            Event::TakeOver { by } => self.take_over(context, by, effects)?,
            Event::Cancel {
                on_concurrent_insert,
            } => {
                self.cancel(effects)?;
                self.take_policy(on_concurrent_insert);
            }
            _ if self.state.is_terminal() => return Ok(()),
            Event::Booted => self.boot(effects),
            Event::Tick => self.tick(context, effects),
            Event::Advance => self.advance(context, effects),
            Event::Allocated { step, tasks } => self.allocated(step, tasks),
            Event::AllocationFailed {
                step,
                retriable,
                is_cut_lost,
                message,
            } => {
                if step == self.current_step && !self.allocated {
                    if is_cut_lost && self.request.can_cut_again(self.step_kind()) {
                        self.cut_again(context, message, effects);
                    } else {
                        self.allocation_failed(context, retriable, &message, effects);
                    }
                }
            }
            Event::Reported(report) => self.reported(context, report, effects),
        }
        self.settle(context, effects);
        self.updated_at_ms = self.updated_at_ms.max(context.now_ms);
        self.head.counts = self.tasks.counts();
        if self.task_error.as_deref() != self.tasks.first_error() {
            self.head.task_error = self.tasks.first_error().map(str::to_owned);
        }
        self.raise_floor();
        Ok(())
    }

    /// Changes a task of the step, and notes that.
    pub(super) fn change_task(&mut self, at: u32, change: impl FnOnce(&mut Task)) {
        let known = self.tasks[at as usize].segments().len();
        self.touched.tasks.entry(at).or_insert(known);
        self.tasks.change(at, change);
    }

    /// Changes the tasks of which that can be said.
    pub(super) fn change_tasks(
        &mut self,
        which: impl Fn(&Task) -> bool,
        change: impl Fn(&mut Task),
    ) {
        for at in 0..self.tasks.len() {
            if which(&self.tasks[at]) {
                self.change_task(at as u32, &change);
            }
        }
    }

    /// No attempt survives its process: what ran is to be requested again, which is nobody's failure.
    fn boot(&mut self, effects: &mut Vec<Effect>) {
        for at in self.tasks.running().collect::<Vec<_>>() {
            self.change_task(at, |task| task.status = TaskStatus::Pending);
        }
        self.forget_unheard();
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
        for shard_idx in self.tasks.running().collect::<Vec<_>>() {
            let task = &self.tasks[shard_idx as usize];
            if task.last_heard_ms.saturating_add(lease_ms) <= now_ms {
                effects.push(Effect::Abort {
                    step: self.current_step,
                    shard_idx,
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
                let cause = self.tasks.first_error();
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

    pub(super) fn allocate_if_needed(&self, effects: &mut Vec<Effect>) {
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
        self.touched.allocated = true;
        let bytes: u64 = tasks.iter().map(|task| task.bytes_total).sum();
        if let Some(planned) = self.head.steps.get_mut(step as usize)
            && planned.bytes_total < bytes
        {
            planned.bytes_total = bytes;
            self.touched.steps.insert(step);
        }
        let lost = self.lost_cut.as_ref().filter(|_| step == 0);
        let new_task = |task| {
            let mut task = Task::new(task, self.attempt_floor);
            if let Some(lost) = lost {
                task.not_before_ms = lost.not_before_ms;
                task.error = Some(lost.message.clone());
            }
            task
        };
        self.tasks = tasks.into_iter().map(new_task).collect();
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
        let shard_idx = report.shard_idx;
        if !self.is_current(report.step, shard_idx, report.attempt) {
            return;
        }
        let step = self.step_kind();
        let mut status = report.status.clone();
        let has_arrived = self.progressed(context, report);
        if status == ReportStatus::Success && !has_arrived {
            let message = "reports of segments before the last one did not arrive".to_owned();
            status = ReportStatus::Error {
                retriable: true,
                message,
            };
        }
        let is_answer = !matches!(
            status,
            ReportStatus::InProgress | ReportStatus::Unheard { .. }
        );
        if is_answer && self.tasks[shard_idx as usize].unheard_since_ms.is_some() {
            self.change_task(shard_idx, |task| task.unheard_since_ms = None);
        }
        match status {
            ReportStatus::InProgress => {}
            ReportStatus::Success => {
                self.change_task(shard_idx, |task| task.status = TaskStatus::Done);
                self.absorb_done(shard_idx);
            }
            ReportStatus::Stopped => {
                self.change_task(shard_idx, |task| task.status = TaskStatus::Pending);
            }
            ReportStatus::Error {
                retriable: true,
                message,
            } => self.task_failed(context, shard_idx, message),
            ReportStatus::Error {
                retriable: false,
                message,
            } => self.task_is_fatal(shard_idx, &message, effects),
            ReportStatus::Unheard {
                message,
                was_heard,
                other,
            } => {
                self.agent_is_unheard(context, shard_idx, (message, was_heard));
                let other = other.map(|other| *other);
                self.replace_unheard(context, shard_idx, other, effects);
            }
            ReportStatus::Refused { message } => self.task_is_refused(shard_idx, message, effects),
            ReportStatus::CutLost { message } => match step {
                // It went away while it was being taken.
                StepKind::Cut => self.task_failed(context, shard_idx, message),
                step if !self.request.can_cut_again(step) => {
                    self.task_is_fatal(shard_idx, &message, effects);
                }
                _ => {
                    self.change_task(shard_idx, |task| {
                        task.status = TaskStatus::Pending;
                        task.error = Some(message.clone());
                    });
                    self.cut_again(context, message, effects);
                }
            },
        }
        if step.isolates_failures() {
            self.fail_when_others_are_done(effects);
        }
    }

    /// Notes how far a task is. Returns whether all that the report builds on is known.
    fn progressed(&mut self, context: Context, report: Report) -> bool {
        let task = &self.tasks[report.shard_idx as usize];
        let has_arrived = report.segments_before <= task.segments().len();
        let moved =
            report.last_key > task.last_key || report.rows > task.rows || report.bytes > task.bytes;
        let is_over = report.status == ReportStatus::Success;
        self.change_task(report.shard_idx, |task| {
            task.last_heard_ms = context.now_ms;
            if has_arrived && (moved || is_over) {
                task.failures = 0;
                task.error = None;
                task.last_key = report.last_key.max(task.last_key.take());
                task.rows = task.rows.max(report.rows);
                task.bytes = task.bytes.max(report.bytes);
                task.bring(report.output, report.segments_before);
            }
        });
        has_arrived
    }

    fn task_is_fatal(&mut self, shard_idx: u32, message: &str, effects: &mut Vec<Effect>) {
        let isolates = self.step_kind().isolates_failures();
        self.change_task(shard_idx, |task| {
            task.error = Some(message.to_owned());
            task.status = match isolates {
                true => TaskStatus::Failed,
                false => TaskStatus::Pending,
            };
        });
        if !isolates {
            self.fail(format!("step {}: {message}", self.step_label()), effects);
        }
    }

    /// Rolls back what nothing of is done yet, where the kind of operation has no use for another try; else that is up to
    /// users.
    fn task_is_refused(&mut self, shard_idx: u32, message: String, effects: &mut Vec<Effect>) {
        let step = self.step_kind();
        let can_end = self.request.ends_when_refused(step) && step.can_cancel() && !self.is_live();
        if !can_end {
            return self.task_is_fatal(shard_idx, &message, effects);
        }
        self.change_task(shard_idx, |task| {
            task.error = Some(message.clone());
            task.status = TaskStatus::Pending;
        });
        match self.stop {
            Some(Stop::Cancel | Stop::Fail(_) | Stop::Refuse(_)) => {}
            None | Some(Stop::Pause { .. } | Stop::Hold { .. }) => {
                self.stop = Some(Stop::Refuse(message));
                self.abort_running(effects);
            }
        }
    }

    /// Fails with what each failed task said, once no other has anything left to do.
    fn fail_when_others_are_done(&mut self, effects: &mut Vec<Effect>) {
        if !self.tasks.are_over() || self.tasks.counts().failed == 0 {
            return;
        }
        let failed = |task: &&Task| task.status == TaskStatus::Failed;
        let errors: Vec<String> = (self.tasks.iter().filter(failed))
            .map(|task| {
                let table = task.spec.table().map(|table| format!("{table}: "));
                let error = task.error.as_deref().unwrap_or_default();
                format!("{}{error}", table.unwrap_or_default())
            })
            .collect();
        self.fail(
            format!("step {}: {}", self.step_label(), errors.join("; ")),
            effects,
        );
    }

    pub(super) fn task_failed(&mut self, context: Context, shard_idx: u32, message: String) {
        let failures = self.tasks[shard_idx as usize].failures + 1;
        let not_before_ms = context
            .now_ms
            .saturating_add(self.backoff_ms(failures, context.jitter));
        self.change_task(shard_idx, |task| {
            task.status = TaskStatus::Pending;
            task.failures = failures;
            task.not_before_ms = not_before_ms;
            task.error = Some(message);
        });
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
            Some(Stop::Cancel | Stop::Fail(_) | Stop::Refuse(_)) => {}
            None | Some(Stop::Pause { .. } | Stop::Hold { .. }) => {
                self.stop = Some(Stop::Fail(message));
                self.abort_running(effects);
            }
        }
    }

    pub(super) fn abort_running(&self, effects: &mut Vec<Effect>) {
        let step = self.current_step;
        let running = self.tasks.running();
        effects.extend(running.map(|shard_idx| Effect::Abort { step, shard_idx }));
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
        self.touched.draft = TouchedDraft::All;
        self.rows_before = 0;
        self.bytes_before = 0;
        self.enter(0, context, effects);
    }

    fn advance(&mut self, context: Context, effects: &mut Vec<Effect>) {
        if self.state != State::Applying || self.stop.is_some() {
            return;
        }
        self.absorb();
        if self.request.can_cut_again(self.step_kind()) {
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
        if !self.request.keeps_draft() && self.draft.take().is_some() {
            self.touched.draft = TouchedDraft::All;
        }
        effects.push(Effect::Finished);
    }

    fn enter(&mut self, step: u32, context: Context, effects: &mut Vec<Effect>) {
        self.attempt_floor = self.attempt_floor.max(self.tasks.highest_attempt());
        let left = self.current_step;
        self.touched.left = Some(left);
        self.touched.tasks.clear();
        self.touched.steps.extend(left.min(step)..=left.max(step));
        self.current_step = step;
        self.state = State::Allocating;
        self.allocated = false;
        self.allocation_failures = 0;
        self.tasks = Tasks::default();
        self.step_deadline_ms = context.now_ms.saturating_add(self.limits.step_budget_ms);
        if self.request.holds_before(self.step_kind()) {
            let since_ms = context.now_ms;
            self.stop = Some(Stop::Hold { since_ms });
            return;
        }
        effects.push(Effect::Allocate);
    }

    /// Derives the state from the tasks, and requests what may be requested.
    fn settle(&mut self, context: Context, effects: &mut Vec<Effect>) {
        if self.state.is_terminal() {
            return;
        }
        let counts = self.tasks.counts();
        let running = counts.running as usize;
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
            Some(Stop::Cancel | Stop::Refuse(_)) => {
                self.error = match self.stop.take() {
                    Some(Stop::Refuse(message)) => Some(message),
                    _ => None,
                };
                self.absorb();
                let kept = self.current_step as usize + 1;
                self.steps.truncate(kept);
                self.steps.push(PlannedStep::rollback());
                return self.enter(self.current_step + 1, context, effects);
            }
            Some(Stop::Pause { .. } | Stop::Hold { .. }) | None => {}
        }
        if !self.allocated {
            self.state = State::Allocating;
            return;
        }
        if counts.done == counts.total {
            if self.state != State::Applying && self.stop.is_none() {
                effects.push(Effect::Advance);
            }
            self.state = State::Applying;
            return;
        }
        if self.stop.is_none() {
            self.propose(context, running, effects);
        }
        self.state = match self.tasks.last_backoff_ms() {
            Some(not_before_ms) if not_before_ms > context.now_ms => State::Allocating,
            Some(_) => State::Proposing,
            None => State::Waiting,
        };
    }

    fn propose(&mut self, context: Context, running: usize, effects: &mut Vec<Effect>) {
        let free = self.limits.window().saturating_sub(running);
        for _ in 0..free {
            let Some((not_before_ms, shard_idx)) = self.tasks.first_pending() else {
                return;
            };
            if not_before_ms > context.now_ms {
                return;
            }
            self.change_task(shard_idx, |task| {
                task.status = TaskStatus::Running;
                task.attempt += 1;
                task.last_heard_ms = context.now_ms;
            });
            effects.push(Effect::Propose { shard_idx });
        }
    }
}
