//! `mendb diff`: what differs between two restore points, or between a restore point and now.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use clap::Args;
use mendb_model::operation::ChangedBy;
use mendb_service::{DiffOrder, DiffReport, RestorePoint, RowDiff, Service, TransactionsOrder};

use crate::backup_name;
use crate::commands::selectors::unless_nothing_fits;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::human;
use crate::output::OutputFormat;
use crate::progress::Progress;
use crate::rows::{diff_report, row_diff, transactions};
use crate::target::Target;

/// What names the live tables.
const LIVE: &str = "live";

const EXAMPLES: &str = "\
Examples:
  mendb diff world                                       the newest backup of a collection, and now
  mendb diff monday tuesday                              two backups by their labels
  mendb diff monday --rows --tables 'cit*'               each row that differs, before and after
  mendb diff monday live --rows --output json            the same as JSON lines, for scripts
  mendb diff shop --changed-by 2026-11-21T08:00:00Z..    the transactions since then, up to the newest backup

With --rows a line is a row:
  ~ cities id=17: people 120 -> 119                      changed
  + cities id=99: name \"Ys\", people null                 only in the second
  - cities id=21: name \"Atlantis\", people 4000           only in the first";

/// Show what differs between two backups of a row store, or between a backup and the live tables.
///
/// Counts for each table the rows that only the second has (added), that have other values (changed) and
/// that only the first has (removed), and names tables that only one has and schemas that differ. With
/// --rows each such row is printed as it is found, in key order, with the values before and after.
///
/// Only what may differ is read: the keys that changed between where increments and change streams tell,
/// else the key ranges whose digests differ. The live tables are looked at as of one moment; nobody waits
/// for it. Exit code 0 when both are equal, 3 when something differs.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct DiffCommand {
    /// The first: a backup by its id or label, or a collection for its newest
    #[arg(value_name = "BACKUP")]
    before: String,
    /// The second: another backup, or live for the tables as they are now; COLLECTION/live where a
    /// backup has that label
    #[arg(value_name = "BACKUP|live", default_value = LIVE)]
    after: String,
    /// Only tables that match these comma-separated patterns with * and ?
    #[arg(long, short, value_name = "PATTERNS")]
    tables: Option<String>,
    /// Let patterns fit nothing, which else is an error
    #[arg(long)]
    if_exists: bool,
    /// Print each row that differs: its key, and its values before and after; as JSON one object a line,
    /// and the counts on stderr
    #[arg(long)]
    rows: bool,
    /// Print at most so many rows; all are counted
    #[arg(long, value_name = "N", requires = "rows")]
    limit: Option<u64>,
    /// Show transactions instead: the one of this number, or those that committed in a span of time, as
    /// 2026-11-21T08:00:00Z..2026-11-21T08:05:00Z, one end of which may be left out. For each when it committed, and what it
    /// did to each table; as JSON one object a line. Increments up to the first backup tell them, where they keep changes
    /// one by one: backup --changes stream (PostgreSQL)
    #[arg(long, value_name = "XID|TIME..TIME", conflicts_with_all = ["after", "rows"])]
    changed_by: Option<ChangedBy>,
}

