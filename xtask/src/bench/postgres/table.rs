//! The table under measure, and what happens to it.

use crate::bench::rows::postgres::Cluster;

pub const DATABASE: &str = "bench";

/// A row has about 125 bytes.
const CREATE: &[&str] = &[
    "create table t (id bigint primary key, customer int not null, at timestamptz not null, kind text not null,
                     amount numeric(12,2), note text)",
    "create index on t (customer)",
    "create index on t (at)",
];

/// Tells two contents apart.
pub const CONTENT: &str = "select count(*), sum(hashtextextended(t::text, 0)) from t";

/// Makes its database, and fills it.
///
/// # Errors
/// The server refused.
pub fn create(cluster: &Cluster<'_>, rows: u64) -> Result<(), String> {
    cluster.sql("postgres", &[&format!("create database {DATABASE}")])?;
    cluster.sql(DATABASE, CREATE)?;
    cluster.sql(DATABASE, &[&fill(rows)])?;
    cluster.sql(DATABASE, &["vacuum analyze t"]).map(drop)
}

fn fill(rows: u64) -> String {
    format!(
        "insert into t select n, (n * 7919 % 100000)::int, '2026-01-01Z'::timestamptz + n * interval '1 second',
             'kind ' || n % 13, (n % 100000) / 100.0, md5(n::text) || md5((n + 1)::text)
         from generate_series(1::bigint, {rows}) n"
    )
}

/// Some of the rows: most are changed, some go and some come.
pub struct Damage {
    /// Every so many-th row is touched.
    every: u64,
    rows: u64,
}

impl Damage {
    /// A share of so many rows.
    pub fn of(rows: u64, percent: f64) -> Self {
        Self {
            every: ((100.0 / percent).round() as u64).max(1),
            rows,
        }
    }

    /// Of those that are touched every tenth goes, and as many come.
    pub fn statements(&self) -> Vec<String> {
        let Self { every, rows } = self;
        vec![
            format!("delete from t where id % ({every} * 10) = 0"),
            format!("update t set amount = amount + 1 where id % {every} = 0"),
            format!(
                "insert into t select {rows} + n, 1, now(), 'new', 1, 'new' from generate_series(1, {rows} / ({every} * 10)) n"
            ),
        ]
    }

    /// The same number of rows, deleted and inserted in one transaction.
    pub fn rewrite(&self) -> Vec<String> {
        let every = self.every;
        vec![
            format!(
                "create temporary table same on commit drop as select * from t where id % {every} = 0"
            ),
            "delete from t using same where t.id = same.id".to_owned(),
            "insert into t select * from same".to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_every_so_many_th_row() {
        let every = |percent| Damage::of(1_000, percent).every;
        assert_eq!([0.01, 1.0, 10.0, 100.0].map(every), [10_000, 100, 10, 1]);
        assert!(Damage::of(5, 50.0).statements()[1].contains("id % 2 = 0"));
    }
}
