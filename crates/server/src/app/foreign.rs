//! Requests that another program would get.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Response, StatusCode};
use mendb_service::env;
use serde_json::Value;

use super::{App, blocking, body, order, plain};
use crate::compat::{self, Compat, Foreign, Native, NativeDoes, PASS, USER};
use crate::desk::{Asked, Caller, Format};
use crate::guard::Guard;
use crate::problem::Problem;
use crate::route::Verb;

/// Bytes of an answer of ours that is translated.
const MOST_ANSWERED: usize = 64 << 20;

impl App {
    /// Answers a request of another program, with lines of JSON.
    pub(super) async fn foreign(
        self: &Arc<Self>,
        compat: &Compat,
        verb: Verb,
        parameters: Result<Vec<(String, String)>, Problem>,
        request: Request,
        peer: &str,
    ) -> Response<Body> {
        let headers = request.headers().clone();
        let mut lines = Vec::new();
        let done = self.translate(
            compat,
            verb,
            parameters,
            request,
            (&headers, peer),
            &mut lines,
        );
        let status = match done.await {
            Ok(()) => 200,
            Err((operation, problem)) => {
                lines.push(compat::refused(&operation, &problem));
                problem.status
            }
        };
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut response = plain("application/json; charset=UTF-8", text);
        *response.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status == 401 {
            let realm = axum::http::HeaderValue::from_static("Basic realm=\"mendb\"");
            let headers = response.headers_mut();
            headers.insert(axum::http::header::WWW_AUTHENTICATE, realm);
        }
        response
    }

    async fn translate(
        self: &Arc<Self>,
        compat: &Compat,
        verb: Verb,
        parameters: Result<Vec<(String, String)>, Problem>,
        request: Request,
        (headers, peer): (&HeaderMap, &str),
        lines: &mut Vec<Value>,
    ) -> Result<(), (String, Problem)> {
        let of_all = |problem: Problem| (compat.operation.to_owned(), problem);
        let query = body::query(request.uri().query().unwrap_or_default());
        let mut query = query.map_err(of_all)?;
        let by_query = (query.remove(USER), query.remove(PASS));
        let caller = self
            .foreign_caller(headers.clone(), by_query)
            .await
            .map_err(of_all)?;
        let body = match verb {
            Verb::Post => body::text(request.into_body()).await.map_err(of_all)?,
            Verb::Get | Verb::Delete => String::new(),
        };
        let foreign = Foreign {
            parameters: parameters.map_err(of_all)?,
            query,
            body,
            now_ms: env::now_ms(),
        };
        for native in (compat.asks)(&foreign).map_err(of_all)? {
            let operation = native.operation.clone();
            let told = self.native(native, &caller, headers, peer).await;
            lines.extend(told.map_err(|problem| (operation, problem))?);
        }
        Ok(())
    }

    async fn foreign_caller(
        &self,
        headers: HeaderMap,
        (user, pass): (Option<Value>, Option<Value>),
    ) -> Result<Caller, Problem> {
        let text = |value: Option<Value>| value.and_then(|value| Some(value.as_str()?.to_owned()));
        let by_query = text(user).zip(text(pass));
        let store = Arc::clone(&self.settings.store);
        blocking(move || Guard::foreign_caller(&headers, by_query, &store)).await
    }

    /// Does what a request comes to, and tells it.
    async fn native(
        self: &Arc<Self>,
        native: Native,
        caller: &Caller,
        headers: &HeaderMap,
        peer: &str,
    ) -> Result<Vec<Value>, Problem> {
        let (at, parameters, fields, tells) = match native.does {
            NativeDoes::Nothing(told) => return Ok(vec![told]),
            NativeDoes::Route {
                at,
                parameters,
                fields,
                tells,
            } => (at, parameters, fields, tells),
        };
        let mut routes = self.settings.routes.iter();
        let route = routes.find(|route| (route.verb, route.path) == at);
        let route = route.ok_or_else(|| Problem::defect("a route is translated into none"))?;
        let role = route
            .role
            .ok_or_else(|| Problem::defect("a command is open to everybody"))?;
        if let Err(problem) = Guard::check_may(headers, caller, role, route.verb != Verb::Get) {
            if route.changes() {
                self.note_refusal(route, route.path, caller, peer).await?;
            }
            return Err(problem);
        }
        let asked = Asked {
            route,
            parameters,
            fields,
            format: Format::Json,
            quiet: false,
            keeps_plan: false,
            key: order::key(headers, caller)?,
            known_only: false,
            caller: caller.clone(),
            upload: None,
        };
        let response = self.run(asked, false, peer).await?;
        let bytes = to_bytes(response.into_body(), MOST_ANSWERED).await;
        let bytes = bytes.map_err(|_| Problem::defect("an answer cannot be read"))?;
        let answer = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes)
                .map_err(|_| Problem::defect("an answer that is translated is no JSON"))?,
        };
        tells.lines(&answer)
    }
}
