//! Who is let in: a host that is expected, a token that holds, a role that may.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mendb_service::{COORDINATOR, Coordinator, RATES, Rates, SERVER};

use crate::cookie;
use crate::desk::Caller;
use crate::header::single;
use crate::problem::Problem;
use crate::role::Role;
use crate::store::Store;
use crate::store::token::Bearer;

/// A header that no other site can have a browser send.
pub const BY_SCRIPT: &str = "x-mendb-request";

/// What is asked of every request.
#[derive(Debug, Default)]
pub struct Guard {
    /// The names under which the server is asked, in lower case and without ports.
    pub hosts: BTreeSet<String>,
    /// Where the server of a database is whose agent in a cluster this is: who comes has shown a certificate, and says as
    /// which coordinator it asks, and for which server. It needs no token, and no browser speaks to it.
    pub agent_of: Option<String>,
}

impl Guard {
    /// Refuses a request that is meant for another host: a page of another site may have the name of its host lead here.
    ///
    /// # Errors
    /// It is.
    pub fn check_host(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.agent_of.is_some() {
            return Ok(());
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        if hosts.next().is_some() {
            return Err(Problem::bad_request("the request names several hosts"));
        }
        let name = host.map(|host| without_port(host).to_ascii_lowercase());
        if name.is_some_and(|name| self.hosts.contains(&name)) {
            return Ok(());
        }
        Err(Problem::new(
            421,
            "fix_command",
            "the request is for a host that this server does not serve",
        )
        .hint("mendb serve --host NAME lets it answer under another name"))
    }

    /// Who asks, where clients cannot send a token as such: by its name and the token as user and password, in the
    /// header or in the query.
    ///
    /// # Errors
    /// As [`Self::caller`], or the token is not that of the name.
    pub fn foreign_caller(
        headers: &HeaderMap,
        by_query: Option<(String, String)>,
        store: &Store,
    ) -> Result<Caller, Problem> {
        let pair = match basic(headers)? {
            Some(pair) => pair,
            None => match by_query {
                Some(pair) => pair,
                None => return Self::caller(headers, store),
            },
        };
        let (name, secret) = pair;
        let caller = Self::holder(&secret, false, store)?;
        match caller.name == name {
            true => Ok(caller),
            false => Err(Problem::new(
                401,
                "fix_command",
                "the user is not the name of the token that is its password",
            )),
        }
    }

    /// Who asks the agent of a cluster that is beside this server.
    ///
    /// # Errors
    /// It does not say who it is, it means another server, another coordinator gives orders here, or a later process of
    /// this one does.
    pub fn coordinator(
        headers: &HeaderMap,
        store: &Store,
        server: &str,
    ) -> Result<Caller, Problem> {
        let told = single(headers, COORDINATOR)?.and_then(Coordinator::parse);
        let asking = told.ok_or_else(|| {
            Problem::new(
                401,
                "fix_command",
                "this is the agent of a cluster, and the request does not say of which coordinator it is",
            )
            .hint("mendb backup --cluster and the like ask agents")
        })?;
        let meant = single(headers, SERVER)?.unwrap_or("none");
        if meant != server {
            return Err(Problem::new(
                403,
                "fix_command",
                format!("it is the agent of the server {server}, and the one of {meant} is meant"),
            )
            .hint("mend the addresses of the agents in the list of servers: each stands with the server that it is beside"));
        }
        let known = (store.take_coordinator(&asking)).map_err(|error| broken(&error))?;
        if known.id != asking.id {
            return Err(Problem::new(
                403,
                "fix_command",
                format!(
                    "the agent takes orders of the coordinator {} (id {}), and {} is another (id {})",
                    known.name, known.id, asking.name, asking.id
                ),
            )
            .hint("run the command there, for a cluster of that name; where that is gone for good, start the agent once with --new-coordinator"));
        }
        if known.epoch > asking.epoch {
            return Err(Problem::new(
                403,
                "fix_command",
                format!(
                    "a later process of the coordinator {} gives orders (epoch {}, this one is {})",
                    known.name, known.epoch, asking.epoch
                ),
            )
            .hint("nothing was done: that process goes on with what this one had begun"));
        }
        Ok(Caller {
            name: "coordinator".to_owned(),
            role: Role::Admin,
            by_cookie: false,
        })
    }

    /// How fast an agent may be, where its coordinator says so.
    ///
    /// # Errors
    /// What it says are no rates.
    pub fn rates(headers: &HeaderMap) -> Result<Option<Rates>, Problem> {
        let Some(text) = single(headers, RATES)? else {
            return Ok(None);
        };
        match Rates::parse(text) {
            Some(rates) => Ok(Some(rates)),
            None => Err(Problem::bad_request("the field mendb-rates holds no rates")),
        }
    }

    /// Who asks, by the token that came along.
    ///
    /// # Errors
    /// There is none, it does not hold, or a browser was made to send it.
    pub fn caller(headers: &HeaderMap, store: &Store) -> Result<Caller, Problem> {
        let (secret, by_cookie) = match bearer(headers)? {
            Some(secret) => (secret, false),
            None => {
                match cookie::token(headers) {
                    Some(secret) => (secret, true),
                    None => {
                        return Err(Problem::new(401, "fix_command", "the request has no token")
                        .hint("send Authorization: Bearer TOKEN; mendb token create makes a token"));
                    }
                }
            }
        };
        Self::holder(&secret, by_cookie, store)
    }

    /// Who has a token.
    fn holder(secret: &str, by_cookie: bool, store: &Store) -> Result<Caller, Problem> {
        let refused = |detail: &str| {
            Problem::new(401, "fix_command", detail)
                .hint("mendb token create NAME --role viewer|operator|admin makes another")
        };
        match store.bearer(secret).map_err(|error| broken(&error))? {
            Bearer::Holds(token) => Ok(Caller {
                name: token.name,
                role: token.role,
                by_cookie,
            }),
            Bearer::Expired => Err(refused("the token has expired")),
            Bearer::Revoked => Err(refused("the token was revoked")),
            Bearer::Unknown => Err(refused("the token is not one of this server")),
        }
    }

    /// Refuses who may not, and what a browser was made to ask by another site.
    ///
    /// # Errors
    /// The role is too little, or the request is forged.
    pub fn check_may(
        headers: &HeaderMap,
        caller: &Caller,
        role: Role,
        changes: bool,
    ) -> Result<(), Problem> {
        if caller.role < role {
            return Err(Problem::new(
                403,
                "fix_command",
                format!(
                    "the role of {} is {}, and this takes that of {role}",
                    caller.name, caller.role
                ),
            ));
        }
        if caller.by_cookie && changes {
            let is_script = headers.contains_key(BY_SCRIPT);
            let origin = single(headers, header::ORIGIN.as_str())?;
            let host = single(headers, header::HOST.as_str())?;
            let is_ours = origin.is_none_or(|origin| {
                origin.split_once("://").map(|(_, host)| host) == host && host.is_some()
            });
            if !is_script || !is_ours {
                return Err(Problem::new(
                    403,
                    "fix_command",
                    "a browser brought the cookie, and the request is not one of the dashboard",
                ));
            }
        }
        Ok(())
    }
}

/// A store that cannot be read lets nobody in.
pub fn broken(error: &mendb_service::Error) -> Problem {
    if error.is_of_lost_lead() {
        return Problem {
            retry_after_s: Some(1),
            ..Problem::new(503, "retry", error.to_string())
        }
        .hint("ask the server that leads now");
    }
    tracing::error!(%error, "the store of the server");
    Problem::new(
        500,
        "fix_environment",
        "the server cannot read or write what it keeps; its log says why",
    )
}

fn bearer(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let value = single(headers, header::AUTHORIZATION.as_str())?;
    let secret = value.and_then(|value| {
        let (scheme, secret) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| secret.trim().to_owned())
    });
    Ok(secret)
}

