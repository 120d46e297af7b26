//! Commands that a server runs: what they print, how they end and what they return is as if they ran here.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use clap::{ArgMatches, Command};
use mendb_server::Verb;
use mendb_server::route::{Route, Rows};
use serde_json::{Map, Value, json};

use crate::failure::{Failure, FailureKind};
use crate::formats::Format;
use crate::log;
use crate::output::OutputFormat;
use crate::serve::routes::route_of;
use crate::serve::words;

/// The variable with the token.
pub const TOKEN: &str = "MENDB_TOKEN";
/// A server that does not answer for so long is not there.
const CONNECT: Duration = Duration::from_secs(10);
/// Progress is told that often where there is no terminal.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// A server, and how its answers are wanted.
pub struct Remote {
    /// Where it is.
    pub url: String,
    /// What lets in.
    pub token: Option<String>,
    /// How data is printed.
    pub format: OutputFormat,
    /// Whether nothing but data and errors is wanted.
    pub quiet: bool,
}

/// How a command of a server ended.
pub struct Ended {
    /// What the program exits with.
    pub exit_code: u8,
}

impl Remote {
    /// Has the server run the command of a line.
    ///
    /// # Errors
    /// The command is none of a server, or that cannot be reached. How the command itself ends is no error here.
    pub fn run(&self, program: &Command, line: &ArgMatches) -> Result<Ended, Failure> {
        let (words, fields) = words::of_line(program, line);
        let shown = words.join(" ");
        let Some(route) = route_of(&words, &|name| fields.contains_key(name)) else {
            return Err(
                Failure::misuse(format!("mendb {shown} is not done by a server"))
                    .hint("run it on the machine of the server, without --server and MENDB_SERVER"),
            );
        };
        // Rows are sent along.
        let is_refused = |name: &str| {
            let is_sent = name == ROWS && takes_rows(route);
            is_of_here(route, name) && !is_sent
        };
        if let Some(name) = fields.keys().find(|name| is_refused(name.as_str())) {
            return Err(Failure::misuse(format!(
                "--{} names a file or a place of the machine that mendb runs on, and the server is another",
                name.replace('_', "-")
            ))
            .hint("leave it out, or run the command on the machine of the server, without --server"));
        }
        let rows = route.command().map_or(Rows::None, |command| command.rows);
        let mut response = self.send(route, fields)?;
        let status = response.status().as_u16();
        if status != 200 {
            return self.refused(response, status);
        }
        if rows == Rows::Out {
            let copied = response.copy_to(&mut std::io::stdout().lock());
            copied.map_err(|error| {
                Failure::of(FailureKind::FixEnvironment, &error)
                    .context("the rows were cut off, and are not all")
            })?;
            return Ok(Ended { exit_code: 0 });
        }
        self.print(BufReader::new(response))
    }

