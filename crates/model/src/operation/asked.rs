//! What users ask of an [`Operation`]: to pause, to go on, to be given up, and what becomes of parts that come.

use super::event::{Context, Effect, IllegalEvent};
use super::request::Request;
use super::step::StepKind;
use super::task::{Task, TaskStatus};
use super::{Operation, State, Stop};
use crate::part::OnConcurrentInsert;

impl Operation {
    pub(super) fn pause(
        &mut self,
        context: Context,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IllegalEvent> {
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

    pub(super) fn resume(
        &mut self,
        context: Context,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IllegalEvent> {
        match (&self.stop, self.state) {
            (Some(Stop::Pause { since_ms } | Stop::Hold { since_ms }), _) => {
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
            (Some(Stop::Cancel | Stop::Fail(_) | Stop::Refuse(_)), _) => {
                return Err(IllegalEvent::Stopping {
                    operation_id: self.operation_id.to_string(),
                });
            }
        }
        self.stop = None;
        self.error = None;
        self.lost_cut = None;
        self.state = State::Allocating;
        let has_failed = |task: &Task| {
            task.failures > 0 || task.not_before_ms > 0 || task.status == TaskStatus::Failed
        };
        self.change_tasks(has_failed, |task| {
            task.failures = 0;
            task.not_before_ms = 0;
            if task.status == TaskStatus::Failed {
                task.status = TaskStatus::Pending;
            }
        });
        self.allocation_failures = 0;
        self.allocate_if_needed(effects);
        Ok(())
    }

    pub(super) fn cancel(&mut self, effects: &mut Vec<Effect>) -> Result<(), IllegalEvent> {
        if matches!(self.state, State::Done | State::Cancelled) {
            return Err(self.over("cancelled"));
        }
        if matches!(self.stop, Some(Stop::Cancel | Stop::Refuse(_))) {
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
            step if sealed || self.is_live() || !step.can_cancel() => {
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

    /// Whether what it does is live, although it is not over.
    pub(super) fn is_live(&self) -> bool {
        let mut before = self.steps.iter().take(self.current_step as usize);
        before.any(|step| self.request.is_live_after(step.kind))
    }

    fn over(&self, wanted: &'static str) -> IllegalEvent {
        IllegalEvent::Over {
            operation_id: self.operation_id.to_string(),
            state: self.state.name(),
            wanted,
        }
    }

    /// From now on does this with parts that come, if that was said.
    pub(super) fn take_policy(&mut self, policy: Option<OnConcurrentInsert>) {
        let Some(policy) = policy else {
            return;
        };
        match &mut self.head.request {
            Request::Mend(request) => request.on_concurrent_insert = policy,
            Request::Cluster(request) => request.on_concurrent_insert = Some(policy),
            Request::Backup(_)
            | Request::Restore(_)
            | Request::PartBackup(_)
            | Request::MendRows(_)
            | Request::Maintain(_) => return,
        }
        self.touched.request = true;
    }
}
