//! Asks the agents of many shards at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use mendb_model::operation::ShardAgent;

use crate::error::{Error, Result};

/// So many are asked at a time: each takes a thread, which waits mostly.
const AT_ONCE: usize = 256;

/// What comes of asking for each of these shards, in their order.
///
/// # Errors
/// The system gives no thread, or one of them died.
pub(super) fn at_once<T: Send>(
    shards: &[ShardAgent],
    ask: impl Fn(&ShardAgent) -> T + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::with_capacity(shards.len()));
    let work = || {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(shard) = shards.get(at)
        {
            let answer = ask(shard);
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.push((at, answer));
        }
    };
    let died = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..shards.len().min(AT_ONCE) {
            match std::thread::Builder::new().spawn_scoped(scope, work) {
                Ok(thread) => threads.push(thread),
                // Those there are do it, only later.
                Err(_) if !threads.is_empty() => break,
                Err(source) => {
                    return Err(Error::Io {
                        action: "cannot ask the agents".to_owned(),
                        source,
                    });
                }
            }
        }
        let ended = threads.into_iter().map(|thread| thread.join().is_err());
        Ok(ended.fold(false, |died, this| died | this))
    })?;
    if died {
        return Err(Error::Refused {
            message: "a thread died that asked the agents".to_owned(),
            hint: None,
        });
    }
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_by_key(|(at, _)| *at);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn shards(count: usize) -> Vec<ShardAgent> {
        let shard = |number: usize| ShardAgent {
            shard: number.to_string(),
            replica: "1".to_owned(),
            agent: String::new(),
            server: String::new(),
        };
        (0..count).map(shard).collect()
    }

    #[test]
    fn many_are_asked_and_answer_in_their_order() {
        let shards = shards(1000);
        let asked = AtomicUsize::new(0);
        let answers = at_once(&shards, |at| {
            asked.fetch_add(1, Ordering::Relaxed);
            at.shard.clone()
        });
        let wanted: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        assert_eq!(answers.unwrap(), wanted);
        assert_eq!(asked.into_inner(), 1000);
    }

    #[test]
    fn some_hundreds_are_asked_side_by_side() {
        // It ends only when all of them are there.
        let all = Barrier::new(AT_ONCE);
        let answers = at_once(&shards(AT_ONCE), |_| {
            all.wait();
        });
        assert_eq!(answers.unwrap().len(), AT_ONCE);
    }
}