/// User and password of a header.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Problem> {
    let value = single(headers, header::AUTHORIZATION.as_str())?;
    Ok(value.and_then(|value| {
        let (scheme, pair) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = String::from_utf8(BASE64_STANDARD.decode(pair.trim()).ok()?).ok()?;
        let (user, password) = pair.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }))
}

/// The name of a host: `[::1]:80` is `[::1]`.
pub fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => {
            if name.contains(':') && !name.ends_with(']') {
                return host;
            }
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_request_for_another_host_is_refused() {
        let guard = Guard {
            hosts: ["localhost", "[::1]"].map(str::to_owned).into(),
            agent_of: None,
        };
        for host in ["localhost", "LOCALHOST:7070", "[::1]:80", "[::1]"] {
            assert!(
                guard.check_host(&headers(&[("host", host)])).is_ok(),
                "{host}"
            );
        }
        for host in ["example.com", "localhost.example.com:80", "", "::1"] {
            assert!(
                guard.check_host(&headers(&[("host", host)])).is_err(),
                "{host}"
            );
        }
        assert!(guard.check_host(&headers(&[])).is_err());
        let twice = headers(&[("host", "localhost"), ("host", "example.com")]);
        assert!(guard.check_host(&twice).is_err());
    }

    #[test]
    fn a_cookie_changes_nothing_unless_the_dashboard_sent_it() {
        let caller = |by_cookie| Caller {
            name: "ann".to_owned(),
            role: Role::Operator,
            by_cookie,
        };
        let may = |pairs: &[_], by_cookie, changes| {
            Guard::check_may(&headers(pairs), &caller(by_cookie), Role::Viewer, changes).is_ok()
        };
        let host = ("host", "localhost:7070");
        let script = (BY_SCRIPT, "1");
        assert!(may(&[host], false, true));
        assert!(may(&[host], true, false));
        assert!(!may(&[host], true, true));
        assert!(may(&[host, script], true, true));
        assert!(may(
            &[host, script, ("origin", "http://localhost:7070")],
            true,
            true
        ));
        assert!(!may(
            &[host, script, ("origin", "http://localhost:7071")],
            true,
            true
        ));
        assert!(!may(&[host, script, ("origin", "null")], true, true));
    }

    #[test]
    fn an_agent_takes_orders_of_one_coordinator_and_its_last_process() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let asks = |who: &'static str| {
            let headers = headers(&[(COORDINATOR, who), (SERVER, "db1:/data/")]);
            Guard::coordinator(&headers, &store, "db1:/data/").map_err(|problem| problem.detail)
        };
        for meant in [
            &[(COORDINATOR, "c;1;ops3"), (SERVER, "db2:/data/")][..],
            &[(COORDINATOR, "c;1;ops3")],
        ] {
            let refused = Guard::coordinator(&headers(meant), &store, "db1:/data/").unwrap_err();
            assert!(
                refused.detail.contains("of the server db1:/data/"),
                "{}",
                refused.detail
            );
        }
        assert!(asks("a;1;ops1").is_ok() && asks("a;2;ops1").is_ok());
        let refused = asks("b;7;ops2").unwrap_err();
        assert!(
            refused.contains("coordinator ops1 (id a), and ops2"),
            "{refused}"
        );
        let refused = asks("a;1;ops1").unwrap_err();
        assert!(refused.contains("epoch 2, this one is 1"), "{refused}");
        for nobody in ["", "a", "a;x;ops1"] {
            assert!(asks(nobody).is_err(), "{nobody}");
        }
        assert!(Guard::coordinator(&headers(&[]), &store, "db1:/data/").is_err());
    }

    #[test]
    fn a_role_may_what_those_before_it_may() {
        let caller = Caller {
            name: "ann".to_owned(),
            role: Role::Operator,
            by_cookie: false,
        };
        let may = |role| Guard::check_may(&HeaderMap::new(), &caller, role, true).is_ok();
        assert!(may(Role::Viewer) && may(Role::Operator) && !may(Role::Admin));
    }
}
