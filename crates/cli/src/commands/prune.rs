//! `mendb prune`: keep the backups that rules want.

use clap::Args;
use mendb_model::BackupId;
use mendb_model::name::patterns;
use mendb_model::retention::{Fate, Period, Retention};
use mendb_service::{PlannedBackup, plan_prune};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::{Field, table};

/// How rules go together, by example.
const EXAMPLES: &str = "\
By example:

  mendb prune shop --keep-last 7                                  the seven newest
  mendb prune shop --keep-daily 14 --keep-weekly 8 --keep-monthly 12
  mendb prune shop --keep-within 30d --keep-label 'release-*' --dry-run";

/// Keep the backups of a collection that rules want, and remove or fold the others.
///
/// A backup stays if one of the rules wants it. The newest of each target always stays, and so does one that
/// lacks something while no later one is complete; such backups count for no rule. Rules count those of each
/// target by themselves. Days, weeks (from Monday) and longer are those of UTC, and only those that have a
/// backup count.
///
/// What is not wanted is removed where nothing that stays stands on it. Else it is folded into the next that
/// stays, as mendb chain compact does it, so that an old full backup goes, too: each that stays restores what it
/// did before. What goes is no restore point any more, and a restore in place whose state before is one of those
/// cannot be undone; --dry-run says which they are.
///
/// Only the repository is read and written. When it is cut off, the same command goes on.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct PruneCommand {
    /// The collection
    collection: String,
    #[command(flatten)]
    keep: KeepArgs,
    /// Say what would become of each backup, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Which backups to keep.
#[derive(Debug, Args)]
pub struct KeepArgs {
    /// Keep so many of the newest
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_last: u32,
    /// Keep those that are at most so much older than the newest: 36h, 30d, 8w
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    keep_within: Option<i64>,
    /// Keep the newest of each of so many hours
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// Keep the newest of each of so many days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the newest of each of so many weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the newest of each of so many months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Keep the newest of each of so many years
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u32>,
    /// Keep those whose label matches one of these comma-separated patterns with * and ?
    #[arg(long, value_name = "PATTERNS")]
    keep_label: Option<String>,
    /// Fold nothing: what others stand on stays
    #[arg(long)]
    no_fold: bool,
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
struct PruneRecord {
    collection: String,
    dry_run: bool,
    /// The operation that did it; none where nothing was to be done.
    operation_id: Option<String>,
    backups: Vec<BackupRecord>,
}

/// A backup and what became of it.
#[derive(Debug, Serialize)]
struct BackupRecord {
    backup_id: BackupId,
    label: Option<String>,
    kind: &'static str,
    /// What it had before.
    bytes: u64,
    /// `stays`, `folded` or `removed`.
    fate: &'static str,
    /// Which rules want it.
    kept_by: Vec<String>,
    /// The backup that it became part of.
    into: Option<BackupId>,
}

impl PruneCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        let rules = self.keep.rules();
        if rules.is_empty() {
            return Err(Failure::misuse("no rule says which backups to keep")
                .hint("say it, as with --keep-last 7 --keep-weekly 4"));
        }
        let mut labels = rules.labels.iter().flat_map(|labels| patterns(labels));
        if labels.any(str::is_empty) {
            return Err(Failure::misuse("--keep-label has an empty pattern")
                .hint("name labels, as in --keep-label 'monthly-*,release-*'"));
        }
        let runtime = context.runtime()?;
        let repository = context.open_repository(&runtime)?;
        let folds = !self.keep.no_fold;
        let handle = runtime.handle();
        let mut plan = plan_prune(&repository, handle, &self.collection, &rules, folds)?;
        let mut operation = None;
        if self.dry_run {
            context.tell_maintenance(&repository, &runtime)?;
        } else if plan.request.does_something() {
            let (done, request) = context.maintain(&repository, &runtime, plan.request)?;
            plan.backups.iter_mut().for_each(|it| it.went(&request));
            operation = Some(done);
        } else {
            context.end_maintenance(&repository, &runtime, &plan.request)?;
        }
        let record = PruneRecord {
            collection: self.collection,
            dry_run: self.dry_run,
            operation_id: operation.map(|operation| operation.operation_id.to_string()),
            backups: plan.backups.into_iter().map(BackupRecord::new).collect(),
        };
        context.output.report(&record, PruneRecord::describe)?;
        Ok(Verdict::Done)
    }
}

