//! A server under test, in a directory of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr};
use std::time::Duration;

use mendb_service::env::now_ms;
use serde_json::{Value, json};

use crate::client::{Answer, ask};
use crate::mendb::Mendb;

/// A server that runs.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What it said first.
    pub greeting: Vec<String>,
    stderr: Option<BufReader<ChildStderr>>,
}

/// A directory with a table, a collection and a token of an admin.
pub struct World {
    pub mendb: Mendb,
    pub token: String,
}

impl World {
    pub fn new() -> Self {
        let mendb = Mendb::new();
        let mendb = mendb.with("MENDB_REPOSITORY_STATE", "state");
        mendb.write(
            "cities.csv",
            "name,country,people\nBern,CH,146348\nLyon,FR,520774\nPorto,PT,248769\n",
        );
        mendb.ok("table import cities cities.csv --create --key name --quiet");
        mendb.ok("collection create world --table cities --quiet");
        let token = mendb.ok("token create ann --role admin");
        Self {
            mendb,
            token: token.trim().to_owned(),
        }
    }

    pub fn token(&self, name: &str, role: &str) -> String {
        let line = format!("token create {name} --role {role}");
        self.mendb.ok(&line).trim().to_owned()
    }

    pub fn serve(&self) -> Server {
        Server::start(&self.mendb, "serve --listen 127.0.0.1:0", &[])
    }

    pub fn serve_with(&self, variables: &[(&str, &str)]) -> Server {
        Server::start(&self.mendb, "serve --listen 127.0.0.1:0", variables)
    }

    pub fn get(&self, server: &Server, path: &str) -> Answer {
        server.ask("GET", path, Some(&self.token), &json!(null))
    }

    pub fn post(&self, server: &Server, path: &str, body: &Value) -> Answer {
        server.ask("POST", path, Some(&self.token), body)
    }

    /// Begins a backup that does not end by itself, on a server that uploads a byte a second: the first upload goes at
    /// once, and the next waits until it is paid for. Returns its location.
    pub fn begin_without_end(&self, server: &Server) -> String {
        let path = "/v1/collections/world/backups";
        self.done(server, path, &json!({}));
        let begun = self.post(server, path, &json!({}));
        assert_eq!(begun.status, 202, "{begun:?}");
        begun.header("location").unwrap().to_owned()
    }

    /// Posts what begins an operation, and waits for its end.
    pub fn done(&self, server: &Server, path: &str, body: &Value) -> Value {
        let begun = self.post(server, path, body);
        assert_eq!(begun.status, 202, "{path}: {begun:?}");
        let location = begun.header("location").unwrap().to_owned();
        let operation = self.wait(server, &location);
        assert_eq!(operation["state"], "done", "{operation:#}");
        operation
    }

    /// Waits until an operation moves no more.
    pub fn wait(&self, server: &Server, location: &str) -> Value {
        let begun_ms = now_ms();
        loop {
            let operation = self.get(server, location).json();
            let state = operation["state"].as_str().unwrap_or_default();
            if ["done", "failed", "cancelled"].contains(&state) {
                return operation;
            }
            assert!(now_ms() - begun_ms < 60_000, "{operation:#}");
            std::thread::yield_now();
        }
    }
}

impl Server {
    pub fn start(mendb: &Mendb, line: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = mendb.command(line);
        command.envs(variables.iter().copied());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut greeting = Vec::new();
        while greeting.len() < 3 {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "{greeting:?}");
            greeting.push(line.trim_end().to_owned());
        }
        let at = greeting[0].split("://").find_map(|part| {
            let (address, _) = part.split_once('/')?;
            address.parse().ok()
        });
        Self {
            child,
            address: at.unwrap_or_else(|| panic!("no address: {greeting:?}")),
            greeting,
            stderr: Some(stderr),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &Value) -> Answer {
        self.ask_with(method, path, token, &[], body)
    }

    pub fn ask_with(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut all: Vec<(&str, &str)> = headers.to_vec();
        if let Some(bearer) = &bearer {
            all.push(("Authorization", bearer));
        }
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        if !text.is_empty() {
            all.push(("Content-Type", "application/json"));
        }
        ask(self.address, method, path, &all, &text)
    }

    /// Asks it to end; its exit code, what it said, and how long that took.
    pub fn end(mut self) -> (Option<i32>, String, Duration) {
        let begun_ms = now_ms();
        let id = self.child.id().to_string();
        let killed = std::process::Command::new("kill").arg(id).status().unwrap();
        assert!(killed.success());
        let mut said = String::new();
        let mut stderr = self.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, said, Duration::from_millis(now_ms() - begun_ms))
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args(["-s", name, &id]).status().unwrap().success());
    }

    /// What it says next.
    pub fn next_line(&mut self) -> String {
        let mut line = String::new();
        let stderr = self.stderr.as_mut().unwrap();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it has ended");
        line.trim_end().to_owned()
    }

    /// Kills it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has died by itself.
    pub fn died(mut self) -> bool {
        !self.child.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