impl DiffCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let if_exists = self.if_exists;
        unless_nothing_fits(context, if_exists, self.compared(context))
    }

    fn compared(self, context: &Context) -> Result<Verdict, Failure> {
        if let Target::ClickHouse(_) | Target::Cluster(_) = context.target()? {
            return Err(Failure::misuse(
                "mendb diff compares rows, and the target has parts: it is of ClickHouse",
            )
            .hint("mendb restore --in-place --dry-run tells how its tables differ from a backup"));
        }
        let service = context.look()?;
        if let Some(changed_by) = self.changed_by {
            let order = TransactionsOrder {
                of: find(&service, &self.before)?,
                changed_by,
                tables: self.tables,
                if_exists: self.if_exists,
            };
            return transactions::show(context, &service, &order);
        }
        let order = DiffOrder {
            before: find(&service, &self.before)?,
            after: match self.after.as_str() {
                LIVE => None,
                name => Some(find(&service, name)?),
            },
            tables: self.tables,
            if_exists: self.if_exists,
        };
        let mut rows = RowPrinter {
            out: BufWriter::new(context.output.writer()),
            format: context.output.format,
            most: match self.limit {
                _ if !self.rows => 0,
                limit => limit.unwrap_or(u64::MAX),
            },
            shown: 0,
            found: 0,
            line: Vec::new(),
        };
        // Rows that are printed show how far it is.
        let progress = Progress::start(
            "comparing",
            None,
            context.output.hides_progress() || self.rows,
        );
        let report = compare(context, &service, &order, &mut rows, &progress)?;
        progress.finish();
        for table in &report.tables {
            if let Some(reason) = diff_report::why_rows_were_read(table) {
                context.say(&reason);
            }
        }
        if self.rows && rows.found > rows.shown {
            let more = human::rows(rows.found - rows.shown);
            context.say(&format!("{more} more differ than --limit lets through"));
        }
        if self.rows && rows.format == OutputFormat::Json {
            context.say(diff_report::describe(&report).trim_end());
        } else {
            let gap = if rows.shown > 0 { "\n" } else { "" };
            context.output.record(&report, |report| {
                format!("{gap}{}", diff_report::describe(report))
            })?;
        }
        Ok(if report.is_equal() {
            Verdict::Done
        } else {
            Verdict::Drift
        })
    }
}

/// Finds what differs, and prints rows meanwhile.
fn compare(
    context: &Context,
    service: &Service,
    order: &DiffOrder,
    rows: &mut RowPrinter<impl Write>,
    progress: &Progress,
) -> Result<DiffReport, Failure> {
    let (mut failed, mut read) = (Ok(()), 0);
    let report = service.diff(
        order,
        &mut |row| {
            failed = rows.print(row);
            match failed {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        },
        &mut |more| {
            read += more;
            progress.update(0, &human::rows(read));
            context.while_heard()
        },
    );
    failed?;
    context.check_heard()?;
    // What was found before an error is told too.
    rows.out.flush().map_err(|error| cannot_write(&error))?;
    report?.ok_or_else(|| Failure::new(FailureKind::BrokenPipe, "the diff was ended"))
}

/// Prints rows as they are found.
struct RowPrinter<W: Write> {
    out: W,
    format: OutputFormat,
    /// So many may be printed.
    most: u64,
    shown: u64,
    found: u64,
    line: Vec<u8>,
}

impl<W: Write> RowPrinter<W> {
    fn print(&mut self, row: &RowDiff<'_>) -> Result<(), Failure> {
        self.found += 1;
        if self.shown == self.most {
            return Ok(());
        }
        self.shown += 1;
        self.line.clear();
        match self.format {
            OutputFormat::Text => row_diff::write_text(&mut self.line, row)?,
            OutputFormat::Json => row_diff::write_json(&mut self.line, row)?,
        }
        self.line.push(b'\n');
        let written = self.out.write_all(&self.line);
        written.map_err(|error| cannot_write(&error))
    }
}

fn cannot_write(error: &io::Error) -> Failure {
    Failure::io("cannot write to stdout", error)
}

/// The backup that a user means: the newest of a collection where that is named.
///
/// # Errors
/// There is no such backup, or several, or the repository cannot be read.
fn find(service: &Service, name: &str) -> Result<RestorePoint, Failure> {
    let (repository, runtime) = (service.repository(), service.runtime());
    if runtime
        .block_on(repository.collections())?
        .iter()
        .any(|collection| collection == name)
    {
        return Ok(RestorePoint {
            collection: name.to_owned(),
            backup: None,
        });
    }
    let found = backup_name::search(repository, runtime, name)?;
    let (collection, id) = found.ok_or_else(|| backup_name::unknown(repository, name))?;
    Ok(RestorePoint {
        collection,
        backup: Some(id.to_string()),
    })
}
