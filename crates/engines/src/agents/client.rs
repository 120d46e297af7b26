//! Requests to agents.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mendb_model::describe_error;
use mendb_model::name::OperationId;
use mendb_model::operation::ShardAgent;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Certificate, Identity};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use super::coordinator::{AgentTls, COORDINATOR, Coordinator, KNOWN_ONLY, SERVER};
use super::inserts::Inserts;
use super::rates::{RATES, Rates};
use super::unanswered::Unanswered;
use crate::error::{EngineError, Remedy, Result};

/// A connection is waited for so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An agent that does not answer a question for so long is asked again later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The same where it looks at its tables first: it waits for replicas that are behind.
const PLAN_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The same where it may read every byte of them.
const READ_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of an answer.
const ANSWER_BYTES: u64 = 64 << 20;

/// What is asked of an agent.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The parts of the path behind `/v1`.
    pub path: &'a [&'a str],
    /// The arguments of the command.
    pub arguments: &'a Map<String, Value>,
    /// By which it is done once.
    pub key: Option<&'a str>,
    /// Whether it is only asked what was begun with the key.
    pub known_only: bool,
    /// Whether the answer is for people.
    pub text: bool,
}

/// What an agent answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// An operation does it.
    Operation(OperationId),
    /// It is done.
    Done {
        /// What the command printed.
        printed: String,
        /// Whether it found something that is not as it should be.
        drift: bool,
    },
    /// Nothing was begun with the key.
    Unknown,
}

/// An operation of an agent, as far as a coordinator follows it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AgentOperation {
    /// The word for its state.
    pub state: String,
    /// The word for its step.
    pub step: String,
    /// Whether it waits to be resumed.
    pub paused: bool,
    /// Whether it does so as it was ordered to.
    pub held: bool,
    /// Rows that are done.
    pub rows_done: u64,
    /// Bytes that are done.
    pub bytes_done: u64,
    /// Bytes to do, as far as known.
    pub bytes_total: u64,
    /// When it last moved, to the second.
    pub updated_at: String,
    /// What happened to it.
    #[serde(default)]
    pub events: Vec<Value>,
    /// Why it does not go on.
    pub error: Option<String>,
    /// The tables of a mend.
    #[serde(default)]
    pub mend: MendOfAgent,
}

/// What an agent tells of the tables of a mend.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct MendOfAgent {
    /// Each table whose parts were looked at.
    pub mended: Vec<MendedByAgent>,
}

/// A table of a mend of an agent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct MendedByAgent {
    /// Its name.
    pub table: String,
    /// Whether it stays mended although the mend was cancelled.
    #[serde(default)]
    pub left_mended: bool,
}

impl AgentOperation {
    /// The tables that stay mended although the mend was cancelled.
    pub fn left_mended(&self) -> Vec<&str> {
        let mended = self.mend.mended.iter().filter(|table| table.left_mended);
        mended.map(|table| table.table.as_str()).collect()
    }
}

/// Where agents are, by shard and replica: `https://host:port`.
pub type Addresses = BTreeMap<(String, String), String>;

/// A way to ask the agents of a cluster.
pub struct Agents {
    http: Client,
    addresses: Addresses,
    inserts: Option<Box<dyn Inserts>>,
    rates: Rates,
    at_work: AtomicU64,
    /// How many answers each has given, by its address.
    answers: Mutex<BTreeMap<String, u64>>,
}

