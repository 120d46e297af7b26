//! A sign of life beside work that gives none: a call of the server, or a large file that is read.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Does some work on this thread, and calls `beat` from one beside it, time and again, until the work is
/// done.
pub(super) fn alive<T>(every: Duration, beat: impl Fn() + Send, work: impl FnOnce() -> T) -> T {
    let (is_done, done) = (&Mutex::new(false), &Condvar::new());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut is_over = is_done.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_over {
                let waited = done.wait_timeout(is_over, every);
                let (now, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                is_over = now;
                if waited.timed_out() && !*is_over {
                    beat();
                }
            }
        });
        let _end = End(is_done, done);
        work()
    })
}

/// Ends the beats when it is dropped, also by a panic.
struct End<'a>(&'a Mutex<bool>, &'a Condvar);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn work_that_says_nothing_is_heard_of_until_it_is_done() {
        let (heard, beats) = mpsc::channel();
        let beat = move || {
            let _ = heard.send(());
        };
        let worked = alive(Duration::from_millis(1), beat, || {
            for _ in 0..3 {
                beats.recv().unwrap();
            }
            7
        });
        assert_eq!(worked, 7);
        while beats.try_recv().is_ok() {}
        let after = beats.recv_timeout(Duration::from_millis(20));
        assert_eq!(after, Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
