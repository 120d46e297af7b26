//! Work that is done side by side, and not left behind.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, stream};

/// Does so many of the jobs at once, and hands over what each brought. When one fails no more are begun,
/// and those under way are waited for: a thread that writes a file cannot be stopped, and would leave half
/// of it behind this call.
///
/// # Errors
/// The first failure.
pub(crate) async fn wait_for_all<T, E>(
    jobs: impl Iterator<Item = impl Future<Output = Result<T, E>>>,
    at_once: usize,
    mut each: impl FnMut(T),
) -> Result<(), E> {
    let failed = AtomicBool::new(false);
    let jobs = jobs.take_while(|_| !failed.load(Ordering::Relaxed));
    let mut running = stream::iter(jobs).buffer_unordered(at_once);
    let mut outcome = Ok(());
    while let Some(done) = running.next().await {
        match done {
            Ok(done) => each(done),
            Err(error) => {
                failed.store(true, Ordering::Relaxed);
                outcome = outcome.and(Err(error));
            }
        }
    }
    outcome
}
