//! One command that the server runs for a client.

use std::sync::{Arc, Mutex, PoisonError};

use mendb_model::name::OperationId;
use mendb_server::upload::Upload;
use mendb_server::{Listener, Told};
use mendb_service::journal::operation_key::OrderKey;

use super::house::House;

/// What a command of a client works with.
pub struct Session {
    /// What the server has open.
    pub house: Arc<House>,
    /// What the operation is made for.
    pub key: OrderKey,
    /// The client.
    listener: Arc<Listener>,
    /// The name of the token that asks; none of what is scheduled.
    pub caller: Option<String>,
    /// A plan that is to be carried out.
    pub plan: Option<String>,
    /// Whether a plan that is shown is kept, to be carried out later.
    pub keeps_plan: bool,
    /// Rows that the client sends.
    pub upload: Option<Arc<Upload>>,
    kept: Mutex<Option<String>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session that neither keeps a plan nor carries one out.
    pub fn new(house: Arc<House>, key: OrderKey, listener: Arc<Listener>) -> Self {
        Self {
            house,
            key,
            listener,
            caller: None,
            plan: None,
            keeps_plan: false,
            upload: None,
            kept: Mutex::default(),
        }
    }

    /// Tells the client which operation has begun.
    pub fn tell_begun(&self, id: &OperationId) {
        self.house.poke();
        if self.listener.begun().is_none() {
            self.listener.tell(Told::Begun(id.to_string()));
        }
    }

    /// Tells the client how far an operation is.
    pub fn tell_progress(&self, id: &OperationId, line: &str, percent: f64) {
        self.listener.tell(Told::Progress {
            operation_id: id.to_string(),
            line: line.to_owned(),
            percent,
        });
    }

    /// Whether the client has gone.
    pub fn is_left(&self) -> bool {
        self.listener.is_gone() || self.house.is_stopping()
    }

    /// Tells the client with what the next list begins.
    pub fn tell_more(&self, after: &str) {
        self.listener.tell(Told::More(after.to_owned()));
    }

    /// Keeps a plan for the server to keep.
    pub fn keep(&self, plan: String) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
    }

    /// The plan that was kept.
    pub fn kept(&self) -> Option<String> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
