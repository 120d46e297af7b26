//! What the agent of a shard is asked, and how it is followed.

use mendb_engines::agents::{AgentOperation, Agents, Answer, Asked, order_key};
use mendb_model::name::OperationId;
use mendb_model::operation::{
    ClusterRequest, ClusterWork, HOLD, ShardAgent, StepKind, StoppedTable,
};
use mendb_model::part::{OnConcurrentInsert, TablePlan};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::looks::Looks;
use crate::attempt::{Attempt, Counts};
use crate::operations::part_mend::assess::check_came;
use crate::task_error::{TaskError, TaskResult};

/// So often an agent is looked at that gives up what it was lost with.
const LOOKS_AT_LEFT: u32 = 150;

/// How an agent calls the ends of an operation.
const DONE: &str = "done";
const CANCELLED: &str = "cancelled";

/// Up to where an operation of an agent is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// It waits before this step for the other shards, or is done, where there was nothing to wait before.
    Held {
        before: StepKind,
        /// By when, in milliseconds since 1970, where there is such a time.
        until_ms: Option<u64>,
    },
    Done,
    Cancelled,
}

impl Until {
    /// Whether an operation waits where it is to, or beyond: it never goes back by itself.
    fn has_come(self, found: &AgentOperation) -> bool {
        match self {
            Self::Held {
                before: StepKind::Verify,
                ..
            } => found.held,
            Self::Held { before, .. } => found.held && found.step == before.name(),
            Self::Done | Self::Cancelled => false,
        }
    }

    fn until_ms(self) -> Option<u64> {
        match self {
            Self::Held { until_ms, .. } => until_ms,
            Self::Done | Self::Cancelled => None,
        }
    }
}

/// The part of a shard in an operation of a cluster.
#[derive(Clone, Copy)]
pub(super) struct Shard<'a> {
    pub(super) agents: &'a Agents,
    /// The operation of the cluster.
    pub(super) operation: &'a OperationId,
    pub(super) request: &'a ClusterRequest,
    pub(super) at: &'a ShardAgent,
}

/// An order as an agent gets it.
struct Order {
    path: Vec<String>,
    arguments: Map<String, Value>,
    key: String,
}

/// Whether an order is given, or it is only asked what came of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    Begin,
    Known,
    /// What it would do.
    Look {
        text: bool,
    },
}

impl<'a> Shard<'a> {
    pub(super) fn of(
        attempt: &'a Attempt<'_>,
        request: &'a ClusterRequest,
        at: &'a ShardAgent,
    ) -> TaskResult<Self> {
        Ok(Self {
            agents: attempt.tools.engine.agents()?,
            operation: &attempt.request.operation_id,
            request,
            at,
        })
    }

    /// What the agent is ordered; `None` where there is nothing to be ordered: a mend that is to be undone has begun
    /// nothing there.
    fn order(&self) -> TaskResult<Option<Order>> {
        let mut arguments = self.request.arguments.clone();
        if let Some(policy) = self.request.on_concurrent_insert {
            arguments.extend(said_of_inserts(policy));
        }
        let shard = &self.at.shard;
        let collection = self.request.collection.clone();
        Ok(Some(match &self.request.work {
            ClusterWork::Backup { backup_id, .. } => {
                arguments.insert("shard_of".to_owned(), backup_id.to_string().into());
                arguments.insert("shard".to_owned(), shard.as_str().into());
                Order {
                    path: vec!["collections".to_owned(), collection, "backups".to_owned()],
                    arguments,
                    key: order_key(self.operation, "backup", shard),
                }
            }
            ClusterWork::Mend { backup_id } => {
                arguments.insert("in_place".to_owned(), true.into());
                // That a pattern fits nothing on any shard was seen when it was ordered.
                arguments.insert("if_exists".to_owned(), true.into());
                arguments.insert("if_different".to_owned(), true.into());
                arguments.insert("to".to_owned(), backup_id.to_string().into());
                arguments.insert("shard".to_owned(), shard.as_str().into());
                Order {
                    path: vec!["collections".to_owned(), collection, "restores".to_owned()],
                    arguments,
                    key: order_key(self.operation, "mend", shard),
                }
            }
            ClusterWork::Undo {
                operation_id,
                arguments: mended,
                backup_id,
            } => {
                let request = ClusterRequest {
                    work: ClusterWork::Mend {
                        backup_id: backup_id.clone(),
                    },
                    arguments: mended.clone(),
                    ..self.request.clone()
                };
                let mend = Shard {
                    operation: operation_id,
                    request: &request,
                    ..*self
                };
                match mend.known()? {
                    None => return Ok(None),
                    Some(id) => undo_of(&id, arguments, order_key(self.operation, "undo", shard)),
                }
            }
        }))
    }

