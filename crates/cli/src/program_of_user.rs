//! Programs that the settings name: who uses mendb has them run when something happens.

use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mendb_service::env;

use crate::clock;

/// How often it is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(50);
/// So much of what one says is kept, in bytes.
const MOST_SAID: u64 = 1000;
/// What they are not handed down of the environment.
const WITHHELD: [&str; 4] = [
    crate::remote::TOKEN,
    "MENDB_HOOKS_SECRET",
    "MENDB_HOOKS_URL",
    "MENDB_CLICKHOUSE_PASSWORD",
];

/// Runs a program, with more in its environment and something on its stdin, and waits until it ends well.
///
/// # Errors
/// It cannot be run, ends with another exit code than 0, which comes with what it said on stderr, or does not end in time
/// and is killed.
pub fn run_program(
    program: &Path,
    environment: &[(&str, &str)],
    stdin: &[u8],
    limit: Duration,
) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("{} cannot be run: {error}", program.display());
    let mut said = tempfile::tempfile().map_err(cannot)?;
    let mut command = Command::new(program);
    for name in WITHHELD {
        command.env_remove(name);
    }
    let mut child = command
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(said.try_clone().map_err(cannot)?)
        .spawn()
        .map_err(cannot)?;
    if let Some(mut pipe) = child.stdin.take() {
        // One that does not read it may still do its work.
        let _ = pipe.write_all(stdin);
    }
    let begun_ms = env::now_ms();
    let status = loop {
        match child.try_wait().map_err(cannot)? {
            Some(status) => break status,
            None if u128::from(env::now_ms().saturating_sub(begun_ms)) > limit.as_millis() => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "{} did not end within {} s",
                    program.display(),
                    limit.as_secs()
                ));
            }
            None => clock::sleep(LOOK),
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    let read = said
        .rewind()
        .and_then(|()| (&mut said).take(MOST_SAID).read_to_end(&mut text));
    let text = read.map(|_| String::from_utf8_lossy(&text).trim().to_owned());
    Err(format!(
        "{} ended with {status}: {}",
        program.display(),
        text.unwrap_or_default()
    ))
}
