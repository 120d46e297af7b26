//! A wire with somebody on it, who loses, doubles or holds messages back.

use std::sync::Arc;

use mendb_service::wire::{End, Message, Wire, pair};

/// To whom a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Coordinator,
    Workers,
}

/// Stands between coordinator and workers.
pub trait Between: Send + Sync {
    /// Calls `deliver` once for each time a message arrives.
    fn carry(&self, to: To, message: Message, deliver: &mut dyn FnMut(Message));
}

struct Meddled<B>(Arc<B>);

/// A wire with somebody between its ends.
pub fn meddled<B: Between + 'static>(between: B) -> Arc<dyn Wire> {
    Arc::new(Meddled(Arc::new(between)))
}

impl<B: Between + 'static> Wire for Meddled<B> {
    fn connect(&self) -> (End, End) {
        let ((coordinator, of_coordinator), (workers, of_workers)) = (pair(), pair());
        meddle(&self.0, of_coordinator, of_workers);
        (coordinator, workers)
    }
}

/// Puts somebody between the end that leads to a coordinator and the one that leads to workers.
pub fn meddle<B: Between + 'static>(between: &Arc<B>, to_coordinator: End, to_workers: End) {
    let ways = [
        (To::Workers, to_coordinator.inbox, to_workers.out),
        (To::Coordinator, to_workers.inbox, to_coordinator.out),
    ];
    for (to, from, into) in ways {
        let between = Arc::clone(between);
        std::thread::spawn(move || {
            for message in from {
                between.carry(to, message, &mut |message| drop(into.send(message)));
            }
        });
    }
}
