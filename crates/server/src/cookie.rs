//! The cookie in which a browser keeps the token of the dashboard.
//!
//! Scripts cannot read it and other sites cannot have it sent. A token that is revoked is worth nothing in it either.

use axum::http::{HeaderMap, header};

const NAME: &str = "mendb_token";
/// A browser forgets it after a day.
const AGE_S: u32 = 86_400;

/// The token in the cookie of a request.
pub fn token(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let cookies = cookies.filter_map(|cookies| cookies.to_str().ok());
    cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == NAME)
        .map(|(_, value)| value.to_owned())
}

/// What gives a browser the cookie. Over TLS it is never sent without.
pub fn set(token: &str, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{NAME}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={AGE_S}{secure}")
}

/// What takes it back.
pub fn clear() -> String {
    format!("{NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
}
