//! An object as a stream of bytes for code that reads on a thread of its own: archives and their
//! decompressors.
//!
//! Each request brings a stretch of the object and has the time limit and the retries of every request
//! of the repository. While a stretch is used up, the next one is on its way. After a jump the first
//! stretches are short, so that who only looks at the headers of an archive does not read what is
//! between them. Memory: two stretches of [`LONGEST_STRETCH`].

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::error::{ImportError, Result};
use crate::objects::Objects;

const LONGEST_STRETCH: u64 = 4 << 20;
const SHORTEST_STRETCH: u64 = 64 << 10;

/// What all threads of one piece of work asked of the store.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl Traffic {
    /// Bytes that came.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Requests that were made, repeats not counted.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What one thread reads.
#[derive(Debug)]
pub(super) struct Transfer {
    traffic: Arc<Traffic>,
    /// Where its requests are made.
    runtime: Handle,
    stopped: AtomicBool,
    /// The first failure, which readers cannot hand through the decompressors without losing its type.
    failure: Mutex<Option<crate::Error>>,
}

impl Transfer {
    /// Keeps a failure, and gives an error that stands for it.
    fn fail(&self, error: crate::Error) -> io::Error {
        let message = error.to_string();
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        io::Error::other(message)
    }

    /// What an error of reading really was: a failure of the store, else damage of the object.
    pub(super) fn explain(&self, object: &str, error: &io::Error) -> ImportError {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match failure.take() {
            Some(failure) => failure.into(),
            None => ImportError::Archive {
                object: object.to_owned(),
                detail: error.to_string(),
            },
        }
    }
}

/// Does work on a thread that may wait. When the caller goes away, the work ends with its next read.
///
/// # Panics
/// With what the work panicked with.
pub(super) async fn on_thread<T: Send + 'static>(
    traffic: &Arc<Traffic>,
    work: impl FnOnce(&Arc<Transfer>) -> Result<T> + Send + 'static,
) -> Result<T> {
    struct Waiting {
        transfer: Arc<Transfer>,
        done: bool,
    }
    impl Drop for Waiting {
        fn drop(&mut self) {
            if !self.done {
                self.transfer.stopped.store(true, Ordering::Relaxed);
            }
        }
    }
    let transfer = Arc::new(Transfer {
        traffic: Arc::clone(traffic),
        runtime: Handle::current(),
        stopped: AtomicBool::new(false),
        failure: Mutex::new(None),
    });
    let mut waiting = Waiting {
        transfer: Arc::clone(&transfer),
        done: false,
    };
    let done = tokio::task::spawn_blocking(move || work(&transfer)).await;
    waiting.done = true;
    match done {
        Ok(answer) => answer,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the end of the runtime cancels it, and after that nobody asks any more.
            Err(_) => std::future::pending().await,
        },
    }
}

/// An object that is read. Lives on a thread of [`on_thread`].
pub(super) struct ObjectReader {
    objects: Objects,
    name: String,
    size: u64,
    transfer: Arc<Transfer>,
    position: u64,
    /// What was read last, and where it begins.
    stretch: Bytes,
    stretch_at: u64,
    /// What comes after it.
    ahead: Option<JoinHandle<crate::Result<Bytes>>>,
    /// How much is asked for next.
    next_bytes: u64,
}

impl ObjectReader {
    /// An object of this size.
    pub(super) fn new(objects: Objects, name: &str, size: u64, transfer: &Arc<Transfer>) -> Self {
        Self {
            objects,
            name: name.to_owned(),
            size,
            transfer: Arc::clone(transfer),
            position: 0,
            stretch: Bytes::new(),
            stretch_at: 0,
            ahead: None,
            next_bytes: LONGEST_STRETCH,
        }
    }

    /// Reads in short stretches at first, for those who will jump.
    pub(super) fn skimming(mut self) -> Self {
        self.next_bytes = SHORTEST_STRETCH;
        self
    }

    /// The object as errors name it.
    pub(super) fn full_name(&self) -> String {
        self.objects.full_name(&self.name)
    }

    /// The rest of the stretch at the position; empty at the end of the object.
    fn at_hand(&mut self) -> io::Result<Bytes> {
        if self.transfer.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        let end = self.stretch_at + self.stretch.len() as u64;
        if !(self.stretch_at..end).contains(&self.position) {
            if self.position >= self.size {
                return Ok(Bytes::new());
            }
            self.load(end).map_err(|error| self.transfer.fail(error))?;
        }
        let from = usize::try_from(self.position - self.stretch_at);
        Ok(self
            .stretch
            .slice(from.expect("it is within the stretch")..))
    }

    /// Reads the stretch at the position; `end` is where the last one ended.
    fn load(&mut self, end: u64) -> crate::Result<()> {
        let ahead = self.ahead.take();
        let came = match ahead {
            Some(ahead) if self.position == end => match self.transfer.runtime.block_on(ahead) {
                Ok(came) => came?,
                Err(ended) => return Err(self.objects.cut_off(ended)),
            },
            other => {
                if let Some(useless) = other {
                    useless.abort();
                }
                if end > 0 && self.position != end {
                    self.next_bytes = SHORTEST_STRETCH;
                }
                let request = self.request(self.position);
                self.transfer.runtime.block_on(request)?
            }
        };
        self.transfer.traffic.count(came.len() as u64);
        self.stretch_at = self.position;
        self.stretch = came;
        self.next_bytes = (self.next_bytes * 4).min(LONGEST_STRETCH);
        let next = self.position + self.stretch.len() as u64;
        if self.next_bytes == LONGEST_STRETCH && next < self.size {
            self.ahead = Some(self.transfer.runtime.spawn(self.request(next)));
        }
        Ok(())
    }

    fn request(&self, from: u64) -> impl Future<Output = crate::Result<Bytes>> + Send + 'static {
        let to = self.size.min(from + self.next_bytes);
        let (objects, name) = (self.objects.clone(), self.name.clone());
        async move { objects.get_range(&name, from..to).await }
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        if let Some(ahead) = &self.ahead {
            ahead.abort();
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let at_hand = self.at_hand()?;
        let taken = at_hand.len().min(into.len());
        into[..taken].copy_from_slice(&at_hand[..taken]);
        self.position += taken as u64;
        Ok(taken)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
