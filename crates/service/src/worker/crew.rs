//! The threads of the workers, and the sign of life of their attempts.
//!
//! There are as many threads as attempts may work at a time, whatever the number of tasks; each takes the next attempt
//! whose turn it is. One more thread reports that the attempts live for as long as they wait or work: a call of the
//! server, or the reading of a large file, gives no sign of its own.
//!
//! *Order*: an attempt begins when it is its turn ([`Turns`]), and its turn ends before it reports its end. *Crash*:
//! threads end with their process. When the crew is dropped, waiting attempts are given up and working ones go on.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::turns::{Turn, Turns};
use crate::wire::TaskRequest;

/// A thread that nobody needs for so long ends.
const IDLE_FOR: Duration = Duration::from_secs(5);

/// What an attempt says while it waits or works.
type Beat = Arc<dyn Fn() + Send + Sync>;

/// What an attempt does, and what it says when its turn has ended.
type Work = Box<dyn FnOnce(&Turn) -> End + Send>;
/// Says how an attempt ended.
pub(super) type End = Box<dyn FnOnce()>;

/// The threads of the workers of this process.
pub(super) struct Crew(Arc<Shared>);

struct Shared {
    every: Duration,
    state: Mutex<State>,
    /// There may be something to do, or the crew is gone.
    changed: Condvar,
    /// The crew is gone: wakes the one that gives signs of life.
    gone: Condvar,
    /// An attempt has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    turns: Turns,
    waiting: VecDeque<(Turn, Work)>,
    /// Those that wait or work.
    beats: Vec<(u64, Beat)>,
    is_beating: bool,
    /// Threads that take what is ready: they wait, begin, or have just ended an attempt.
    free: usize,
    /// Those of them that must be woken.
    asleep: usize,
    is_gone: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crew {
    /// A crew that says of each attempt every so often that it is there.
    pub(super) fn new(every: Duration) -> Self {
        Self(Arc::new(Shared {
            every,
            state: Mutex::default(),
            changed: Condvar::new(),
            gone: Condvar::new(),
            ended: Condvar::new(),
        }))
    }

    /// Does the work of an attempt when it is its turn. A request that is stale, or came before, is ignored.
    pub(super) fn request(
        &self,
        request: &TaskRequest,
        beat: impl Fn() + Send + Sync + 'static,
        work: impl FnOnce(&Turn) -> End + Send + 'static,
    ) {
        let mut state = self.0.state();
        let Some(turn) = state.turns.request(request) else {
            return;
        };
        state.beats.push((turn.number, Arc::new(beat)));
        state.waiting.push_back((turn, Box::new(work)));
        if !std::mem::replace(&mut state.is_beating, true) {
            let shared = Arc::clone(&self.0);
            let thread = std::thread::Builder::new().spawn(move || shared.beat());
            // Where the system gives no thread, attempts that say nothing themselves are taken for lost, and come
            // again.
            state.is_beating = thread.is_ok();
        }
        self.0.wake(&mut state);
    }

    /// Tells all attempts to stop, and waits for their ends, but not longer than that. Returns whether all have ended.
    pub(super) fn stop(&self, longest: Duration) -> bool {
        let mut state = self.0.state();
        state.turns.stop_all();
        self.0.wake(&mut state);
        let works = |state: &mut State| !state.turns.is_empty();
        let waited = self.0.ended.wait_timeout_while(state, longest, works);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.turns.is_empty()
    }

    /// Changes whose turn it is.
    pub(super) fn change(&self, change: impl FnOnce(&mut Turns)) {
        let mut state = self.0.state();
        change(&mut state.turns);
        self.0.wake(&mut state);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_gone = true;
        let given_up = (
            std::mem::take(&mut state.waiting),
            std::mem::take(&mut state.beats),
        );
        drop(state);
        self.0.changed.notify_all();
        self.0.gone.notify_all();
        drop(given_up);
    }
}

impl State {
    fn may_go_on(&self) -> Vec<u64> {
        let waiting = self.waiting.iter().map(|(turn, _)| turn.number);
        self.turns.may_go_on(waiting)
    }

    /// The next attempt whose turn it is.
    fn next(&mut self) -> Option<(Turn, Work)> {
        let first = *self.may_go_on().first()?;
        let at = (self.waiting.iter()).position(|(turn, _)| turn.number == first)?;
        self.waiting.remove(at)
    }
}

impl Shared {
    /// Finds a thread for each attempt that may go on: a free one, else a new one.
    fn wake(self: &Arc<Self>, state: &mut State) {
        let ready = state.may_go_on().len();
        for _ in 0..ready.min(state.asleep) {
            self.changed.notify_one();
        }
        while state.free < ready {
            let shared = Arc::clone(self);
            let thread = std::thread::Builder::new().spawn(move || shared.work());
            if thread.is_err() {
                // Those that there are take what is left, or it is asked for again.
                break;
            }
            state.free += 1;
        }
    }

