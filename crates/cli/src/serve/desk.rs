//! Does what is asked of the server, with the commands of the program.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use mendb_model::name::OperationId;
use mendb_server::metrics::Family;
use mendb_server::{Asked, Desk, End, Field, Format, Listener, Problem, Route, Store, Told};
use mendb_service::journal::Journal;
use mendb_service::journal::operation_key::{OrderKey, Ordered};
use mendb_service::{Rates, env};
use serde_json::Value;

use super::house::House;
use super::last_reload::LastReload;
use super::measure;
use super::program::Program;
use super::reload::Reload;
use super::session::Session;
use super::words;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::output::{Output, OutputFormat};
use crate::owner::Owner;
use crate::settings::{Entry, Settings};

/// The program, as the server sees it.
pub struct ProgramDesk {
    pub house: Arc<House>,
    pub store: Arc<Store>,
    /// What commands are run with.
    pub settings: Mutex<(Settings, Vec<Entry>)>,
    pub last_reload: LastReload,
    /// Of an agent, how fast its coordinator lets it be.
    pub share: Mutex<Rates>,
    pub program: Program,
    /// What is measured in the repository, which takes its time.
    pub measured: Mutex<Option<measure::Repository>>,
}

impl ProgramDesk {
    /// The settings, and each with its origin.
    pub fn settings(&self) -> (Settings, Vec<Entry>) {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.clone()
    }

    /// Reads settings and certificates again. Returns what has changed, as people read it.
    ///
    /// # Errors
    /// Something is wrong, or cannot change while the server runs. Then all is as it was.
    pub fn reload(&self, reload: &Reload) -> Result<Vec<String>, Failure> {
        let mut settings = self.settings();
        let read = reload.read(&mut settings);
        self.last_reload.note(read.is_ok());
        if read.is_ok() {
            self.take_over(settings.0, settings.1);
        }
        read
    }

    /// From now on works with other settings: commands that begin, operations that are ordered, and what goes to and
    /// comes from the repository.
    fn take_over(&self, settings: Settings, entries: Vec<Entry>) {
        let mut current = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        *current = (settings, entries);
        drop(current);
        let context = self.local();
        let of_service = context.service_settings(String::new());
        self.house.target.change_limits(of_service.limits.clone());
        self.change_rates();
        self.house.change_settings(of_service);
    }

    /// Has the repository spoken with as fast as the settings, and the coordinator of a cluster, let it be.
    fn change_rates(&self) {
        let own = {
            let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
            Rates {
                upload: settings.0.upload_bytes_per_s,
                download: settings.0.download_bytes_per_s,
            }
        };
        let share = *self.share.lock().unwrap_or_else(PoisonError::into_inner);
        let Rates { upload, download } = own.and(share);
        self.house.repository.change_rates(upload, download);
    }

    /// The words of a request.
    fn words(&self, asked: &Asked) -> Result<Vec<String>, Failure> {
        let program = (self.program.define)();
        let mut parameters = asked.parameters.clone();
        let carries_out = asked
            .route
            .command()
            .is_some_and(|command| command.carries_out);
        if carries_out {
            parameters.clear();
        }
        let mut words = words::of_request(&program, asked.route, &parameters, &asked.fields)?;
        if carries_out {
            let plan = asked.parameters.iter().map(|(_, plan)| plan.as_str());
            words.push(format!("--plan={}", plan.collect::<String>()));
        }
        Ok(words)
    }

    fn order(&self, asked: &Asked, words: &[String]) -> OrderKey {
        // Every operation of a server has one: it goes on with them after a crash.
        let own = || format!("server/{}", env::random_id());
        OrderKey {
            key: asked.key.clone().unwrap_or_else(own),
            fingerprint: blake3::hash(words.join("\0").as_bytes())
                .to_hex()
                .to_string(),
        }
    }

