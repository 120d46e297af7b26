//! Driving operations before the user's eyes, and following those that other processes drive.

use std::ops::ControlFlow;
use std::time::Duration;

use mendb_model::name::OperationId;
use mendb_model::operation::State;
use mendb_service::journal::Journal;
use mendb_service::journal::command::Command;
use mendb_service::{Service, command_through, ways_on};
use tokio::runtime::Handle;

use crate::clock;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::operations::ending::check_end;
use crate::operations::progress::OperationProgress;
use crate::operations::record::progress_line;
use crate::orphan::way_out;
use crate::owner::Owner;
use crate::serve::session::Session;

/// How often it is looked what another process does.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// After so many looks it is tried whether that process still has the target open.
const LOOKS_A_TRY: u32 = 5;
/// So often it is tried to give a command to a process that drives and does not take it.
const MOST_TRIES: u32 = 10;

impl Context {
    /// The same failure with how far the operations are that stand in its way: the one it names, or those
    /// that another process may be working on.
    pub fn tell_what_is_in_the_way(&self, mut failure: Failure) -> Failure {
        let opened = match (&failure.operation, failure.kind) {
            (Some(id), _) => match id.parse().map(|id| self.repository_journal_of(&id)) {
                Ok(Ok(Some((_, journal)))) => Ok(Some(journal)),
                Ok(Err(failure)) => Err(failure),
                Ok(Ok(None)) | Err(_) => self.open_journal(),
            },
            (None, FailureKind::Busy) => self.open_journal(),
            _ => return failure,
        };
        if let (Some(id), Ok(journal)) = (&failure.operation, &opened)
            && !is_known(journal.as_ref(), id)
        {
            let hint = way_out(id);
            return failure.hint(hint);
        }
        let Ok(Some(journal)) = opened else {
            return failure;
        };
        let ids = match &failure.operation {
            Some(operation) => operation.parse().into_iter().collect(),
            None => journal.unfinished_operations().unwrap_or_default(),
        };
        for operation in ids.iter().filter_map(|id| journal.operation_head(id).ok()) {
            if failure.operation.is_some() {
                failure.hint = Some(ways_on(&operation));
            }
            failure.causes.push(format!(
                "operation {} is at {:.0} %: {}",
                operation.operation_id,
                operation.progress().percent,
                progress_line(&operation)
            ));
        }
        failure
    }

    /// Drives all unfinished operations to their ends with progress on stderr, and reports one.
    ///
    /// # Errors
    /// The operation did not end as `wanted`, or driving failed.
    pub fn drive(
        &self,
        service: &Service,
        id: &OperationId,
        wanted: State,
    ) -> Result<Verdict, Failure> {
        service.check_repository(id)?;
        self.bring_to_end(service, id)?;
        self.report_end(service.journal(), id, wanted)
    }

    /// Drives all unfinished operations to their ends, or follows this one where the server drives them.
    ///
    /// # Errors
    /// Driving failed. How it ended is in the journal.
    pub fn bring_to_end(&self, service: &Service, id: &OperationId) -> Result<(), Failure> {
        match &self.session {
            Some(session) => {
                session.tell_begun(id);
                self.follow(&Owner::Target, service.journal(), id)
            }
            None => self.drive_all(service),
        }
    }

    /// Drives all unfinished operations to their ends with progress on stderr.
    ///
    /// # Errors
    /// Driving failed. How the operations ended is in the journal.
    pub fn drive_all(&self, service: &Service) -> Result<(), Failure> {
        let mut progress = OperationProgress::start(self.output.hides_progress());
        let driven = service.drive(&mut |operation| progress.update(operation));
        progress.finish();
        Ok(driven?)
    }

    /// Has a backup that failed before rolled back, as another takes its place. It is not reported: the other one is.
    ///
    /// # Errors
    /// It could not be rolled back.
    pub fn give_up(&self, service: &Service, id: &OperationId) -> Result<(), Failure> {
        self.say(&format!("operation {id} failed before: rolling it back"));
        service.command(id, Command::Cancel(None))?;
        self.drive_all(service)?;
        check_end(&service.journal().operation_head(id)?, State::Cancelled)
    }

