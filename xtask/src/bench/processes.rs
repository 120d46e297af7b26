//! What the processes below this one use, from `/proc`.
//!
//! A process may end while it is looked at: what cannot be read then counts as nothing.

use std::fs;
use std::time::Duration;

/// Ticks of the clock that `/proc` counts processor time in; the same on every Linux of today.
const TICKS_PER_SECOND: u64 = 100;

/// Memory of a process, in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Memory {
    /// The most that was ever resident, files and all.
    peak_resident: u64,
    /// What is its own now.
    private: u64,
    /// What it shares with others now.
    shared: u64,
}

/// The memory in use below this process, in bytes: what the processes have for themselves, and once
/// what they share. A process that is alone counts with its own peak, all of it, since its start.
pub fn memory_bytes() -> u64 {
    let below = below_this();
    let memories: Vec<Memory> = below.into_iter().map(memory).collect();
    let private: u64 = memories.iter().map(|memory| memory.private).sum();
    let shared = memories.iter().map(|memory| memory.shared).max();
    let alone = match memories.as_slice() {
        [memory] => memory.peak_resident,
        _ => 0,
    };
    alone.max(private + shared.unwrap_or(0))
}

/// The most memory that a process had at a time so far, in bytes, files and all.
pub fn peak_bytes(process: u32) -> u64 {
    memory(process).peak_resident
}

/// The processor time that all processes below this one have used, those that have ended too.
pub fn processor_time() -> Duration {
    let this = Ticks::of(std::process::id());
    let below = below_this().into_iter().map(Ticks::of);
    let ticks = this.of_ended + below.map(|ticks| ticks.own + ticks.of_ended).sum::<u64>();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// The processor time that a process has used so far.
pub fn processor_time_of(process: u32) -> Duration {
    Duration::from_millis(Ticks::of(process).own * 1000 / TICKS_PER_SECOND)
}

/// Processor time of a process.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ticks {
    own: u64,
    /// Of the processes below it that ended and were waited for.
    of_ended: u64,
}

impl Ticks {
    fn of(process: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"));
        stat.map(|stat| Self::parse(&stat)).unwrap_or_default()
    }

    fn parse(stat: &str) -> Self {
        // The second field is a name in parentheses that may hold anything; the twelfth behind it is
        // the time in user mode, then in the kernel, then both of those that ended.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let mut ticks = fields
            .split_whitespace()
            .skip(11)
            .map(|field| field.parse::<u64>().unwrap_or(0));
        let mut two = || ticks.next().unwrap_or(0) + ticks.next().unwrap_or(0);
        Self {
            own: two(),
            of_ended: two(),
        }
    }
}

/// The processes that this one started, those that they started, and so on.
fn below_this() -> Vec<u32> {
    let mut found = started_by(std::process::id());
    let mut at = 0;
    while at < found.len() {
        found.extend(started_by(found[at]));
        at += 1;
    }
    found
}

fn started_by(process: u32) -> Vec<u32> {
    // Everything that is measured is started by the first thread of its process.
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    let ids = children.split_whitespace();
    ids.filter_map(|id| id.parse().ok()).collect()
}

fn memory(process: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    status
        .map(|status| parse_memory(&status))
        .unwrap_or_default()
}

fn parse_memory(status: &str) -> Memory {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.split_whitespace().next());
        kibibytes.and_then(|text| text.parse().ok()).unwrap_or(0) * 1024
    };
    Memory {
        peak_resident: bytes("VmHWM:"),
        private: bytes("RssAnon:"),
        shared: bytes("RssShmem:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 9 0 0 30 4 200 50 20 0 1 0 99";
        let ticks = Ticks {
            own: 34,
            of_ended: 250,
        };
        assert_eq!(Ticks::parse(stat), ticks);
        let status =
            "Name:\tx\nVmHWM:\t    20 kB\nRssAnon:\t  10 kB\nRssFile:\t 9 kB\nRssShmem:\t 1 kB\n";
        let memory = Memory {
            peak_resident: 20 * 1024,
            private: 10 * 1024,
            shared: 1024,
        };
        assert_eq!(parse_memory(status), memory);
    }
}