    fn ask(&self, order: &Order, asking: Asking) -> TaskResult<Answer> {
        let mut arguments = order.arguments.clone();
        if let Asking::Look { .. } = asking {
            arguments.remove(HOLD);
            arguments.remove("if_different");
            arguments.insert("dry_run".to_owned(), true.into());
        }
        let path: Vec<&str> = order.path.iter().map(String::as_str).collect();
        Ok(self.agents.ask(
            self.at,
            &Asked {
                path: &path,
                arguments: &arguments,
                key: (!matches!(asking, Asking::Look { .. })).then_some(order.key.as_str()),
                known_only: asking == Asking::Known,
                text: asking == Asking::Look { text: true },
            },
        )?)
    }

    /// The operation that the agent has begun for this one, if it has.
    pub(super) fn known(&self) -> TaskResult<Option<OperationId>> {
        let Some(order) = self.order()? else {
            return Ok(None);
        };
        Ok(operation_in(self.ask(&order, Asking::Known)?))
    }

    /// What the agent would do, as it prints it; `None` for nothing. Nothing is changed.
    pub(super) fn look(&self, text: bool) -> TaskResult<Option<String>> {
        let Some(order) = self.order()? else {
            return Ok(None);
        };
        match self.ask(&order, Asking::Look { text })? {
            Answer::Done { printed, .. } => Ok(Some(printed)),
            Answer::Operation(id) => Err(TaskError::Proof(format!(
                "the agent of shard {} has begun operation {id} where it was asked what it would do: it is of another \
                 version",
                self.at.shard
            ))),
            Answer::Unknown => Ok(None),
        }
    }

    /// What the agent would do, where all of it can be done. Nothing is changed.
    ///
    /// # Errors
    /// A table would be left as it is, or an undo would meet rows that came.
    pub(super) fn planned(&self) -> TaskResult<Option<String>> {
        let Some(told) = self.look(false)? else {
            return Ok(None);
        };
        let shard = &self.at.shard;
        let preview: Preview = read(self.at, &told)?;
        if let Some(stopped) = preview.stopped.first() {
            return Err(TaskError::Proof(format!(
                "table {} of shard {shard} would not be mended, so nothing was changed on any shard: {}; \
                 --exclude-tables leaves it out",
                stopped.target, stopped.reason
            )));
        }
        if let ClusterWork::Undo { .. } = self.request.work {
            let policy = self.policy()?;
            for plan in &preview.tables {
                check_came(policy, plan).map_err(|error| {
                    TaskError::Proof(format!(
                        "nothing was changed on any shard, since on shard {shard} {error}"
                    ))
                })?;
            }
        }
        Ok(Some(told))
    }

    /// What becomes of rows that come.
    fn policy(&self) -> TaskResult<OnConcurrentInsert> {
        let said = self.request.arguments.get("on_concurrent_insert");
        match (self.request.on_concurrent_insert, said) {
            (Some(policy), _) => Ok(policy),
            (None, None) => Ok(OnConcurrentInsert::default()),
            (None, Some(said)) => OnConcurrentInsert::deserialize(said).map_err(|error| {
                TaskError::Proof(format!(
                    "the operation says of rows that come {said}: {error}"
                ))
            }),
        }
    }

