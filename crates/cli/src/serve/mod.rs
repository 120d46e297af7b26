//! `mendb serve`: one process that has the target open, drives its operations, and answers over HTTP.

pub mod agent;
mod agent_check;
mod clockwork;
mod compat;
mod desk;
mod hooks;
pub mod house;
mod known_journal;
mod last_reload;
mod measure;
mod notify;
pub mod program;
mod queue;
mod reload;
pub mod routes;
pub mod session;
mod shared_log;
mod signals;
pub mod waiting;
pub mod words;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use mendb_server::guard::{Guard, without_port};
use mendb_server::tls::Certificates;
use mendb_server::{App, AppSettings, Door, Gate, Role, Route, Store};
use mendb_service::env;
use tokio::sync::watch;

use self::desk::ProgramDesk;
use self::house::{House, Opened};
use self::last_reload::LastReload;
use self::program::Program;
use self::reload::Reload;
use self::signals::Signals;
use self::waiting::{Led, Waited, Waiting, begin_anew};
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::owner::Owner;
use crate::settings::Sources;
use crate::settings::secret::hide_in_url;
use crate::shared::Shared;
use crate::target::{Target, as_word};

/// Threads that speak HTTP; what waits for disks has others.
const HTTP_THREADS: usize = 2;
/// Who has the token that is made where there is none.
const FIRST: &str = "first";

/// Answer over HTTP, with the target of this process
///
/// It has the target open for as long as it runs, goes on with operations that are not over, and runs what is
/// scheduled. Every request needs a token, but for /health: mendb token create makes one. The routes are described
/// under /v1/openapi.json. Other commands speak to it with --server URL and the token in MENDB_TOKEN.
///
/// With SIGHUP it reads its settings and certificates again. Where one is wrong, or cannot change while it runs, all
/// stay as they were, which it says.
///
/// It ends with SIGTERM within 10 seconds; operations stay where they are, and the next process goes on with them.
///
/// With --journal several servers share a PostgreSQL database: one leads, and the others wait. When that one ends, or says
/// nothing for 10 seconds, another takes over, and nothing of the first happens any more.
#[derive(Debug, Args)]
pub struct ServeCommand {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// A name under which it is asked, beside those of this machine; repeat for each
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// A proxy before it has TLS and takes what comes from elsewhere
    #[arg(long)]
    behind_proxy: bool,
    /// Also answer the routes of that program: its jobs and integration tables go on working. Who asks is the name of a
    /// token as user and the token as password, in the header or as user and pass in the query
    #[arg(long, value_name = "clickhouse-backup", value_parser = ["clickhouse-backup"])]
    compat: Option<String>,
    /// Where the journal is that this server shares with others: s3://bucket/prefix, or a directory on a disk that all
    /// have [env: MENDB_JOURNAL]
    #[arg(long, value_name = "URL")]
    pub journal: Option<String>,
    /// Where clients of other servers that share the journal find this one [default: where it listens]
    #[arg(long, value_name = "URL", requires = "journal")]
    advertise: Option<String>,
    /// The certificates of TLS, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Their key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl ServeCommand {
    pub fn run(
        self,
        context: &Context,
        program: Program,
        sources: Sources,
    ) -> Result<Verdict, Failure> {
        self.check_reach()?;
        self.check_compat(context)?;
        let certificates = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                let read = Certificates::open(cert, key, None);
                let read = read.map_err(|error| Failure::of(FailureKind::FixInput, &error))?;
                Some(Arc::new(read))
            }
            _ => None,
        };
        let serving = Serving {
            listen: self.listen,
            is_secure: certificates.is_some() || self.behind_proxy,
            certificates,
            routes: self.routes(),
            advertised: self.advertise.clone(),
            guard: &|address| Guard {
                hosts: self.hosts(address),
                agent_of: None,
            },
            greet: &|house, store, link| greet(context, house, store, link),
        };
        serving.run(context, program, sources)
    }

    /// Beyond this machine a token is not sent in the clear.
    fn check_reach(&self) -> Result<(), Failure> {
        if self.listen.ip().is_loopback() || self.behind_proxy || self.tls_cert.is_some() {
            return Ok(());
        }
        Err(Failure::misuse(format!(
            "{} can be reached from other machines, and tokens would travel in the clear",
            self.listen
        ))
        .hint(
            "listen on 127.0.0.1, name certificates with --tls-cert and --tls-key, or say --behind-proxy where a \
             proxy has TLS",
        ))
    }

    /// Routes of a program for ClickHouse servers ask for one.
    fn check_compat(&self, context: &Context) -> Result<(), Failure> {
        match (&self.compat, context.target()?) {
            (None, _) | (Some(_), Target::ClickHouse(_)) => Ok(()),
            (Some(program), _) => Err(Failure::misuse(format!(
                "--compat {program} is for a ClickHouse server, and the target is none"
            ))
            .hint("name one with --target clickhouse://user@host:8123/, or leave --compat out")),
        }
    }

    /// Every route, for as long as the process runs.
    fn routes(&self) -> &'static [Route] {
        match self.compat {
            None => routes::ROUTES,
            Some(_) => [routes::ROUTES, compat::ROUTES].concat().leak(),
        }
    }

    /// The names under which it is asked.
    fn hosts(&self, address: SocketAddr) -> BTreeSet<String> {
        let mut hosts: BTreeSet<String> = self
            .hosts
            .iter()
            .map(|host| without_port(host).to_ascii_lowercase())
            .collect();
        let shown = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        if address.ip().is_loopback() {
            hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        }
        if !address.ip().is_unspecified() {
            hosts.insert(shown(address.ip()));
        }
        hosts
    }
}

