//! What a server answers while another leads: that it lives, who leads, and nothing else.
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
    /// Why it does not answer, and where another does.
    Waiting {
        why: String,
        leader: Option<String>,
    },
    Open(Router),
}

impl Gate {
    /// One that waits.
    pub fn new(guard: Guard) -> Arc<Self> {
        Arc::new(Self {
            guard,
            state: Mutex::new(State::Waiting {
                why: "this server looks who leads".to_owned(),
                leader: None,
            }),
        })
    }

    /// From now on says why it does not answer, and where another does.
    pub fn wait(&self, why: String, leader: Option<String>) {
        *self.state() = State::Waiting { why, leader };
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
                State::Open(router) => Ok(router.clone()),
                State::Waiting { why, leader } => Err((why.clone(), leader.clone())),
            };
            match inner {
                // A router is always ready, and never fails.
                Ok(mut router) => router
                    .call(request)
                    .await
                    .unwrap_or_else(|error| match error {}),
                Err((why, leader)) => secured(gate.answer(&request, &why, leader)),
            }
        })
    }

    fn answer(&self, request: &Request, why: &str, leader: Option<String>) -> Response<Body> {
        let path = request.uri().path();
        if path == "/health/live" {
            return Response::new("alive\n".into());
        }
        let is_ready = path == "/health/ready";
        if !is_ready && let Err(problem) = self.guard.check_host(request.headers()) {
            return problem.response();
        }
        let hint = match &leader {
            Some(leader) => format!("ask {leader}; this server answers when it has taken over"),
            None => "ask again: this server answers when it has taken over".to_owned(),
        };
        let mut problem = Problem {
            retry_after_s: Some(RETRY_AFTER_S),
            ..Problem::new(503, "retry", why)
        }
        .hint(&hint);
        if let Some(leader) = leader {
            problem.members.insert("leader".to_owned(), leader.into());
        }
        problem.response()
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
    async fn a_server_that_waits_lives_and_says_who_leads_and_opens_without_a_new_door() {
        let gate = Gate::new(Guard {
            hosts: ["localhost".to_owned()].into(),
            agent_of: None,
        });
        let router = gate.router();
        gate.wait(
            "process 7 on b leads".to_owned(),
            Some("http://b:7070".to_owned()),
        );
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
            assert_eq!(body.contains("http://b:7070"), status == 503, "{body}");
        }
        gate.open(Router::new().fallback(|| async { "here" }));
        let open = ask(&router, "/v1/collections", "localhost").await;
        assert_eq!(open.status(), StatusCode::OK);
    }
}
