//! The command line: flags that every command has, and the commands.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::cluster;
use crate::commands;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::log::{self, LogFormat};
use crate::output::{Output, OutputFormat};
use crate::remote::{self, Remote};
use crate::serve;
use crate::serve::program::Program;
use crate::serve::words;
use crate::settings::Sources;
use crate::target::Target;

/// What someone who has only the help can begin with.
const FIRST_STEPS: &str = "\
First steps:
  mendb demo                                             see all of it on example data
  mendb table import cities cities.csv --create --key id    make a table of a file
  mendb collection create world --table cities           name what is backed up together
  mendb backup world                                     a full backup
  mendb backup world --incremental                       what has changed since
  mendb list world                                       the backups there are
  mendb diff world                                       what has changed since the newest
  mendb table drop cities && mendb restore world         lose a table and bring it back
  mendb verify world --live                              prove that all is there

On a ClickHouse server, with --target clickhouse://user@host:8123/:
  mendb backup analytics                                 all tables of a database
  mendb restore --in-place --dry-run analytics           what it takes to bring them back
  mendb restore --in-place analytics                     keep what is right, fetch only what is not
  mendb undo OPERATION                                   take that back

On a PostgreSQL database, with --target postgres://user@host:5432/database:
  mendb target check                                     what can be backed up and mended
  mendb collection create shop --table public.orders     name what is backed up together
  mendb backup shop                                      one exact cut, while writers write
  mendb restore shop --in-place                          bring back the rows that differ, at one moment";

/// Backs up sharded databases and mends them.
///
/// Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 misused,
/// 3 drift or damage found.
#[derive(Debug, Parser)]
#[command(
    name = "mendb",
    version,
    max_term_width = 100,
    after_help = FIRST_STEPS,
    infer_subcommands = false
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command. Those that are settings are also read from the settings file; see
/// [`crate::settings`].
#[derive(Debug, Args)]
struct Global {
    /// The database to back up or mend: mendb:///dir, postgres://user@host:5432/database,
    /// clickhouse://user:password@host:8123/ [env: MENDB_TARGET] [default: mendb-data/target in the current directory]
    #[arg(long, global = true, value_name = "URL", help_heading = "Everywhere")]
    target: Option<String>,
    /// Where backups live: file:///dir, s3://bucket/prefix [env: MENDB_REPOSITORY] [default:
    /// mendb-data/repository in the current directory]
    #[arg(long, global = true, value_name = "URL", help_heading = "Everywhere")]
    repository: Option<String>,
    /// ClickHouse: where the server's default disk is seen from here, unless where the server sees it
    /// [env: MENDB_CLICKHOUSE_DATA_PATH]
    #[arg(
        long,
        global = true,
        value_name = "DIRECTORY",
        help_heading = "Everywhere"
    )]
    data_path: Option<String>,
    /// ClickHouse, PostgreSQL: directory of the journal of the target [env: MENDB_CLICKHOUSE_STATE,
    /// MENDB_POSTGRES_STATE] [default: mendb/ in the data directory of a ClickHouse server,
    /// ~/.local/state/mendb/postgres for PostgreSQL]
    #[arg(
        long,
        global = true,
        value_name = "DIRECTORY",
        help_heading = "Everywhere"
    )]
    state: Option<String>,
    /// The settings file; without it mendb.yml in the current directory, if there is one
    #[arg(
        long,
        global = true,
        env = "MENDB_CONFIG",
        value_name = "FILE",
        help_heading = "Everywhere"
    )]
    config: Option<PathBuf>,
    /// Have the server there run the command: http://host:port, with the token in MENDB_TOKEN [env: MENDB_SERVER]
    #[arg(long, global = true, value_name = "URL", help_heading = "Everywhere")]
    server: Option<String>,
    /// How data is printed
    #[arg(
        long,
        global = true,
        env = "MENDB_OUTPUT",
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Everywhere"
    )]
    output: OutputFormat,
    /// Say nothing but data and errors
    #[arg(
        long,
        short,
        global = true,
        env = "MENDB_QUIET",
        help_heading = "Everywhere"
    )]
    quiet: bool,
    /// Log what happens inside to stderr; twice for more. MENDB_LOG takes a finer filter
    #[arg(long, short, global = true, action = clap::ArgAction::Count, help_heading = "Everywhere")]
    verbose: u8,
    /// How what goes to stderr is written: lines for people, or one JSON object a line
    #[arg(
        long,
        global = true,
        env = "MENDB_LOG_FORMAT",
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Everywhere"
    )]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(commands::demo::DemoCommand),
    /// Create, fill, read and look into tables
    #[command(subcommand)]
    Table(commands::table::TableCommand),
    /// Name sets of tables that are backed up together
    #[command(subcommand)]
    Collection(commands::collection::CollectionCommand),
    Backup(commands::backup::BackupCommand),
    List(commands::list::ListCommand),
    Show(commands::show::ShowCommand),
    Diff(commands::diff::DiffCommand),
    Drill(commands::drill::DrillCommand),
    Restore(commands::restore::RestoreCommand),
    Undo(commands::undo::UndoCommand),
    /// Check and leave PostgreSQL databases
    #[command(subcommand)]
    Target(commands::target::TargetCommand),
    /// Look at clusters of ClickHouse servers
    #[command(subcommand)]
    Cluster(commands::cluster::ClusterCommand),
    Verify(commands::verify::VerifyCommand),
    Delete(commands::delete::DeleteCommand),
    Prune(commands::prune::PruneCommand),
    /// Shorten chains of backups
    #[command(subcommand)]
    Chain(commands::chain::ChainCommand),
    /// Make places that hold backups
    #[command(subcommand)]
    Repository(commands::repository::RepositoryCommand),
    /// Look after long operations
    #[command(subcommand)]
    Operation(commands::operation::OperationCommand),
    Serve(serve::ServeCommand),
    Agent(serve::agent::AgentCommand),
    Token(commands::token::TokenCommand),
    /// Have a server do things at times that recur
    #[command(subcommand)]
    Schedule(commands::schedule::ScheduleCommand),
    Audit(commands::audit::AuditCommand),
    /// Show the settings
    #[command(subcommand)]
    Config(commands::config::ConfigCommand),
}

