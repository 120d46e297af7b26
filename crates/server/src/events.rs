//! What happens to operations, for those who watch.
//!
//! An event is where an operation is: of each operation the last one is kept, so that a reader who is slow, or was away,
//! misses what lay between and nothing else. Numbers grow; they begin anew with the process, whose name is before them.
//! *Cost*: the text of an event is made once, and all readers send the same bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use tokio::sync::watch;

/// Operations that are over are kept up to this many.
const KEPT: usize = 4096;

/// Where an operation was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Grows by one.
    pub number: u64,
    /// The operation.
    pub operation_id: String,
    /// How it goes on.
    pub pace: Pace,
    /// All of it, as server-sent events have it.
    pub text: Bytes,
}

/// How an operation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// By itself: something will come after the event.
    Moves,
    /// When a user has it go on.
    Rests,
    /// Not at all: nothing comes after the event.
    Over,
}

/// The last event of each operation.
pub struct Events {
    /// Of this process, and of no other.
    boot: String,
    kept: Mutex<Kept>,
    /// Wakes readers at each event. It has the number of the newest event of an operation that does not move any more by
    /// itself: for that nobody is let wait.
    urgent: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    last: u64,
    events: BTreeMap<u64, Event>,
    of: HashMap<String, u64>,
}

/// Where a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Behind this one.
    Number(u64),
    /// At the beginning: operations that are not over, and what comes.
    Now,
}

impl Events {
    /// None yet, in a process of this name.
    pub fn new(boot: impl Into<String>) -> Self {
        Self {
            boot: boot.into(),
            kept: Mutex::default(),
            urgent: watch::Sender::new(0),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where an operation is, in JSON.
    pub fn tell(&self, operation_id: &str, pace: Pace, data: &str) {
        let mut kept = self.kept();
        kept.last += 1;
        let number = kept.last;
        if let Some(before) = kept.of.insert(operation_id.to_owned(), number) {
            kept.events.remove(&before);
        }
        let name = self.name(number);
        let event = Event {
            number,
            operation_id: operation_id.to_owned(),
            pace,
            text: format!("id: {name}\nevent: operation\ndata: {data}\n\n").into(),
        };
        kept.events.insert(number, event);
        if kept.events.len() > KEPT
            && let Some(oldest) = kept.events.values().find(|event| event.is_over()).cloned()
        {
            kept.events.remove(&oldest.number);
            kept.of.remove(&oldest.operation_id);
        }
        drop(kept);
        self.urgent.send_modify(|urgent| {
            if pace != Pace::Moves {
                *urgent = number.max(*urgent);
            }
        });
    }

    /// What an event is called by those who come back.
    pub fn name(&self, number: u64) -> String {
        format!("{}-{number}", self.boot)
    }

    /// Where who comes back with the name of an event is. Of another process, everything that is known comes again.
    pub fn after(&self, name: Option<&str>) -> After {
        let Some(name) = name else {
            return After::Now;
        };
        let number = name
            .rsplit_once('-')
            .filter(|(boot, _)| *boot == self.boot)
            .and_then(|(_, number)| number.parse().ok());
        After::Number(number.unwrap_or(0))
    }

    /// The events behind a place, of one operation or of all, and the place behind them.
    pub fn since(&self, after: After, of: Option<&str>) -> (Vec<Event>, u64) {
        let kept = self.kept();
        let (number, all) = match after {
            After::Number(number) => (number, true),
            // Who looks at one operation wants to know where it is.
            After::Now => (0, of.is_some()),
        };
        let events = kept.events.range(number + 1..).map(|(_, event)| event);
        let events = events.filter(|event| of.is_none_or(|of| event.operation_id == of));
        let events = events.filter(|event| all || !event.is_over());
        (events.cloned().collect(), kept.last)
    }

    /// Wakes when there is something new, with the number of the newest event that nobody should wait for.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.urgent.subscribe()
    }
}

impl Event {
    /// Whether nothing comes after it.
    pub fn is_over(&self) -> bool {
        self.pace == Pace::Over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(events: &[Event]) -> Vec<&str> {
        let ids = events.iter().map(|event| event.operation_id.as_str());
        ids.collect()
    }

    #[test]
    fn who_comes_back_hears_where_each_operation_is_that_moved_since() {
        let events = Events::new("boot");
        events.tell("a", Pace::Moves, "1");
        events.tell("b", Pace::Moves, "2");
        let seen = events.name(2);
        events.tell("a", Pace::Over, "3");
        let (since, last) = events.since(events.after(Some(&seen)), None);
        assert_eq!((ids(&since), last), (vec!["a"], 3));
        assert_eq!(since[0].text, "id: boot-3\nevent: operation\ndata: 3\n\n");
        let (since, _) = events.since(After::Number(last), None);
        assert!(since.is_empty());
    }

    #[test]
    fn who_comes_from_another_process_hears_all_and_who_comes_first_what_is_not_over() {
        let events = Events::new("boot");
        events.tell("a", Pace::Over, "1");
        events.tell("b", Pace::Moves, "2");
        let (since, _) = events.since(events.after(Some("other-7")), None);
        assert_eq!(ids(&since), ["a", "b"]);
        let (since, _) = events.since(events.after(None), None);
        assert_eq!(ids(&since), ["b"]);
        let (since, _) = events.since(events.after(None), Some("a"));
        assert_eq!(ids(&since), ["a"]);
    }

    #[test]
    fn what_is_over_is_let_go_and_what_is_not_is_kept() {
        let events = Events::new("boot");
        events.tell("first", Pace::Moves, "");
        for at in 0..=KEPT {
            events.tell(&at.to_string(), Pace::Over, "");
        }
        let (since, _) = events.since(After::Number(0), None);
        assert_eq!(since.len(), KEPT);
        assert_eq!(since[0].operation_id, "first");
    }

    #[test]
    fn what_nobody_need_wait_for_is_told_apart_from_what_moves() {
        let events = Events::new("boot");
        for (pace, urgent) in [
            (Pace::Moves, 0),
            (Pace::Rests, 2),
            (Pace::Moves, 2),
            (Pace::Over, 4),
        ] {
            events.tell("a", pace, "");
            assert_eq!(*events.watch().borrow(), urgent, "{pace:?}");
        }
    }
}
