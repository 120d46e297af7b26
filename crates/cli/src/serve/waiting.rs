//! A server whose journal others share: waits until none of them leads, and then leads.
//!
//! *Its copy*: the files that SQLite works on are a copy of what the log says, made anew each time, in a directory for
//! this process alone. *The end of a lead*: a process that leads no more begins anew as if it was just started, in the
//! same process of the system. So nothing of what it was doing goes on: no thread, no session, no open file. *A store that
//! refuses*, and a journal that is gone: who has been there once waits until that is mended, and says what is wrong; who
//! never was refuses to begin.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mendb_repo::log::{Leading, Look, Turn};
use mendb_service::replica::Replica;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};

use super::reload::{self, Reload};
use super::shared_log::{self, SILENCE_MS, SharedLog};
use super::signals::Signals;
use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::settings::secret::hide_in_url;
use crate::settings::{Entry, Settings};
use crate::shared::Shared;
use crate::target::StateLock;

/// So many servers at most on one machine share a journal.
const MOST_COPIES: u32 = 64;
/// After a failure it is looked again after this, and twice as long each time, up to the second.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

/// A server that is about to wait.
pub struct Waiting<'a> {
    pub context: &'a Context,
    /// The URL of the journal.
    pub url: &'a str,
    /// Where this server is asked.
    pub address: String,
    /// What reads settings and certificates again.
    pub reload: &'a Reload,
}

/// What waiting came to.
pub enum Waited {
    /// This process leads, with these settings.
    Leads(Box<Led>),
    /// It was told to end.
    Ended,
}

/// What a process has that leads.
pub struct Led {
    pub shared: Shared,
    pub copy: Copy,
    /// The settings as they were read last.
    pub settings: (Settings, Vec<Entry>),
}

/// A directory for the files of a journal, for this process alone.
pub struct Copy {
    directory: PathBuf,
    _lock: StateLock,
}

/// Waits for work and for signals.
struct Ear<'a> {
    http: &'a Runtime,
    signals: &'a mut Signals,
    waiting: &'a Waiting<'a>,
    settings: (Settings, Vec<Entry>),
}

/// It was told to end.
struct Ended;

impl Ear<'_> {
    /// Waits for work, and heeds signals meanwhile.
    fn hear<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Ended> {
        let Self {
            http,
            signals,
            waiting,
            settings,
        } = self;
        http.block_on(async {
            tokio::pin!(work);
            loop {
                tokio::select! {
                    done = &mut work => return Ok(done),
                    _ = signals.terminate.recv() => return Err(Ended),
                    _ = signals.interrupt.recv() => return Err(Ended),
                    _ = signals.hang_up.recv() => {
                        let read = waiting.reload.read(settings);
                        reload::tell(waiting.context, read);
                    }
                }
            }
        })
    }
}