impl Command {
    fn run(self, context: &Context) -> Result<Verdict, Failure> {
        match self {
            Self::Demo(command) => command.run(context),
            Self::Table(command) => command.run(context),
            Self::Collection(command) => command.run(context),
            Self::Backup(command) => command.run(context),
            Self::List(command) => command.run(context),
            Self::Show(command) => command.run(context),
            Self::Diff(command) => command.run(context),
            Self::Drill(command) => command.run(context),
            Self::Restore(command) => command.run(context),
            Self::Undo(command) => command.run(context),
            Self::Target(command) => command.run(context),
            Self::Cluster(command) => command.run(context),
            Self::Verify(command) => command.run(context),
            Self::Delete(command) => command.run(context),
            Self::Prune(command) => command.run(context),
            Self::Chain(command) => command.run(context),
            Self::Repository(command) => command.run(context),
            Self::Operation(command) => command.run(context),
            // The process begins it: it is not one that a server runs.
            Self::Serve(_) | Self::Agent(_) => Err(Failure::misuse("a server runs no other")),
            Self::Token(command) => command.run(context),
            Self::Schedule(command) => command.run(context),
            Self::Audit(command) => command.run(context),
            Self::Config(command) => command.run(context),
        }
    }

    /// Refuses what a server was named for and does not do: it would be done here, to something else than was meant. The
    /// first token cannot be asked of a server.
    fn check_is_meant(&self, url: &str, is_flagged: bool, has_token: bool) -> Result<(), Failure> {
        let name = match self {
            Self::Token(_) if !has_token => "token",
            Self::Serve(_) if is_flagged => "serve",
            Self::Agent(_) if is_flagged => "agent",
            Self::Demo(_) if is_flagged => "demo",
            _ => return Ok(()),
        };
        if name == "token" {
            return Err(Failure::misuse(format!(
                "mendb token is meant for the server at {url}, and MENDB_TOKEN has no token of an admin for it"
            ))
            .hint(
                "the first token is made on the machine of the server: --server= has this process do it, for the target of \
                 this machine",
            ));
        }
        Err(Failure::misuse(format!(
            "mendb {name} works on this machine alone, and commands are meant for the server at {url}"
        ))
        .hint("leave --server out"))
    }