    fn run(&self, asked: &Asked, listener: &Arc<Listener>) -> Result<Verdict, Failure> {
        let words = self.words(asked)?;
        let order = self.order(asked, &words);
        let mut session =
            Session::new(Arc::clone(&self.house), order.clone(), Arc::clone(listener));
        let command = asked.route.command();
        if command.is_some_and(|command| command.carries_out) {
            let plan_id: String = asked
                .parameters
                .iter()
                .map(|(_, plan)| plan.as_str())
                .collect();
            let plan = self.store.plan(&plan_id)?;
            let unknown = || {
                Failure::input(format!("there is no plan {plan_id}"))
                    .hint("plans are kept for a day: make another, with dry_run")
                    .absent()
            };
            session.plan = Some(plan.ok_or_else(unknown)?);
        }
        session.caller = Some(asked.caller.name.clone());
        session.keeps_plan = asked.keeps_plan;
        session.upload.clone_from(&asked.upload);
        let session = Arc::new(session);
        let (settings, entries) = self.settings();
        let context = Context {
            settings,
            entries,
            output: Output {
                format: match asked.format {
                    Format::Json => OutputFormat::Json,
                    Format::Text => OutputFormat::Text,
                },
                quiet: asked.quiet,
                listener: Some(Arc::clone(listener)),
            },
            session: Some(Arc::clone(&session)),
            shared: self.house.shared.clone(),
        };
        let keyed = self.house.target.journal().ordered_as(order);
        let verdict = (self.program.run)(&words, &context);
        drop(keyed);
        if let Some(plan) = session.kept() {
            listener.tell(Told::Planned(self.store.keep_plan(&plan)?));
        }
        verdict.map_err(|failure| context.tell_what_is_in_the_way(failure))
    }

    /// The surroundings of what is run for a schedule.
    pub fn context(&self, key: &str, listener: &Arc<Listener>) -> Context {
        let order = Self::order_of(key);
        let session = Session::new(Arc::clone(&self.house), order, Arc::clone(listener));
        Context {
            output: Output {
                listener: Some(Arc::clone(listener)),
                ..self.local().output
            },
            session: Some(Arc::new(session)),
            ..self.local()
        }
    }

    /// The order of a time of a schedule, which is named by its key alone.
    pub fn order_of(key: &str) -> OrderKey {
        OrderKey {
            key: key.to_owned(),
            fingerprint: String::new(),
        }
    }

    /// The operation that was made for an order.
    pub fn operation_of(&self, key: &str) -> Result<Option<OperationId>, Failure> {
        Ok(self.made_for(key)?.map(|made| made.operation_id))
    }

    /// The operations that are not over, of the target and of repositories alone.
    pub fn unfinished(&self) -> Result<BTreeSet<OperationId>, Failure> {
        let mut unfinished = self.house.target.journal().unfinished_operations()?;
        for (_, journal) in self.repository_journals()? {
            unfinished.extend(journal.unfinished_operations()?);
        }
        Ok(unfinished.into_iter().collect())
    }

    /// The journals of repositories alone.
    pub fn repository_journals(&self) -> Result<Vec<(Owner, Journal)>, Failure> {
        self.local().repository_journals()
    }

