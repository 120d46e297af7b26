//! The page of results.

use std::fmt::Write;

use super::measured::Measured;
use super::plot;
use super::results::{Method, Restores, Results, percent};
use crate::bench::aim;
use crate::bench::markdown::{Page, table};
use crate::bench::measure::Cost;
use crate::bench::units::{count, digits, megabytes, seconds, times};
use crate::run::Outcome;

const PAGE: Page = Page {
    text: "docs/bench-clickhouse.md",
    plot: "docs/bench-clickhouse.svg",
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
    let (machine, dataset) = (&results.machine, &results.dataset);
    format!(
        "# Backup and mend of a ClickHouse table\n\n\
         ![Seconds of a restore against what was lost](bench-clickhouse.svg)\n\n\
         A MergeTree table of {rows} rows in {parts} wide parts of {bytes} together ({files} files, 20 partitions): \
         {version} (release build) beside ClickHouse {server} and `cp` on the same files in one run. \
         Taken {date} on {machine} with\n\n    {command}\n\n\
         The load average was {load} before it began. The rows are flights of New York with random tickets, fares \
         and tokens, so that they hardly compress; every part has the same number, and none is merged. \
         Of {repeats} runs of each step the medium one is shown, with the most memory of all; the backup after a \
         mutation was taken once. Before each step everything is flushed to the disk and all it reads is in the page \
         cache. Before each restore server, journal and files go back to the same state, then parts are dropped, \
         spread over the table, and the server is waited for until it has removed their files. After each restore \
         the number and a digest of all rows were those from before the damage.\n\n\
         *RESTORE* is `TRUNCATE` and ClickHouse's own `RESTORE TABLE … FROM File`. *Attach all* is what tools do that \
         cannot tell what is missing: `TRUNCATE`, bring the files of every part into `detached/`, `ATTACH PART` each \
         by SQL; *copied* with `cp -r`, as from another machine, *linked* with hard links, as from a backup that \
         was kept on the server's own disk. While they work, readers see an empty table or half of one; mendb's \
         mend keeps what is there, and proves files against their hashes, which the others do not. A step of mendb \
         is one process from its start to its end; what it writes to the repository is flushed to the disk, as the \
         *sync* in `cp -r, sync` does it, and ClickHouse's does not.\n\n\
         What these numbers do not say: the engine of the server is the real one, but it runs in process behind \
         an HTTP interface of our tests; the network is loopback; the repository is a directory on the \
         same disk, not an object store, where bytes cost more than they do here; nothing else uses the server.\n",
        rows = count(dataset.rows),
        parts = count(dataset.parts),
        files = count(dataset.files),
        bytes = megabytes(dataset.bytes),
        version = results.mendb_version,
        server = results.server_version,
        date = machine.date,
        machine = machine.name,
        command = results.command,
        load = machine.load,
        repeats = results.repeats,
    )
}

/// The tables of results.
pub fn tables(results: &Results) -> String {
    [
        aim::table(results.aims()),
        backups(results),
        restores(results),
        mends(results),
        processor_times(results),
    ]
    .join("\n")
}

fn backups(results: &Results) -> String {
    let backups = &results.backups;
    let table_bytes = results.dataset.bytes;
    let copy = backups.copy.time;
    let line = |what: &str, cost: Cost, whole: bool, bytes: Option<u64>, memory: bool| {
        let rate = |_| {
            format!(
                "{}/s",
                megabytes((table_bytes as f64 / cost.time.as_secs_f64()) as u64)
            )
        };
        let shown = |is: bool| is.then_some(());
        vec![
            what.to_owned(),
            seconds(cost.time),
            shown(whole).map(rate).unwrap_or_default(),
            shown(whole).map_or_else(String::new, |()| percent(times(copy, cost.time))),
            seconds(cost.processor_time),
            shown(memory).map_or_else(String::new, |()| megabytes(cost.peak_bytes)),
            bytes.map(megabytes).unwrap_or_default(),
        ]
    };
    let first =
        |what: &str, of: Measured, memory| line(what, of.cost, true, Some(of.bytes), memory);
    let later =
        |what: &str, of: Measured, memory| line(what, of.cost, false, Some(of.bytes), memory);
    let mutated = &results.mutated;
    let lines = [
        line("`cp -r`", backups.copy, true, Some(table_bytes), false),
        line(
            "`cp -r`, `sync`",
            backups.copy_flushed,
            true,
            Some(table_bytes),
            false,
        ),
        first("ClickHouse `BACKUP`", backups.native, false),
        first("mendb", backups.mendb, true),
        later("ClickHouse, nothing changed", backups.native_again, false),
        later("mendb, nothing changed", backups.mendb_again, true),
        later("ClickHouse, one column mutated", mutated.native, false),
        later("mendb, one column mutated", mutated.mendb, true),
    ];
    let heads = [
        "",
        "time",
        "rate",
        "speed of `cp -r`",
        "processor time",
        "peak memory",
        "written",
    ];
    let mut out = table("Backup", &heads, &lines);
    let _ = writeln!(
        out,
        "\nThe mutated column has {}. ClickHouse's later backups are increments with `base_backup`: they need the \
         first one; mendb's are complete. Its bytes are those of files that the repository did not have; lists and \
         manifest come on top.",
        megabytes(mutated.column_bytes),
    );
    out
}

