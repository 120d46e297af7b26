//! Who may: every route of the table, with every kind of token.

use std::collections::BTreeMap;

use mendb_server::{Role, Store};
use serde_json::{Value, json};

use crate::client::open;
use crate::server::{Server, World};

const ROLES: [&str; 3] = ["viewer", "operator", "admin"];

/// Every route, with its role.
fn routes(document: &Value) -> Vec<(String, String, Option<String>)> {
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, route) in methods.as_object().unwrap() {
            let role = route["x-role"].as_str().map(str::to_owned);
            routes.push((method.to_uppercase(), path.clone(), role));
        }
    }
    assert!(routes.len() > 30, "{routes:?}");
    routes
}

/// The status of an answer; what streams does not end by itself.
fn status(server: &Server, method: &str, path: &str, token: Option<&str>) -> u16 {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers: Vec<(&str, &str)> = Vec::new();
    if let Some(bearer) = &bearer {
        headers.push(("Authorization", bearer));
    }
    open(server.address, method, path, &headers, "").status
}

#[test]
fn every_route_takes_its_role_and_no_less() {
    let world = World::new();
    let mut tokens: BTreeMap<&str, String> = BTreeMap::new();
    for role in ROLES {
        tokens.insert(role, world.token(role, role));
    }
    let revoked = world.token("revoked", "admin");
    world.mendb.ok("token revoke revoked");
    // No command makes one that has ended.
    let store = Store::open(&world.mendb.path().join("mendb-data/target")).unwrap();
    let expired = store.create_token("expired", Role::Admin, Some(1)).unwrap();
    drop(store);
    let server = world.serve();
    let document = world.get(&server, "/v1/openapi.json").json();
    for (method, path, role) in routes(&document) {
        // Names of what is not there: what may be done fails, and nothing is done.
        let path = path
            .split('/')
            .map(|part| {
                if part.starts_with('{') {
                    "nothing"
                } else {
                    part
                }
            })
            .collect::<Vec<_>>()
            .join("/");
        let with = |token: Option<&str>| status(&server, &method, &path, token);
        let Some(role) = role else {
            assert_ne!(with(None), 401, "{method} {path}");
            continue;
        };
        for nobody in [
            None,
            Some("mendb_0"),
            Some(revoked.as_str()),
            Some(expired.as_str()),
        ] {
            assert_eq!(with(nobody), 401, "{method} {path} {nobody:?}");
        }
        let least = ROLES.iter().position(|known| *known == role).unwrap();
        for (at, role) in ROLES.into_iter().enumerate() {
            let status = with(Some(&tokens[role]));
            if at < least {
                assert_eq!(status, 403, "{method} {path} as {role}");
            } else {
                assert!(
                    ![401, 403, 500].contains(&status),
                    "{method} {path} as {role}: {status}"
                );
            }
        }
    }
}

#[test]
fn a_token_that_would_let_nobody_in_is_not_made() {
    let world = World::new();
    for when in ["2001-01-01T00:00:00Z", "0h", "0d"] {
        let line = format!("token create eve --role viewer --expires {when}");
        let said = world.mendb.fails(2, &line);
        assert!(said.contains("lets nobody in"), "{when}: {said}");
    }
    let listed = world.mendb.json("token list");
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
    world
        .mendb
        .ok("token create eve --role viewer --expires 1h");
}

#[test]
fn what_changes_something_is_written_down_with_who_asked_and_what_became_of_it() {
    let world = World::new();
    let viewer = world.token("eve", "viewer");
    let server = world.serve();
    let path = "/v1/collections/world/backups";
    world.done(&server, path, &json!({ "label": "monday" }));
    assert_eq!(
        server.ask("POST", path, Some(&viewer), &json!({})).status,
        403
    );
    let refused = world.post(&server, "/v1/collections/nowhere/backups", &json!({}));
    assert_eq!(refused.status, 404, "{refused:?}");
    let audit = world.get(&server, "/v1/audit").json();
    let of = |at: usize, name: &str| audit[at][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(of(0, "request"), "POST /v1/collections/nowhere/backups");
    assert!(
        of(0, "outcome").starts_with("failed: there is no collection nowhere"),
        "{audit:#}"
    );
    assert_eq!(
        (of(1, "who"), of(1, "outcome")),
        ("eve".into(), "refused: the role may not".into())
    );
    assert_eq!(of(2, "who"), "ann");
    assert_eq!(audit[2]["arguments"], json!({ "label": "monday" }));
    assert!(of(2, "operation_id").starts_with("backup-"), "{audit:#}");
    assert!(of(2, "peer").starts_with("127.0.0.1:"), "{audit:#}");
    // The same without a server.
    let told = world.mendb.ok("audit");
    assert!(told.contains("refused: the role may not"), "{told}");
}

#[test]
fn the_description_of_the_routes_is_the_one_that_is_committed() {
    let world = World::new();
    let server = world.serve();
    let document = world.get(&server, "/v1/openapi.json").json();
    let document = serde_json::to_string_pretty(&document).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    if std::env::var_os("MENDB_BLESS").is_some() {
        std::fs::write(path, &document).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        document == committed,
        "docs/openapi.json is another: MENDB_BLESS=1 writes it anew"
    );
}