    fn send(
        &self,
        route: &Route,
        mut fields: Map<String, Value>,
    ) -> Result<reqwest::blocking::Response, Failure> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wrong = |why: String| {
            Failure::misuse(format!("{:?} is not where a server is: {why}", self.url))
                .hint("a server is http://127.0.0.1:7070 or https://host:port")
        };
        let mut url = url::Url::parse(&self.url).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(
                "it does not begin with http:// or https://".to_owned(),
            ));
        }
        let Some(command) = route.command() else {
            return Err(wrong("there is no command".to_owned()));
        };
        {
            let mut path = url
                .path_segments_mut()
                .map_err(|()| wrong("it has no path".to_owned()))?;
            path.pop_if_empty();
            for part in route.path.split('/').filter(|part| !part.is_empty()) {
                let name = part
                    .strip_prefix('{')
                    .and_then(|part| part.strip_suffix('}'));
                match name {
                    None => path.push(part),
                    Some(name) => {
                        let value = fields.remove(command.argument(name));
                        let value = value.as_ref().and_then(Value::as_str).unwrap_or_default();
                        // They would name another path.
                        if matches!(value, "" | "." | "..") {
                            return Err(Failure::misuse(format!("{value:?} is no name")));
                        }
                        path.push(value)
                    }
                };
            }
        }
        let sent = match takes_rows(route) {
            true => Some(rows_of(&mut fields)?),
            false => None,
        };
        let is_post = route.verb == Verb::Post && sent.is_none();
        if !is_post {
            let mut query = url.query_pairs_mut();
            for (name, value) in &fields {
                let values = match value {
                    Value::Array(values) => values.clone(),
                    value => vec![value.clone()],
                };
                for value in values {
                    let text = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    query.append_pair(name, &text);
                }
            }
            drop(query);
        }
        let cannot = |error: &reqwest::Error| {
            Failure::of(FailureKind::FixEnvironment, error)
                .context(format!("cannot ask the server at {}", self.url))
                .hint("mendb serve starts one; --server or MENDB_SERVER says where it is")
        };
        let client = reqwest::blocking::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(None)
            .build()
            .map_err(|error| cannot(&error))?;
        let mut request = client.request(
            reqwest::Method::from_bytes(route.verb.method().as_str().as_bytes())
                .unwrap_or(reqwest::Method::GET),
            url,
        );
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request = request.header("accept", "application/x-ndjson").header(
            "mendb-output",
            if self.format == OutputFormat::Text {
                "text"
            } else {
                "json"
            },
        );
        if self.quiet {
            request = request.header("mendb-quiet", "1");
        }
        if is_post {
            request = request
                .header("content-type", "application/json")
                .body(json!(fields).to_string());
        }
        if let Some(rows) = sent {
            request = request.body(reqwest::blocking::Body::new(rows));
        }
        request.send().map_err(|error| cannot(&error))
    }

    /// Tells why a request was not let in.
    fn refused(
        &self,
        response: reqwest::blocking::Response,
        status: u16,
    ) -> Result<Ended, Failure> {
        let problem: Value = response
            .text()
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        if status == 202 {
            let id = problem["operation_id"].as_str().unwrap_or_default();
            log::say(&format!("operation {id}"));
            return Ok(Ended { exit_code: 0 });
        }
        let detail = problem["detail"].as_str();
        let detail = detail.map_or_else(|| format!("it answers with {status}"), str::to_owned);
        let kind = match status {
            400..=403 | 405..=428 => FailureKind::FixCommand,
            404 => FailureKind::FixInput,
            429 | 503 => FailureKind::Retry,
            _ => FailureKind::FixEnvironment,
        };
        let mut failure = Failure::new(
            kind,
            format!("the server at {} refuses: {detail}", self.url),
        );
        let hint = match (status, &self.token) {
            (401, None) => Some(format!(
                "put a token into {TOKEN}: mendb token create makes one"
            )),
            _ => problem["hint"].as_str().map(str::to_owned),
        };
        failure.hint = hint;
        Err(failure)
    }

    /// Prints what the command tells, as it tells it.
    fn print(&self, lines: impl BufRead) -> Result<Ended, Failure> {
        let mut stdout = std::io::stdout().lock();
        let mut shown = crate::operations::progress::RemoteProgress::start(self.quiet, TOLD_EVERY);
        let mut begun = None;
        for line in lines.lines() {
            let line = match line {
                Ok(line) => line,
                Err(error) => return Err(self.cut_off(begun.as_deref(), Some(&error))),
            };
            let told: Value = match serde_json::from_str(&line) {
                Ok(told) => told,
                Err(error) => return Err(self.cut_off(begun.as_deref(), Some(&error.into()))),
            };
            if let Some(data) = told["data"].as_str() {
                shown.clear();
                let written = stdout
                    .write_all(data.as_bytes())
                    .and_then(|()| stdout.flush());
                written.map_err(|error| Failure::io("cannot write to stdout", &error))?;
            } else if let Some(note) = told["note"].as_str() {
                shown.clear();
                log::say(note);
            } else if let Some(id) = told["begun"].as_str() {
                begun = Some(id.to_owned());
            } else if let Some(progress) = told.get("progress") {
                let text = |name: &str| progress[name].as_str().unwrap_or_default();
                let percent = progress["percent"].as_f64().unwrap_or_default();
                shown.update(text("operation_id"), text("line"), percent);
            } else if let Some(end) = told.get("end") {
                shown.clear();
                let exit_code = end["exit_code"].as_u64().unwrap_or(1);
                if let Some(text) = end["text"].as_str() {
                    log::fail(text, &end["error"], self.format);
                }
                let exit_code = u8::try_from(exit_code).unwrap_or(1);
                return Ok(Ended { exit_code });
            }
        }
        Err(self.cut_off(begun.as_deref(), None))
    }

    /// That the server went away.
    fn cut_off(&self, begun: Option<&str>, error: Option<&std::io::Error>) -> Failure {
        let mut failure = Failure::new(
            FailureKind::FixEnvironment,
            format!(
                "the server at {} went away before the command was over",
                self.url
            ),
        );
        failure.causes.extend(error.map(ToString::to_string));
        failure.hint(match begun {
            Some(id) => format!(
                "operation {id} goes on when the server is there again: mendb operation watch {id}"
            ),
            None => "mendb operation list tells what has begun, when the server is there again"
                .to_owned(),
        })
    }
}

/// The argument that names a file of rows.
const ROWS: &str = "file";

/// Whether rows of this machine go along with a request.
fn takes_rows(route: &Route) -> bool {
    let command = route.command();
    command.is_some_and(|command| command.rows == Rows::In)
}

/// The file of rows that a line names, opened, and its format in what is asked.
///
/// # Errors
/// There is none of the name, or nothing says its format.
fn rows_of(fields: &mut Map<String, Value>) -> Result<Box<dyn Read + Send>, Failure> {
    let path = match fields.remove(ROWS) {
        Some(Value::String(path)) => path,
        _ => return Err(Failure::misuse("no file of rows is named")),
    };
    if !fields.contains_key("format") {
        let format = Format::choose(None, Path::new(&path))?;
        fields.insert("format".to_owned(), format.name().into());
    }
    if path == "-" {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = File::open(&path);
    let file = file.map_err(|error| Failure::io(format!("cannot read {path}"), &error))?;
    Ok(Box::new(file))
}

/// Whether an argument is about the machine that the program runs on.
fn is_of_here(route: &Route, name: &str) -> bool {
    let command = route.command();
    command.is_some_and(|command| command.without.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(lines: &str) -> Result<Ended, Failure> {
        let remote = Remote {
            url: "http://localhost".to_owned(),
            token: None,
            format: OutputFormat::Text,
            quiet: true,
        };
        remote.print(lines.as_bytes())
    }

    #[test]
    fn a_command_is_over_when_the_server_says_so_and_how() {
        let ended = printed("{\"end\":{\"exit_code\":3}}\n");
        assert_eq!(ended.ok().map(|ended| ended.exit_code), Some(3));
        for cut_off in [
            "",
            "{\"begun\":\"backup-1\"}\n",
            "{\"da\n{\"end\":{\"exit_code\":0}}\n",
        ] {
            let failure = printed(cut_off).err().map(|failure| failure.message);
            assert!(
                failure.is_some_and(|message| message.contains("went away")),
                "{cut_off}"
            );
        }
    }
}
