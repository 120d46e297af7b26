//! The page of results: Markdown for `docs/`, and the same tables on the terminal.

use super::plot;
use super::results::{Results, Size, Stored};
use crate::bench::aim;
use crate::bench::markdown::{Page, table};
use crate::bench::units::{count, digits, megabytes, seconds, times};
use crate::run::Outcome;

const PAGE: Page = Page {
    text: "docs/bench-postgres.md",
    plot: "docs/bench-postgres.svg",
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
    let machine = &results.machine;
    format!(
        "# Tables of PostgreSQL\n\n\
         ![Seconds of a mend and of what others do, against the part of the rows that was damaged](bench-postgres.svg)\n\n\
         A table of rows of about 125 bytes with a primary key and two more indexes, on a server with its default \
         settings: {version} (release build) beside `pg_dump` and `pg_restore` of {postgres}, and {pgbackrest} with two \
         processes on a cluster of the same table. Taken {date} on {machine} with\n\n    {command}\n\n\
         The load average was {load} before it began. Damage is spread evenly over the table: of the rows that it \
         touches every tenth is deleted, the others are changed, and as many as were deleted are new. An increment is \
         taken after it, then the table is mended to the full backup, and must have the content that it had. A *bare \
         rewrite* deletes and inserts as many rows as were damaged, in one transaction of two statements. Before each \
         step the server writes a checkpoint. `pg_restore` restores the table beside into an empty database; \
         `restore --delta` brings a whole cluster back, which is down meanwhile: from its stop until it is open \
         again.\n",
        version = results.version,
        postgres = results.postgres,
        pgbackrest = results.pgbackrest,
        date = machine.date,
        machine = machine.name,
        load = machine.load,
        command = results.command,
    )
}

/// The tables of results.
pub fn tables(results: &Results) -> String {
    let mut parts = vec![aim::table(results.aims())];
    for size in &results.sizes {
        parts.extend([full(size), increments(size), mends(size)]);
    }
    parts.join("\n")
}

fn full(size: &Size) -> String {
    let stored = |name: &str, stored: &Stored| {
        vec![
            name.to_owned(),
            seconds(stored.cost.time),
            megabytes(stored.bytes),
        ]
    };
    let full = &size.full;
    let lines = [
        stored("mendb backup", &full.mendb),
        stored("`pg_dump -Fc`", &full.dump_file),
        stored("`pg_dump -Fd -j2`", &full.dump_directory),
        stored("pgBackRest, of the cluster", &size.pgbackrest.full),
        vec![
            "bare COPY by two sessions".to_owned(),
            seconds(full.copy.time),
            String::new(),
        ],
    ];
    let title = format!("Full backups of {} rows", count(size.rows));
    table(&title, &["", "time", "size"], &lines)
}

fn increments(size: &Size) -> String {
    let pairs = size.mends.iter().zip(&size.pgbackrest.shares);
    let lines = pairs.map(|(mend, delta)| {
        vec![
            format!("{} %", mend.percent),
            seconds(mend.increment.cost.time),
            megabytes(mend.increment.bytes),
            seconds(delta.increment.cost.time),
            megabytes(delta.increment.bytes),
        ]
    });
    let lines: Vec<Vec<String>> = lines.collect();
    let title = format!("Increments of {} rows", count(size.rows));
    let heads = ["damaged", "mendb", "size", "pgBackRest", "size"];
    table(&title, &heads, &lines)
}

fn mends(size: &Size) -> String {
    let pairs = size.mends.iter().zip(&size.pgbackrest.shares);
    let lines = pairs.map(|(mend, delta)| {
        let time = mend.cost.time;
        vec![
            format!("{} %", mend.percent),
            seconds(time),
            seconds(mend.waited),
            megabytes(mend.cost.peak_bytes),
            seconds(mend.bare),
            seconds(size.pg_restore.time),
            digits(times(size.pg_restore.time, time)),
            seconds(delta.down),
            digits(times(delta.down, time)),
        ]
    });
    let lines: Vec<Vec<String>> = lines.collect();
    let title = format!("Mends of {} rows", count(size.rows));
    let heads = [
        "damaged",
        "mend",
        "writers waited",
        "peak memory",
        "bare rewrite",
        "`pg_restore -j2`",
        "times",
        "`restore --delta`",
        "times",
    ];
    table(&title, &heads, &lines)
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    #[test]
    fn a_table_has_its_backups_increments_and_mends() {
        let text = tables(&results(1));
        for title in ["Full backups", "Increments", "Mends"] {
            let title = format!("## {title} of 5,000,000 rows");
            assert!(text.contains(&title), "{title}\n{text}");
        }
        let mends: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("| 1 %"))
            .collect();
        assert!(mends[1].contains("| 1.00 s |"), "{text}");
    }
}