    /// Drives an operation: with all others that a target has begun; of a repository it alone, since nobody who
    /// gives one order expects what another would remove.
    fn drive_of(&self, owner: &Owner, service: &Service, id: &OperationId) -> Result<(), Failure> {
        if *owner == Owner::Target {
            return self.drive_all(service);
        }
        let mut progress = OperationProgress::start(self.output.hides_progress());
        let driven = service.drive_only(id, &mut |operation| progress.update(operation));
        progress.finish();
        Ok(driven?)
    }

    /// Brings an operation to where only a user can move it, and reports it: see [`Self::follow`].
    ///
    /// # Errors
    /// As [`Self::follow`], or the operation did not end as `wanted`.
    pub fn see_through(
        &self,
        (owner, journal): &(Owner, Journal),
        id: &OperationId,
        wanted: State,
    ) -> Result<Verdict, Failure> {
        self.follow(owner, journal, id)?;
        self.report_end(journal, id, wanted)
    }

    /// Brings an operation to where only a user can move it: drives it, or follows it while another process
    /// drives. When that process ends, or is killed, this one takes its place.
    ///
    /// # Errors
    /// What drives cannot be opened for another reason than that another process has it open.
    pub fn follow(
        &self,
        owner: &Owner,
        journal: &Journal,
        id: &OperationId,
    ) -> Result<(), Failure> {
        if let Some(session) = &self.session {
            return self.follow_served(session, owner, journal, id);
        }
        let mut progress = OperationProgress::start(self.output.hides_progress());
        for look in 0u32.. {
            let operation = journal.operation_head(id)?;
            if operation.awaits_user() {
                break;
            }
            if look.is_multiple_of(LOOKS_A_TRY)
                && let Some(service) = self.try_open_at_once(owner)?
            {
                progress.finish();
                service.check_repository(id)?;
                return self.drive_of(owner, &service, id);
            }
            progress.update(&operation);
            clock::sleep(LOOK_EVERY);
        }
        progress.finish();
        Ok(())
    }

    /// Follows an operation that the server drives for whose client this is, for as long as that listens.
    fn follow_served(
        &self,
        session: &Session,
        owner: &Owner,
        journal: &Journal,
        id: &OperationId,
    ) -> Result<(), Failure> {
        let mut is_first = true;
        loop {
            let operation = journal.operation_head(id)?;
            if operation.awaits_user() {
                return Ok(());
            }
            if std::mem::take(&mut is_first) {
                match owner {
                    Owner::Target => session.house.target.check_repository(id)?,
                    Owner::Repository(directory) => session.house.maintain(directory, id),
                    Owner::Cluster(_) => return Err(not_served(id)),
                }
                session.tell_begun(id);
            }
            if session.house.is_stopping() {
                return Err(Failure::new(
                    FailureKind::Retry,
                    format!("the server ends, and operation {id} is not over"),
                )
                .hint(format!(
                    "the next mendb serve goes on with it, and so does mendb operation watch {id}"
                )));
            }
            self.check_heard()?;
            session.tell_progress(id, &progress_line(&operation), operation.progress().percent);
            session.house.wait(LOOK_EVERY);
        }
    }

