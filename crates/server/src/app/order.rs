//! Requests that run a command.

use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use mendb_service::KNOWN_ONLY;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::Receiver;

use super::{App, MOST_OF_ONE, accepted, blocking, body, plain, stored, stream};
use crate::desk::{Asked, Caller, Desk, Format};
use crate::header::single;
use crate::listener::{End, Listener, Told};
use crate::problem::Problem;
use crate::route::{Route, Rows, Verb};
use crate::store::Store;
use crate::store::audit::Wish;
use crate::upload::Upload;

/// Characters of an idempotency key.
const MOST_OF_KEY: usize = 200;
/// Bytes of an answer that is one document.
const MOST_DATA: usize = 64 << 20;
/// Notes of a command that become header fields.
const MOST_NOTES: usize = 10;
/// What the program asks for when it stands for its user.
const LINES: &str = "application/x-ndjson";

/// Removes a key when its request is over.
struct Working {
    app: Arc<App>,
    key: Option<String>,
    caller: String,
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.app.keys().remove(key);
        }
        let mut running = self
            .app
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.caller) {
            *count = count.saturating_sub(1);
        }
    }
}

impl App {
    /// Runs a command, and answers when its operation has begun or it is over.
    pub(super) async fn order(
        self: &Arc<Self>,
        route: &'static Route,
        parameters: Vec<(String, String)>,
        request: Request,
        caller: Caller,
        peer: String,
    ) -> Result<Response<Body>, Problem> {
        let headers = request.headers().clone();
        let wanted = accepts(&headers);
        let key = key(&headers, &caller)?;
        let mut fields = body::query(request.uri().query().unwrap_or_default())?;
        let rows = route.command().map_or(Rows::None, |command| command.rows);
        let mut upload = None;
        if rows == Rows::In {
            if key.is_some() {
                return Err(Problem::bad_request(
                    "an Idempotency-Key is for what begins an operation, which rows that come do not",
                )
                .hint("to import the same rows again changes nothing"));
            }
            let place = Arc::clone(&self.uploads).try_acquire_owned();
            let place = place.map_err(|_| Problem::busy("too many clients send rows"))?;
            upload = Some(Arc::new(Upload::begin(request.into_body(), place)));
        } else if route.verb == Verb::Post {
            if !fields.is_empty() {
                return Err(Problem::bad_request(
                    "arguments of a POST stand in its body",
                ));
            }
            fields = body::object(request).await?;
        }
        let is_quiet = headers.contains_key("mendb-quiet");
        let asked = Asked {
            route,
            parameters,
            fields,
            format: if wanted.is_text {
                Format::Text
            } else {
                Format::Json
            },
            quiet: is_quiet,
            keeps_plan: !wanted.lines,
            key,
            known_only: headers.contains_key(KNOWN_ONLY),
            caller,
            upload,
        };
        if asked.known_only {
            return self.known(asked).await;
        }
        self.run(asked, wanted.lines, &peer).await
    }

