//! What an [`Operation`] waits for.

use super::step::StepKind;
use super::{Operation, OperationHead};

impl OperationHead {
    /// Whether only a user can move the operation: it is over, or it is paused and nothing runs.
    pub fn awaits_user(&self) -> bool {
        self.state.is_terminal() || (self.is_paused() && self.counts.running == 0)
    }
}

impl Operation {
    /// When [`Event::Tick`](super::Event::Tick) is due if nothing else happens before: the end of a backoff, a lease or a
    /// budget. `None` when nothing is due by time alone.
    pub fn wake_at_ms(&self) -> Option<u64> {
        if self.state.is_terminal() {
            return None;
        }
        let running = || self.tasks.running().map(|at| &self.tasks[at as usize]);
        let leases = running().map(|task| task.last_heard_ms.saturating_add(self.limits.lease_ms));
        if self.stop.is_some() {
            return leases.min();
        }
        // While the window has room, a pending task waits for its backoff.
        let room = running().count() < self.limits.window();
        let backoff = self.tasks.first_pending().filter(|_| room);
        let backoff = backoff.map(|(not_before_ms, _)| not_before_ms);
        let allocation = (self.allocation_failures > 0).then_some(self.allocate_at_ms);
        let deadline = self.step_deadline_ms.min(self.operation_deadline_ms);
        let deadline =
            (self.step_kind() != StepKind::Rollback).then_some(deadline.saturating_add(1));
        leases
            .chain(backoff)
            .chain(allocation)
            .chain(deadline)
            .min()
    }
}
