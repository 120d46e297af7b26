//! Agents of many shards in one process. Each answers as an agent does and does its part between two looks at it, without a
//! server and without a repository.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use mendb_model::TargetMark;
use mendb_model::operation::ShardAgent;
use mendb_model::part::{PartStoreBackup, ShardContents, TableName};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::certificates::Certificates;

/// The agents of a cluster of any size.
pub struct Simulated {
    agents: Arc<Agents>,
    urls: Vec<String>,
}

#[derive(Default)]
struct Agents {
    state: Mutex<State>,
    /// What they have done.
    changed: Condvar,
    /// Whether what they have begun goes on.
    are_stuck: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Operations by key, and by id.
    by_key: HashMap<String, String>,
    parts: HashMap<String, Part>,
    at_work: usize,
    most_at_work: usize,
}

/// An operation of an agent.
#[derive(Default)]
struct Part {
    shard: String,
    step: Step,
    looks: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Step {
    #[default]
    First,
    Held,
    Second,
    Done,
    Cancelled,
}

impl Step {
    fn works(self) -> bool {
        matches!(self, Self::First | Self::Second)
    }
}

/// How many operations of agents have come to which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    pub done: usize,
    pub cancelled: usize,
    pub open: usize,
}

impl State {
    fn ends(&self) -> Ends {
        let count = |step: Step| self.parts.values().filter(|part| part.step == step).count();
        let (done, cancelled) = (count(Step::Done), count(Step::Cancelled));
        Ends {
            done,
            cancelled,
            open: self.parts.len() - done - cancelled,
        }
    }

    fn enter(&mut self, id: &str, step: Step) {
        let part = self.parts.get_mut(id).unwrap();
        self.at_work -= usize::from(part.step.works());
        self.at_work += usize::from(step.works());
        self.most_at_work = self.most_at_work.max(self.at_work);
        part.step = step;
    }

    fn begin(&mut self, key: &str, shard: &str) -> String {
        let id = format!("part-{}", self.parts.len());
        let part = Part {
            shard: shard.to_owned(),
            step: Step::Done,
            looks: 0,
        };
        self.parts.insert(id.clone(), part);
        self.by_key.insert(key.to_owned(), id.clone());
        self.enter(&id, Step::First);
        id
    }
}

impl Simulated {
    /// So many agents, which listen until the process ends.
    pub fn new(certificates: &Certificates, agents: usize) -> Self {
        let simulated = Arc::new(Agents::default());
        let tls = Arc::new(server_config(certificates));
        let mut urls = Vec::new();
        for _ in 0..agents {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            urls.push(format!("https://{}", listener.local_addr().unwrap()));
            let (simulated, tls) = (Arc::clone(&simulated), Arc::clone(&tls));
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let (simulated, tls) = (Arc::clone(&simulated), Arc::clone(&tls));
                    std::thread::spawn(move || simulated.serve(stream.unwrap(), tls));
                }
            });
        }
        Self {
            agents: simulated,
            urls,
        }
    }

    /// So many shards, each of which one of the agents works for.
    pub fn shards(&self, count: usize) -> Vec<ShardAgent> {
        let shard = |(number, url): (usize, &String)| ShardAgent {
            shard: format!("{number:04}"),
            replica: "a".to_owned(),
            agent: url.clone(),
            server: format!("db{number}:/data/"),
        };
        (0..count)
            .zip(self.urls.iter().cycle())
            .map(shard)
            .collect()
    }

    /// Has all that is begun stay where it is from now on, or go on.
    pub fn stick(&self, are_stuck: bool) {
        self.agents.are_stuck.store(are_stuck, Ordering::SeqCst);
    }

    /// The most operations of agents that worked at a time, for others than the coordinator to go on.
    pub fn most_at_work(&self) -> usize {
        self.agents.state().most_at_work
    }

    /// How many operations of agents are done, cancelled, and neither.
    pub fn ends(&self) -> Ends {
        self.agents.state().ends()
    }

    /// Waits until they have come so far.
    pub fn wait_until(&self, is_so: impl Fn(Ends) -> bool) {
        let state = self.agents.state();
        let waits = |state: &mut State| !is_so(state.ends());
        drop(self.agents.changed.wait_while(state, waits).unwrap());
    }
}

fn server_config(certificates: &Certificates) -> ServerConfig {
    // That one was installed before is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = |name: &str| CertificateDer::from_pem_file(certificates.path(name)).unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.path("by-ours.key")).unwrap();
    let mut signers = RootCertStore::empty();
    signers.add(read("ours.crt")).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(signers));
    ServerConfig::builder()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![read("by-ours.crt")], key)
        .unwrap()
}

