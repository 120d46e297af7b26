//! What went wrong, as RFC 9457 wants it told.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

/// Why a request was not done.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The status of the answer.
    pub status: u16,
    /// What kind of problem it is: `fix_input`.
    pub kind: String,
    /// What failed, and why.
    pub detail: String,
    /// What else is known.
    pub members: Map<String, Value>,
    /// Seconds after which the same may work.
    pub retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem that the server itself has with a request.
    pub fn new(status: u16, kind: &str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind: kind.to_owned(),
            detail: detail.into(),
            members: Map::new(),
            retry_after_s: None,
        }
    }

    /// With what to do next.
    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        self.members.insert("hint".to_owned(), hint.into());
        self
    }

    /// The request is wrong.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, "fix_command", detail)
    }

    /// The server cannot do it now.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self {
            retry_after_s: Some(1),
            ..Self::new(503, "retry", detail)
        }
    }

    /// A defect of the server.
    pub fn defect(detail: impl Into<String>) -> Self {
        Self::new(500, "report_bug", detail)
    }

    /// As a JSON object.
    pub fn value(&self) -> Value {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut value = json!({
            "type": format!("urn:mendb:problem:{}", self.kind),
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": self.status,
            "kind": self.kind,
            "detail": self.detail,
        });
        if let Value::Object(object) = &mut value {
            for (name, member) in &self.members {
                object.entry(name.clone()).or_insert_with(|| member.clone());
            }
        }
        value
    }

    /// As an answer.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.value().to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == 401 {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"mendb\""),
            );
        }
        response
    }
}
