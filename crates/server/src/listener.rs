//! Who listens to a command that the server runs.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::problem::Problem;

/// So much is told before somebody hears it; then who tells waits.
const UNHEARD: usize = 256;

/// What a command tells.
#[derive(Debug, Clone)]
pub enum Told {
    /// Data, as it would be on stdout.
    Data(String),
    /// Of rows that come next as bytes, the media type.
    Kind(&'static str),
    /// A piece of a file of rows.
    Bytes(Vec<u8>),
    /// Something that is not data, as it would be on stderr.
    Note(String),
    /// An operation is on its way.
    Begun(String),
    /// How far an operation is.
    Progress {
        /// The operation.
        operation_id: String,
        /// In words.
        line: String,
        /// In hundredths.
        percent: f64,
    },
    /// What was planned is kept under this name.
    Planned(String),
    /// There is more behind this one.
    More(String),
    /// The command is over.
    Ended(Box<End>),
}

/// How a command ended.
#[derive(Debug, Clone, Default, Serialize)]
pub struct End {
    /// As the program would have exited.
    pub exit_code: u8,
    /// Why it did not do its work, as the program prints it.
    pub text: Option<String>,
    /// The same for programs.
    pub error: Option<serde_json::Value>,
    /// The same for HTTP.
    #[serde(skip)]
    pub problem: Option<Problem>,
}

impl End {
    /// Of a command that has found something that is not as it should be.
    pub const DRIFT: u8 = 3;
}

/// Hears what one command tells.
#[derive(Debug)]
pub struct Listener {
    heard: Sender<Told>,
    begun: Arc<Mutex<Option<String>>>,
}

impl Listener {
    /// A listener, and what it hears.
    pub fn new() -> (Self, Receiver<Told>) {
        let (heard, told) = channel(UNHEARD);
        let begun = Arc::default();
        (Self { heard, begun }, told)
    }

    /// The same listener.
    #[must_use]
    pub fn again(&self) -> Self {
        Self {
            heard: self.heard.clone(),
            begun: Arc::clone(&self.begun),
        }
    }

    /// Tells it something, and waits for one that is slow: on a thread that may block. One that has gone hears nothing.
    pub fn tell(&self, told: Told) {
        if let Told::Begun(operation_id) = &told {
            let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
            *begun = Some(operation_id.clone());
        }
        drop(self.heard.blocking_send(told));
    }

    /// The operation that has begun, if it was told.
    pub fn begun(&self) -> Option<String> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.clone()
    }

    /// Waits until nobody listens any more.
    pub async fn left(&self) {
        self.heard.closed().await;
    }

    /// Whether nobody listens any more.
    pub fn is_gone(&self) -> bool {
        self.heard.is_closed()
    }
}
