//! The promises of the repository, on each kind of store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod damage;
mod faults;
mod faulty_store;
mod in_process;
mod promises;
mod round_trip;
mod rows;
mod s3;
mod s3_server;
mod sample;