/// A server that is about to begin.
struct Serving<'a> {
    listen: SocketAddr,
    certificates: Option<Arc<Certificates>>,
    /// Whether clients come over TLS.
    is_secure: bool,
    routes: &'static [Route],
    /// Where it is found, if not where it listens.
    advertised: Option<String>,
    /// Who is let in at an address.
    guard: &'a dyn Fn(SocketAddr) -> Guard,
    /// Says where it is.
    greet: &'a dyn Fn(&House, &Store, &str) -> Result<(), Failure>,
}

impl Serving<'_> {
    /// Serves until the process is told to end.
    fn run(
        self,
        context: &Context,
        program: Program,
        sources: Sources,
    ) -> Result<Verdict, Failure> {
        let certificates = self.certificates.clone();
        let http = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(HTTP_THREADS)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(|error| Failure::io("cannot start threads", &error))?;
        let scheme = if certificates.is_some() {
            "https"
        } else {
            "http"
        };
        let door = http
            .block_on(Door::open(self.listen, certificates.clone()))
            .map_err(|error| {
                Failure::of(FailureKind::FixEnvironment, &error)
                    .hint("choose another address: --listen 127.0.0.1:PORT")
            })?;
        let address = door.address().unwrap_or(self.listen);
        let link = format!("{scheme}://{address}");
        // Before anybody can know that it runs: until then SIGHUP ends a process.
        let mut signals = {
            let _runtime = http.enter();
            Signals::new().map_err(|error| Failure::io("cannot wait for signals", &error))?
        };
        let (stop, stopped) = watch::channel(false);
        let gate = Gate::new((self.guard)(address));
        let Some(url) = &context.settings.journal else {
            let serving = Open {
                http,
                door: Serve::Door(door),
                gate,
                stop,
                stopped,
                signals,
                link,
                address,
                shared: None,
            };
            let reload = Reload {
                sources,
                certificates,
            };
            return self.lead(context, program, reload, serving);
        };
        let serving = http.spawn(door.serve(gate.router(), stopped.clone()));
        notify::tell("READY=1");
        let reload = Reload {
            sources,
            certificates,
        };
        let waiting = Waiting {
            context,
            url,
            address: self.advertised.clone().unwrap_or_else(|| link.clone()),
            reload: &reload,
        };
        let Led {
            shared,
            copy,
            settings: (settings, entries),
        } = match waiting.wait(&http, &mut signals)? {
            Waited::Leads(led) => *led,
            Waited::Ended => {
                let _ = stop.send(true);
                let _ = http.block_on(serving);
                context.say("mendb has ended; it did not lead");
                return Ok(Verdict::Done);
            }
        };
        let shared = Arc::new(shared);
        let leading = Context {
            settings,
            entries,
            output: context.output.clone(),
            session: None,
            shared: Some(Arc::clone(&shared)),
        };
        let serving = Open {
            http,
            door: Serve::Running(serving),
            gate,
            stop,
            stopped,
            signals,
            link,
            address,
            shared: Some(Arc::clone(&shared)),
        };
        let led = self.lead(&leading, program, reload, serving);
        // Where it leads no more, that is why, and it is told in a moment.
        if led.is_err() && waiting::is_lost_soon(&shared) {
            return Err(begin_anew(context, Some(&shared)));
        }
        // It could not: another may.
        shared.replica().release();
        drop(copy);
        led
    }

    /// Serves as the one process that works on the target.
    fn lead(
        self,
        context: &Context,
        program: Program,
        reload: Reload,
        open: Open,
    ) -> Result<Verdict, Failure> {
        let Open {
            http,
            door,
            gate,
            stop,
            stopped,
            mut signals,
            link,
            address,
            shared,
        } = open;
        let house = open_house(context)?;
        let store = context.open_store()?;
        store.close_audit()?;
        let desk = Arc::new(ProgramDesk {
            house: Arc::clone(&house),
            store: Arc::clone(&store),
            settings: Mutex::new((context.settings.clone(), context.entries.clone())),
            last_reload: LastReload::default(),
            share: Mutex::default(),
            program,
            measured: Mutex::default(),
        });
        house.remember()?;
        house.go_on_with_maintenance(&maintenance(context)?);
        let app = App::new(AppSettings {
            routes: self.routes,
            desk: Arc::clone(&desk) as Arc<dyn mendb_server::Desk>,
            store: Arc::clone(&store),
            events: Arc::clone(&house.events),
            guard: (self.guard)(address),
            is_secure: self.is_secure,
            version: env!("CARGO_PKG_VERSION"),
            stop: stopped.clone(),
        });
        let no_thread = |error| Failure::io("cannot start threads", &error);
        let driver = Arc::clone(&house);
        std::thread::Builder::new()
            .name("driver".to_owned())
            .spawn(move || driver.drive())
            .map_err(no_thread)?;
        let of_clock = Arc::clone(&desk);
        std::thread::Builder::new()
            .name("clockwork".to_owned())
            .spawn(move || clockwork::run(&of_clock))
            .map_err(no_thread)?;
        let of_hooks = Arc::clone(&desk);
        std::thread::Builder::new()
            .name("hooks".to_owned())
            .spawn(move || hooks::run(&of_hooks))
            .map_err(no_thread)?;
        gate.open(app.router());
        (self.greet)(&house, &store, &link)?;
        let reload = Arc::new(reload);
        let mut lost = shared.as_ref().map(|shared| shared.replica().lost());
        let leads = http.block_on(async {
            let serving = match door {
                Serve::Door(door) => tokio::spawn(door.serve(gate.router(), stopped)),
                Serve::Running(serving) => serving,
            };
            notify::tell("READY=1");
            loop {
                tokio::select! {
                    () = is_lost(&mut lost) => return false,
                    _ = signals.terminate.recv() => break,
                    _ = signals.interrupt.recv() => break,
                    _ = signals.hang_up.recv() => {
                        let (reload, desk) = (Arc::clone(&reload), Arc::clone(&desk));
                        let read = tokio::task::spawn_blocking(move || desk.reload(&reload));
                        match read.await {
                            Ok(read) => reload::tell(context, read),
                            Err(error) => tracing::error!(%error, "the thread that reads settings died"),
                        }
                    }
                }
            }
            notify::tell("STOPPING=1");
            let _ = stop.send(true);
            let stopping = Arc::clone(&house);
            // Attempts end while connections do.
            let stopping = tokio::task::spawn_blocking(move || stopping.stop());
            let _ = serving.await;
            let _ = stopping.await;
            true
        });
        if !leads {
            return Err(begin_anew(context, shared.as_deref()));
        }
        if let Some(shared) = &shared {
            shared.replica().release();
        }
        context.say("mendb has ended; operations that were not over go on with the next one");
        // Commands of clients that have gone may still wait for a disk: nobody waits for them.
        http.shutdown_timeout(Duration::from_millis(100));
        #[cfg(feature = "otlp")]
        crate::log::traces::end();
        std::process::exit(0);
    }
}

