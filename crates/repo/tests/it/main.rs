//! The promises of the repository, on each kind of store.

mod damage;
mod faults;
mod faulty_store;
mod in_process;
mod promises;
mod round_trip;
mod rows;
mod s3_server;
mod sample;
