//! How often an agent is looked at while its operation is followed.

use std::time::Duration;

use crate::attempt::Attempt;
use crate::env;
use crate::task_error::{TaskError, TaskResult};

/// Between the first two looks: the smallest operations take not much longer.
const FIRST: Duration = Duration::from_millis(20);
/// Between two looks at most.
const MOST: Duration = Duration::from_millis(500);

/// Looks at an operation of an agent, the further apart the longer it is followed.
pub(super) struct Looks {
    apart: Duration,
    /// When it is looked at no more, in milliseconds since 1970.
    until_ms: Option<u64>,
}

impl Looks {
    pub(super) fn new() -> Self {
        Self::until(None)
    }

    /// Looks up to a time, in milliseconds since 1970.
    pub(super) fn until(until_ms: Option<u64>) -> Self {
        Self {
            apart: FIRST,
            until_ms,
        }
    }

    /// Waits until it is time for the next one.
    ///
    /// # Errors
    /// The attempt is to stop, or the time is over.
    pub(super) fn pause(&mut self, attempt: &Attempt<'_>) -> TaskResult<()> {
        if self
            .until_ms
            .is_some_and(|until_ms| env::now_ms() > until_ms)
        {
            return Err(TaskError::Proof(
                "its agent has not come so far in the time that there is".to_owned(),
            ));
        }
        let apart = self.apart;
        self.apart = (apart * 3 / 2).min(MOST);
        attempt.pause(apart)
    }
}