    /// Has the agent begin its part, and follows it to where it waits for the other shards before a step; not beyond a time
    /// in milliseconds since 1970, where there is one.
    pub(super) fn hold(
        &self,
        attempt: &Attempt<'_>,
        (before, until_ms): (StepKind, Option<u64>),
        counts: &mut Counts,
    ) -> TaskResult<()> {
        let Some(order) = self.order()? else {
            return Ok(());
        };
        // That was asked of the replica before.
        let is_replaced = self.request.is_replaced(&self.at.shard);
        if is_replaced && !self.request.is_backup() && self.known()?.is_none() {
            self.planned()?;
        }
        let until = Until::Held { before, until_ms };
        match self.begun(&order)? {
            None => Ok(()),
            Some(id) => self.follow(attempt, (&id, until), counts),
        }
    }

    /// Has the agent do its part, and follows it to its end. Returns its operation; `None` where there was nothing to do:
    /// where all shards wait for each other, that was found out before.
    pub(super) fn see_through(
        &self,
        attempt: &Attempt<'_>,
        counts: &mut Counts,
    ) -> TaskResult<Option<OperationId>> {
        // Another replica may have taken a backup over when all were frozen.
        let may_begin = !self.request.waits_for_all()
            || self.request.is_backup() && self.request.is_replaced(&self.at.shard);
        let begun = match (may_begin, self.order()?) {
            (_, None) => None,
            (false, Some(order)) => operation_in(self.ask(&order, Asking::Known)?),
            (true, Some(order)) => self.begun(&order)?,
        };
        let Some(id) = begun else {
            return Ok(None);
        };
        self.follow(attempt, (&id, Until::Done), counts)?;
        Ok(Some(id))
    }

    /// Gives an order unless the agent has it; a key is that of one request, and what is said of parts that come may have
    /// changed since. `None` where there is nothing to do.
    fn begun(&self, order: &Order) -> TaskResult<Option<OperationId>> {
        if self.request.on_concurrent_insert.is_some()
            && let Some(known) = operation_in(self.ask(order, Asking::Known)?)
        {
            return Ok(Some(known));
        }
        let answer = self.ask(order, Asking::Begin)?;
        crate::env::crash_point();
        Ok(operation_in(answer))
    }

    /// Follows an operation of the agent to where it is to come. One that waits for the other shards is told to go on. One
    /// that has failed or was paused stays so until the user has been told and has resumed the operation of the cluster: to
    /// go on may do what nobody has been asked about.
    fn follow(
        &self,
        attempt: &Attempt<'_>,
        (id, until): (&OperationId, Until),
        counts: &mut Counts,
    ) -> TaskResult<()> {
        let shard = &self.at.shard;
        let _at_work = self.agents.at_work();
        let mut has_resumed = false;
        let mut looks = Looks::until(until.until_ms());
        loop {
            let found = self.agents.operation(self.at, id)?;
            counts.rows = found.rows_done;
            counts.bytes = found.bytes_done;
            let stands = match (found.state.as_str(), found.paused) {
                (DONE, _) if until != Until::Cancelled => return Ok(()),
                (CANCELLED, _) if until == Until::Cancelled => return Ok(()),
                _ if until.has_come(&found) => return Ok(()),
                _ if found.held => {
                    self.release(attempt, id, &found)?;
                    continue;
                }
                (DONE, _) => {
                    return Err(TaskError::Proof(format!(
                        "operation {id} of shard {shard} was rolled back, and is done: its agent is of another version"
                    )));
                }
                (CANCELLED, _) => {
                    return Err(TaskError::Proof(format!(
                        "operation {id} of shard {shard} was cancelled on its server, so that it cannot be gone on with: \
                         cancel this one"
                    )));
                }
                ("failed", _) => "has failed",
                (_, true) => "is paused",
                _ => {
                    attempt.tell(counts);
                    looks.pause(attempt)?;
                    continue;
                }
            };
            let told = self.told_of(id, &found);
            if has_resumed || attempt.request.last_key.as_ref() != Some(&told) {
                counts.last_key = Some(told);
                attempt.in_progress(counts)?;
                let why = self.advised(id, found.error.unwrap_or_default());
                return Err(TaskError::Proof(format!(
                    "operation {id} of shard {shard}, at {}, {stands}: {why}",
                    self.at.agent
                )));
            }
            self.resume(id)?;
            has_resumed = true;
            self.wait_until_moved(attempt, id, &found)?;
        }
    }