    /// Tells what was begun with the key of a request, and begins nothing.
    async fn known(self: &Arc<Self>, asked: Asked) -> Result<Response<Body>, Problem> {
        if asked.key.is_none() {
            return Err(Problem::bad_request(
                "what is known is asked by an Idempotency-Key, and the request has none",
            ));
        }
        Ok(match self.take_up(&Arc::new(asked)).await? {
            TakenUp::Ordered(operation_id) => accepted(&operation_id),
            // Nobody is about to begin it.
            TakenUp::Working(_working) => {
                let mut response = plain("application/json", "");
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
        })
    }

    /// Finds the operation that was begun with the key of a request, or notes that the request is being worked on.
    async fn take_up(self: &Arc<Self>, asked: &Arc<Asked>) -> Result<TakenUp, Problem> {
        let working = self.working(asked);
        if asked.key.is_some() {
            let (desk, asked) = (Arc::clone(&self.settings.desk), Arc::clone(asked));
            let ordered =
                blocking(move || desk.ordered(&asked).map_err(|end| problem_of(&end))).await?;
            // Also while the request that began it follows it.
            if let Some(operation_id) = ordered {
                return Ok(TakenUp::Ordered(operation_id));
            }
        }
        working.map(TakenUp::Working)
    }

    /// Runs a command for somebody who was let in.
    pub(super) async fn run(
        self: &Arc<Self>,
        asked: Asked,
        wants_lines: bool,
        peer: &str,
    ) -> Result<Response<Body>, Problem> {
        let asked = Arc::new(asked);
        let route = asked.route;
        let rows = route.command().map_or(Rows::None, |command| command.rows);
        let place = Arc::clone(&self.commands).try_acquire_owned();
        let place =
            place.map_err(|_| Problem::busy("the server works on as many requests as it can"))?;
        let working = match self.take_up(&asked).await? {
            TakenUp::Ordered(operation_id) => return Ok(accepted(&operation_id)),
            TakenUp::Working(working) => working,
        };
        let audit = match route.changes() {
            true => Some(self.begin_audit(&asked, peer).await?),
            false => None,
        };
        let (listener, told) = Listener::new();
        let (desk, store) = (
            Arc::clone(&self.settings.desk),
            Arc::clone(&self.settings.store),
        );
        let for_thread = Arc::clone(&asked);
        tokio::task::spawn_blocking(move || {
            let teller = listener.again();
            let end = perform(desk.as_ref(), &store, &for_thread, listener, audit);
            // Before anybody hears of the end, who may ask with the key again.
            drop(working);
            drop(place);
            teller.tell(Told::Ended(Box::new(end)));
        });
        if rows == Rows::Out {
            return stream::rows(told).await;
        }
        if wants_lines {
            return Ok(stream::lines(told));
        }
        self.wait(told, audit, route).await
    }

    /// Notes that a request is being worked on.
    fn working(self: &Arc<Self>, asked: &Asked) -> Result<Working, Problem> {
        let name = &asked.caller.name;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(name.clone()).or_default();
        if *count >= MOST_OF_ONE {
            return Err(Problem {
                status: 429,
                ..Problem::busy(format!(
                    "{name} has {MOST_OF_ONE} requests that are being worked on"
                ))
            });
        }
        if let Some(key) = &asked.key
            && !self.keys().insert(key.clone())
        {
            return Err(Problem {
                retry_after_s: Some(1),
                ..Problem::new(
                    409,
                    "retry",
                    "a request with this idempotency key is being worked on",
                )
            });
        }
        *count += 1;
        Ok(Working {
            app: Arc::clone(self),
            key: asked.key.clone(),
            caller: name.clone(),
        })
    }

    async fn begin_audit(&self, asked: &Asked, peer: &str) -> Result<i64, Problem> {
        let mut path = asked.route.path.to_owned();
        for (name, value) in &asked.parameters {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        let wish = wish(asked.route, &path, &asked.caller, peer, &asked.fields);
        let store = Arc::clone(&self.settings.store);
        stored(move || store.begin_audit(&wish)).await
    }

    /// Notes that somebody asked who may not.
    pub(super) async fn note_refusal(
        &self,
        route: &'static Route,
        path: &str,
        caller: &Caller,
        peer: &str,
    ) -> Result<(), Problem> {
        let wish = wish(route, path, caller, peer, &Map::new());
        let store = Arc::clone(&self.settings.store);
        stored(move || {
            let audit_id = store.begin_audit(&wish)?;
            store.end_audit(audit_id, "refused: the role may not", None)
        })
        .await
    }

    /// Waits until there is an answer.
    async fn wait(
        &self,
        mut told: Receiver<Told>,
        audit: Option<i64>,
        route: &Route,
    ) -> Result<Response<Body>, Problem> {
        let mut data = String::new();
        let mut headers = HeaderMap::new();
        let mut is_text = true;
        while let Some(next) = told.recv().await {
            match next {
                Told::Data(text) => {
                    is_text &= !text.starts_with(['{', '[']);
                    data += &text;
                    if data.len() > MOST_DATA {
                        return Err(Problem::new(
                            422,
                            "fix_command",
                            "the answer is too large for one document",
                        )
                        .hint("limit it, or read it as it comes: Accept: application/x-ndjson"));
                    }
                }
                Told::Note(note) => {
                    if headers.get_all("mendb-note").iter().count() < MOST_NOTES
                        && let Ok(note) = HeaderValue::from_str(&note.replace('\n', " "))
                    {
                        headers.append("mendb-note", note);
                    }
                }
                Told::Planned(plan) => {
                    if let Ok(plan) = HeaderValue::from_str(&plan) {
                        headers.insert("mendb-plan", plan);
                    }
                }
                Told::More(after) => {
                    let link = format!("<?after={after}>; rel=\"next\"");
                    if let Ok(link) = HeaderValue::from_str(&link) {
                        headers.insert(header::LINK, link);
                    }
                }
                Told::Progress { .. } | Told::Kind(_) | Told::Bytes(_) => {}
                Told::Begun(operation_id) if route.verb != Verb::Get => {
                    if let Some(audit_id) = audit {
                        let store = Arc::clone(&self.settings.store);
                        let id = operation_id.clone();
                        stored(move || store.end_audit(audit_id, "begun", Some(&id))).await?;
                    }
                    return Ok(accepted(&operation_id));
                }
                Told::Begun(_) => {}
                Told::Ended(end) => {
                    if let Some(mut problem) = end.problem {
                        // The command line prints it, and then why that is not what was asked for.
                        if !data.is_empty() {
                            let report = serde_json::from_str(&data).unwrap_or(Value::String(data));
                            problem.members.insert("report".to_owned(), report);
                        }
                        return Err(problem);
                    }
                    let carries_out = route.command().is_some_and(|command| command.carries_out);
                    if carries_out && end.exit_code == End::DRIFT {
                        let mut problem = Problem::new(409, "fix_input", "the tables are not what they were when the mend was planned, so nothing was done")
                            .hint("look at another preview");
                        let drift = serde_json::from_str(&data).unwrap_or(Value::String(data));
                        problem.members.insert("drift".to_owned(), drift);
                        return Err(problem);
                    }
                    let kind = match is_text && !data.is_empty() {
                        true => "text/plain; charset=utf-8",
                        false => "application/json",
                    };
                    if data.is_empty() {
                        data += "{}\n";
                    }
                    let mut response = plain(kind, data);
                    let verdict = if end.exit_code == End::DRIFT {
                        "drift"
                    } else {
                        "done"
                    };
                    headers.insert("mendb-verdict", HeaderValue::from_static(verdict));
                    response.headers_mut().extend(headers);
                    return Ok(response);
                }
            }
        }
        Err(Problem::defect("a thread of the server died"))
    }
}

/// Runs a command on this thread, and writes down what became of it.
fn perform(
    desk: &dyn Desk,
    store: &Store,
    asked: &Asked,
    listener: Listener,
    audit: Option<i64>,
) -> End {
    let teller = listener.again();
    let end = desk.perform(asked, listener);
    let begun = teller.begun();
    if let Some(audit_id) = audit {
        let outcome = match (&end.problem, end.exit_code, &begun) {
            // It goes on by itself.
            (_, _, Some(_)) if teller.is_gone() => "begun".to_owned(),
            (Some(problem), ..) => format!("failed: {}", problem.detail),
            (None, End::DRIFT, _) => "drift".to_owned(),
            (None, ..) => "done".to_owned(),
        };
        if let Err(error) = store.end_audit(audit_id, &outcome, begun.as_deref()) {
            tracing::error!(%error, audit_id, outcome, "the audit cannot be written");
        }
    }
    end
}

fn problem_of(end: &End) -> Problem {
    let problem = end.problem.clone();
    problem.unwrap_or_else(|| Problem::defect("it failed and does not say why"))
}

fn wish(
    route: &Route,
    path: &str,
    caller: &Caller,
    peer: &str,
    fields: &Map<String, Value>,
) -> Wish {
    Wish {
        who: caller.name.clone(),
        role: caller.role.to_string(),
        peer: peer.to_owned(),
        request: format!("{} {path}", route.verb.method()),
        arguments: json!(fields),
    }
}

/// What becomes of a request.
enum TakenUp {
    /// Its key has begun this operation.
    Ordered(String),
    /// It is to be worked on.
    Working(Working),
}

/// How an answer is wanted.
struct Wanted {
    is_text: bool,
    lines: bool,
}

fn accepts(headers: &HeaderMap) -> Wanted {
    // A list of kinds may come in several fields.
    let accept = headers.get_all(header::ACCEPT).iter();
    let accept: Vec<_> = accept.filter_map(|it| it.to_str().ok()).collect();
    let accept = accept.join(",");
    let lines = accept.contains(LINES);
    let is_text = match lines {
        true => headers
            .get("mendb-output")
            .is_some_and(|output| output == "text"),
        false => accept.trim_start().starts_with("text/plain"),
    };
    Wanted { is_text, lines }
}

/// The key of a request; those of others are others.
pub(super) fn key(headers: &HeaderMap, caller: &Caller) -> Result<Option<String>, Problem> {
    let Some(key) = single(headers, "idempotency-key")? else {
        return Ok(None);
    };
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    if (1..=MOST_OF_KEY).contains(&key.len()) && key.bytes().all(is_fine) {
        return Ok(Some(format!("{}/{key}", caller.name)));
    }
    Err(Problem::bad_request(
        "an Idempotency-Key has 1 to 200 letters, digits, and the signs _ . : -",
    ))
}