impl KeepArgs {
    fn rules(&self) -> Retention {
        let counts = [
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        let periods = Period::ALL.into_iter().zip(counts);
        Retention {
            last: self.keep_last,
            within_s: self.keep_within,
            periods: periods
                .filter_map(|(period, count)| Some((period, count?)))
                .collect(),
            labels: self.keep_label.clone(),
        }
    }

    /// What was said, by the names of the arguments.
    pub fn fields(&self) -> Map<String, Value> {
        let counts = [
            ("keep_last", Some(self.keep_last).filter(|count| *count > 0)),
            ("keep_hourly", self.keep_hourly),
            ("keep_daily", self.keep_daily),
            ("keep_weekly", self.keep_weekly),
            ("keep_monthly", self.keep_monthly),
            ("keep_yearly", self.keep_yearly),
        ];
        let counts = counts.into_iter();
        let mut fields: Map<_, _> = counts
            .filter_map(|(name, count)| Some((name.to_owned(), count?.into())))
            .collect();
        if let Some(seconds) = self.keep_within {
            fields.insert(
                "keep_within".to_owned(),
                format!("{}h", seconds / 3600).into(),
            );
        }
        if let Some(labels) = &self.keep_label {
            fields.insert("keep_label".to_owned(), labels.clone().into());
        }
        if self.no_fold && !fields.is_empty() {
            fields.insert("no_fold".to_owned(), true.into());
        }
        fields
    }
}

impl BackupRecord {
    fn new(planned: PlannedBackup) -> Self {
        let (fate, kept_by, into) = match planned.fate {
            Fate::Stays(reasons) => {
                let reasons = reasons.iter().map(ToString::to_string);
                ("stays", reasons.collect(), None)
            }
            Fate::Folded { into } => ("folded", Vec::new(), Some(into)),
            Fate::Removed => ("removed", Vec::new(), None),
        };
        Self {
            backup_id: planned.backup_id,
            label: planned.label,
            kind: planned.kind.name(),
            bytes: planned.bytes,
            fate,
            kept_by,
            into,
        }
    }

    fn why(&self) -> String {
        match &self.into {
            Some(into) => format!("into {into}"),
            None => self.kept_by.join(", "),
        }
    }
}

impl PruneRecord {
    fn describe(&self) -> String {
        let of = |fate| {
            self.backups
                .iter()
                .filter(|backup| backup.fate == fate)
                .count()
        };
        let would = if self.dry_run { "would be " } else { "" };
        let headline = format!(
            "{}: {} kept, {} {would}folded, {} {would}removed\n",
            self.collection,
            of("stays"),
            of("folded"),
            of("removed"),
        );
        let fields = [
            Field::left("backup", |backup: &BackupRecord| {
                backup.backup_id.to_string()
            }),
            Field::left("label", |backup| backup.label.clone().unwrap_or_default()),
            Field::left("kind", |backup| backup.kind.to_owned()),
            Field::right("bytes", |backup| human::bytes(backup.bytes)),
            Field::left("fate", |backup| backup.fate.to_owned()),
            Field::left("why", BackupRecord::why),
        ];
        headline + &table(&self.backups, &fields)
    }
}

/// Seconds of a duration such as 36h, 30d or 8w.
fn seconds(text: &str) -> Result<i64, String> {
    const UNITS: [(char, i64); 3] = [('h', 3600), ('d', 86_400), ('w', 7 * 86_400)];
    let wanted =
        || format!("{text:?} is no number of hours, days or weeks, such as 36h, 30d or 8w");
    let of_unit = |(unit, seconds): (char, i64)| {
        let number = text.strip_suffix(unit)?.parse::<u32>().ok()?;
        i64::from(number).checked_mul(seconds)
    };
    UNITS.into_iter().find_map(of_unit).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(seconds("36h"), Ok(129_600));
        assert_eq!(seconds("30d"), Ok(2_592_000));
        assert_eq!(seconds("2w"), Ok(1_209_600));
        for wrong in ["", "d", "30", "-1d", "1.5d", "1dd", "1y"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
