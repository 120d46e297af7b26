//! How the last reading of settings went.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mendb_server::metrics::Family;
use mendb_service::env;

/// How the last reading went.
#[derive(Debug)]
pub struct LastReload {
    went_well: AtomicBool,
    at_ms: AtomicU64,
}

impl Default for LastReload {
    /// The start of the server is the first.
    fn default() -> Self {
        Self {
            went_well: AtomicBool::new(true),
            at_ms: AtomicU64::new(env::now_ms()),
        }
    }
}

impl LastReload {
    /// Notes whether it went well.
    pub fn note(&self, went_well: bool) {
        self.went_well.store(went_well, Ordering::SeqCst);
        if went_well {
            self.at_ms.store(env::now_ms(), Ordering::SeqCst);
        }
    }

    /// As metrics.
    pub fn families(&self) -> Vec<Family> {
        let went_well = f64::from(u8::from(self.went_well.load(Ordering::SeqCst)));
        let at_s = self.at_ms.load(Ordering::SeqCst) / 1000;
        vec![
            Family::gauge(
                "mendb_settings_reload_success",
                "Whether the settings were taken over when they were read last, 0 or 1.",
            )
            .with(Vec::new(), went_well),
            Family::gauge(
                "mendb_settings_reload_timestamp_seconds",
                "When settings were taken over last.",
            )
            .with(Vec::new(), at_s as f64),
        ]
    }
}
