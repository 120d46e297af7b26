//! The promises of the service, kept inside one process: see `crates/cli/tests` for those that need
//! one to die.
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod apart;
mod attempts;
mod chains;
mod concurrency;
mod conflicts;
mod diff;
mod drill;
mod engine_faults;
mod failing;
mod faults;
#[path = "../../../repo/tests/it/faulty_store.rs"]
#[expect(dead_code, reason = "the tests of the repository use the rest of it")]
mod faulty_store;
#[path = "../../../engines/tests/folder_store/mod.rs"]
#[expect(dead_code, reason = "the promises of the contract use the rest of it")]
mod folder_store;
mod journal_crash;
mod lost_place;
mod meddled_engine;
mod meddled_parts;
mod meddled_wire;
mod mend;
mod mixups;
mod part_faults;
mod property;
mod proved;
mod replica;
mod story;
mod whose;
mod wire;
mod world;