    /// The cluster that it is about, if it is about one.
    fn cluster(&self) -> Option<(&str, Option<u16>)> {
        match self {
            Self::Backup(command) => command.cluster.named(),
            Self::Restore(command) => command.cluster.named(),
            Self::Undo(command) => command.cluster.named(),
            Self::Verify(command) => command.cluster.named(),
            Self::Operation(command) => command.cluster(),
            _ => None,
        }
    }

    /// Whether the coordinator of a cluster does it, where the target is one.
    fn is_of_cluster(&self) -> bool {
        matches!(
            self,
            Self::Backup(_) | Self::Restore(_) | Self::Undo(_) | Self::Verify(_)
        )
    }

    /// The journal that servers share, where a flag names it.
    fn journal(&self) -> Option<String> {
        match self {
            Self::Serve(command) => command.journal.clone(),
            Self::Token(command) => command.journal.clone(),
            _ => None,
        }
    }

    /// Whether it is about this machine, whatever server is named in the settings.
    fn stays_here(&self) -> bool {
        matches!(
            self,
            Self::Serve(_) | Self::Agent(_) | Self::Config(_) | Self::Demo(_)
        ) || self.cluster().is_some()
    }
}

/// The command line, as a server has it.
const PROGRAM: Program = Program {
    define: defined,
    run: run_words,
};

/// The command line with all that follows from its definition.
fn defined() -> clap::Command {
    let mut program = Cli::command();
    program.build();
    program
}