fn restores(results: &Results) -> String {
    let lines: Vec<Vec<String>> = results
        .restores
        .iter()
        .map(|after| {
            let mut line = vec![format!("{} %", after.percent)];
            let times = Method::ALL.map(|method| seconds(after.by(method).cost.time));
            line.extend(times);
            let others = Method::ALL.into_iter().skip(1);
            line.extend(others.map(|method| times_as_long(after, method)));
            line
        })
        .collect();
    let names = Method::ALL.map(Method::name);
    let against: Vec<String> = names[1..]
        .iter()
        .map(|name| format!("times {name}"))
        .collect();
    let mut heads = vec!["lost"];
    heads.extend(names);
    heads.extend(against.iter().map(String::as_str));
    let mut out = table("Restore after damage", &heads, &lines);
    out.push_str("\nThe last columns are how many times as long as mendb the others take.\n");
    out
}

fn times_as_long(after: &Restores, method: Method) -> String {
    let (theirs, ours) = (
        after.by(method).cost.time,
        after.by(Method::Mendb).cost.time,
    );
    digits(times(theirs, ours))
}

fn mends(results: &Results) -> String {
    let whole = results
        .restores
        .last()
        .map(|after| after.by(Method::Mendb).cost.time);
    let lines: Vec<Vec<String>> = results
        .restores
        .iter()
        .map(|after| {
            let mend = after.by(Method::Mendb);
            let share = whole.map(|whole| times(mend.cost.time, whole));
            vec![
                format!("{} %", after.percent),
                seconds(mend.cost.time),
                share.map(percent).unwrap_or_default(),
                seconds(mend.cost.processor_time),
                megabytes(mend.cost.peak_bytes),
                megabytes(after.lost_bytes),
                megabytes(mend.bytes),
            ]
        })
        .collect();
    let heads = [
        "lost",
        "time",
        "of a whole restore",
        "processor time",
        "peak memory",
        "lost bytes",
        "read from the repository",
    ];
    table("What a mend costs", &heads, &lines)
}

fn processor_times(results: &Results) -> String {
    let lines: Vec<Vec<String>> = results
        .restores
        .iter()
        .map(|after| {
            let mut line = vec![format!("{} %", after.percent)];
            let times = Method::ALL.map(|method| seconds(after.by(method).cost.processor_time));
            line.extend(times);
            line
        })
        .collect();
    let mut heads = vec!["lost"];
    heads.extend(Method::ALL.map(Method::name));
    let mut out = table("Processor time of restores", &heads, &lines);
    out.push_str("\nOf all processes that work on it, the server's too.\n");
    out
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    #[test]
    fn the_page_shows_ratios_beside_times() {
        let text = tables(&results(700, 19, [10, 49, 200, 1000]));
        let has = |cells: &[&str]| {
            text.lines().any(|line| {
                let found: Vec<&str> = line.split('|').map(str::trim).collect();
                cells.iter().all(|cell| found.contains(cell))
            })
        };
        assert!(
            has(&[
                "Backup at 80 % or more of the speed of `cp -r`",
                "70 %",
                "**missed**"
            ]),
            "{text}"
        );
        assert!(
            has(&["mendb", "1.00 s", "1000 MB/s", "70 %", "50 MB"]),
            "{text}"
        );
        assert!(
            has(&["1 %", "0.05 s", "1.20 s", "24", "22", "3.1"]),
            "{text}"
        );
        assert!(has(&["10 %", "0.20 s", "20 %", "100 MB"]), "{text}");
    }
}