    /// Ends a command of a client that has gone, which else would hold the place of another: nobody reads what it finds.
    ///
    /// # Errors
    /// The client has gone, or the server ends.
    pub fn check_heard(&self) -> Result<(), Failure> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        if session.house.is_stopping() {
            return Err(Failure::new(
                FailureKind::Retry,
                "the server ends before the command does",
            )
            .hint("ask again when it is there again"));
        }
        match session.is_left() {
            true => Err(Failure::new(
                FailureKind::BrokenPipe,
                "nobody waits for the end of the command any more",
            )),
            false => Ok(()),
        }
    }

    /// The same for who is told how much is done: breaks when the client has gone.
    pub fn while_heard(&self) -> ControlFlow<()> {
        match self.check_heard() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Waits for work that may take long, but no longer than the client does.
    ///
    /// # Errors
    /// The client has gone.
    pub fn until_left<T>(
        &self,
        runtime: &Handle,
        work: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let Some(listener) = &self.output.listener else {
            return Ok(runtime.block_on(work));
        };
        let done = runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                () = listener.left() => None,
            }
        });
        done.ok_or_else(|| {
            Failure::new(
                FailureKind::BrokenPipe,
                "nobody waits for the end of the command any more",
            )
        })
    }

    /// Has the server that runs this command ask something of an operation.
    fn deliver_served(
        &self,
        session: &Session,
        (owner, journal): &(Owner, Journal),
        id: &OperationId,
        command: Command,
    ) -> Result<(), Failure> {
        let house = &session.house;
        let command_id = match owner {
            Owner::Target => {
                house.target.check_repository(id)?;
                house.target.command(id, command)?
            }
            Owner::Repository(directory) => {
                let command_id = command_through(journal, id, command)?;
                house.maintain(directory, id);
                command_id
            }
            Owner::Cluster(_) => return Err(not_served(id)),
        };
        house.poke();
        for _ in 0..MOST_TRIES * LOOKS_A_TRY {
            if !journal.has_command(command_id)? {
                return Ok(());
            }
            house.wait(LOOK_EVERY);
        }
        if !journal.delete_command(command_id)? {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::Retry,
            format!("the server did not take the command for {id} in time"),
        )
        .hint("nothing was asked of the operation: try again"))
    }

    /// Asks something of an operation: does it, or has the process do it that has the target open. Where that
    /// cannot be, what was asked is withdrawn, so that it does not happen later.
    ///
    /// # Errors
    /// The operation's state does not allow it, its repository is not ours, driving failed, or the other
    /// process does not do it.
    pub fn deliver(
        &self,
        known: &(Owner, Journal),
        id: &OperationId,
        command: Command,
    ) -> Result<(), Failure> {
        if let Some(session) = &self.session {
            return self.deliver_served(session, known, id, command);
        }
        let (owner, journal) = known;
        if let Some(service) = self.try_open_at_once(owner)? {
            service.check_repository(id)?;
            let command_id = service.command(id, command)?;
            let driven = self.drive_of(owner, &service, id);
            if driven.is_err() {
                journal.delete_command(command_id)?;
            }
            return driven;
        }
        let command_id = command_through(journal, id, command)?;
        let taken = self.wait_until_taken(owner, journal, id, command_id);
        let Err(failure) = taken else {
            return Ok(());
        };
        let waited = journal.delete_command(command_id)?;
        // It may have been taken at the last moment.
        if !waited && failure.kind == FailureKind::Busy {
            return Ok(());
        }
        Err(failure)
    }

    /// Waits until the process that drives has taken a command, or drives when it has ended.
    fn wait_until_taken(
        &self,
        owner: &Owner,
        journal: &Journal,
        id: &OperationId,
        command_id: i64,
    ) -> Result<(), Failure> {
        for _ in 0..MOST_TRIES {
            for _ in 0..LOOKS_A_TRY {
                if !journal.has_command(command_id)? {
                    return Ok(());
                }
                clock::sleep(LOOK_EVERY);
            }
            if let Some(service) = self.try_open_at_once(owner)? {
                service.check_repository(id)?;
                return self.drive_of(owner, &service, id);
            }
        }
        Err(Failure::new(
            FailureKind::Busy,
            format!("another process has the target open and does not take the command for {id}"),
        )
        .hint("nothing was asked of the operation: try again when that process has ended"))
    }
}

/// That an operation on a cluster is driven by commands alone.
fn not_served(id: &OperationId) -> Failure {
    Failure::input(format!(
        "operation {id} is on a cluster, and a server drives none of these"
    ))
    .hint("ask on the machine of the coordinator, without --server")
}

/// Whether a journal has an operation, as far as that can be told.
fn is_known(journal: Option<&Journal>, id: &str) -> bool {
    let Some(journal) = journal else {
        return false;
    };
    let Ok(id) = id.parse() else {
        return false;
    };
    let read = journal.operation_head(&id);
    !matches!(read, Err(mendb_service::Error::UnknownOperation(_)))
}