/// Counts an agent as one that is at work, until it is dropped.
pub struct AtWork<'a>(&'a AtomicU64);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Agents {
    pub(super) fn new(
        tls: &AgentTls,
        coordinator: &Coordinator,
        addresses: Addresses,
        inserts: Option<Box<dyn Inserts>>,
        rates: Rates,
    ) -> Result<Self> {
        let mut pem = read(&tls.certificate)?;
        pem.push(b'\n');
        pem.extend(read(&tls.key)?);
        let identity = Identity::from_pem(&pem).map_err(|error| {
            wrong(
                &tls.certificate,
                &format!(
                    "with the key {}: {}",
                    tls.key.display(),
                    describe_error(&error)
                ),
            )
        })?;
        let signers = Certificate::from_pem_bundle(&read(&tls.ca)?)
            .map_err(|error| wrong(&tls.ca, &describe_error(&error)))?;
        if signers.is_empty() {
            return Err(wrong(&tls.ca, "it holds no certificate"));
        }
        let mut headers = HeaderMap::new();
        let who = HeaderValue::from_str(&coordinator.to_string()).map_err(|_| {
            EngineError::new(
                Remedy::Repair,
                "the id of the coordinator is no text of ASCII",
            )
        })?;
        headers.insert(COORDINATOR, who);
        // That one was installed before is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder()
            .no_proxy()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .identity(identity)
            .tls_certs_only(signers)
            .build()
            .map_err(|error| wrong(&tls.certificate, &describe_error(&error)))?;
        Ok(Self {
            http,
            addresses,
            inserts,
            rates,
            at_work: AtomicU64::new(0),
            answers: Mutex::default(),
        })
    }

