//! Files for the reader `jsonl`: see `mendb_cli::fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mendb_cli::fuzz::run("jsonl", bytes));
