//! The promises of the repository, on each kind of store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chain;
mod chain_world;
mod clickhouse_backup;
mod clickhouse_backup_contents;
mod clickhouse_backup_faults;
mod clickhouse_backup_fixture;
mod clickhouse_backup_servers;
mod compaction;
mod damage;
mod faults;
mod faulty_store;
mod garbage;
mod ids;
mod in_process;
mod increment_proof;
mod interleavings;
mod late;
mod log;
mod log_places;
mod part_damage;
mod part_directory;
mod part_faults;
mod part_promises;
mod parts_sample;
mod promises;
mod round_trip;
mod rows;
mod s3;
mod s3_server;
mod sample;
#[path = "../../../engines/tests/servers/mod.rs"]
mod servers;
mod shards;
mod sharing;