    /// Works as long as there is something to do now and then.
    fn work(self: Arc<Self>) {
        let _leaves = Leaves(&self);
        let mut state = self.state();
        loop {
            if let Some((turn, work)) = state.next() {
                state.free -= 1;
                drop(state);
                let ends = Ends(&self, turn.number);
                let tell = work(&turn);
                // The receiver of this report may begin the next attempt.
                drop(ends);
                tell();
                state = self.state();
                continue;
            }
            if state.is_gone {
                return;
            }
            state.asleep += 1;
            let waited = self.changed.wait_timeout(state, IDLE_FOR);
            let (now, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = now;
            state.asleep -= 1;
            if waited.timed_out() && state.may_go_on().is_empty() {
                return;
            }
        }
    }

    /// Says of all attempts that they are there, until there is none.
    fn beat(&self) {
        let mut state = self.state();
        loop {
            let waited = self.gone.wait_timeout(state, self.every);
            let (now, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = now;
            if state.is_gone || state.beats.is_empty() {
                state.is_beating = false;
                return;
            }
            if !waited.timed_out() {
                continue;
            }
            let beats = state.beats.iter();
            let beats: Vec<_> = beats.map(|(_, beat)| Arc::clone(beat)).collect();
            drop(state);
            beats.iter().for_each(|beat| beat());
            drop(beats);
            state = self.state();
        }
    }
}

/// Ends the turn of an attempt when it is dropped, also by a panic: its thread is free.
struct Ends<'a>(&'a Arc<Shared>, u64);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let Self(shared, number) = *self;
        let mut state = shared.state();
        state.turns.ended(number);
        let at = state.beats.iter().position(|(of, _)| *of == number);
        let beat = at.map(|at| state.beats.swap_remove(at));
        state.free += 1;
        shared.wake(&mut state);
        drop(state);
        shared.ended.notify_all();
        drop(beat);
    }
}

/// A thread ends. When it panicked, others take what it would have done next.
struct Leaves<'a>(&'a Arc<Shared>);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.free -= 1;
        if std::thread::panicking() {
            self.0.wake(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};

    use mendb_model::name::{BackupId, BackupKind};
    use mendb_model::operation::{BackupRequest, Request};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn request(shard_idx: u32, at_once: u32, bytes_total: u64) -> TaskRequest {
        let request = Request::Backup(BackupRequest {
            collection: "shop".into(),
            backup_id: BackupId::new(0, BackupKind::Full).unwrap(),
            label: None,
            tables: vec!["orders".into()],
            parent: None,
            stream: "shop/1".into(),
            since_version: None,
            old_streams: Vec::new(),
            keeps_changes: false,
            found: None,
        });
        TaskRequest {
            shard_idx,
            attempt: 1,
            at_once,
            bytes_total,
            ..TaskRequest::preview(request).unwrap()
        }
    }

    #[test]
    fn work_that_says_nothing_is_heard_of_until_it_is_done() {
        let crew = Crew::new(Duration::from_millis(1));
        let ((heard, beats), (done, ends)) = (mpsc::channel(), mpsc::channel());
        crew.request(
            &request(0, 1, 0),
            move || heard.send(()).unwrap_or(()),
            move |_| {
                for _ in 0..3 {
                    beats.recv().unwrap();
                }
                Box::new(move || done.send(beats).unwrap())
            },
        );
        let beats = ends.recv_timeout(LONG).unwrap();
        // One may be on its way; then nobody holds what beats any more.
        while beats.recv_timeout(LONG).is_ok() {}
        assert_eq!(beats.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn work_that_waits_for_its_turn_is_heard_of() {
        let crew = Crew::new(Duration::from_millis(1));
        let ((go_on, waits), (heard, beats)) = (mpsc::channel::<()>(), mpsc::channel());
        let first = move |_: &Turn| {
            let _ = waits.recv();
            Box::new(|| ()) as End
        };
        crew.request(&request(0, 1, 0), || (), first);
        let second = |_: &Turn| Box::new(|| ()) as End;
        crew.request(
            &request(1, 1, 0),
            move || heard.send(()).unwrap_or(()),
            second,
        );
        beats.recv_timeout(LONG).unwrap();
        drop(go_on);
        while beats.recv_timeout(LONG) != Err(RecvTimeoutError::Disconnected) {}
    }

    #[test]
    fn a_thread_that_is_done_takes_what_comes_next() {
        let crew = Crew::new(LONG);
        let (tell, told) = mpsc::channel();
        for shard_idx in 0..100 {
            let tell = tell.clone();
            let work = move |_: &Turn| {
                tell.send(std::thread::current().id()).unwrap();
                Box::new(|| ()) as End
            };
            crew.request(&request(shard_idx, 2, 0), || (), work);
        }
        drop(tell);
        let ids: Vec<_> = told.iter().map(|id| format!("{id:?}")).collect();
        assert_eq!(ids.len(), 100);
        let threads: BTreeSet<_> = ids.into_iter().collect();
        assert!(threads.len() <= 2, "no more than work at once: {threads:?}");
    }

    #[test]
    fn a_panic_ends_one_attempt_and_its_turn_and_no_other() {
        let crew = Crew::new(LONG);
        let (tell, told) = mpsc::channel();
        for shard_idx in 0..4 {
            let tell = tell.clone();
            let work = move |_: &Turn| {
                assert!(shard_idx != 1, "by design");
                Box::new(move || {
                    tell.send(shard_idx).unwrap();
                    assert!(shard_idx != 2, "by design");
                }) as End
            };
            crew.request(&request(shard_idx, 1, 0), || (), work);
        }
        drop(tell);
        assert_eq!(told.iter().collect::<Vec<_>>(), [0, 2, 3]);
    }

    #[test]
    fn what_waits_when_the_crew_goes_is_given_up() {
        let crew = Crew::new(LONG);
        let ((go_on, waits), (tell, told)) = (mpsc::channel::<()>(), mpsc::channel());
        let (also, (begin, began)) = (tell.clone(), mpsc::channel());
        let first = move |_: &Turn| {
            begin.send(()).unwrap();
            let _ = waits.recv();
            Box::new(move || tell.send(0).unwrap()) as End
        };
        crew.request(&request(0, 1, 0), || (), first);
        let second = move |_: &Turn| Box::new(move || also.send(1).unwrap()) as End;
        crew.request(&request(1, 1, 0), || (), second);
        began.recv_timeout(LONG).unwrap();
        drop(crew);
        drop(go_on);
        assert_eq!(told.iter().collect::<Vec<_>>(), [0]);
    }
}
