//! The messages between coordinator and shard workers, and what carries them.

use std::sync::Arc;

use mendb_model::key::hex_option;
use mendb_model::manifest::Manifest;
use mendb_model::name::OperationId;
use mendb_model::operation::{
    Event, Operation, Report, Request, StepKind, Task, TaskOutput, TaskSpec,
};
use serde::{Deserialize, Serialize};

/// Asks a worker for one attempt of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRequest {
    /// The operation.
    pub operation_id: OperationId,
    /// What the operation is to bring about. All its tasks share it.
    #[serde(with = "shared")]
    pub request: Arc<Request>,
    /// The step.
    pub step: u32,
    /// What the step does.
    pub step_kind: StepKind,
    /// The place of the step's backup in the chain.
    pub incremental_idx: Option<u32>,
    /// The task in the step.
    pub shard_idx: u32,
    /// The attempt.
    pub attempt: u32,
    /// What to do.
    pub spec: TaskSpec,
    /// All up to this key is done.
    #[serde(with = "hex_option")]
    pub last_key: Option<Vec<u8>>,
    /// Rows done so far.
    pub rows: u64,
    /// Bytes done so far.
    pub bytes: u64,
    /// Bytes to do, as far as known.
    pub bytes_total: u64,
    /// What was brought about so far.
    pub output: TaskOutput,
    /// Attempts up to this number belong to earlier steps: a request is stale when a later one of its
    /// operation has a higher floor.
    pub attempt_floor: u32,
    /// The most attempts of the operation that work at a time.
    pub at_once: u32,
    /// The manifest in the making, for the steps after the copy that need it.
    #[serde(skip)]
    pub draft: Option<Arc<Manifest>>,
}

/// Something on its way between coordinator and workers.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// To a worker: begin an attempt.
    Request(Box<TaskRequest>),
    /// To a worker: stop an attempt.
    Abort {
        /// The operation.
        operation_id: OperationId,
        /// The step.
        step: u32,
        /// The task in the step.
        shard_idx: u32,
    },
    /// To the coordinator: how an attempt goes.
    Reply {
        /// The operation.
        operation_id: OperationId,
        /// The report.
        report: Report,
    },
    /// To the coordinator: the tasks of a step, or why they cannot be found.
    Allocation {
        /// The operation.
        operation_id: OperationId,
        /// What the machine is told.
        event: Event,
    },
}

/// Carries messages. It may lose them, deliver them late, or twice: the machine copes.
pub trait Wire: Send + Sync {
    /// Calls `deliver` once for each time the message arrives.
    fn carry(&self, message: Message, deliver: &mut dyn FnMut(Message));
}

/// Delivers everything once, at once: coordinator and workers in one process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

impl Wire for Direct {
    fn carry(&self, message: Message, deliver: &mut dyn FnMut(Message)) {
        deliver(message);
    }
}

impl TaskRequest {
    /// A request as it would be made, of an operation that does not exist.
    pub(crate) fn preview(request: Request) -> Result<Self, mendb_model::name::BadName> {
        Ok(Self {
            operation_id: "preview".parse()?,
            request: Arc::new(request),
            step: 0,
            step_kind: StepKind::Assess,
            incremental_idx: None,
            shard_idx: 0,
            attempt: 0,
            spec: TaskSpec::Whole,
            last_key: None,
            rows: 0,
            bytes: 0,
            bytes_total: 0,
            output: TaskOutput::None,
            attempt_floor: 0,
            at_once: u32::MAX,
            draft: None,
        })
    }

    /// The request for the current attempt of a task.
    pub(crate) fn new(
        operation: &Operation,
        request: Arc<Request>,
        shard_idx: u32,
        task: &Task,
    ) -> Self {
        let kind = operation.step_kind();
        let with_draft = matches!(
            kind,
            StepKind::Seal
                | StepKind::Release
                | StepKind::Stage
                | StepKind::Finish
                | StepKind::Replace
                | StepKind::Rollback
        );
        let planned = operation.steps.get(operation.current_step as usize);
        Self {
            operation_id: operation.operation_id.clone(),
            request,
            step: operation.current_step,
            step_kind: kind,
            incremental_idx: planned.and_then(|step| step.incremental_idx),
            shard_idx,
            attempt: task.attempt,
            spec: task.spec.clone(),
            last_key: task.last_key.clone(),
            rows: task.rows,
            bytes: task.bytes,
            bytes_total: task.bytes_total,
            output: task.output.clone(),
            attempt_floor: operation.attempt_floor,
            at_once: operation.limits.max_in_flight.max(1),
            draft: operation.draft.clone().filter(|_| with_draft),
        }
    }
}

/// A request as it is written, whoever shares it.
mod shared {
    use super::{Arc, Deserialize, Request, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(
        request: &Arc<Request>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        request.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<Request>, D::Error> {
        Request::deserialize(deserializer).map(Arc::new)
    }
}
