//! A command, and what running it cost.

use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::processes;

/// How often memory is looked at. A single process is not missed between two looks but at its very end,
/// since the kernel keeps its peak; several together may be higher for less than this.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a command cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// From its start to its end.
    pub time: Duration,
    /// Processor time of all processes that worked on it.
    pub processor_time: Duration,
    /// The most memory at a time, in bytes.
    pub peak_bytes: u64,
}

/// Runs a command that says nothing worth reading, after all that was written before is on the disk.
///
/// # Errors
/// It cannot be started or does not succeed; the message has what it said.
pub fn run(command: &mut Command) -> Result<Cost, String> {
    Command::new("sync")
        .status()
        .map_err(|error| format!("cannot start sync: {error}"))?;
    let shown = shown(command);
    let (stop, stopped) = channel();
    let processor_time = processes::processor_time();
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures the time that really passes"
    )]
    let start = Instant::now();
    let (output, time, peak_bytes) = thread::scope(|scope| {
        let peak = scope.spawn(move || {
            let mut peak = 0;
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                peak = peak.max(processes::memory_bytes());
            }
            peak
        });
        // The command's processes count as started by this thread.
        let output = command.stdin(Stdio::null()).output();
        let time = start.elapsed();
        drop::<std::sync::mpsc::Sender<()>>(stop);
        (output, time, peak.join().unwrap_or(0))
    });
    finished(output, &shown)?;
    Ok(Cost {
        time,
        processor_time: processes::processor_time().saturating_sub(processor_time),
        peak_bytes,
    })
}

/// Runs a command that is not measured, and gives what it printed.
///
/// # Errors
/// It cannot be started or does not succeed; the message has what it said.
pub fn output(command: &mut Command) -> Result<String, String> {
    let shown = shown(command);
    finished(command.stdin(Stdio::null()).output(), &shown)
}

fn finished(output: std::io::Result<std::process::Output>, shown: &str) -> Result<String, String> {
    let output = output.map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    Err(format!("failed ({status}): {shown}\n{}", said.trim_end()))
}

/// A command as it could be typed.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
