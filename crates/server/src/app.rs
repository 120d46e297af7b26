//! From a request to its answer.
//!
//! *Order*: the host, then the token, then the role, then what was sent, in path and body, and only then is anything
//! done; what changes something is written down before. An answer of 202 leaves when its operation is in the journal.
//! *Cancellation*: a client that goes away stops nobody: operations go on, what only looks ends by itself.

mod body;
mod foreign;
mod order;
mod stream;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::routing::{MethodFilter, on};
use mendb_service::env;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use crate::cookie;
use crate::desk::{Caller, Desk};
use crate::door::Peer;
use crate::events::Events;
use crate::guard::{Guard, broken};
use crate::metrics::{self, Family, Requests};
use crate::openapi;
use crate::problem::Problem;
use crate::route::{Does, Route, Verb};
use crate::store::Store;

/// Commands that run at a time.
const MOST_COMMANDS: usize = 64;
/// Of them, those of one token.
const MOST_OF_ONE: u64 = 32;
/// Clients that send rows at a time: each fills a file.
const MOST_UPLOADS: usize = 4;
/// Readers of events at a time.
const MOST_READERS: usize = 1024;

/// Nothing of a page comes from elsewhere, and none of it is run but what the server sends.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What a server is made of.
pub struct AppSettings {
    /// Every way to ask.
    pub routes: &'static [Route],
    /// What does what is asked.
    pub desk: Arc<dyn Desk>,
    /// Tokens, the audit, plans.
    pub store: Arc<Store>,
    /// What happens.
    pub events: Arc<Events>,
    /// Who is let in.
    pub guard: Guard,
    /// Whether clients come over TLS.
    pub is_secure: bool,
    /// The version of the program.
    pub version: &'static str,
    /// True when the server ends.
    pub stop: watch::Receiver<bool>,
}

/// A server, without its door.
pub struct App {
    settings: AppSettings,
    requests: Requests,
    commands: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    /// Keys of requests that are being worked on.
    keys: Mutex<BTreeSet<String>>,
    /// How many commands each token has running.
    running: Mutex<std::collections::BTreeMap<String, u64>>,
    begun_ms: u64,
    refused: AtomicU64,
}