impl Waiting<'_> {
    /// Waits until this process leads.
    ///
    /// # Errors
    /// This machine has not been at the journal before, and it cannot be used.
    pub fn wait(&self, http: &Runtime, signals: &mut Signals) -> Result<Waited, Failure> {
        let runtime = runtime()?;
        let journal = shared_log::open(self.context, self.url, &runtime)?;
        let mut ear = Ear {
            http,
            signals,
            waiting: self,
            settings: (self.context.settings.clone(), self.context.entries.clone()),
        };
        let mut said = Said::new(self.context, self.address.clone());
        let mut pause = LOOK_AGAIN.0;
        loop {
            let why = match self.try_once(&runtime, &journal, &mut ear, &mut said) {
                Err(Ended) => return Ok(Waited::Ended),
                Ok(Ok(Some((shared, copy)))) => {
                    let Ear { settings, .. } = ear;
                    return Ok(Waited::Leads(Box::new(Led {
                        shared,
                        copy,
                        settings,
                    })));
                }
                Ok(Ok(None)) => {
                    pause = LOOK_AGAIN.0;
                    continue;
                }
                Ok(Err(failure)) => failure,
            };
            said.fail(&why);
            let looked_again =
                async { tokio::time::timeout(pause, std::future::pending::<()>()).await };
            if ear.hear(looked_again).is_err() {
                return Ok(Waited::Ended);
            }
            pause = (pause * 2).min(LOOK_AGAIN.1);
        }
    }

    /// Waits for the turn, and takes it. `None` where another was faster.
    fn try_once(
        &self,
        runtime: &Arc<Runtime>,
        journal: &SharedLog,
        ear: &mut Ear<'_>,
        said: &mut Said,
    ) -> Result<Result<Option<(Shared, Copy)>, Failure>, Ended> {
        let turn = {
            let (watched, mut saying) = (journal.log.clone(), said.clone());
            let turn = runtime.spawn(async move {
                let turn = watched.wait_for_turn(&mut |look| saying.tell(&look)).await;
                (turn, saying)
            });
            match ear.hear(turn)? {
                Ok((turn, saying)) => {
                    *said = saying;
                    turn
                }
                Err(error) => return Ok(Err(Failure::of(FailureKind::ReportBug, &error))),
            }
        };
        let turn = match turn {
            Ok(turn) => turn,
            Err(error) => return Ok(Err(journal.failure(error))),
        };
        let copy = match Copy::take(self.context, journal.log.url()) {
            Ok(copy) => copy,
            Err(failure) => return Ok(Err(failure)),
        };
        // Reading it may take long, where its store does not answer.
        let (tell, told) = oneshot::channel();
        let (journal, runtime) = (journal.clone(), Arc::clone(runtime));
        let address = Some(self.address.clone());
        let leading = std::thread::Builder::new()
            .name("leading".to_owned())
            .spawn(move || {
                let led = lead(&journal, turn, &runtime, &copy, address);
                // Nobody hears it where the process ends.
                let _ = tell.send(led.map(|led| led.map(|shared| (shared, copy))));
            });
        if let Err(error) = leading {
            return Ok(Err(Failure::io("cannot start threads", &error)));
        }
        let led = ear.hear(told)?;
        Ok(match led {
            Ok(led) => led,
            Err(error) => Err(Failure::of(FailureKind::ReportBug, &error)),
        })
    }
}

/// Takes the lead, if no other process is faster.
fn lead(
    journal: &SharedLog,
    turn: Turn,
    runtime: &Arc<Runtime>,
    copy: &Copy,
    address: Option<String>,
) -> Result<Option<Shared>, Failure> {
    let led = Replica::lead(&journal.log, turn, runtime, &copy.directory, address);
    let led = led.map_err(|error| match error {
        mendb_service::Error::Repository(error) => journal.failure(error),
        error => error.into(),
    });
    let Some(replica) = led? else {
        return Ok(None);
    };
    let lost = replica.lost();
    match Shared::new(replica) {
        Ok(shared) => Ok(Some(shared)),
        Err(_) if *lost.borrow() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Leads for a moment, where no server does.
///
/// # Errors
/// A server leads, or the journal cannot be used.
pub fn lead_at_once(context: &Context, url: &str) -> Result<(Shared, Copy), Failure> {
    let runtime = runtime()?;
    let journal = shared_log::open(context, url, &runtime)?;
    let busy = |who: String| {
        Failure::new(
            FailureKind::Busy,
            format!("{who} with the journal in {}", hide_in_url(url)),
        )
        .hint(
            "have that server do it: --server http://host:port with the token of an admin in MENDB_TOKEN; without one, end \
             the servers that share the journal first: they go on where they were",
        )
    };
    // A leader that was killed may be named still: it says nothing any more.
    let mut leading = None;
    let speaks = Notify::new();
    let turn = runtime.block_on(async {
        let tell = &mut |look: Look<'_>| match look {
            Look::Leads {
                leading: told,
                has_spoken,
            } => {
                if has_spoken {
                    speaks.notify_one();
                }
                if leading.is_none() {
                    context.say(&format!(
                        "waits for up to {} s to see whether that lives: {told}",
                        2 * SILENCE_MS / 1000
                    ));
                }
                leading = Some(told.to_string());
            }
            Look::Unseen(error) => {
                if leading.is_none() {
                    context.say(&format!(
                        "waits for up to {} s to see who leads: {}",
                        2 * SILENCE_MS / 1000,
                        mendb_model::describe_error(error)
                    ));
                }
                leading = Some("a server may lead".to_owned());
            }
        };
        let limit = Duration::from_millis(2 * SILENCE_MS);
        tokio::select! {
            turn = tokio::time::timeout(limit, journal.log.wait_for_turn(tell)) => turn.ok(),
            () = speaks.notified() => None,
        }
    });
    let Some(turn) = turn else {
        return Err(busy(leading.unwrap_or_else(|| "a server leads".to_owned())));
    };
    let turn = turn.map_err(|error| journal.failure(error))?;
    let copy = Copy::take(context, journal.log.url())?;
    match lead(&journal, turn, &runtime, &copy, None)? {
        Some(shared) => Ok((shared, copy)),
        None => Err(busy("a server began to lead just now".to_owned())),
    }
}

/// Whether it turns out within a few renewals that this process leads no more.
pub fn is_lost_soon(shared: &Shared) -> bool {
    let mut lost = shared.replica().lost();
    let Ok(runtime) = runtime() else {
        return *lost.borrow();
    };
    let limit = Duration::from_millis(SILENCE_MS / 2);
    let told = async { tokio::time::timeout(limit, lost.wait_for(|lost| *lost)).await };
    matches!(runtime.block_on(told), Ok(Ok(_)))
}

/// Begins the process anew, with the same arguments: nothing of what it does goes on.
pub fn begin_anew(context: &Context, shared: Option<&Shared>) -> Failure {
    let why = shared.and_then(|shared| shared.replica().why_lost());
    context.say(&format!(
        "mendb leads this journal no more: {}. It begins anew, and waits",
        why.as_deref().unwrap_or("another process leads")
    ));
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("mendb"));
    // The file may have been replaced since.
    let error = Command::new("/proc/self/exe")
        .arg0(name)
        .args(arguments)
        .exec();
    Failure::io("cannot begin anew", &error).hint("start it again: it waits until none leads")
}

