//! Which process holds a lease, and whether it still lives as far as this machine can tell.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::random::random_id;

/// Leases of this process that are not over.
static OURS: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// A process that holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// Drawn at random for each lease.
    id: String,
    /// What it does, as a verb phrase.
    pub(crate) work: String,
    host: String,
    process: Process,
}

/// A process, as the machine that it runs on knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    number: u32,
    /// When it began, in ticks since the machine did.
    #[serde(default)]
    started: Option<String>,
    /// Which run of which machine, and which of its spaces of process numbers.
    #[serde(default)]
    machine: Option<String>,
}

impl Holder {
    /// This process, at some work.
    pub(crate) fn this(work: &str) -> Self {
        let id = random_id();
        with_ours(|ours| ours.insert(id.clone()));
        let number = std::process::id();
        let host = fs::read_to_string("/proc/sys/kernel/hostname");
        Self {
            id,
            work: work.to_owned(),
            host: host.map_or_else(|_| "?".to_owned(), |host| host.trim().to_owned()),
            process: Process {
                number,
                started: started(number),
                machine: machine(),
            },
        }
    }

    /// Whether it is the same lease of the same process.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
    }

    /// Forgets that it is one of this process.
    pub(crate) fn is_over(&self) {
        with_ours(|ours| ours.remove(&self.id));
    }

    /// Whether it is known that the process has ended: it was one of this machine. Of others nothing is
    /// known.
    pub(crate) fn has_ended(&self) -> bool {
        let Process {
            number,
            started: began,
            machine: of,
        } = &self.process;
        if of.is_none() || *of != machine() {
            return false;
        }
        if *number == std::process::id() && *began == started(*number) {
            return !with_ours(|ours| ours.contains(&self.id));
        }
        began.is_some() && started(*number) != *began
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.process.number, self.host)
    }
}

fn with_ours<T>(work: impl FnOnce(&mut HashSet<String>) -> T) -> T {
    let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
    work(ours.get_or_insert_default())
}

/// What tells a process from others that have had its number; where the system tells.
fn started(process: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything. The state and 18 numbers are between it and the start.
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_whitespace().nth(19).map(str::to_owned)
}

/// What tells a machine, since it was started, from others; where the system tells.
fn machine() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), space.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_ended_is_known_to_have_ended_and_no_other_is() {
        let ours = Holder::this("sleeps");
        assert!(!ours.has_ended());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let began = started(child.id());
        child.wait().unwrap();
        let mut ended = ours.clone();
        ended.process.number = child.id();
        ended.process.started = began;
        assert!(ended.has_ended());
        let mut elsewhere = ended.clone();
        elsewhere.process.machine = Some("another".to_owned());
        assert!(!elsewhere.has_ended());
        ours.is_over();
        assert!(ours.has_ended());
    }
}
