//! How often an agent is looked at while its operation is followed.

use std::time::Duration;

use crate::attempt::Attempt;
use crate::task_error::{TaskError, TaskResult};

/// Between the first two looks: the smallest operations take not much longer.
const FIRST: Duration = Duration::from_millis(20);
/// Between two looks at most.
const MOST: Duration = Duration::from_millis(500);

/// Looks at an operation of an agent, the further apart the longer it is followed.
pub(super) struct Looks(Duration);

impl Looks {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    /// Waits until it is time for the next one.
    ///
    /// # Errors
    /// The attempt is to stop.
    pub(super) fn pause(&mut self, attempt: &Attempt<'_>) -> TaskResult<()> {
        let apart = self.0;
        self.0 = (apart * 3 / 2).min(MOST);
        attempt.wait(async {
            let _ = tokio::time::timeout(apart, std::future::pending::<()>()).await;
            Ok::<(), TaskError>(())
        })
    }
}