    /// Tells an operation of the agent that waits for the other shards to go on.
    fn release(
        &self,
        attempt: &Attempt<'_>,
        id: &OperationId,
        held: &AgentOperation,
    ) -> TaskResult<()> {
        // With what was said of parts that come after it was begun.
        let told = self.resume(id);
        crate::env::crash_point();
        match told {
            Ok(()) => self.wait_until_moved(attempt, id, held),
            // Somebody else was faster.
            Err(_) if self.agents.operation(self.at, id)? != *held => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn resume(&self, id: &OperationId) -> TaskResult<()> {
        let policy = self.request.on_concurrent_insert;
        let said = policy.map(said_of_inserts).into_iter().flatten();
        Ok(self
            .agents
            .command(self.at, id, "resume", &said.collect())?)
    }

    /// What an operation of the agent says, with the operation of the cluster in its advice: that is the one that is gone
    /// on with or given up.
    fn advised(&self, id: &OperationId, told: String) -> String {
        let commands = [
            "operation resume",
            "operation cancel",
            "operation watch",
            "undo",
        ];
        commands.iter().fold(told, |told, command| {
            let theirs = format!("mendb {command} {id}");
            told.replace(&theirs, &format!("mendb {command} {}", self.operation))
        })
    }

    /// By what it is known that the user was told how an operation of the agent stands. It grows from shard to shard, and
    /// with each move: a task never goes back behind its last key.
    fn told_of(&self, id: &OperationId, found: &AgentOperation) -> Vec<u8> {
        let mut shards = self.request.shards.iter();
        let place = shards.position(|at| at.shard == self.at.shard);
        let (place, moves) = (place.unwrap_or_default(), found.events.len());
        let AgentOperation {
            updated_at, state, ..
        } = found;
        format!("{place:010} {updated_at} {moves:010} {id} {state}").into_bytes()
    }

    /// Waits until an operation is no more what it was.
    fn wait_until_moved(
        &self,
        attempt: &Attempt<'_>,
        id: &OperationId,
        was: &AgentOperation,
    ) -> TaskResult<()> {
        let mut looks = Looks::new();
        loop {
            let found = self.agents.operation(self.at, id)?;
            if found != *was {
                return Ok(());
            }
            looks.pause(attempt)?;
        }
    }

    /// Tells the agent to give up what it does of its part, if it does anything. What comes of it is seen by who takes it
    /// back.
    pub(super) fn tell_cancel(&self) -> TaskResult<()> {
        let Some(id) = self.known()? else {
            return Ok(());
        };
        let found = self.agents.operation(self.at, &id)?;
        let is_over = [DONE, CANCELLED].contains(&found.state.as_str());
        if is_over || found.step == StepKind::Rollback.name() {
            return Ok(());
        }
        Ok(self.agents.command(self.at, &id, "cancel", &Map::new())?)
    }

    /// Has an agent that was lost, and that another replica has taken the place of, give up what it waits with, if it does
    /// anything still.
    ///
    /// # Errors
    /// It does not answer, or does not come to an end.
    pub(super) fn give_up_left(&self, pause: impl Fn()) -> TaskResult<()> {
        let Some(id) = self.known()? else {
            return Ok(());
        };
        for _ in 0..LOOKS_AT_LEFT {
            let found = self.agents.operation(self.at, &id)?;
            if [DONE, CANCELLED].contains(&found.state.as_str()) {
                return Ok(());
            }
            let is_on_its_way = found.step == StepKind::Rollback.name();
            if !is_on_its_way || found.state == "failed" {
                let verb = if is_on_its_way { "resume" } else { "cancel" };
                // It may have moved by the time it is told.
                if let Err(error) = self.agents.command(self.at, &id, verb, &Map::new())
                    && self.agents.operation(self.at, &id)? == found
                {
                    return Err(error.into());
                }
            }
            pause();
        }
        Err(TaskError::Proof(format!(
            "the agent of replica {} of shard {}, at {}, has not given up operation {id}, which another replica has done in \
             its place: mendb operation show {id} beside its server tells why",
            self.at.replica, self.at.shard, self.at.agent
        )))
    }

    /// Takes back what the agent has done of its part. Rows that came stay, as where one server's mend is cancelled,
    /// unless something else was said.
    pub(super) fn take_back(
        &self,
        attempt: &Attempt<'_>,
        counts: &mut Counts,
    ) -> TaskResult<TakenBack> {
        let mut taken_back = TakenBack::default();
        let Some(id) = self.known()? else {
            return Ok(taken_back);
        };
        let shard = &self.at.shard;
        let mut looks = Looks::new();
        loop {
            let found = self.agents.operation(self.at, &id)?;
            match found.state.as_str() {
                CANCELLED => {
                    let left = found.left_mended();
                    taken_back.left = (!left.is_empty()).then(|| {
                        format!(
                            "shard {shard} keeps what was done to {}, which mendb operation show {id} beside its server \
                             explains",
                            left.join(", ")
                        )
                    });
                    break;
                }
                DONE if self.request.is_backup() => break,
                DONE if self.keeps_nothing() => {
                    taken_back.left = Some(format!(
                        "shard {shard} stays as it was mended: nothing was kept to take that back by (--no-undo)"
                    ));
                    break;
                }
                DONE => {
                    let key = order_key(self.operation, "rollback", shard);
                    let policy = self.request.on_concurrent_insert;
                    let said = said_of_inserts(policy.unwrap_or(OnConcurrentInsert::Keep));
                    let order = undo_of(&id, said.collect(), key);
                    if let Some(undo) = self.begun(&order)? {
                        self.follow(attempt, (&undo, Until::Done), counts)?;
                    }
                    break;
                }
                _ if found.step == StepKind::Rollback.name() => {
                    self.follow(attempt, (&id, Until::Cancelled), counts)?;
                }
                _ => {
                    // It may have ended, or be on its way back, by the time it is told; and what is at work, too far to
                    // be cancelled, comes to its end and is undone then.
                    let is_at_rest = found.paused || found.state == "failed";
                    if let Err(error) = self.agents.command(self.at, &id, "cancel", &Map::new())
                        && is_at_rest
                        && self.agents.operation(self.at, &id)? == found
                    {
                        return Err(error.into());
                    }
                    attempt.tell(counts);
                    looks.pause(attempt)?;
                }
            }
        }
        taken_back.operation = Some(id);
        Ok(taken_back)
    }

    /// Whether agents were told to keep nothing by which a mend could be taken back.
    fn keeps_nothing(&self) -> bool {
        self.request.arguments.get("no_undo") == Some(&Value::Bool(true))
    }
}

/// What an agent says that a mend would do.
#[derive(Deserialize)]
struct Preview {
    #[serde(default)]
    stopped: Vec<StoppedTable>,
    #[serde(default)]
    tables: Vec<TablePlan>,
}

/// What became of the part of a shard that was given up.
#[derive(Debug, Default)]
pub(super) struct TakenBack {
    /// The operation that it was; `None` where the agent has begun none.
    pub(super) operation: Option<OperationId>,
    /// What could not be taken back, and why.
    pub(super) left: Option<String>,
}

/// What an agent is told of parts that come, as an argument of its command.
fn said_of_inserts(policy: OnConcurrentInsert) -> impl Iterator<Item = (String, Value)> {
    std::iter::once(("on_concurrent_insert".to_owned(), policy.name().into()))
}

fn undo_of(id: &OperationId, arguments: Map<String, Value>, key: String) -> Order {
    Order {
        path: vec!["operations".to_owned(), id.to_string(), "undo".to_owned()],
        arguments,
        key,
    }
}

fn operation_in(answer: Answer) -> Option<OperationId> {
    match answer {
        Answer::Operation(id) => Some(id),
        Answer::Done { .. } | Answer::Unknown => None,
    }
}

/// Reads what an agent told.
pub(super) fn read<T: DeserializeOwned>(at: &ShardAgent, told: &str) -> TaskResult<T> {
    serde_json::from_str(told).map_err(|error| {
        TaskError::Proof(format!(
            "the agent of shard {} says what this mendb cannot read ({error}): give all machines of the cluster one version",
            at.shard
        ))
    })
}