/// Threads for the journal alone: nothing else keeps it from saying that it leads.
fn runtime() -> Result<Arc<Runtime>, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("journal")
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::io("cannot start threads", &error))?;
    Ok(Arc::new(runtime))
}

impl Copy {
    /// Takes the first directory of those for a journal that no other process has.
    fn take(context: &Context, url: &str) -> Result<Self, Failure> {
        let hash = blake3::hash(url.as_bytes()).to_hex();
        let above = context.journal_copies().join(&hash[..16]);
        for number in 0..MOST_COPIES {
            let directory = above.join(number.to_string());
            let lock = match StateLock::take(&directory) {
                Err(failure) if failure.kind == FailureKind::Busy => continue,
                lock => lock?,
            };
            for of_before in ["image", "files"] {
                let of_before = directory.join(of_before);
                match fs::remove_dir_all(&of_before) {
                    Err(error) if !crate::target::is_absent(&error) => {
                        let doing = format!("cannot remove {}", of_before.display());
                        return Err(Failure::io(doing, &error));
                    }
                    _ => {}
                }
            }
            return Ok(Self {
                directory,
                _lock: lock,
            });
        }
        Err(Failure::new(
            FailureKind::FixEnvironment,
            format!("{MOST_COPIES} processes of this machine share the journal in {url}"),
        )
        .hint("two servers are enough; end the others"))
    }
}

/// What was said last of why this server waits.
#[derive(Clone)]
struct Said {
    output: crate::output::Output,
    address: String,
    last: Option<Why>,
}

#[derive(Clone, PartialEq, Eq)]
enum Why {
    Leads(Leading),
    Wrong(String),
}

impl Said {
    fn new(context: &Context, address: String) -> Self {
        Self {
            output: context.output.clone(),
            address,
            last: None,
        }
    }

    fn tell(&mut self, look: &Look<'_>) {
        match look {
            Look::Leads { leading, .. } => self.say(Why::Leads((*leading).clone())),
            Look::Unseen(error) => self.say(Why::Wrong(format!(
                "who leads cannot be seen: {}",
                mendb_model::describe_error(*error)
            ))),
        }
    }

    fn fail(&mut self, failure: &Failure) {
        let causes: String = failure
            .causes
            .iter()
            .map(|cause| format!(": {cause}"))
            .collect();
        let hint = failure.hint.iter().map(|hint| format!("; {hint}"));
        let hint: String = hint.collect();
        self.say(Why::Wrong(format!("{}{causes}{hint}", failure.message)));
    }

    fn say(&mut self, why: Why) {
        if self.last.as_ref() == Some(&why) {
            return;
        }
        let address = &self.address;
        self.output.say(&match &why {
            Why::Leads(leading) => {
                format!("mendb waits at {address}/: {leading}; it takes over when that one is gone")
            }
            Why::Wrong(what) => format!("mendb waits at {address}/ and looks again: {what}"),
        });
        self.last = Some(why);
    }
}
