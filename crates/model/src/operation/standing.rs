//! Where an operation stands: by it the machine tells whether an event changed that.

use super::{LostCut, OperationHead, State, Stop};

/// Where an operation stands, without the time of its last event.
#[derive(PartialEq)]
pub(super) struct Standing {
    pub(super) state: State,
    stop: Option<Stop>,
    places: (u32, bool, u32, u32, u64),
    lost_cut: Option<LostCut>,
    deadlines_ms: (u64, u64),
    error: Option<String>,
}

impl Standing {
    pub(super) fn of(head: &OperationHead) -> Self {
        Self {
            state: head.state,
            stop: head.stop.clone(),
            places: (
                head.current_step,
                head.allocated,
                head.attempt_floor,
                head.allocation_failures,
                head.allocate_at_ms,
            ),
            lost_cut: head.lost_cut.clone(),
            deadlines_ms: (head.step_deadline_ms, head.operation_deadline_ms),
            error: head.error.clone(),
        }
    }
}