    /// Has all that are at work share what they may take with one agent more.
    pub fn at_work(&self) -> AtWork<'_> {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(&self.at_work)
    }

    /// Stops the inserts of the users of the cluster, where there is something that does. Returns how long they may be
    /// stopped; `None` where nothing stops them.
    ///
    /// # Errors
    /// They may be stopped or not.
    pub fn stop_inserts(&self) -> Result<Option<Duration>> {
        let Some(inserts) = &self.inserts else {
            return Ok(None);
        };
        inserts.stop()?;
        Ok(Some(inserts.limit()))
    }

    /// Starts them again, also where they go on.
    ///
    /// # Errors
    /// They may be stopped still.
    pub fn start_inserts(&self) -> Result<()> {
        self.inserts
            .as_ref()
            .map_or(Ok(()), |inserts| inserts.start())
    }

    /// How many answers an agent has given to this process, refusals among them.
    pub fn answers(&self, at: &ShardAgent) -> u64 {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(&at.agent).copied().unwrap_or_default()
    }

    /// The same agent where it is now, which may be elsewhere than when an operation began.
    pub fn now(&self, at: &ShardAgent) -> ShardAgent {
        let known = self.addresses.get(&(at.shard.clone(), at.replica.clone()));
        ShardAgent {
            agent: known.unwrap_or(&at.agent).clone(),
            ..at.clone()
        }
    }

    /// Whether an agent is there and takes orders of this coordinator.
    ///
    /// # Errors
    /// It is not, or does not. That an address or a certificate is wrong does not pass.
    pub fn check(&self, at: &ShardAgent) -> Result<()> {
        let request = self.http.get(url(at, &["whoami"])?).timeout(ANSWER_TIMEOUT);
        self.answer_at_once(at, request).map(drop)
    }

    /// Gives an order, or asks for the one of a key.
    ///
    /// # Errors
    /// The agent does not answer, which may pass, since addresses and certificates are mended while an operation goes on;
    /// or it refuses, with its reason.
    pub fn ask(&self, at: &ShardAgent, asked: &Asked<'_>) -> Result<Answer> {
        let mut request = self
            .http
            .post(url(at, asked.path)?)
            .timeout(PLAN_TIMEOUT)
            .header("content-type", "application/json")
            .body(Value::Object(asked.arguments.clone()).to_string());
        if asked.text {
            request = request.header("accept", "text/plain");
        }
        if let Some(key) = asked.key {
            request = request.header("idempotency-key", key);
        }
        if asked.known_only {
            request = request.header(KNOWN_ONLY, "1");
        }
        match self.answer(at, request)? {
            (202, body, _) => {
                let told: Option<Value> = serde_json::from_str(&body).ok();
                let id = told.as_ref().and_then(|told| told["operation_id"].as_str());
                let id = id.and_then(|id| id.parse().ok());
                id.map(Answer::Operation)
                    .ok_or_else(|| unreadable(at, "it names no operation"))
            }
            (204, ..) => Ok(Answer::Unknown),
            (_, printed, drift) => Ok(Answer::Done { printed, drift }),
        }
    }

    /// Has an agent run a command that changes nothing. Returns what that printed, and whether something is not as it should
    /// be. With `long` it may read every byte of its tables.
    ///
    /// # Errors
    /// As [`Self::check`], or the agent refuses, with its reason.
    pub fn look(&self, at: &ShardAgent, asked: &Asked<'_>, long: bool) -> Result<(String, bool)> {
        let mut request = self
            .http
            .post(url(at, asked.path)?)
            .timeout(if long { READ_TIMEOUT } else { PLAN_TIMEOUT })
            .header("content-type", "application/json")
            .body(Value::Object(asked.arguments.clone()).to_string());
        if asked.text {
            request = request.header("accept", "text/plain");
        }
        let (_, printed, drift) = self.answer_at_once(at, request)?;
        Ok((printed, drift))
    }

    /// How far an operation is. The agent is told how fast it may be.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn operation(&self, at: &ShardAgent, id: &OperationId) -> Result<AgentOperation> {
        let path = ["operations", id.as_str()];
        let share = self.rates.shared_by(self.at_work.load(Ordering::Relaxed));
        let request = self.http.get(url(at, &path)?).timeout(ANSWER_TIMEOUT);
        let request = request.header(RATES, share.to_string());
        let (_, body, _) = self.answer(at, request)?;
        serde_json::from_str(&body).map_err(|error| unreadable(at, &error.to_string()))
    }

    /// The report of an operation that is over, and whether it found something that is not as it should be.
    ///
    /// # Errors
    /// As [`Self::ask`], or it did not end well, with the reason.
    pub fn report(&self, at: &ShardAgent, id: &OperationId, text: bool) -> Result<(String, bool)> {
        let path = ["operations", id.as_str(), "end"];
        let mut request = self.http.get(url(at, &path)?).timeout(ANSWER_TIMEOUT);
        if text {
            request = request.header("accept", "text/plain");
        }
        let (_, body, drift) = self.answer(at, request)?;
        Ok((body, drift))
    }

    /// Asks something of an operation: `resume` or `cancel`, with arguments of that command.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn command(
        &self,
        at: &ShardAgent,
        id: &OperationId,
        command: &str,
        arguments: &Map<String, Value>,
    ) -> Result<()> {
        let path = ["operations", id.as_str(), command];
        let request = self.http.post(url(at, &path)?).timeout(ANSWER_TIMEOUT);
        let request = request
            .header("content-type", "application/json")
            .body(Value::Object(arguments.clone()).to_string());
        self.answer(at, request).map(drop)
    }

    /// What an agent answers in an operation that goes on: what keeps it from being heard may be mended meanwhile.
    fn answer(&self, at: &ShardAgent, request: RequestBuilder) -> Result<Heard> {
        self.answered(at, request)?
            .map_err(|lost| not_heard(at, &lost.why, Remedy::Retry))
    }

    /// What it answers before anything was begun.
    fn answer_at_once(&self, at: &ShardAgent, request: RequestBuilder) -> Result<Heard> {
        self.answered(at, request)?.map_err(|lost| {
            let remedy = if lost.is_wrong {
                Remedy::Repair
            } else {
                Remedy::Retry
            };
            not_heard(at, &lost.why, remedy)
        })
    }

    /// What it answers, or why it was not heard.
    ///
    /// # Errors
    /// It refuses.
    fn answered(
        &self,
        at: &ShardAgent,
        request: RequestBuilder,
    ) -> Result<std::result::Result<Heard, Unanswered>> {
        let response = match request.header(SERVER, &at.server).send() {
            Ok(response) => response,
            Err(error) => return Ok(Err(Unanswered::of(&error))),
        };
        let status = response.status().as_u16();
        let drift = response
            .headers()
            .get("mendb-verdict")
            .is_some_and(|verdict| verdict == "drift");
        let body = match body(response) {
            Ok(body) => body,
            Err(why) => return Ok(Err(Unanswered::passing(why))),
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(at.agent.clone()).or_default() += 1;
        match status {
            200 | 202 | 204 => Ok(Ok((status, body, drift))),
            _ => Err(refusal(at, status, &body)),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| wrong(path, &error.to_string()))
}

fn wrong(path: &Path, why: &str) -> EngineError {
    let message = format!("{} cannot be used for TLS: {why}", path.display());
    EngineError::new(Remedy::Repair, message)
}

fn url(at: &ShardAgent, path: &[&str]) -> Result<Url> {
    let refused = |why: &str| {
        let message = format!(
            "{} is no address of an agent ({why}): one is https://host:7443",
            at.agent
        );
        EngineError::new(Remedy::Request, message)
    };
    let mut url = Url::parse(&at.agent).map_err(|error| refused(&error.to_string()))?;
    url.path_segments_mut()
        .map_err(|()| refused("it has no path"))?
        .pop_if_empty()
        .push("v1")
        .extend(path);
    Ok(url)
}

fn unreadable(at: &ShardAgent, why: &str) -> EngineError {
    let message = format!("the answer of {} cannot be read: {why}", name(at));
    EngineError::new(Remedy::Request, message)
}

/// The agent of a shard, in errors.
fn name(at: &ShardAgent) -> String {
    format!("the agent of shard {}, at {}", at.shard, at.agent)
}

/// The status, the body, and whether something is not as it should be.
type Heard = (u16, String, bool);

fn not_heard(at: &ShardAgent, why: &str, remedy: Remedy) -> EngineError {
    let message = format!("{} does not answer: {why}", name(at));
    let mut error = EngineError::new(remedy, message);
    error.is_unheard = true;
    error
}

fn body(response: Response) -> std::result::Result<String, String> {
    let mut body = Vec::new();
    response
        .take(ANSWER_BYTES + 1)
        .read_to_end(&mut body)
        .map_err(|error| error.to_string())?;
    if body.len() as u64 > ANSWER_BYTES {
        return Err(format!("its answer has more than {ANSWER_BYTES} bytes"));
    }
    String::from_utf8(body).map_err(|_| "its answer is no text of UTF-8".to_owned())
}

/// Why an agent refuses, with what it says of it.
fn refusal(at: &ShardAgent, status: u16, body: &str) -> EngineError {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let detail = problem["detail"].as_str();
    let detail = detail.map_or_else(|| format!("with status {status}"), str::to_owned);
    let hint = match (problem["hint"].as_str(), problem["operation"].as_str()) {
        (None, _) => String::new(),
        // One that somebody ordered there.
        (Some(hint), Some(_)) => format!("; beside that server: {hint}"),
        (Some(hint), None) => format!("; {hint}"),
    };
    let passes =
        matches!(status, 429 | 503) || status == 409 && problem["kind"].as_str() == Some("retry");
    let remedy = if passes {
        Remedy::Retry
    } else {
        Remedy::Request
    };
    EngineError::new(remedy, format!("{} refuses: {detail}{hint}", name(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(url: &str) -> ShardAgent {
        ShardAgent {
            shard: "1".to_owned(),
            replica: "a".to_owned(),
            agent: url.to_owned(),
            server: "db1:/data/".to_owned(),
        }
    }

    #[test]
    fn a_path_is_below_the_address_and_names_are_no_paths() {
        let at = agent("https://db1:7443");
        let url = url(&at, &["collections", "a/b", "backups"]).unwrap();
        assert_eq!(
            url.as_str(),
            "https://db1:7443/v1/collections/a%2Fb/backups"
        );
        assert!(super::url(&agent("db1"), &[]).is_err());
    }

    #[test]
    fn what_an_agent_refuses_is_told_with_its_shard_and_its_advice() {
        let at = agent("https://db1:7443");
        let body = r#"{"kind":"fix_input","detail":"no such backup","hint":"look at mendb list"}"#;
        let error = refusal(&at, 404, body);
        assert_eq!(
            error.to_string(),
            "the agent of shard 1, at https://db1:7443 refuses: no such backup; look at mendb list"
        );
        assert_eq!(error.remedy, Remedy::Request);
        let body = r#"{"detail":"t is being mended","operation":"mend-1","hint":"mendb operation watch mend-1"}"#;
        let error = refusal(&at, 422, body).to_string();
        assert!(
            error.ends_with("; beside that server: mendb operation watch mend-1"),
            "{error}"
        );
        for (status, body) in [(503, "{}"), (429, ""), (409, r#"{"kind":"retry"}"#)] {
            assert_eq!(refusal(&at, status, body).remedy, Remedy::Retry);
        }
    }
}