/// Runs the words of a command for a client of the server.
pub fn run_words(words: &[String], context: &Context) -> Result<Verdict, Failure> {
    let cli = Cli::try_parse_from(words).map_err(|error| {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        // What follows is how a command line is written.
        let text = text.split("\n\nUsage:").next().unwrap_or(text);
        Failure::misuse(text.trim())
    })?;
    match (context.target()?, cli.command.is_of_cluster()) {
        (Target::Cluster(list), true) => {
            let program = defined();
            let line = program.clone().get_matches_from(words);
            let (words, fields) = words::of_line(&program, &line);
            cluster::command::run(context, &words, fields, (&list.to_string_lossy(), None))
        }
        _ => cli.command.run(context),
    }
}

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, wants_json(&arguments)),
    };
    let format = cli.global.output;
    let ended = run(cli, &arguments);
    #[cfg(feature = "otlp")]
    log::traces::end();
    match ended {
        Ok(Ended::ByServer(code)) => ExitCode::from(code),
        Ok(Ended::Here(verdict)) => match verdict {
            Verdict::Done => ExitCode::SUCCESS,
            Verdict::Drift => ExitCode::from(3),
        },
        Err(failure) => {
            if failure.kind != FailureKind::BrokenPipe {
                log::fail_with(&failure, format);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// How a command ended.
enum Ended {
    /// This process ran it.
    Here(Verdict),
    /// A server ran it, and that is the exit code.
    ByServer(u8),
}

fn run(cli: Cli, arguments: &[OsString]) -> Result<Ended, Failure> {
    let global = &cli.global;
    log::start(global.log_format, global.verbose, global.quiet)?;
    let directory = std::env::current_dir()
        .map_err(|error| Failure::io("cannot find the current directory", &error))?;
    let flags = [
        ("target", cli.global.target),
        ("repository", cli.global.repository),
        ("clickhouse.data_path", cli.global.data_path),
        ("clickhouse.state", cli.global.state.clone()),
        ("postgres.state", cli.global.state),
        ("server", cli.global.server),
        ("journal", cli.command.journal()),
    ];
    let flagged: Vec<&str> = (flags.iter().filter(|(_, value)| value.is_some()))
        .map(|(key, _)| *key)
        .collect();
    let is_flagged = |key: &str| flagged.contains(&key);
    let sources = Sources {
        directory,
        file: cli.global.config,
        flags: flags
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect(),
        environment: std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect::<BTreeMap<_, _>>(),
    };
    let token = sources.environment.get(remote::TOKEN).cloned();
    let (settings, entries) = sources.resolve()?;
    if let Some(url) = &settings.server {
        let has_token = token.as_ref().is_some_and(|token| !token.is_empty());
        cli.command
            .check_is_meant(url, is_flagged("server"), has_token)?;
    }
    if let (Some(url), false) = (&settings.server, cli.command.stays_here()) {
        let places = [
            "target",
            "repository",
            "clickhouse.data_path",
            "clickhouse.state",
        ];
        if let Some(place) = places.iter().find(|place| is_flagged(place)) {
            return Err(Failure::misuse(format!(
                "the server at {url} has a target and a repository of its own, and a flag names another {}",
                place.rsplit('.').next().unwrap_or(place)
            ))
            .hint("leave the flag out, or have this process do it: --server="));
        }
        let remote = Remote {
            url: url.clone(),
            token,
            format: cli.global.output,
            quiet: cli.global.quiet,
        };
        let program = defined();
        let line = program.clone().get_matches_from(arguments);
        let ended = remote.run(&program, &line)?;
        return Ok(Ended::ByServer(ended.exit_code));
    }
    let context = Context {
        settings,
        entries,
        output: Output {
            format: cli.global.output,
            quiet: cli.global.quiet,
            listener: None,
        },
        session: None,
        shared: None,
    };
    let verdict = match cli.command {
        Command::Serve(command) => command.run(&context, PROGRAM, sources),
        Command::Agent(command) => command.run(&context, PROGRAM, sources),
        command => match (command.cluster(), &command) {
            (Some(named), Command::Operation(_)) => {
                // It is one command of several about an operation, whose agents may have moved.
                cluster::command::note_addresses(&context, named)?;
                command.run(&context)
            }
            (Some(named), _) => {
                let program = defined();
                let line = program.clone().get_matches_from(arguments);
                let (words, fields) = words::of_line(&program, &line);
                cluster::command::run(&context, &words, fields, named)
            }
            (None, _) => match (context.target()?, command.is_of_cluster()) {
                (Target::Cluster(list), true) => {
                    let program = defined();
                    let line = program.clone().get_matches_from(arguments);
                    let (words, fields) = words::of_line(&program, &line);
                    let list = list.to_string_lossy();
                    cluster::command::run(&context, &words, fields, (&list, None))
                }
                _ => command.run(&context),
            },
        },
    };
    let verdict = verdict.map_err(|failure| context.tell_what_is_in_the_way(failure))?;
    Ok(Ended::Here(verdict))
}

/// Ends a run whose arguments clap did not take, or that asked for help.
fn refuse(error: &clap::Error, json: bool) -> ExitCode {
    let is_help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if json && !is_help {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim();
        log::fail_with(&Failure::misuse(text), OutputFormat::Json);
    } else if error.print().is_err() {
        // Nobody reads the help any more.
        return ExitCode::SUCCESS;
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Whether JSON was asked for, in arguments that did not parse.
fn wants_json(arguments: &[OsString]) -> bool {
    let by_flag = arguments
        .windows(2)
        .any(|pair| pair[0] == "--output" && pair[1] == "json");
    by_flag
        || arguments.iter().any(|argument| argument == "--output=json")
        || std::env::var_os("MENDB_OUTPUT").is_some_and(|format| format == "json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_argument_of_a_command_has_the_name_of_one_of_all() {
        fn check(command: &clap::Command, of_all: &[&str]) {
            for arg in command.get_arguments().filter(|arg| !arg.is_global_set()) {
                let id = arg.get_id().as_str();
                assert!(
                    !of_all.contains(&id),
                    "{id} of mendb {}",
                    command.get_name()
                );
            }
            for inner in command.get_subcommands() {
                check(inner, of_all);
            }
        }
        let program = Cli::command();
        let of_all = program.get_arguments().filter(|arg| arg.is_global_set());
        let of_all: Vec<&str> = of_all.map(|arg| arg.get_id().as_str()).collect();
        assert!(of_all.contains(&"state"));
        check(&program, &of_all);
    }
}
