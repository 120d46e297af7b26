//! A server whose journal others share: waits until none of them leads, and then leads.
//!
//! *Its copy*: the files that SQLite works on are a copy of what the log says, made anew each time, in a directory for
//! this process alone. *The end of a lead*: a process that leads no more begins anew as if it was just started, in the
//! same process of the system. So nothing of what it was doing goes on: no thread, no session, no open file.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mendb_repo::log::{Leading, Log, Turn};
use mendb_server::Gate;
use mendb_service::replica::Replica;
use tokio::runtime::Runtime;

use super::signals::Signals;
use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::settings::secret::hide_in_url;
use crate::shared::Shared;
use crate::target::{StateLock, Target};

/// A leader that says nothing for so long is taken for gone.
const SILENCE_MS: u64 = 10_000;
/// A request for a little object that takes longer is made again.
const REQUEST_TIMEOUT_MS: u64 = 5_000;
/// So many servers at most on one machine share a journal.
const MOST_COPIES: u32 = 64;

/// A server that is about to wait.
pub struct Waiting<'a> {
    pub context: &'a Context,
    /// The URL of the journal.
    pub url: &'a str,
    /// Where this server is asked.
    pub address: String,
}

/// What waiting came to.
pub enum Waited {
    /// This process leads.
    Leads(Shared, Copy),
    /// It was told to end.
    Ended,
}

/// A directory for the files of a journal, for this process alone.
pub struct Copy {
    directory: PathBuf,
    _lock: StateLock,
}

impl Waiting<'_> {
    /// The log, where it can be one.
    ///
    /// # Errors
    /// The target is one that no second server could go on with, the URL is none, or its store has no conditional writes.
    pub fn open(&self, runtime: &Runtime) -> Result<Log, Failure> {
        check_target(&self.context.target()?)?;
        let log = open_log(self.context, self.url)?;
        runtime.block_on(log.check_conditions())?;
        Ok(log)
    }

    /// Waits until this process leads, and answers at the gate meanwhile.
    ///
    /// # Errors
    /// The log is damaged, its store refuses, or the copy of it cannot be kept here.
    pub fn wait(
        &self,
        http: &Runtime,
        signals: &mut Signals,
        gate: &Arc<Gate>,
    ) -> Result<Waited, Failure> {
        let runtime = runtime()?;
        let log = self.open(&runtime)?;
        loop {
            let (watched, at_gate) = (log.clone(), Arc::clone(gate));
            let said = Said::new(self.context, self.address.clone());
            let mut turn = runtime.spawn(async move {
                let mut said = said;
                let tell = &mut |leading: &Leading| said.tell(&at_gate, leading);
                watched.wait_for_turn(tell).await
            });
            let waited = http.block_on(async {
                loop {
                    tokio::select! {
                        turn = &mut turn => break Some(turn),
                        _ = signals.terminate.recv() => break None,
                        _ = signals.interrupt.recv() => break None,
                        // Settings are read when it leads.
                        _ = signals.hang_up.recv() => {}
                    }
                }
            });
            let turn = match waited {
                None => return Ok(Waited::Ended),
                Some(Ok(turn)) => turn?,
                Some(Err(error)) => return Err(Failure::of(FailureKind::ReportBug, &error)),
            };
            let address = Some(self.address.clone());
            if let Some((shared, copy)) = lead(self.context, &log, turn, &runtime, address)? {
                return Ok(Waited::Leads(shared, copy));
            }
        }
    }
}

/// Takes the lead, if no other process is faster.
fn lead(
    context: &Context,
    log: &Log,
    turn: Turn,
    runtime: &Arc<Runtime>,
    address: Option<String>,
) -> Result<Option<(Shared, Copy)>, Failure> {
    let copy = Copy::take(context, log.url())?;
    let Some(replica) = Replica::lead(log, turn, runtime, &copy.directory, address)? else {
        return Ok(None);
    };
    let lost = replica.lost();
    match Shared::new(replica) {
        Ok(shared) => Ok(Some((shared, copy))),
        Err(_) if *lost.borrow() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Leads for a moment, where no server does.
///
/// # Errors
/// A server leads, or as [`Waiting::wait`].
pub fn lead_at_once(context: &Context, url: &str) -> Result<(Shared, Copy), Failure> {
    let waiting = Waiting {
        context,
        url,
        address: String::new(),
    };
    let runtime = runtime()?;
    let log = waiting.open(&runtime)?;
    let busy = |who: String| {
        Failure::new(
            FailureKind::Busy,
            format!("{who} with the journal in {}", hide_in_url(url)),
        )
        .hint("end the servers that share it first; they go on where they were")
    };
    // A leader that was killed may be named still: it says nothing any more.
    let mut leading = None;
    let turn = runtime.block_on(async {
        let limit = Duration::from_millis(2 * SILENCE_MS);
        let tell = &mut |told: &Leading| leading = Some(told.to_string());
        tokio::time::timeout(limit, log.wait_for_turn(tell)).await
    });
    let Ok(turn) = turn else {
        return Err(busy(leading.unwrap_or_else(|| "a server leads".to_owned())));
    };
    let led = lead(context, &log, turn?, &runtime, None)?;
    led.ok_or_else(|| busy("a server began to lead just now".to_owned()))
}

/// Whether it turns out within a few renewals that another process leads.
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
pub fn begin_anew() -> Failure {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("mendb"));
    // The file may have been replaced since.
    let error = Command::new("/proc/self/exe")
        .arg0(name)
        .args(arguments)
        .exec();
    Failure::io("cannot begin anew", &error).hint("start it again: it waits until none leads")
}

/// Only a target that others reach as well can be gone on with by them.
fn check_target(target: &Target) -> Result<(), Failure> {
    let what = match target {
        Target::Postgres(_) => return Ok(()),
        Target::Rows(_) => {
            "a row store lies on the disks of this machine, and a server that was stopped keeps it locked"
        }
        Target::ClickHouse(_) => {
            "parts lie on the disks of a ClickHouse server, and mendb works beside it on its machine"
        }
        Target::Cluster(_) => {
            "the coordinator of a cluster has its journal on one machine, by which its agents know it"
        }
    };
    Err(Failure::misuse(format!(
        "servers can share the journal of a PostgreSQL database alone: {what}, so that no second server could take over"
    ))
    .hint("leave --journal, MENDB_JOURNAL and journal: in mendb.yml out: the journal is beside the target then"))
}

/// A log at a URL. Nothing is read.
fn open_log(context: &Context, url: &str) -> Result<Log, Failure> {
    let options = mendb_repo::RepositoryOptions {
        lease_ms: SILENCE_MS,
        request_timeout_ms: REQUEST_TIMEOUT_MS,
        upload_bytes_per_s: None,
        download_bytes_per_s: None,
        ..context.repository_options()
    };
    Ok(Log::open(url, options)?)
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

/// What was said last of who leads.
struct Said {
    output: crate::output::Output,
    address: String,
    last: Option<Leading>,
}

impl Said {
    fn new(context: &Context, address: String) -> Self {
        Self {
            output: context.output.clone(),
            address,
            last: None,
        }
    }

    fn tell(&mut self, gate: &Gate, leading: &Leading) {
        if self.last.as_ref() == Some(leading) {
            return;
        }
        gate.wait(
            format!("this server waits: {leading}"),
            leading.address.clone(),
        );
        self.output.say(&format!(
            "mendb waits at {}/: {leading}; it takes over when that one is gone",
            self.address
        ));
        self.last = Some(leading.clone());
    }
}
