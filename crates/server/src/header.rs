//! Header fields that a request has once or not at all.

use axum::http::HeaderMap;

use crate::problem::Problem;

/// The value of a field that has one meaning, if the request has it.
///
/// # Errors
/// The request has the field several times, so that nobody knows which is meant; or it is no text.
pub fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::bad_request(format!(
            "the request has several header fields {name}"
        )));
    }
    match value.to_str() {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(Problem::bad_request(format!(
            "the header field {name} is no text of ASCII"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_field_that_is_there_twice_is_not_guessed_from() {
        let mut headers = HeaderMap::new();
        assert_eq!(single(&headers, "last-event-id").unwrap(), None);
        headers.append("last-event-id", HeaderValue::from_static("a-1"));
        assert_eq!(single(&headers, "last-event-id").unwrap(), Some("a-1"));
        headers.append("last-event-id", HeaderValue::from_static("a-1"));
        assert_eq!(single(&headers, "last-event-id").unwrap_err().status, 400);
    }

    #[test]
    fn a_field_that_is_no_text_is_refused() {
        let mut headers = HeaderMap::new();
        let bytes = HeaderValue::from_bytes(b"\xff").unwrap();
        headers.append("idempotency-key", bytes);
        assert!(single(&headers, "idempotency-key").is_err());
    }
}
