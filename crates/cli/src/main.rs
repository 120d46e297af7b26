//! `mendb`: backs up sharded databases and mends them. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mendb_cli::main()
}
