//! The page of results: Markdown for `docs/`, and the same tables on the terminal.

use super::plot;
use super::results::{Mend, Results, Size};
use crate::bench::aim;
use crate::bench::markdown::{Page, table};
use crate::bench::units::{count, megabytes, seconds};
use crate::run::Outcome;

const PAGE: Page = Page {
    text: "docs/bench-mend.md",
    plot: "docs/bench-mend.svg",
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
    let rows: Vec<String> = results.sizes.iter().map(|size| count(size.rows)).collect();
    format!(
        "# Mending a live table of rows\n\n\
         ![Seconds of a mend against the part of the rows that was damaged](bench-mend.svg)\n\n\
         Tables of {rows} rows of about 100 bytes with a key and one covering index, in {shards} shards: a full backup \
         and {rounds} increments of 1 % each, then part of the rows changed by mistake, and the table mended to the last \
         backup: {version} (release build), beside restores of the whole chain into a new table and {postgres}'s \
         `pg_restore -j2` of a dump of the same rows, tuned for loading. Taken {date} on {machine} with\n\n    {command}\n\n\
         The load average was {load} before it began. The damaged rows are neighbours, as after a bad update of a \
         day or a range; *all over* is 1 % of the rows spread evenly, so that nearly every row group of the backup holds \
         one. *Of a restore* is of the time of a merged one, and of the bytes of the chain. Before each mend the store is set back to the same state, everything is flushed to the disk, and what it \
         reads is in the page cache. A step is one process from its start to its end. It takes the backup by which it \
         can be undone, which is part of its time: an increment, or a full one where most rows have changed. Of up to 1 % of damage the medium of {runs} runs is shown, with the \
         most memory of all; more damage and restores were run once. After each mend and restore the digests of table and index were those \
         of the backup.\n",
        rows = rows.join(", "),
        shards = super::SHARDS,
        runs = super::RUNS,
        rounds = super::ROUNDS,
        version = results.version,
        postgres = results.postgres,
        date = machine.date,
        machine = machine.name,
        load = machine.load,
        command = results.command,
    )
}

/// The tables of results.
pub fn tables(results: &Results) -> String {
    let mut parts = vec![aim::table(results.aims()), restores(results)];
    parts.extend(results.sizes.iter().map(mends));
    parts.push(shards(results));
    parts.join("\n")
}

fn restores(results: &Results) -> String {
    let line = |size: &Size| {
        let restores = &size.restores;
        vec![
            count(size.rows),
            seconds(size.usual().cost.time),
            seconds(size.full_backup.time),
            seconds(restores.sequential.time),
            seconds(restores.merged.time),
            seconds(restores.pg_restore.time),
            megabytes(restores.bytes),
            megabytes(restores.sequential.peak_bytes),
            megabytes(restores.merged.peak_bytes),
        ]
    };
    let lines: Vec<Vec<String>> = results.sizes.iter().map(line).collect();
    let heads = [
        "rows",
        "mend of 1 %",
        "full backup",
        "restore, sequential",
        "restore, merged",
        "`pg_restore`",
        "chain",
        "peak memory, sequential",
        "merged",
    ];
    table("Beside restores of everything", &heads, &lines)
}

fn mends(size: &Size) -> String {
    let line = |name: String, mend: &Mend| {
        vec![
            name,
            count(mend.damaged),
            seconds(mend.cost.time),
            format!("{:.1} %", size.share(mend) * 100.0),
            megabytes(mend.fetched_bytes),
            format!("{:.1} %", size.share_of_bytes(mend) * 100.0),
            count(mend.written),
            megabytes(mend.cost.peak_bytes),
        ]
    };
    let mut lines: Vec<Vec<String>> = size
        .mends
        .iter()
        .map(|mend| line(mend.percent(), mend))
        .collect();
    let scattered = &size.scattered;
    lines.push(line(
        format!("{}, all over", scattered.percent()),
        scattered,
    ));
    let heads = [
        "damaged",
        "rows",
        "time",
        "of a restore",
        "read from the repository",
        "of a restore",
        "rows written",
        "peak memory",
    ];
    table(&format!("{} rows", count(size.rows)), &heads, &lines)
}

fn shards(results: &Results) -> String {
    let line = |(shards, mend): &(u32, Mend)| {
        vec![
            shards.to_string(),
            seconds(mend.cost.time),
            megabytes(mend.fetched_bytes),
            megabytes(mend.cost.peak_bytes),
        ]
    };
    let lines: Vec<Vec<String>> = results.shards.iter().map(line).collect();
    let heads = [
        "shards",
        "mend of 1 %",
        "read from the repository",
        "peak memory",
    ];
    table("The middle table in other shards", &heads, &lines)
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    #[test]
    fn every_size_has_its_table() {
        let text = tables(&results([100, 100]));
        for title in ["## Aims", "## 1,000,000 rows", "## 16,000,000 rows"] {
            assert!(text.contains(title), "{title}\n{text}");
        }
        assert_eq!(text.matches("all over").count(), 2);
    }
}