/// A request, as far as agents look at it.
struct Request {
    path: Vec<String>,
    fields: HashMap<String, String>,
    arguments: Value,
}

impl Request {
    /// The next one of a connection; `None` at its end.
    fn read(stream: &mut impl BufRead) -> Option<Self> {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let path = line.split(' ').nth(1)?.split('/').skip(2);
        let path = path.map(str::to_owned).collect();
        let mut fields = HashMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok()?;
            match line.trim().split_once(": ") {
                Some((name, value)) => fields.insert(name.to_lowercase(), value.to_owned()),
                None => break,
            };
        }
        let length = fields.get("content-length").map_or("0", String::as_str);
        let mut body = vec![0; length.parse().ok()?];
        stream.read_exact(&mut body).ok()?;
        Some(Self {
            path,
            fields,
            arguments: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }
}

impl Agents {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, stream: TcpStream, tls: Arc<ServerConfig>) {
        let connection = ServerConnection::new(tls).unwrap();
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        while let Some(request) = Request::read(&mut stream) {
            let (status, body) = self.answer(&request);
            self.changed.notify_all();
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
            let stream = stream.get_mut();
            if stream.write_all((head + &body).as_bytes()).is_err() || stream.flush().is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &Request) -> (&'static str, String) {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["whoami"] => ("200 OK", "{}".to_owned()),
            ["collections", _, "backups" | "restores"] => self.ordered(request),
            ["operations", id] => ("200 OK", self.looked_at(id).to_string()),
            ["operations", id, "end"] => ("200 OK", self.report(id).to_string()),
            ["operations", id, "resume"] => {
                let mut state = self.state();
                if state.parts[*id].step == Step::Held {
                    state.enter(id, Step::Second);
                }
                ("200 OK", "{}".to_owned())
            }
            ["operations", id, "cancel"] => {
                self.state().enter(id, Step::Cancelled);
                ("200 OK", "{}".to_owned())
            }
            _ => ("404 Not Found", json!({ "detail": path }).to_string()),
        }
    }

    fn ordered(&self, request: &Request) -> (&'static str, String) {
        let asked = |name: &str| request.arguments[name] == json!(true);
        if asked("what_fits") {
            let fit = json!({ "patterns": "shop.*", "tables": 1, "unmatched": [] });
            return ("200 OK", fit.to_string());
        }
        if asked("dry_run") {
            return ("200 OK", json!({ "stopped": [], "tables": [] }).to_string());
        }
        let mut state = self.state();
        let key = &request.fields["idempotency-key"];
        let known = state.by_key.get(key).cloned();
        let id = match (known, request.fields.contains_key("mendb-known-only")) {
            (None, true) => return ("204 No Content", String::new()),
            (Some(id), _) => id,
            (None, false) => {
                let shard = request.arguments["shard"].as_str().unwrap();
                state.begin(key, shard)
            }
        };
        ("202 Accepted", json!({ "operation_id": id }).to_string())
    }

    /// What an operation says of itself. It goes on when it is looked at for the second time in a step.
    fn looked_at(&self, id: &str) -> Value {
        let mut state = self.state();
        let part = state.parts.get_mut(id).unwrap();
        part.looks += 1;
        let (looks, step) = (part.looks, part.step);
        if looks % 2 == 0 && !self.are_stuck.load(Ordering::SeqCst) {
            match step {
                Step::First => state.enter(id, Step::Held),
                Step::Second => state.enter(id, Step::Done),
                Step::Held | Step::Done | Step::Cancelled => {}
            }
        }
        let step = state.parts[id].step;
        json!({
            "state": match step {
                Step::Done => "done",
                Step::Cancelled => "cancelled",
                Step::First | Step::Held | Step::Second => "waiting",
            },
            "step": if step == Step::First { "stage" } else { "commit" },
            "paused": step == Step::Held,
            "held": step == Step::Held,
            "rows_done": 10,
            "bytes_done": 1000,
            "bytes_total": 1000,
            "updated_at": looks.to_string(),
        })
    }

    fn report(&self, id: &str) -> Value {
        let state = self.state();
        let shard = &state.parts[id].shard;
        let mut store = PartStoreBackup::new("18.16.1".to_owned(), None);
        store.lack(
            TableName::new("shop", "sales"),
            "its disk is gone".to_owned(),
        );
        let contents = ShardContents {
            target: TargetMark {
                target_id: format!("id-{shard}"),
                url: format!("clickhouse://db{shard}:8123/"),
                host: None,
            },
            frozen_at_ms: 1,
            store,
        };
        json!({ "contents": contents })
    }
}
