//! Messages that leave the coordinator when the events that asked for them are committed. The coordinator makes each
//! message while it takes the event, because a later event may change the operation that the message speaks of.

use std::sync::Arc;

use mendb_model::name::OperationId;
use mendb_model::operation::{Effect, Operation, Request, State};

use crate::wire::{Message, StepRequest, TaskRequest};

pub(super) enum Outgoing {
    /// To find the tasks of this step.
    Allocate(Box<StepRequest>),
    /// To a worker.
    Send(Box<Message>),
    /// To let nothing of an operation begin any more.
    End(OperationId),
}

impl Outgoing {
    /// What an effect sends; `None` where it sends nothing.
    pub(super) fn of(
        operation: &Operation,
        request: &Arc<Request>,
        effect: &Effect,
    ) -> Option<Self> {
        match effect {
            Effect::Allocate => {
                let step = StepRequest::new(operation, Arc::clone(request));
                Some(Self::Allocate(Box::new(step)))
            }
            Effect::Propose { shard_idx } => {
                let task = operation.tasks.get(*shard_idx as usize)?;
                let request = TaskRequest::new(operation, Arc::clone(request), *shard_idx, task);
                let message = Message::Request(Box::new(request));
                Some(Self::Send(Box::new(message)))
            }
            Effect::Abort { step, shard_idx } => Some(Self::Send(Box::new(Message::Abort {
                operation_id: operation.operation_id.clone(),
                step: *step,
                shard_idx: *shard_idx,
            }))),
            Effect::Finished if operation.state == State::Failed => None,
            Effect::Finished => Some(Self::End(operation.operation_id.clone())),
            Effect::Advance => None,
        }
    }
}
