//! The messages between coordinator and shard workers, and what carries them.
//!
//! All messages are values that can be written down, so coordinator and workers may be in different processes
//! ([`pipe`]).

pub mod pipe;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use mendb_model::key::hex_option;
use mendb_model::manifest::Manifest;
use mendb_model::name::OperationId;
use mendb_model::operation::{
    NewTask, Operation, Report, Request, StepKind, Task, TaskOutput, TaskSpec,
};
use serde::{Deserialize, Serialize};

use crate::question::{Answer, Asker, Question};

/// A step of an operation, as those know it who work at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRequest {
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
    /// Attempts up to this number belong to earlier steps: a request is stale when a later one of its
    /// operation has a higher floor.
    pub attempt_floor: u32,
    /// The manifest in the making, for the steps after the cut that need it.
    #[serde(
        default,
        with = "shared_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub draft: Option<Arc<Manifest>>,
}

/// Asks a worker for one attempt of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRequest {
    /// The step.
    pub of_step: StepRequest,
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
    /// The most attempts of the operation that work at a time.
    pub at_once: u32,
}

impl Deref for TaskRequest {
    type Target = StepRequest;

    fn deref(&self) -> &StepRequest {
        &self.of_step
    }
}

/// Something on its way between coordinator and workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// To the workers: begin an attempt.
    Request(Box<TaskRequest>),
    /// To the workers: stop an attempt.
    Abort {
        /// The operation.
        operation_id: OperationId,
        /// The step.
        step: u32,
        /// The task in the step.
        shard_idx: u32,
    },
    /// To the workers: find the tasks of a step.
    Allocate(Box<StepRequest>),
    /// To the workers: nothing of an operation begins any more.
    Over {
        /// The operation.
        operation_id: OperationId,
    },
    /// To the workers: what the journal has, or that it has it now.
    Answer {
        /// Who asked.
        asker: Asker,
        /// The number of the question.
        number: u64,
        /// The answer.
        answer: Box<Answer>,
    },
    /// To the coordinator: how an attempt goes.
    Reply {
        /// The operation.
        operation_id: OperationId,
        /// The report.
        report: Report,
    },
    /// To the coordinator: the tasks of a step.
    Allocated {
        /// The operation.
        operation_id: OperationId,
        /// The step.
        step: u32,
        /// Its tasks; there may be none.
        tasks: Vec<NewTask>,
    },
    /// To the coordinator: why the tasks of a step cannot be found.
    NotAllocated {
        /// The operation.
        operation_id: OperationId,
        /// The step.
        step: u32,
        /// Whether to try again without anyone doing anything.
        retriable: bool,
        /// Whether the cut that it reads does not exist any more.
        is_cut_lost: bool,
        /// What failed, why, and what to do.
        message: String,
    },
    /// To the coordinator: a question to the journal.
    Ask {
        /// Who asks.
        asker: Asker,
        /// The number of the question; each of an asker has a greater one than those before.
        number: u64,
        /// The question.
        question: Box<Question>,
    },
}

/// One end of a wire.
#[derive(Debug)]
pub struct End {
    /// Where messages to the other end go.
    pub out: Sender<Message>,
    /// Where those of the other end come.
    pub inbox: Receiver<Message>,
}

/// Two ends of which each gets what the other sends, once and in order.
pub fn pair() -> (End, End) {
    let ((to_one, of_other), (to_other, of_one)) = (channel(), channel());
    let one = End {
        out: to_other,
        inbox: of_other,
    };
    let other = End {
        out: to_one,
        inbox: of_one,
    };
    (one, other)
}

/// Carries messages. It may lose them, deliver them late, or twice: both ends cope.
pub trait Wire: Send + Sync {
    /// The end of the coordinator and that of the workers, for as long as both hold theirs.
    fn connect(&self) -> (End, End);
}

/// Delivers everything once: coordinator and workers in one process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

impl Wire for Direct {
    fn connect(&self) -> (End, End) {
        pair()
    }
}

impl StepRequest {
    /// Who asks for the tasks of the step.
    pub(crate) fn asker(&self) -> Asker {
        Asker {
            operation_id: self.operation_id.clone(),
            step: self.step,
            task: None,
        }
    }

    /// The current step of an operation.
    pub(crate) fn new(operation: &Operation, request: Arc<Request>) -> Self {
        let planned = operation.steps.get(operation.current_step as usize);
        Self {
            operation_id: operation.operation_id.clone(),
            request,
            step: operation.current_step,
            step_kind: operation.step_kind(),
            incremental_idx: planned.and_then(|step| step.incremental_idx),
            attempt_floor: operation.attempt_floor,
            draft: operation.draft.clone(),
        }
    }
}

impl TaskRequest {
    /// The attempt, as who asks.
    pub(crate) fn asker(&self) -> Asker {
        Asker {
            task: Some((self.shard_idx, self.attempt)),
            ..self.of_step.asker()
        }
    }

    /// A request as it would be made, of an operation that does not exist.
    pub(crate) fn preview(request: Request) -> Result<Self, mendb_model::name::BadName> {
        let of_step = StepRequest {
            operation_id: "preview".parse()?,
            request: Arc::new(request),
            step: 0,
            step_kind: StepKind::Assess,
            incremental_idx: None,
            attempt_floor: 0,
            draft: None,
        };
        Ok(Self {
            of_step,
            shard_idx: 0,
            attempt: 0,
            spec: TaskSpec::Whole,
            last_key: None,
            rows: 0,
            bytes: 0,
            bytes_total: 0,
            output: TaskOutput::None,
            at_once: u32::MAX,
        })
    }

    /// The request for the current attempt of a task.
    pub(crate) fn new(
        operation: &Operation,
        request: Arc<Request>,
        shard_idx: u32,
        task: &Task,
    ) -> Self {
        let mut of_step = StepRequest::new(operation, request);
        if !of_step.step_kind.needs_draft() {
            of_step.draft = None;
        }
        Self {
            of_step,
            shard_idx,
            attempt: task.attempt,
            spec: task.spec.clone(),
            last_key: task.last_key.clone(),
            rows: task.rows,
            bytes: task.bytes,
            bytes_total: task.bytes_total,
            output: task.output.clone(),
            at_once: operation.limits.max_in_flight.max(1),
        }
    }
}

/// A value as it is written, shared or not.
mod shared {
    use super::{Arc, Deserialize, Serialize};

    pub(super) fn serialize<T: Serialize, S: serde::Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// The same of one that may be absent.
mod shared_option {
    use super::{Arc, Deserialize, Serialize};

    pub(super) fn serialize<T: Serialize, S: serde::Serializer>(
        value: &Option<Arc<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<T>>, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map(Arc::new))
    }
}