/// What a server has before it leads.
struct Open {
    http: tokio::runtime::Runtime,
    door: Serve,
    gate: Arc<Gate>,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
    signals: Signals,
    /// Where it is, as its users write it.
    link: String,
    address: SocketAddr,
    /// The journal that servers share, if they do.
    shared: Option<Arc<Shared>>,
}

/// Whether connections come in yet.
enum Serve {
    Door(Door),
    Running(tokio::task::JoinHandle<()>),
}

/// Ends when another process leads; never where there is none to share with.
async fn is_lost(lost: &mut Option<watch::Receiver<bool>>) {
    if let Some(lost) = lost
        && lost.wait_for(|lost| *lost).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Opens target and repository for as long as the process runs.
fn open_house(context: &Context) -> Result<Arc<House>, Failure> {
    let runtime = context.runtime()?;
    let (target, held) = context.open_service()?.apart();
    // One for both: a rate that is changed holds for all that goes there.
    let repository = target.repository().clone();
    Ok(House::new(Opened {
        runtime,
        repository,
        target,
        rows: held.rows(),
        settings: context.service_settings(String::new()),
        shared: context.shared.clone(),
        cluster_state: context.settings.cluster_state.clone(),
        held: Box::new(held),
    }))
}

/// The journals of what this machine does in repositories alone.
fn maintenance(
    context: &Context,
) -> Result<Vec<(PathBuf, mendb_service::journal::Journal)>, Failure> {
    let journals = context.repository_journals()?.into_iter();
    Ok(journals
        .filter_map(|(owner, journal)| match owner {
            Owner::Repository(directory) => Some((directory, journal)),
            Owner::Target | Owner::Cluster(_) => None,
        })
        .collect())
}

/// Says where it is, how to get in, and what to do next.
fn greet(context: &Context, house: &House, store: &Store, link: &str) -> Result<(), Failure> {
    context.say(&format!(
        "mendb serves {} at {link}/ with backups in {}",
        context.target()?.shown_url(),
        hide_in_url(house.repository.url())
    ));
    let now_ms = env::now_ms();
    if store.tokens()?.iter().any(|token| token.holds_at(now_ms)) {
        context.say(
            "token: one that mendb token create has shown; mendb token list tells whose there are",
        );
    } else if std::io::stderr().is_terminal() {
        let secret = store.create_token(FIRST, Role::Admin, None)?;
        context.say(&format!(
            "token: {secret}   (admin, shown this once; mendb token revoke {FIRST} takes it back)"
        ));
    } else {
        context.say(&format!(
            "token: there is none yet: mendb token create NAME --role admin{}",
            reached_by(context)
        ));
    }
    context.say(&format!(
        "next: MENDB_TOKEN=… mendb --server {link} operation list, or curl -H \"Authorization: Bearer $MENDB_TOKEN\" \
         {link}/v1/collections"
    ));
    Ok(())
}

/// The flags with which a command of this machine finds the tokens of this server: those that the server was given.
fn reached_by(context: &Context) -> String {
    let is_flag = |key: &str| {
        let mut entries = context.entries.iter();
        entries.any(|entry| entry.key == key && entry.from.starts_with("flag"))
    };
    let settings = &context.settings;
    let state = settings.postgres_state.as_ref();
    let named = [
        ("target", "--target", Some(settings.target.clone())),
        ("journal", "--journal", settings.journal.clone()),
        (
            "postgres.state",
            "--state",
            state.map(|state| state.display().to_string()),
        ),
    ];
    let flags = named.into_iter().filter(|(key, ..)| is_flag(key));
    flags
        .filter_map(|(_, flag, value)| Some(format!(" {flag} {}", as_word(&hide_in_url(&value?)))))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeCommand,
    }

    fn parse(line: &str) -> ServeCommand {
        let words = std::iter::once("serve").chain(line.split_whitespace());
        Line::try_parse_from(words).unwrap().serve
    }

    #[test]
    fn beyond_this_machine_tokens_do_not_travel_in_the_clear() {
        for fine in [
            "",
            "--listen 127.0.0.1:0",
            "--listen [::1]:80",
            "--listen 0.0.0.0:80 --behind-proxy",
        ] {
            assert!(parse(fine).check_reach().is_ok(), "{fine}");
        }
        let failure = parse("--listen 0.0.0.0:80").check_reach().unwrap_err();
        assert_eq!(failure.exit_code(), 2);
    }

    #[test]
    fn it_is_asked_under_names_of_this_machine_and_those_it_was_told() {
        let hosts = |line: &str| {
            let serve = parse(line);
            serve.hosts(serve.listen)
        };
        assert!(hosts("").contains("localhost"));
        let hosts = hosts("--listen 0.0.0.0:80 --behind-proxy --host Backup.example.com:443");
        assert_eq!(hosts, ["backup.example.com".to_owned()].into());
    }
}
