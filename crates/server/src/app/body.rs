//! What a request brings.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header;
use serde_json::{Map, Value};

use crate::header::single;
use crate::problem::Problem;

/// Bytes of a body.
pub const MOST_BYTES: usize = 1024 * 1024;
/// A body has to be here in this time.
const LIMIT: Duration = Duration::from_secs(30);

/// The JSON object in a body; an empty one where there is nothing.
pub async fn object(request: Request) -> Result<Map<String, Value>, Problem> {
    let kind = single(request.headers(), header::CONTENT_TYPE.as_str())?;
    let kind = kind.unwrap_or_default().to_owned();
    let bytes = read(request.into_body()).await?;
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(
            415,
            "fix_command",
            "the body is not application/json",
        ));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::bad_request("the body is no JSON object")),
        Err(error) => Err(Problem::bad_request(format!(
            "the body is no JSON: {error}"
        ))),
    }
}

/// The text in a body.
pub async fn text(body: Body) -> Result<String, Problem> {
    let bytes = read(body).await?;
    String::from_utf8(bytes).map_err(|_| Problem::bad_request("the body is no text of UTF-8"))
}

async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    match tokio::time::timeout(LIMIT, to_bytes(body, MOST_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(_)) => Err(Problem::new(
            413,
            "fix_command",
            format!("the body was cut off, or is larger than {MOST_BYTES} bytes"),
        )),
        Err(_) => Err(Problem::new(408, "retry", "the body did not come in time")),
    }
}

/// The fields in the query of a request, each as a text; of one that is there several times, all.
pub fn query(query: &str) -> Result<Map<String, Value>, Problem> {
    let mut fields = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let (name, value) = (decoded(name)?, Value::String(decoded(value)?));
        match fields.get_mut(&name) {
            None => drop(fields.insert(name, value)),
            Some(Value::Array(values)) => values.push(value),
            Some(other) => {
                let first = other.take();
                *other = Value::Array(vec![first, value]);
            }
        }
    }
    Ok(fields)
}

fn decoded(text: &str) -> Result<String, Problem> {
    let wrong = || Problem::bad_request("the query is not encoded as a query");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit(), digit());
                match (high, low) {
                    (Some(high), Some(low)) => {
                        u8::try_from(high * 16 + low).map_err(|_| wrong())?
                    }
                    _ => return Err(wrong()),
                }
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_text_and_never_panics() {
        let fields = query("a=1&b=x%20y+z&c&a=2").unwrap();
        assert_eq!(fields["a"], serde_json::json!(["1", "2"]));
        assert_eq!(fields["b"], "x y z");
        assert_eq!(fields["c"], "true");
        for wrong in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(query(wrong).is_err(), "{wrong}");
        }
    }
}
