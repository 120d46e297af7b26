//! One call of an engine that fails, or takes longer than a lease: what the enumerations of all calls are made of.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mendb_engines::{EngineError, Remedy, Result};

use crate::meddled_engine::Meddler;

pub const LEASE_MS: u64 = 150;
/// What an engine that fails says.
pub const SAID: &str = "the engine was told to fail here";
/// So often something is asked for again that failed before it was an operation.
pub const MOST_TRIES: u32 = 3;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It answers with an error, and does nothing.
    Error(Remedy),
    /// It is done, and answers with an error that may pass: its answer was lost.
    Lost,
    /// It takes three times as long as an attempt may be silent.
    Slow,
}

pub const FAULTS: [Fault; 7] = [
    Fault::Error(Remedy::Retry),
    Fault::Error(Remedy::Refreeze),
    Fault::Error(Remedy::Replan),
    Fault::Error(Remedy::Request),
    Fault::Error(Remedy::Repair),
    Fault::Lost,
    Fault::Slow,
];

/// What is to happen, and which calls there were.
#[derive(Default)]
pub struct Plan {
    pub fault: Option<(u64, Fault)>,
    calls: AtomicU64,
    /// Whether calls are counted and may fail: not before the operation, and not when its result is looked at.
    is_on: AtomicBool,
    /// A method that fails whenever it is called, whether calls are counted or not.
    broken: Mutex<Option<&'static str>>,
    names: Mutex<Vec<&'static str>>,
}

impl Plan {
    pub fn at(call: u64, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            fault: Some((call, fault)),
            ..Self::default()
        })
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    pub fn set_on(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::SeqCst);
    }

    pub fn set_broken(&self, method: Option<&'static str>) {
        *self.broken.lock().unwrap() = method;
    }

    /// What happens, for people.
    pub fn describe(&self, scenario: &str) -> String {
        let names = self.names.lock().unwrap();
        let at = self.fault.map_or(0, |(at, _)| at as usize);
        format!("{scenario}: {:?} of {:?}", self.fault, names.get(at))
    }
}

/// Has the call fail that a plan names.
pub struct FailsOnce(pub Arc<Plan>);

impl Meddler for FailsOnce {
    #[expect(clippy::disallowed_methods, reason = "a call that takes its time")]
    fn call(&self, method: &'static str) -> Result<()> {
        LOST.set(false);
        if *self.0.broken.lock().unwrap() == Some(method) {
            return Err(EngineError::new(Remedy::Request, SAID));
        }
        // The service is opened before there is an operation.
        if method == "identify" || !self.0.is_on.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.names.lock().unwrap().push(method);
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst);
        match self.0.fault {
            Some((at, Fault::Error(remedy))) if at == number => Err(EngineError::new(remedy, SAID)),
            Some((at, Fault::Lost)) if at == number => {
                LOST.set(true);
                Ok(())
            }
            Some((at, Fault::Slow)) if at == number => {
                std::thread::sleep(Duration::from_millis(3 * LEASE_MS));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn answer(&self, _method: &'static str) -> Result<()> {
        match LOST.replace(false) {
            true => Err(EngineError::new(Remedy::Retry, SAID)),
            false => Ok(()),
        }
    }
}

thread_local! {
    /// Whether the answer of the call that this thread makes is lost.
    static LOST: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Which calls of so many fail in which ways: each in one of them in turn, or all in all, where
/// `MENDB_ENGINE_FAULTS` says `all`.
pub fn faults(scenario: usize, calls: u64) -> impl Iterator<Item = Arc<Plan>> {
    let is_all = std::env::var("MENDB_ENGINE_FAULTS").is_ok_and(|which| which == "all");
    let all = (0..calls).flat_map(|call| (0..FAULTS.len()).map(move |way| (call, way)));
    let chosen =
        all.filter(move |(call, way)| is_all || (*call as usize + scenario) % FAULTS.len() == *way);
    chosen.map(|(call, way)| Plan::at(call, FAULTS[way]))
}

pub fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}
