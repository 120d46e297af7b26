//! The machine and the day that numbers were taken.

use std::fs;
use std::process::Command;

use super::measure;
use super::units::count;

/// Where and when.
#[derive(Debug)]
pub struct Machine {
    /// `2 × AMD EPYC, 24 GB, Linux 6.18.44`.
    pub name: String,
    /// `2026-11-21`.
    pub date: String,
    /// Processes that wanted a processor in the last minute, on average: what others take.
    pub load: String,
}

impl Machine {
    /// This machine, now: ask before the work begins, which is a load itself.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn this() -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split(':').nth(1))
            .map_or("unknown processor", str::trim);
        let memory = read("/proc/meminfo");
        let kibibytes: u64 = memory
            .split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let kernel = read("/proc/sys/kernel/osrelease");
        let load = read("/proc/loadavg");
        Ok(Self {
            name: format!(
                "{cores} cores of {model}, {} GB of memory, Linux {}",
                count(kibibytes / 1_000_000),
                kernel.trim()
            ),
            date: measure::output(Command::new("date").arg("+%F"))?
                .trim()
                .to_owned(),
            load: load.split_whitespace().next().unwrap_or("?").to_owned(),
        })
    }
}
