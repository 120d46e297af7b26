//! The story of the demo, chapter by chapter.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::Duration;

use mendb_model::Digest;
use mendb_model::name::{BackupKind, TablePath};
use mendb_model::operation::{OperationHead, State};
use mendb_rowstore::{Database, Snapshot};
use mendb_service::{BackupOrder, Service};

use super::kill;
use super::load;
use super::place::Place;
use super::report::{Kill, Report, TableProof, Timing};
use crate::clock::Stopwatch;
use crate::commands::table::digest;
use crate::context::Context;
use crate::demo_data::{self, DemoTable};
use crate::failure::Failure;
use crate::human;
use crate::operations::ending::check_end;
use crate::progress::Progress;

/// The collection of the demo's tables.
const COLLECTION: &str = "shop";
/// Rounds of changes, each with an increment after it.
const ROUNDS: u32 = 3;
const TABLES: [&str; 3] = [demo_data::CUSTOMER, demo_data::ORDERS, demo_data::LINEITEM];

/// Digests of tables and indexes.
type Digests = BTreeMap<TablePath, Digest>;

/// Tells the story in a place.
///
/// # Errors
/// A step failed.
pub fn tell(place: &Place, scale: f64) -> Result<Report, Failure> {
    place.say(&format!(
        "Orders of the TPC-H benchmark at scale {scale}, {}",
        place.introduction()
    ));
    let mut story = Story {
        place,
        scale,
        timings: Vec::new(),
    };
    let before = {
        let database = place.context.open_rows()?;
        let service = place.context.open_service_on(database.clone())?;
        story.load(&database)?;
        service.create_collection(COLLECTION, &TABLES.map(str::to_owned))?;
        story.back_up(&service, BackupKind::Full, "monday")?;
        for (round, label) in (0..ROUNDS).zip(["tuesday", "wednesday", "thursday"]) {
            story.change(&database, round)?;
            story.back_up(&service, BackupKind::Incremental, label)?;
        }
        story.lose(&database)?
    };
    // The target is closed: other processes restore it.
    let killed = story.restore()?;
    story.prove(&before, killed)
}

/// A story that is being told.
struct Story<'a> {
    place: &'a Place,
    scale: f64,
    timings: Vec<Timing>,
}

