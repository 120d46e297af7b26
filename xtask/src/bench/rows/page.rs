//! The page of results: Markdown for `docs/`, and the same tables on the terminal.

use std::fmt::Write;

use super::plot;
use super::results::{Increment, ROUNDS, Results, TableSize};
use super::store::SHARDS;
use crate::bench::aim;
use crate::bench::markdown::{Page, table};
use crate::bench::measure::Cost;
use crate::bench::units::{count, megabytes, rate, seconds, times};
use crate::run::Outcome;

const PAGE: Page = Page {
    text: "docs/bench-rows.md",
    plot: "docs/bench-rows.svg",
};

/// Writes page and plot.
///
/// # Errors
/// They cannot be written.
pub fn write(results: &Results) -> Outcome {
    let text = format!("{}\n{}", introduction(results), tables(results));
    PAGE.write(&text, &plot::svg(results))
}

fn introduction(results: &Results) -> String {
    let (machine, rows) = (&results.machine, count(results.rows));
    let row_bytes = results.csv_bytes / results.rows;
    let [_, tuned] = &results.postgres;
    format!(
        "# Backup and restore of rows, beside PostgreSQL\n\n\
         ![Seconds for import, backup and restore](bench-rows.svg)\n\n\
         {rows} rows of about {row_bytes} bytes ({csv} of CSV) with a key and one covering index on another column: \
         {version} (release build, {SHARDS} shards) and {postgres} on the same rows in one run. \
         Taken {date} on {machine} with\n\n    {command}\n\n\
         The load average was {load} before it began; what others take lengthens times, and processor times hardly. \
         The rows are the same in every run, and they come in the order of their key. Both sides run on the same disk \
         with what they read in the page cache; before each step everything is flushed to the disk. A step of mendb is \
         one process from its start to its end, opening and closing the database with it. Every restored table was \
         proved to have the digests of the one that was backed up, and mendb's restore has done so itself before, which \
         is part of its time. PostgreSQL loads with `COPY` in the transaction that creates the table, then \
         builds primary key and index; it is dumped with `pg_dump -Fc` and restored with `pg_restore -j2`. *Default* is \
         as Debian ships it; *tuned* is set up for loading, and would lose its data with the machine: `{settings}`.\n\n\
         Memory is the most at a time: mendb's peak resident size, or what the processes of PostgreSQL have for \
         themselves and share, without the files they read.\n",
        csv = megabytes(results.csv_bytes),
        version = results.mendb.version,
        postgres = tuned.version,
        date = machine.date,
        machine = machine.name,
        load = machine.load,
        command = results.command,
        settings = tuned.settings,
    )
}

/// The tables of results.
pub fn tables(results: &Results) -> String {
    [
        comparison(results),
        aim::table(results.aims()),
        costs(results),
        sizes(results),
        increments(results),
    ]
    .join("\n")
}

fn comparison(results: &Results) -> String {
    let mendb = &results.mendb;
    let [default, tuned] = &results.postgres;
    let line = |step: &str, ours: Cost, default: Cost, tuned: Cost| {
        vec![
            step.to_owned(),
            format!(
                "{}, {} rows",
                seconds(ours.time),
                rate(results.rows, ours.time)
            ),
            seconds(default.time),
            seconds(tuned.time),
            format!("{:.1}", times(default.time, ours.time)),
            format!("{:.1}", times(tuned.time, ours.time)),
        ]
    };
    let lines = [
        line("import", mendb.import, default.import, tuned.import),
        line("full backup", mendb.full, default.dump, tuned.dump),
        line(
            "full backup, against `-Z1`",
            mendb.full,
            default.fast_dump,
            tuned.fast_dump,
        ),
        line(
            "restore of the full backup",
            mendb.restore_full,
            default.restore,
            tuned.restore,
        ),
        line(
            &format!("restore of the full backup and {ROUNDS} increments of 1 %, merged"),
            mendb.restore_merged,
            default.restore,
            tuned.restore,
        ),
        line(
            "the same, one after the other",
            mendb.restore_sequential,
            default.restore,
            tuned.restore,
        ),
    ];
    let heads = [
        "",
        "mendb",
        "PostgreSQL, default",
        "PostgreSQL, tuned",
        "times default",
        "times tuned",
    ];
    let mut out = table("Beside PostgreSQL", &heads, &lines);
    let _ = writeln!(
        out,
        "\nPostgreSQL has no increments: its restore is that of the dump alone. In bytes, the table with its indexes is \
         {} in mendb's database and {} in PostgreSQL's, and the backup {} against {} ({} with `-Z1`); mendb's holds the \
         rows of the index too, PostgreSQL's builds them again.",
        megabytes(mendb.database_bytes),
        megabytes(tuned.table_bytes),
        megabytes(mendb.full_bytes),
        megabytes(tuned.dump_bytes),
        megabytes(tuned.fast_dump_bytes),
    );
    out
}

