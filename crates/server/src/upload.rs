//! Rows that a client sends, for a command that reads them on a thread that may block.

use std::fmt;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Receiver, channel};

/// A client that sends nothing for so long has gone.
const IDLE: Duration = Duration::from_secs(30);
/// So many pieces wait to be read; then the client waits.
const UNREAD: usize = 16;

/// Rows on their way: one reader takes them.
pub struct Upload(Mutex<Option<Uploaded>>);

/// Reads what a client sends. That it was cut off is an error, and no end.
#[derive(Debug)]
pub struct Uploaded {
    pieces: Receiver<io::Result<Bytes>>,
    piece: Bytes,
    _place: OwnedSemaphorePermit,
}

impl Upload {
    /// Begins to take what comes; `place` is given back when nobody reads it any more.
    pub(crate) fn begin(body: Body, place: OwnedSemaphorePermit) -> Self {
        let (heard, pieces) = channel(UNREAD);
        tokio::spawn(async move {
            let mut body = body.into_data_stream();
            loop {
                let piece = match tokio::time::timeout(IDLE, body.next()).await {
                    Ok(None) => return,
                    Ok(Some(Ok(piece))) => Ok(piece),
                    Ok(Some(Err(error))) => Err(io::Error::other(error)),
                    Err(_) => Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("nothing came for {} s", IDLE.as_secs()),
                    )),
                };
                let is_last = piece.is_err();
                if heard.send(piece).await.is_err() || is_last {
                    return;
                }
            }
        });
        Self(Mutex::new(Some(Uploaded {
            pieces,
            piece: Bytes::new(),
            _place: place,
        })))
    }

    /// The reader, once.
    pub fn take(&self) -> Option<Uploaded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upload")
    }
}

impl Read for Uploaded {
    /// On a thread that may block.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let count = self.piece.len().min(into.len());
        into[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    fn read(pieces: Vec<io::Result<&'static str>>) -> io::Result<String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let body = Body::from_stream(futures::stream::iter(pieces));
        let upload = runtime.block_on(async { Upload::begin(body, place) });
        let mut reader = upload.take().unwrap();
        assert!(upload.take().is_none());
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn what_was_sent_is_read_and_what_was_cut_off_is_an_error() {
        let pieces = || vec![Ok("id,"), Ok(""), Ok("name\n")];
        assert_eq!(read(pieces()).unwrap(), "id,name\n");
        let mut cut = pieces();
        cut.push(Err(io::ErrorKind::ConnectionReset.into()));
        assert!(read(cut).is_err());
    }
}
