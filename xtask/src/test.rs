//! `cargo xtask test`: everything CI checks, in the order that fails soonest. Stops at the first
//! failure with the line that repeats it.

use std::num::NonZero;
use std::thread::available_parallelism;

use crate::run::{Outcome, Step};
use crate::tidy;

/// Runs everything.
///
/// # Errors
/// The first thing that is not as it should be.
pub fn run() -> Outcome {
    tidy::run()?;
    Step::new("cargo fmt --all --check").run()?;
    Step::new("cargo clippy --workspace --all-targets --all-features -- -D warnings").run()?;
    PYTHON.provide()?;
    CLICKHOUSE.provide()?;
    ZOOKEEPER.provide()?;
    STRACE.provide()?;
    CHROMIUM.provide()?;
    // One run names every test that fails.
    let tests = if Step::new("cargo nextest --version").succeeds() {
        let threads = available_parallelism().map_or(1, NonZero::get) + WAITING;
        format!(
            "cargo nextest run --workspace --all-features --no-fail-fast --test-threads {threads}"
        )
    } else {
        "cargo test --workspace --all-features --all-targets --no-fail-fast".to_owned()
    };
    in_memory(Step::new(&tests)).run()?;
    Step::new("cargo test --workspace --all-features --doc").run()?;
    Step::new("cargo doc --no-deps --workspace --all-features")
        .with("RUSTDOCFLAGS", "-D warnings")
        .run()?;
    println!("\nxtask: all is well");
    Ok(())
}

/// So many tests more than there are processors run beside each other: some wait for the clocks of servers and
/// for what these do in the background.
const WAITING: usize = 2;

/// A file system in memory that most Linux systems have.
const MEMORY: &str = "/dev/shm";
/// So much has to be free there: several times what tests that run beside each other have at once.
const MEMORY_BYTES: u64 = 8 << 30;

/// Has tests put their targets and repositories in memory where there is room. They kill processes at each step,
/// which no disk can tell, and most of their time went into waiting for it to flush.
fn in_memory(tests: Step) -> Step {
    let free = Step::new(&format!("df --output=avail --block-size=1 {MEMORY}")).output();
    let free = free.and_then(|free| free.lines().last()?.trim().parse::<u64>().ok());
    let unused = std::fs::read_to_string("/proc/meminfo").ok();
    let unused = unused.and_then(|unused| available_bytes(&unused));
    // What a file system in memory calls free may be in use by processes.
    if free >= Some(MEMORY_BYTES) && unused >= Some(2 * MEMORY_BYTES) {
        return tests.with("TMPDIR", MEMORY);
    }
    tests
}

/// What processes could still take, of the text of `/proc/meminfo`.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// What tests take from the system, and cannot install for themselves.
struct Provision {
    /// What needs it, and what it is.
    reason: &'static str,
    /// A command that succeeds where it is there.
    check: &'static str,
    /// The Debian packages that bring it.
    packages: &'static str,
}

/// Tests that need a server or a data set get it into a Python environment of their own. Debian keeps
/// what makes such an environment in a package of its own.
const PYTHON: Provision = Provision {
    reason: "some tests need python3 with its venv module",
    check: "python3 -m ensurepip --version",
    packages: "python3 python3-venv",
};

/// The oldest server that is supported; the newest comes as a Python package.
const CLICKHOUSE: Provision = Provision {
    reason: "some tests need the server of ClickHouse 18.16, /usr/sbin/clickhouse-server",
    check: "test -x /usr/sbin/clickhouse-server",
    packages: "clickhouse-server clickhouse-common",
};

/// What replicas of tables agree over.
const ZOOKEEPER: Provision = Provision {
    reason: "tests of replicated tables need ZooKeeper, /usr/share/java/zookeeper.jar, and Java",
    check: "test -e /usr/share/java/zookeeper.jar -a -x /usr/bin/java",
    packages: "zookeeper",
};

/// What the recorder of writes records with.
const STRACE: Provision = Provision {
    reason: "some tests record what a process writes, with strace",
    check: "strace --version",
    packages: "strace",
};

/// What the dashboard is tried in.
const CHROMIUM: Provision = Provision {
    reason: "tests of the dashboard need a browser, /usr/bin/chromium",
    check: "test -x /usr/bin/chromium",
    packages: "chromium",
};

impl Provision {
    /// Installs it if it is missing, with Debian's packages and as root.
    ///
    /// # Errors
    /// It is missing and cannot be installed.
    fn provide(&self) -> Outcome {
        let is_there = || Step::new(self.check).succeeds();
        if is_there() {
            return Ok(());
        }
        let is_root = Step::new("id -u")
            .output()
            .is_some_and(|id| id.trim() == "0");
        let has_apt = Step::new("apt-get --version").succeeds();
        if is_root && has_apt {
            Step::new("apt-get update").run()?;
            Step::new(&self.install())
                .with("DEBIAN_FRONTEND", "noninteractive")
                .run()?;
        }
        if is_there() {
            return Ok(());
        }
        Err(self.advice())
    }

    fn install(&self) -> String {
        format!(
            "apt-get install -y --no-install-recommends {}",
            self.packages
        )
    }

    fn advice(&self) -> String {
        format!(
            "{}: install it, on Debian as root with\n\n    {}\n",
            self.reason,
            self.install()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_linux_tells_it() {
        let told = "MemTotal:       24 kB\nMemFree: 1 kB\nMemAvailable:   16 kB\n";
        assert_eq!(available_bytes(told), Some(16 << 10));
        assert_eq!(available_bytes("MemTotal: 24 kB\n"), None);
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        let advice = CLICKHOUSE.advice();
        assert!(advice.contains("ClickHouse 18.16"), "{advice}");
        let command = "    apt-get install -y --no-install-recommends clickhouse-server ";
        assert!(advice.contains(command), "{advice}");
    }

    #[test]
    fn what_is_there_is_not_installed() {
        let there = Provision {
            reason: "nothing needs it",
            check: "true",
            packages: "mendb-nonesuch",
        };
        assert_eq!(there.provide(), Ok(()));
    }
}
