//! What an [`Operation`] waits for.

use std::sync::Arc;

use super::Operation;
use super::plan::StepKind;
use super::task::{Task, TaskStatus};

impl Operation {
    /// Whether only a user can move the operation: it is over, or it is paused and nothing runs.
    pub fn awaits_user(&self) -> bool {
        let running = || {
            self.tasks
                .iter()
                .any(|task| task.status == TaskStatus::Running)
        };
        self.state.is_terminal() || (self.is_paused() && !running())
    }

    /// When [`Event::Tick`](super::Event::Tick) is due if nothing else happens before: the end of a backoff, a lease or a
    /// budget. `None` when nothing is due by time alone.
    pub fn wake_at_ms(&self) -> Option<u64> {
        if self.state.is_terminal() {
            return None;
        }
        let running = |task: &&Arc<Task>| task.status == TaskStatus::Running;
        let leases = self.tasks.iter().filter(running);
        let leases = leases.map(|task| task.last_heard_ms.saturating_add(self.limits.lease_ms));
        if self.stop.is_some() {
            return leases.min();
        }
        let running = self.tasks.iter().filter(running).count();
        // While the window has room, whoever is pending waits for its backoff.
        let room = running < self.limits.max_in_flight.max(1) as usize;
        let waiting = |task: &&Arc<Task>| room && task.status == TaskStatus::Pending;
        let backoffs = self
            .tasks
            .iter()
            .filter(waiting)
            .map(|task| task.not_before_ms);
        let allocation = (self.allocation_failures > 0).then_some(self.allocate_at_ms);
        let deadline = self.step_deadline_ms.min(self.operation_deadline_ms);
        let deadline =
            (self.step_kind() != StepKind::Rollback).then_some(deadline.saturating_add(1));
        leases
            .chain(backoffs)
            .chain(allocation)
            .chain(deadline)
            .min()
    }
}