    /// Whether the record of an operation is there.
    fn is_known(&self, id: &OperationId) -> Result<bool, Failure> {
        let knows = |journal: &Journal| match journal.operation_head(id) {
            Ok(_) => Ok(true),
            Err(mendb_service::Error::UnknownOperation(_)) => Ok(false),
            Err(error) => Err(Failure::from(error)),
        };
        if knows(self.house.target.journal())? {
            return Ok(true);
        }
        for (_, journal) in self.repository_journals()? {
            if knows(&journal)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn made_for(&self, key: &str) -> Result<Option<Ordered>, Failure> {
        if let Some(found) = self.house.target.journal().ordered(key)? {
            return Ok(Some(found));
        }
        for (_, journal) in self.repository_journals()? {
            if let Some(found) = journal.ordered(key)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Desk for ProgramDesk {
    fn take_rates(&self, rates: Rates) {
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *share, rates);
        drop(share);
        if before != rates {
            self.change_rates();
        }
    }

    fn perform(&self, asked: &Asked, listener: Listener) -> End {
        let listener = Arc::new(listener);
        match self.run(asked, &listener) {
            Ok(Verdict::Done) => End::default(),
            Ok(Verdict::Drift) => End {
                exit_code: End::DRIFT,
                ..End::default()
            },
            Err(failure) => end_of(&failure),
        }
    }

    fn ordered(&self, asked: &Asked) -> Result<Option<String>, Box<End>> {
        let failed = |failure: Failure| Box::new(end_of(&failure));
        let Some(key) = &asked.key else {
            return Ok(None);
        };
        let words = self.words(asked).map_err(failed)?;
        let wanted = self.order(asked, &words).fingerprint;
        let found = self.made_for(key).map_err(failed)?;
        match found {
            None => Ok(None),
            Some(found) if asked.known_only || found.fingerprint == wanted => {
                let id = found.operation_id;
                match self.is_known(&id).map_err(failed)? {
                    true => Ok(Some(id.to_string())),
                    false => Err(Box::new(forgotten(&id))),
                }
            }
            Some(found) => Err(failed(
                Failure::input(format!(
                    "the idempotency key was that of another request, which began operation {}",
                    found.operation_id
                ))
                .hint("choose another key for another request"),
            )),
        }
    }

    fn fields(&self, route: &Route) -> Vec<Field> {
        words::fields(&(self.program.define)(), route)
    }

    fn ready(&self) -> Result<(), String> {
        if self.house.is_stopping() {
            return Err("the server ends".to_owned());
        }
        let shared = self.house.shared.as_ref();
        if shared.is_some_and(|shared| shared.replica().trouble().is_some()) {
            let why = "the store of the journal that servers share does not answer, or refuses";
            return Err(why.to_owned());
        }
        let journal = self.house.target.journal().unfinished_operations();
        journal.map_err(|error| mendb_model::describe_error(&error))?;
        Ok(())
    }

    fn measure(&self) -> Vec<Family> {
        let mut families = measure::operations(self.house.target.journal());
        families.extend(measure::schedules(&self.store));
        families.extend(self.last_reload.families());
        families.extend(measure::deliveries(&self.store));
        families.extend(measure::shared(self.house.shared.as_deref()));
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = env::now_ms();
        if measured
            .as_ref()
            .is_none_or(|measured| measured.is_old(now_ms))
        {
            *measured = Some(measure::Repository::look(&self.house, now_ms));
        }
        if let Some(measured) = measured.as_ref() {
            families.extend(measured.families(&self.store, now_ms));
        }
        families
    }
}

impl ProgramDesk {
    /// The surroundings of what the server does for itself.
    fn local(&self) -> Context {
        Context {
            settings: self.settings().0,
            entries: Vec::new(),
            output: Output {
                format: OutputFormat::Text,
                quiet: true,
                listener: None,
            },
            session: None,
            shared: self.house.shared.clone(),
        }
    }
}

/// What is said of an order that has made an operation whose record was removed: it is not done again.
fn forgotten(id: &OperationId) -> End {
    const GONE: u16 = 410;
    let failure = Failure::input(format!(
        "the request with this idempotency key began operation {id}, which ended, and whose record was removed since"
    ))
    .in_the_way(id.as_str())
    .hint("choose another key to have the same done once more; GET /v1/audit tells who removed the record");
    let mut end = end_of(&failure);
    if let Some(problem) = &mut end.problem {
        problem.status = GONE;
    }
    end
}

/// How a failure is told: as the program prints it, and as HTTP wants it.
pub fn end_of(failure: &Failure) -> End {
    let mut detail = failure.message.clone();
    for cause in &failure.causes {
        detail += ": ";
        detail += cause;
    }
    let error = serde_json::to_value(failure).unwrap_or_default();
    let mut problem = Problem::new(failure.status(), "", detail);
    if let Value::Object(members) = &error {
        problem.members.clone_from(members);
    }
    if let Some(Value::String(kind)) = problem.members.remove("kind") {
        problem.kind = kind;
    }
    problem.retry_after_s = (failure.kind == FailureKind::Retry).then_some(5);
    End {
        exit_code: failure.exit_code(),
        text: (failure.kind != FailureKind::BrokenPipe).then(|| failure.to_string()),
        error: Some(error),
        problem: Some(problem),
    }
}
