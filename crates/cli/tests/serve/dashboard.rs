//! What browsers get, and what they may do with a cookie.

use serde_json::json;

use crate::client::ask;
use crate::server::World;

#[test]
fn its_files_are_its_own_and_load_nothing_from_elsewhere() {
    let world = World::new();
    let server = world.serve();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/collections.js", "text/javascript; charset=utf-8"),
        ("/operations.js", "text/javascript; charset=utf-8"),
        ("/schedules.js", "text/javascript; charset=utf-8"),
        ("/tables.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = server.ask("GET", path, None, &json!(null));
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(kind)),
            "{path}"
        );
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        let text = answer.body.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !text.contains("http:") && !text.contains("https:"),
            "{path}"
        );
        assert!(
            !text.contains("innerHTML") && !text.contains(" style=\""),
            "{path}"
        );
    }
}

#[test]
fn a_cookie_is_for_scripts_of_the_dashboard_alone() {
    let world = World::new();
    let operator = world.token("bob", "operator");
    let server = world.serve();
    let wrong = server.ask("POST", "/login", None, &json!({ "token": "mendb_0" }));
    assert_eq!(wrong.status, 401, "{wrong:?}");
    let login = server.ask("POST", "/login", None, &json!({ "token": operator }));
    assert_eq!(login.json(), json!({ "name": "bob", "role": "operator" }));
    let cookie = login.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = ("Cookie", cookie.split(';').next().unwrap());
    let send = |method: &str, path: &str, headers: &[(&str, &str)]| {
        ask(server.address, method, path, headers, "").status
    };
    let backups = "/v1/collections/world/backups";
    assert_eq!(send("GET", backups, &[cookie]), 200);
    assert_eq!(send("POST", backups, &[cookie]), 403);
    let script = ("X-Mendb-Request", "1");
    let elsewhere = ("Origin", "http://evil.example.com");
    assert_eq!(send("POST", backups, &[cookie, script, elsewhere]), 403);
    assert_eq!(send("POST", backups, &[cookie, script]), 202);
    // What is taken back is worth nothing in a cookie either.
    world.mendb.ok("token revoke bob");
    assert_eq!(send("GET", backups, &[cookie]), 401);
    let logout = server.ask("POST", "/logout", None, &json!(null));
    assert!(logout.header("set-cookie").unwrap().contains("Max-Age=0"));
}
