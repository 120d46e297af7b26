//! Scheduled runs that change one collection: one after another, in the order in which they came.
//!
//! *Crash*: the line is in memory; the next server lets the runs that are not over come in the order in which they were
//! decided.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many runs of one collection are under way or wait. More of them would wait for hours, and each has a thread.
pub const MOST_IN_LINE: usize = 16;

/// The lines of all collections.
#[derive(Debug, Default)]
pub struct Queue(Mutex<BTreeMap<String, VecDeque<String>>>);

/// A run's place in the line of its collection. Dropped, it lets the next one begin.
#[derive(Debug)]
pub struct Place {
    queue: Arc<Queue>,
    collection: String,
    schedule: String,
}

impl Queue {
    /// The last place in the line of a collection; none where it is full. A schedule has one run at a time.
    pub fn enter(self: &Arc<Self>, collection: &str, schedule: &str) -> Option<Place> {
        let mut lines = self.lines();
        let line = lines.entry(collection.to_owned()).or_default();
        if line.len() >= MOST_IN_LINE {
            return None;
        }
        line.push_back(schedule.to_owned());
        Some(Place {
            queue: Arc::clone(self),
            collection: collection.to_owned(),
            schedule: schedule.to_owned(),
        })
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The schedule whose run is before this one; none where it is this one's turn.
    pub fn before(&self) -> Option<String> {
        let lines = self.queue.lines();
        let line = lines.get(&self.collection)?;
        let at = line.iter().position(|name| *name == self.schedule)?;
        line.get(at.checked_sub(1)?).cloned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.queue.lines();
        if let Some(line) = lines.get_mut(&self.collection) {
            line.retain(|name| *name != self.schedule);
            if line.is_empty() {
                lines.remove(&self.collection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_collection_take_turns_and_those_of_others_do_not_wait() {
        let queue = Arc::new(Queue::default());
        let enter = |collection, schedule| queue.enter(collection, schedule).unwrap();
        let (first, second) = (enter("world", "a"), enter("world", "b"));
        let third = enter("world", "c");
        assert_eq!(first.before(), None);
        assert_eq!(second.before().as_deref(), Some("a"));
        assert_eq!(third.before().as_deref(), Some("b"));
        assert_eq!(enter("shop", "d").before(), None);
        // One that gives up lets those behind it move up.
        drop(second);
        assert_eq!(third.before().as_deref(), Some("a"));
        drop(first);
        assert_eq!(third.before(), None);
    }

    #[test]
    fn a_line_is_bounded() {
        let queue = Arc::new(Queue::default());
        let enter = |at: usize| queue.enter("world", &at.to_string());
        let mut places: Vec<_> = (0..MOST_IN_LINE).map(|at| enter(at).unwrap()).collect();
        assert!(enter(MOST_IN_LINE).is_none());
        drop(places.pop());
        assert!(enter(MOST_IN_LINE).is_some());
    }
}