fn costs(results: &Results) -> String {
    let mendb = &results.mendb;
    let line = |step: &str, cost: Cost, bytes: Option<u64>| {
        vec![
            step.to_owned(),
            seconds(cost.time),
            seconds(cost.processor_time),
            megabytes(cost.peak_bytes),
            bytes.map_or_else(String::new, megabytes),
        ]
    };
    let mut lines = vec![
        line("mendb: import", mendb.import, Some(mendb.database_bytes)),
        line("mendb: full backup", mendb.full, Some(mendb.full_bytes)),
    ];
    for (round, increment) in (1..).zip(mendb.rounds()) {
        let step = format!("mendb: change of 1 %, round {round}");
        lines.push(line(&step, increment.change, None));
        let step = format!("mendb: increment {round}");
        lines.push(line(&step, increment.backup, Some(increment.bytes)));
    }
    lines.push(line(
        "mendb: restore of the full backup",
        mendb.restore_full,
        None,
    ));
    lines.push(line(
        "mendb: restore with the increments, merged",
        mendb.restore_merged,
        None,
    ));
    lines.push(line(
        "mendb: restore with the increments, one after the other",
        mendb.restore_sequential,
        None,
    ));
    for (name, server) in ["default", "tuned"].iter().zip(&results.postgres) {
        let steps = [
            ("import", server.import, Some(server.table_bytes)),
            ("`pg_dump -Fc`", server.dump, Some(server.dump_bytes)),
            (
                "`pg_dump -Fc -Z1`",
                server.fast_dump,
                Some(server.fast_dump_bytes),
            ),
            ("`pg_restore -j2`", server.restore, None),
        ];
        for (step, cost, bytes) in steps {
            lines.push(line(&format!("PostgreSQL, {name}: {step}"), cost, bytes));
        }
    }
    let heads = ["", "time", "processor time", "peak memory", "bytes written"];
    table("Each step", &heads, &lines)
}

fn sizes(results: &Results) -> String {
    let line = |size: TableSize| {
        let mut line = vec![count(size.rows)];
        for cost in [size.import, size.full, size.restore] {
            let per_row = cost.time.as_secs_f64() * 1e6 / size.rows as f64;
            line.extend([
                seconds(cost.time),
                format!("{per_row:.2} µs"),
                megabytes(cost.peak_bytes),
            ]);
        }
        line
    };
    let lines: Vec<Vec<String>> = results.sizes().into_iter().map(line).collect();
    let heads = [
        "rows",
        "import",
        "a row",
        "peak memory",
        "full backup",
        "a row",
        "peak memory",
        "restore of it",
        "a row",
        "peak memory",
    ];
    table("Larger and smaller tables", &heads, &lines)
}

fn increments(results: &Results) -> String {
    let line = |increment: &&Increment| {
        let per_row = increment.backup.time.as_secs_f64() * 1e6 / increment.rows as f64;
        vec![
            format!("{} %", increment.per_mille as f64 / 10.0),
            count(increment.rows),
            seconds(increment.change.time),
            seconds(increment.backup.time),
            format!("{per_row:.1} µs"),
            megabytes(increment.bytes),
            format!("{} B", increment.bytes / increment.rows.max(1)),
        ]
    };
    let lines: Vec<Vec<String>> = results.by_changed_rows().iter().map(line).collect();
    let heads = [
        "changed",
        "rows",
        "changing them",
        "increment",
        "a row",
        "in the repository",
        "a row",
    ];
    table("Larger and smaller increments", &heads, &lines)
}