impl Story<'_> {
    fn chapter(&self, title: &str) {
        self.place.say(&format!("\n== {title}"));
    }

    fn load(&mut self, database: &Database) -> Result<(), Failure> {
        self.chapter("Load three tables, each with indexes and several shards");
        let watch = Stopwatch::start();
        for table in demo_data::tables(self.scale) {
            let name = table.name;
            let told = of_table(&table);
            let label = format!("loading {name}");
            let progress = Progress::start(label, None, self.place.context.output.quiet);
            load::fill(database, table, &mut |rows| {
                progress.update(0, &human::rows(rows));
            })?;
            progress.finish();
            let rows = database.describe(name)?.rows.digest().rows;
            self.place
                .say(&format!("{name}: {} in {told}", human::rows(rows)));
        }
        let elapsed = watch.elapsed();
        let (mut rows, mut bytes) = (0, 0);
        for name in TABLES {
            let table = database.describe(name)?;
            for data in std::iter::once(&table.rows).chain(table.indexes.values()) {
                rows += data.digest().rows;
                bytes += data.bytes();
            }
        }
        self.timings
            .push(Timing::new("load", rows, Some(bytes), elapsed));
        Ok(())
    }

    fn back_up(&mut self, service: &Service, kind: BackupKind, label: &str) -> Result<(), Failure> {
        let (title, flag) = match kind {
            BackupKind::Full => ("Back up everything", ""),
            BackupKind::Incremental => ("Back up what has changed", " --incremental"),
        };
        self.chapter(&format!(
            "{title}: mendb backup {COLLECTION}{flag} --label {label}"
        ));
        let watch = Stopwatch::start();
        let id = service.request_backup(&BackupOrder {
            new_repository: false,
            compare_rows: false,
            changes: None,
            collection: COLLECTION.to_owned(),
            kind,
            label: Some(label.to_owned()),
        })?;
        self.place.context.drive_all(service)?;
        let operation = service.journal().operation(&id)?;
        check_end(&operation, State::Done)?;
        let elapsed = watch.elapsed();
        let rows = operation.progress().rows_done;
        let chain = service.chain(COLLECTION, Some(label))?;
        let bytes = chain.last().map_or(0, |stored| stored.manifest.bytes());
        self.place.say(&format!(
            "{} in {} of Parquet files, in {}",
            human::rows(rows),
            human::bytes(bytes),
            human::duration(elapsed)
        ));
        let step = format!("{} backup {label}", kind.name());
        self.timings
            .push(Timing::new(step, rows, Some(bytes), elapsed));
        Ok(())
    }

    fn change(&mut self, database: &Database, round: u32) -> Result<(), Failure> {
        self.chapter(&format!("Life goes on, round {}", round + 1));
        let watch = Stopwatch::start();
        let changed = load::change(database, self.scale, round)?;
        let elapsed = watch.elapsed();
        self.place.say(&format!(
            "{} updated in some columns, {} inserted, {} erased",
            human::rows(changed.updated),
            human::count(changed.inserted),
            human::count(changed.erased)
        ));
        let step = format!("changes {}", round + 1);
        self.timings
            .push(Timing::new(step, changed.rows(), None, elapsed));
        Ok(())
    }

    /// Drops the tables. Returns what was in them.
    fn lose(&mut self, database: &Database) -> Result<Digests, Failure> {
        self.chapter("Disaster: all tables are dropped");
        let before = digests(&self.place.context, &database.snapshot()?, &TABLES)?;
        for table in TABLES {
            database.drop_table(table)?;
        }
        self.place.say(&format!(
            "{} in {} tables and indexes were read for their digests, and are gone",
            human::rows(before.values().map(|digest| digest.rows).sum()),
            before.len()
        ));
        Ok(before)
    }

    /// Restores in another process, which is killed on the way; a third one finishes. Returns where
    /// the kill was.
    fn restore(&mut self) -> Result<Option<Kill>, Failure> {
        self.chapter(&format!("Restore: mendb restore {COLLECTION}"));
        let first = kill::restore_and_kill(self.place, COLLECTION)?;
        if !first.killed {
            self.place.say(&format!(
                "restored in {}: too quick to be killed on the way; a larger --scale takes longer",
                human::duration(first.elapsed)
            ));
            self.restored("restore", &first.operation, 0, 0, first.elapsed);
            return Ok(None);
        }
        let progress = first.operation.progress();
        let kill = Kill {
            percent: progress.percent,
            step: first.operation.step_label(),
        };
        if std::io::stderr().is_terminal() {
            // The bar of a process that was killed stays where it was; go on below it.
            self.place.say("");
        }
        self.place.say(&format!(
            "killed (SIGKILL) at {:.0} %, in step {}, after {}",
            kill.percent,
            kill.step,
            human::duration(first.elapsed)
        ));
        self.restored(
            "restore until killed",
            &first.operation,
            0,
            0,
            first.elapsed,
        );
        self.chapter(&format!(
            "Go on: mendb operation watch {}",
            first.operation.operation_id
        ));
        let (operation, elapsed) = kill::resume(self.place, &first.operation)?;
        let (rows, bytes) = (progress.rows_done, progress.bytes_done);
        self.restored("restore resumed", &operation, rows, bytes, elapsed);
        self.place.say(&format!(
            "done after another {}; what was loaded before the kill was not loaded again",
            human::duration(elapsed)
        ));
        Ok(Some(kill))
    }

    fn restored(
        &mut self,
        step: &str,
        operation: &OperationHead,
        rows_before: u64,
        bytes_before: u64,
        elapsed: Duration,
    ) {
        let progress = operation.progress();
        let rows = progress.rows_done.saturating_sub(rows_before);
        let bytes = progress.bytes_done.saturating_sub(bytes_before);
        self.timings
            .push(Timing::new(step, rows, Some(bytes), elapsed));
    }

    /// Reads every row of the tables and every byte of the backups.
    fn prove(mut self, before: &Digests, killed: Option<Kill>) -> Result<Report, Failure> {
        self.chapter(&format!("Prove it: mendb verify {COLLECTION} --live"));
        let database = self.place.context.open_rows()?;
        let service = self.place.context.open_service_on(database.clone())?;
        let watch = Stopwatch::start();
        let snapshot = database.snapshot()?;
        let there = snapshot.tables();
        let there = TABLES
            .into_iter()
            .filter(|table| there.iter().any(|name| name == table));
        let after = digests(&self.place.context, &snapshot, &there.collect::<Vec<_>>())?;
        let read = after.values().map(|digest| digest.rows).sum();
        self.timings
            .push(Timing::new("read all tables", read, None, watch.elapsed()));

        let watch = Stopwatch::start();
        let chain = service.chain(COLLECTION, None)?;
        let parents = std::iter::once(None).chain(chain.iter().map(Some));
        let backups = chain
            .iter()
            .zip(parents)
            .map(|(stored, parent)| {
                let go_on = &mut |_| ControlFlow::Continue(());
                service.prove_backup(stored, parent, go_on)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let backups: Vec<_> = backups.into_iter().flatten().collect();
        let (rows, bytes) = backups.iter().fold((0, 0), |(rows, bytes), proof| {
            (rows + proof.rows, bytes + proof.bytes)
        });
        self.timings.push(Timing::new(
            "read all backups",
            rows,
            Some(bytes),
            watch.elapsed(),
        ));
        let promised: Digests = chain
            .last()
            .into_iter()
            .flat_map(|newest| newest.manifest.sharded_tables())
            .map(|(path, data)| (path, data.digest()))
            .collect();
        let proof = |(table, digest): (&TablePath, &Digest)| TableProof {
            table: table.clone(),
            before: *digest,
            after: after.get(table).copied(),
            equal: after.get(table) == Some(digest) && promised.get(table) == Some(digest),
        };
        let tables: Vec<TableProof> = before.iter().map(proof).collect();
        Ok(Report {
            scale: self.scale,
            equal: tables.iter().all(|table| table.equal)
                && after.len() == before.len()
                && backups.len() == chain.len()
                && backups.iter().all(|backup| backup.damage.is_empty()),
            killed,
            tables,
            backups,
            timings: self.timings,
        })
    }
}

/// The digests of tables and their indexes, by reading every row.
fn digests(context: &Context, snapshot: &Snapshot, tables: &[&str]) -> Result<Digests, Failure> {
    let mut digests = Digests::new();
    for table in tables {
        let read = digest::read(context, snapshot, table)?;
        digests.extend(
            read.into_iter()
                .map(|checked| (checked.path, checked.digest)),
        );
    }
    Ok(digests)
}

/// `4 shards, index by_date in 3`
fn of_table(table: &DemoTable) -> String {
    let mut told = format!("{} shards", table.splits.len() + 1);
    for (index, splits) in &table.index_splits {
        told += &format!(", index {index} in {}", splits.len() + 1);
    }
    told
}
