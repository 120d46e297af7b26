//! Where connections come in, and what none of them may take: time, room, or the place of others.
//!
//! A connection that says nothing for [`HEADER_S`] is closed; so is one whose request has a head of more than
//! [`HEAD_BYTES`], and so are all beyond [`MOST_CONNECTIONS`]. Each is a task of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

use crate::tls::Certificates;

/// Seconds in which the head of a request has to come.
pub const HEADER_S: u64 = 15;
/// Bytes of the head of a request.
pub const HEAD_BYTES: usize = 32 * 1024;
/// Header fields of a request.
const MOST_HEADERS: usize = 64;
/// Connections at a time.
pub const MOST_CONNECTIONS: usize = 4096;
/// How long requests may go on when the server ends.
const GRACE: Duration = Duration::from_secs(2);

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The address cannot be listened to.
    #[error("cannot listen on {address}")]
    Listen {
        /// It.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// A place that is listened to.
pub struct Door {
    listener: TcpListener,
    tls: Option<Arc<Certificates>>,
}

impl Door {
    /// Listens.
    ///
    /// # Errors
    /// The address is taken, or not ours.
    pub async fn open(
        address: SocketAddr,
        tls: Option<Arc<Certificates>>,
    ) -> Result<Self, DoorError> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| DoorError::Listen { address, source })?;
        Ok(Self { listener, tls })
    }

    /// The address that is listened to.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Lets connections in until `stop` is true; then no more, and those that are in have a moment to end.
    pub async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection");
                    // Out of file descriptors: somebody has to close one first.
                    let pause = Duration::from_millis(50);
                    let _ = tokio::time::timeout(pause, std::future::pending::<()>()).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                continue;
            };
            let _ = stream.set_nodelay(true);
            let tls = self.tls.as_ref().map(|tls| tls.acceptor());
            let (router, stop) = (router.clone(), stop.clone());
            tokio::spawn(async move {
                match tls {
                    None => speak(stream, peer, router, stop).await,
                    Some(tls) => {
                        let shake = tls.accept(stream);
                        let limit = Duration::from_secs(HEADER_S);
                        if let Ok(Ok(stream)) = tokio::time::timeout(limit, shake).await {
                            speak(stream, peer, router, stop).await;
                        }
                    }
                }
                drop(place);
            });
        }
        drop(self.listener);
        let all = u32::try_from(MOST_CONNECTIONS).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(GRACE, places.acquire_many(all)).await;
    }
}

/// Speaks HTTP on a connection until it ends.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        // A router is always ready.
        router.clone().call(request.map(Body::new))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEADER_S))
        .max_buf_size(HEAD_BYTES)
        .max_headers(MOST_HEADERS);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
