//! What a server answers while another leads: that it lives, that it waits, and nothing else. It has no tokens to tell who
//! may know more by: who leads, and what keeps this server from it, is told on its stderr.
//!
//! The door is open from the beginning. When this server leads, its routes take the place of these answers, for
//! connections that are there as well.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use tower_service::Service;

use crate::app::secured;
use crate::guard::Guard;
use crate::problem::Problem;

/// When it is worth asking again, in seconds.
const RETRY_AFTER_S: u32 = 5;

/// Answers until the server leads, and then lets requests through.
pub struct Gate {
    guard: Guard,
    state: Mutex<State>,
}

enum State {
    Waiting,
    Open(Router),
}

impl Gate {
    /// One that waits.
    pub fn new(guard: Guard) -> Arc<Self> {
        Arc::new(Self {
            guard,
            state: Mutex::new(State::Waiting),
        })
    }

    /// From now on lets requests through.
    pub fn open(&self, router: Router) {
        *self.state() = State::Open(router);
    }

    /// What the door is given.
    pub fn router(self: &Arc<Self>) -> Router {
        let gate = Arc::clone(self);
        Router::new().fallback(move |request: Request| async move {
            let inner = match &*gate.state() {
                State::Open(router) => Some(router.clone()),
                State::Waiting => None,
            };
            match inner {
                // A router is always ready, and never fails.
                Some(mut router) => router
                    .call(request)
                    .await
                    .unwrap_or_else(|error| match error {}),
                None => secured(gate.answer(&request)),
            }
        })
    }

    fn answer(&self, request: &Request) -> Response<Body> {
        let path = request.uri().path();
        if path == "/health/live" {
            return Response::new("alive\n".into());
        }
        let is_ready = path == "/health/ready";
        if !is_ready && let Err(problem) = self.guard.check_host(request.headers()) {
            return problem.response();
        }
        let problem = Problem {
            retry_after_s: Some(RETRY_AFTER_S),
            ..Problem::new(503, "retry", "this server waits: it does not lead")
        };
        let hint =
            "ask the other servers that share its journal, or again: it answers when it leads";
        problem.hint(hint).response()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{StatusCode, header};

    use super::*;

    async fn ask(router: &Router, path: &str, host: &str) -> Response<Body> {
        let request = Request::builder().uri(path).header(header::HOST, host);
        let request = request.body(Body::empty()).unwrap();
        router.clone().call(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_server_that_waits_lives_and_says_so_and_opens_without_a_new_door() {
        let gate = Gate::new(Guard {
            hosts: ["localhost".to_owned()].into(),
            agent_of: None,
        });
        let router = gate.router();
        let live = ask(&router, "/health/live", "anything").await;
        assert_eq!(live.status(), StatusCode::OK);
        for (path, host, status) in [
            ("/health/ready", "anything", 503),
            ("/v1/collections", "localhost", 503),
            ("/v1/collections", "evil.example.com", 421),
        ] {
            let answer = ask(&router, path, host).await;
            assert_eq!(answer.status().as_u16(), status, "{path} {host}");
            let is_told = answer.headers().contains_key(header::RETRY_AFTER);
            assert_eq!(is_told, status == 503);
            let body = axum::body::to_bytes(answer.into_body(), 10_000)
                .await
                .unwrap();
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert_eq!(body.contains("this server waits"), status == 503, "{body}");
        }
        gate.open(Router::new().fallback(|| async { "here" }));
        let open = ask(&router, "/v1/collections", "localhost").await;
        assert_eq!(open.status(), StatusCode::OK);
    }
}
