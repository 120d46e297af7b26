//! What something cost: running a command, or what a server does for us.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::processes;

/// How often memory is looked at. A single process is not missed between two looks but at its very end,
/// since the kernel keeps its peak; several together may be higher for less than this.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What something cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// From its start to its end.
    pub time: Duration,
    /// Processor time of all processes that worked on it.
    pub processor_time: Duration,
    /// The most memory at a time, in bytes.
    pub peak_bytes: u64,
}

impl Cost {
    /// Of several runs of the same that of medium length, with the most memory that any took.
    pub fn medium(mut runs: Vec<Self>) -> Self {
        let peak_bytes = runs.iter().map(|run| run.peak_bytes).max();
        runs.sort_by_key(|run| run.time);
        let at = runs.len().saturating_sub(1) / 2;
        let medium = runs.get(at).copied().unwrap_or_default();
        Self {
            peak_bytes: peak_bytes.unwrap_or(0),
            ..medium
        }
    }
}

/// Runs a command that says nothing worth reading, after all that was written before is on the disk.
/// Its memory is that of all processes below this one.
///
/// # Errors
/// It cannot be started or does not succeed; the message has what it said.
pub fn run(command: &mut Command) -> Result<Cost, String> {
    let (cost, _) = watched(processes::memory_bytes, || output(command))?;
    Ok(cost)
}

/// As [`run`], beside a server whose memory does not count: only that of the command's own process
/// does. Gives what it printed, too.
///
/// # Errors
/// As [`run`].
pub fn run_alone(command: &mut Command) -> Result<(Cost, String), String> {
    let process = AtomicU32::new(0);
    let look = || match process.load(Ordering::Relaxed) {
        0 => 0,
        started => processes::peak_bytes(started),
    };
    watched(look, || {
        let shown = shown(command);
        command.stdin(Stdio::null());
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let output = child.and_then(|child| {
            process.store(child.id(), Ordering::Relaxed);
            child.wait_with_output()
        });
        finished(output, &shown)
    })
}

/// Does something that a server does for this process, after all that was written before is on the
/// disk. Memory is not looked at.
///
/// # Errors
/// It fails.
pub fn action(action: impl FnOnce() -> Result<(), String>) -> Result<Cost, String> {
    let (cost, ()) = watched(|| 0, action)?;
    Ok(cost)
}

/// Does something while `look` tells how much memory it takes.
fn watched<T>(
    look: impl Fn() -> u64 + Send,
    action: impl FnOnce() -> Result<T, String>,
) -> Result<(Cost, T), String> {
    Command::new("sync")
        .status()
        .map_err(|error| format!("cannot start sync: {error}"))?;
    let (stop, stopped) = channel();
    let processor_time = processes::processor_time();
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark measures the time that really passes"
    )]
    let start = Instant::now();
    let (done, time, peak_bytes) = thread::scope(|scope| {
        let peak = scope.spawn(move || {
            let mut peak = 0;
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                peak = peak.max(look());
            }
            peak
        });
        // Processes count as started by this thread.
        let done = action();
        let time = start.elapsed();
        drop::<Sender<()>>(stop);
        (done, time, peak.join().unwrap_or(0))
    });
    let cost = Cost {
        time,
        processor_time: processes::processor_time().saturating_sub(processor_time),
        peak_bytes,
    };
    Ok((cost, done?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_medium_run_counts_and_the_most_memory() {
        let run = |seconds, peak_bytes| Cost {
            time: Duration::from_secs(seconds),
            processor_time: Duration::from_secs(seconds * 2),
            peak_bytes,
        };
        let medium = Cost::medium(vec![run(9, 1), run(2, 5), run(3, 4)]);
        assert_eq!(medium.time, Duration::from_secs(3));
        assert_eq!(medium.processor_time, Duration::from_secs(6));
        assert_eq!(medium.peak_bytes, 5);
    }

    #[test]
    fn a_command_is_measured_and_heard() {
        let (cost, said) = run_alone(Command::new("echo").arg("done")).unwrap();
        assert_eq!(said, "done\n");
        assert!(cost.time > Duration::ZERO);
        let message = run_alone(Command::new("ls").arg("/no/such/path")).unwrap_err();
        assert!(message.contains("ls /no/such/path\n"), "{message}");
    }
}
