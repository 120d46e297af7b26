//! Signals that a server acts on.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// From when it exists on, none of them ends the process by itself.
pub struct Signals {
    pub terminate: Signal,
    pub interrupt: Signal,
    pub hang_up: Signal,
}

impl Signals {
    /// Inside of the runtime that waits for them.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}
