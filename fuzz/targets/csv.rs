//! Files for the reader `csv`: see `mendb_cli::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mendb_cli::fuzz::run("csv", bytes));
