//! The journal of one operation, as attempts and searches for tasks see it, wherever the journal is: only the
//! coordinator writes it.
//!
//! What an attempt has written is durable when the call returns. The port repeats a question until an answer comes: a
//! question or its answer may be lost, arrive twice or arrive late. So each question has a number that grows within
//! its asker, the asker has one question under way at a time, and a question names the whole content to write: doing
//! it twice is doing it once. The coordinator drops a question that a later one has overtaken. It answers an attempt
//! that is not the current one of its task only that; the attempt then ends as if it had been told to stop.

use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mendb_model::name::{BackupId, OperationId};
use mendb_model::part::{LeftPartition, TableName, TablePlan, Tally, Witness};

use crate::journal::Journal;
use crate::journal::made::Made;
use crate::journal::mend_plan::{MendPlan, MendState};
use crate::journal::needed::Needed;
use crate::question::{Answer, Asker, Question};
use crate::task_error::{TaskError, TaskResult};
use crate::wire::{Message, StepRequest};

/// How long an answer is waited for before the question is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where the answers come that attempts of this process wait for.
#[derive(Clone, Default)]
pub(crate) struct Answers(Arc<Mutex<Awaited>>);

#[derive(Default)]
struct Awaited {
    by: HashMap<(Asker, u64), SyncSender<Answer>>,
    is_closed: bool,
}

impl Answers {
    fn awaited(&self) -> MutexGuard<'_, Awaited> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an answer to who waits for it, if somebody does.
    pub(crate) fn give(&self, asker: Asker, number: u64, answer: Answer) {
        if let Some(waiting) = self.awaited().by.remove(&(asker, number)) {
            // One that waits no longer has ended.
            drop(waiting.send(answer));
        }
    }

    /// No more answers come.
    pub(crate) fn close(&self) {
        let mut awaited = self.awaited();
        awaited.is_closed = true;
        awaited.by.clear();
    }
}

/// The journal of an operation.
#[derive(Clone)]
pub(crate) struct JournalPort<'a>(Way<'a>);

#[derive(Clone)]
enum Way<'a> {
    /// It is here: for who only looks at what an operation would do.
    Here(&'a Journal, OperationId),
    /// The coordinator has it.
    Asking {
        asker: Asker,
        send: &'a (dyn Fn(Message) + Sync),
        answers: &'a Answers,
        /// The number of the last question; held while one is on its way.
        last: Arc<Mutex<u64>>,
    },
}

impl<'a> JournalPort<'a> {
    /// The journal of this process, for who looks at what an operation would do.
    pub(crate) fn here(journal: &'a Journal, request: &StepRequest) -> Self {
        Self(Way::Here(journal, request.operation_id.clone()))
    }

    /// The journal of a coordinator that is sent messages.
    pub(crate) fn asking(
        asker: Asker,
        send: &'a (dyn Fn(Message) + Sync),
        answers: &'a Answers,
    ) -> Self {
        Self(Way::Asking {
            asker,
            send,
            answers,
            last: Arc::default(),
        })
    }