impl App {
    /// A server.
    pub fn new(settings: AppSettings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            requests: Requests::default(),
            commands: Arc::new(Semaphore::new(MOST_COMMANDS)),
            readers: Arc::new(Semaphore::new(MOST_READERS)),
            uploads: Arc::new(Semaphore::new(MOST_UPLOADS)),
            keys: Mutex::default(),
            running: Mutex::default(),
            begun_ms: env::now_ms(),
            refused: AtomicU64::new(0),
        })
    }

    /// The table of routes as a router.
    pub fn router(self: &Arc<Self>) -> Router {
        let mut router = Router::new();
        for route in self.settings.routes {
            let app = Arc::clone(self);
            let filter = match route.verb {
                Verb::Get => MethodFilter::GET,
                Verb::Post => MethodFilter::POST,
                Verb::Delete => MethodFilter::DELETE,
            };
            let handler = move |request: Request| async move {
                let (mut head, body) = request.into_parts();
                let parameters = RawPathParams::from_request_parts(&mut head, &()).await;
                let parameters = parameters.map(|parameters| {
                    let parameters = parameters.iter();
                    parameters
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .collect()
                });
                // Who may not ask is not told what is wrong with what he asks.
                let parameters = parameters
                    .map_err(|_| Problem::bad_request("the path is not encoded as text of UTF-8"));
                app.answer(route, parameters, Request::from_parts(head, body))
                    .await
            };
            router = router.route(route.path, on(filter, handler));
        }
        let app = Arc::clone(self);
        let nothing = move |request: Request| async move {
            let problem = Problem::new(404, "fix_command", "there is nothing under this path")
                .hint("GET /v1/openapi.json tells the paths there are");
            app.nowhere(request, problem).await
        };
        let app = Arc::clone(self);
        let no_method = move |request: Request| async move {
            let problem = Problem::new(405, "fix_command", "the path does not take this method");
            app.nowhere(request, problem).await
        };
        router
            .fallback(nothing)
            .method_not_allowed_fallback(no_method)
    }

    /// Answers what no route does: to who may ask nothing, no more than that.
    async fn nowhere(self: Arc<Self>, request: Request, problem: Problem) -> Response<Body> {
        let headers = request.headers().clone();
        let may = match self.settings.guard.check_host(&headers) {
            Ok(()) => self.caller(headers).await.map(drop),
            Err(problem) => Err(problem),
        };
        secured(may.err().unwrap_or(problem).response())
    }

    async fn answer(
        self: Arc<Self>,
        route: &'static Route,
        parameters: Result<Vec<(String, String)>, Problem>,
        request: Request,
    ) -> Response<Body> {
        let begun_ms = env::now_ms();
        let peer = request.extensions().get::<Peer>().copied();
        let peer = peer
            .map(|Peer(address)| address.to_string())
            .unwrap_or_default();
        let response = match &route.does {
            Does::Compat(compat) => match self.settings.guard.check_host(request.headers()) {
                Ok(()) => {
                    self.foreign(compat, route.verb, parameters, request, &peer)
                        .await
                }
                Err(problem) => problem.response(),
            },
            _ => {
                let answered = self.let_in(route, parameters, request, peer).await;
                answered.unwrap_or_else(|problem| problem.response())
            }
        };
        if matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        let took_ms = env::now_ms().saturating_sub(begun_ms);
        let method = match route.verb {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Delete => "DELETE",
        };
        self.requests
            .count(method, route.path, response.status().as_u16(), took_ms);
        secured(response)
    }

    async fn let_in(
        self: &Arc<Self>,
        route: &'static Route,
        parameters: Result<Vec<(String, String)>, Problem>,
        request: Request,
        peer: String,
    ) -> Result<Response<Body>, Problem> {
        let headers = request.headers().clone();
        // Who looks whether the process lives may not know its name.
        if !matches!(route.does, Does::Live | Does::Ready) {
            self.settings.guard.check_host(&headers)?;
        }
        let caller = match route.role {
            None => None,
            Some(role) => {
                let caller = self.caller(headers.clone()).await?;
                let changes = route.verb != Verb::Get;
                if let Err(problem) = Guard::check_may(&headers, &caller, role, changes) {
                    if route.changes() {
                        let path = request.uri().path().to_owned();
                        self.note_refusal(route, &path, &caller, &peer).await?;
                    }
                    return Err(problem);
                }
                Some(caller)
            }
        };
        let parameters = parameters?;
        match (&route.does, caller) {
            (Does::Command(_), Some(caller)) => {
                self.order(route, parameters, request, caller, peer).await
            }
            (Does::Command(_), None) => Err(Problem::defect("a command is open to everybody")),
            (Does::Live, _) => Ok(plain("text/plain; charset=utf-8", "alive\n")),
            (Does::Ready, _) => {
                let desk = Arc::clone(&self.settings.desk);
                let ready = blocking(move || Ok(desk.ready())).await?;
                ready.map_err(|why| Problem {
                    retry_after_s: Some(5),
                    ..Problem::new(503, "retry", why)
                })?;
                Ok(plain("text/plain; charset=utf-8", "ready\n"))
            }
            (Does::Metrics, _) => {
                let desk = Arc::clone(&self.settings.desk);
                let mut families = blocking(move || Ok(desk.measure())).await?;
                families.extend(self.measure());
                Ok(plain(
                    "text/plain; version=0.0.4; charset=utf-8",
                    metrics::text(&families),
                ))
            }
            (Does::OpenApi, _) => {
                let settings = &self.settings;
                let document =
                    openapi::document(settings.routes, settings.desk.as_ref(), settings.version);
                Ok(json_of(&document))
            }
            (Does::Events, _) => self.events(&headers, None),
            (Does::OperationEvents, _) => {
                let id = parameters.into_iter().next().map(|(_, id)| id);
                self.events(&headers, id)
            }
            (Does::LogIn, _) => self.log_in(request).await,
            (Does::LogOut, _) => {
                let mut response = json_of(&json!({ "logged_out": true }));
                set_cookie(&mut response, &cookie::clear());
                Ok(response)
            }
            (Does::WhoAmI, Some(caller)) => Ok(json_of(
                &json!({ "name": caller.name, "role": caller.role }),
            )),
            (Does::WhoAmI, None) => Err(Problem::defect("nobody asks who he is")),
            (Does::Compat(_), _) => Err(Problem::defect("it is answered elsewhere")),
            (Does::Page { kind, content }, _) => Ok(plain(kind, *content)),
        }
    }

    async fn caller(&self, headers: HeaderMap) -> Result<Caller, Problem> {
        let store = Arc::clone(&self.settings.store);
        let desk = Arc::clone(&self.settings.desk);
        let agent_of = self.settings.guard.agent_of.clone();
        blocking(move || match agent_of {
            Some(server) => {
                let coordinator = Guard::coordinator(&headers, &store, &server)?;
                if let Some(rates) = Guard::rates(&headers)? {
                    desk.take_rates(rates);
                }
                Ok(coordinator)
            }
            None => Guard::caller(&headers, &store),
        })
        .await
    }

    /// Gives a browser that brings a token a cookie with it.
    async fn log_in(self: &Arc<Self>, request: Request) -> Result<Response<Body>, Problem> {
        let fields = body::object(request).await?;
        let Some(Value::String(token)) = fields.get("token").cloned() else {
            return Err(Problem::bad_request("the body is not {\"token\": \"…\"}"));
        };
        let mut headers = HeaderMap::new();
        let bearer = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Problem::new(401, "fix_command", "the token is not one of this server"))?;
        headers.insert(header::AUTHORIZATION, bearer);
        let caller = self.caller(headers).await?;
        let mut response = json_of(&json!({ "name": caller.name, "role": caller.role }));
        set_cookie(&mut response, &cookie::set(&token, self.settings.is_secure));
        Ok(response)
    }

    /// What the server itself counts.
    fn measure(&self) -> Vec<Family> {
        let readers = MOST_READERS - self.readers.available_permits();
        let commands = MOST_COMMANDS - self.commands.available_permits();
        let up_s = env::now_ms().saturating_sub(self.begun_ms) / 1000;
        vec![
            Family::gauge("mendb_uptime_seconds", "Time since the server began.")
                .with(Vec::new(), up_s as f64),
            Family::gauge("mendb_build_info", "The version of the server.")
                .with(vec![("version", self.settings.version.to_owned())], 1.0),
            Family::gauge("mendb_event_readers", "Clients that read events.")
                .with(Vec::new(), readers as f64),
            Family::gauge(
                "mendb_commands_running",
                "Requests that are being worked on.",
            )
            .with(Vec::new(), commands as f64),
            Family::counter(
                "mendb_requests_refused_total",
                "Requests without a token that may.",
            )
            .with(Vec::new(), self.refused.load(Ordering::Relaxed) as f64),
            self.requests.family(),
        ]
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what may wait for a disk or a network.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Problem::defect("a thread of the server died")),
    }
}

async fn stored<T: Send + 'static>(
    work: impl FnOnce() -> mendb_service::Result<T> + Send + 'static,
) -> Result<T, Problem> {
    blocking(move || work().map_err(|error| broken(&error))).await
}

fn plain(kind: &'static str, content: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(content.into());
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn json_of(value: &Value) -> Response<Body> {
    plain("application/json", format!("{value}\n"))
}

fn set_cookie(response: &mut Response<Body>, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}

/// What every answer says to browsers.
pub(crate) fn secured(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn accepted(operation_id: &str) -> Response<Body> {
    let mut response = json_of(&json!({ "operation_id": operation_id }));
    *response.status_mut() = StatusCode::ACCEPTED;
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/operations/{operation_id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}