    fn ask(&self, question: &Question) -> TaskResult<Answer> {
        let answer = match &self.0 {
            Way::Here(journal, own) => question.answer(journal, own),
            Way::Asking {
                asker,
                send,
                answers,
                last,
            } => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                *last += 1;
                let number = *last;
                let (give, given) = sync_channel(1);
                {
                    let mut awaited = answers.awaited();
                    if awaited.is_closed {
                        return Err(TaskError::Stopped);
                    }
                    awaited.by.insert((asker.clone(), number), give);
                }
                loop {
                    send(Message::Ask {
                        asker: asker.clone(),
                        number,
                        question: Box::new(question.clone()),
                    });
                    match given.recv_timeout(ASK_AGAIN_AFTER) {
                        Ok(answer) => break answer,
                        Err(RecvTimeoutError::Timeout) => {}
                        // The coordinator is gone.
                        Err(RecvTimeoutError::Disconnected) => return Err(TaskError::Stopped),
                    }
                }
            }
        };
        match answer {
            Answer::NotCurrent => Err(TaskError::Stopped),
            Answer::Failed(message) => Err(TaskError::Proof(message)),
            answer => Ok(answer),
        }
    }

    fn keep(&self, question: &Question) -> TaskResult<()> {
        match self.ask(question)? {
            Answer::Kept => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn is(&self, question: &Question) -> TaskResult<bool> {
        match self.ask(question)? {
            Answer::Is(is) => Ok(is),
            other => Err(unexpected(&other)),
        }
    }

    /// The plan of a table of the operation.
    pub(crate) fn mend_plan(&self, idx: u32) -> TaskResult<Option<MendPlan>> {
        match self.ask(&Question::MendPlan(idx))? {
            Answer::MendPlan(found) => Ok(found.map(|plan| *plan)),
            other => Err(unexpected(&other)),
        }
    }

    /// The plans of all tables of a mend.
    pub(crate) fn mend_plans(&self, id: &OperationId) -> TaskResult<Vec<MendPlan>> {
        match self.ask(&Question::MendPlans(id.clone()))? {
            Answer::MendPlans(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// The plan of a table of a mend, with its place.
    pub(crate) fn mend_plan_of(
        &self,
        id: &OperationId,
        target: &TableName,
    ) -> TaskResult<Option<(u32, MendPlan)>> {
        match self.ask(&Question::MendPlanOf(id.clone(), target.clone()))? {
            Answer::MendPlanAt(found) => Ok(found.map(|(idx, plan)| (idx, *plan))),
            other => Err(unexpected(&other)),
        }
    }

    /// What a mend left the partitions of a table as, those that were changed.
    pub(crate) fn left_partitions(
        &self,
        id: &OperationId,
        idx: u32,
    ) -> TaskResult<Vec<LeftPartition>> {
        match self.ask(&Question::LeftPartitions(id.clone(), idx))? {
            Answer::LeftPartitions(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// What a mend has created, or was about to.
    pub(crate) fn made(&self, id: &OperationId) -> TaskResult<Vec<Made>> {
        match self.ask(&Question::Made(id.clone()))? {
            Answer::Made(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// The newest witness of a table.
    pub(crate) fn witness(&self, table: &TableName) -> TaskResult<Option<Witness>> {
        match self.ask(&Question::Witness(table.clone()))? {
            Answer::Witness(found) => Ok(found.map(|witness| *witness)),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether there is an operation of this id.
    pub(crate) fn knows(&self, id: OperationId) -> TaskResult<bool> {
        self.is(&Question::IsKnown(id))
    }

    /// Whether a user has asked that the operation be paused or cancelled.
    pub(crate) fn is_recalled(&self) -> TaskResult<bool> {
        self.is(&Question::IsRecalled)
    }

    /// Which of some backups an unfinished operation of the target needs that is worked on beside the repository.
    pub(crate) fn needed_beside(
        &self,
        collection: &str,
        backups: Vec<BackupId>,
    ) -> TaskResult<Option<Needed>> {
        let question = Question::NeededBeside(collection.to_owned(), backups);
        match self.ask(&question)? {
            Answer::Needed(found) => Ok(found.map(|needed| *needed)),
            other => Err(unexpected(&other)),
        }
    }

    /// Keeps the plan of a table.
    pub(crate) fn put_mend_plan(&self, idx: u32, plan: &TablePlan) -> TaskResult<()> {
        self.keep(&Question::PutMendPlan(idx, Box::new(plan.clone())))
    }

    /// Adds to what was done to a table.
    pub(crate) fn add_mend_done(&self, idx: u32, more: &Tally) -> TaskResult<()> {
        let before = self.mend_plan(idx)?;
        let mut done = before.map(|record| record.done).unwrap_or_default();
        done += *more;
        self.keep(&Question::SetMendDone(idx, done))
    }

    /// Says how many parts came after planning.
    pub(crate) fn set_mend_late(&self, idx: u32, late_parts: u64) -> TaskResult<()> {
        self.keep(&Question::SetMendLate(idx, late_parts))
    }

    /// Says what has become of a table: said before the first change, and again when the last is proved.
    pub(crate) fn set_mend_state(&self, idx: u32, state: MendState) -> TaskResult<()> {
        self.keep(&Question::SetMendState(idx, state))
    }

    /// Keeps what a partition was left as.
    pub(crate) fn put_left_partition(&self, idx: u32, left: &LeftPartition) -> TaskResult<()> {
        self.keep(&Question::PutLeftPartition(idx, Box::new(left.clone())))
    }

    /// Notes that something is about to be created.
    pub(crate) fn put_made(&self, made: &Made) -> TaskResult<()> {
        self.keep(&Question::PutMade(made.clone()))
    }

    /// Keeps the newest witness of a table.
    pub(crate) fn put_witness(&self, table: &TableName, witness: &Witness) -> TaskResult<()> {
        let witness = Box::new(witness.clone());
        self.keep(&Question::PutWitness(table.clone(), witness))
    }
}

fn unexpected(answer: &Answer) -> TaskError {
    TaskError::Proof(format!(
        "the journal answered another question than was asked: {answer:?}"
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn asker() -> Asker {
        Asker {
            operation_id: "mend-1".parse().unwrap(),
            step: 1,
            task: Some((0, 1)),
        }
    }

    #[test]
    fn a_question_that_is_lost_is_asked_again_and_an_answer_to_another_is_not_taken_for_its_own() {
        let (answers, asked) = (Answers::default(), AtomicU64::new(0));
        let send = |message: Message| {
            let Message::Ask { asker, number, .. } = message else {
                panic!("{message:?}");
            };
            if asked.fetch_add(1, Ordering::SeqCst) > 0 {
                answers.give(asker.clone(), number + 1, Answer::Is(false));
                answers.give(asker, number, Answer::Is(true));
            }
        };
        let journal = JournalPort::asking(asker(), &send, &answers);
        assert!(journal.is_recalled().unwrap());
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn who_is_not_current_or_whose_coordinator_is_gone_is_stopped_and_a_failure_is_no_answer() {
        let answers = Answers::default();
        let say = |answer: &'static Answer| {
            let answers = answers.clone();
            move |message: Message| {
                if let Message::Ask { asker, number, .. } = message {
                    answers.give(asker, number, answer.clone());
                }
            }
        };
        let refused = say(&Answer::NotCurrent);
        let journal = JournalPort::asking(asker(), &refused, &answers);
        assert!(matches!(
            journal.made(&asker().operation_id),
            Err(TaskError::Stopped)
        ));
        let other = say(&Answer::Kept);
        let journal = JournalPort::asking(asker(), &other, &answers);
        assert!(matches!(journal.mend_plan(0), Err(TaskError::Proof(_))));
        let gone = |_: Message| answers.close();
        let journal = JournalPort::asking(asker(), &gone, &answers);
        assert!(matches!(journal.mend_plan(0), Err(TaskError::Stopped)));
        let closed = |message: Message| panic!("{message:?}");
        let journal = JournalPort::asking(asker(), &closed, &answers);
        assert!(matches!(journal.mend_plan(0), Err(TaskError::Stopped)));
    }
}
