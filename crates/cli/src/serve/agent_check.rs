//! `mendb agent --check`: whether an agent could work here.

use std::path::Path;

use mendb_engines::clickhouse::{Finding, Grade, readiness};
use mendb_repo::Repository;
use mendb_server::tls::Certificates;
use mendb_server::validity::holds_until_ms;
use mendb_service::env;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};
use crate::human;
use crate::output::{Field, table};
use crate::settings::secret::hide_in_url;
use crate::target::{Server, StateLock};

/// A certificate that ends within so many milliseconds is soon to be renewed: two weeks.
const SOON_MS: u64 = 14 * 24 * 60 * 60 * 1000;

/// The files that an agent is known by, and knows others by.
pub struct AgentFiles<'a> {
    /// Its certificates.
    pub certificate: &'a Path,
    /// Their key.
    pub key: &'a Path,
    /// Who signs those of coordinators.
    pub client_ca: &'a Path,
}

/// What was looked at.
#[derive(Serialize)]
struct Checked {
    server: String,
    repository: String,
    findings: Vec<Finding>,
}

/// Looks at everything that an agent needs, and says how it is.
///
/// # Errors
/// Nothing can be said.
pub fn check(
    context: &Context,
    server: &Server,
    files: &AgentFiles<'_>,
) -> Result<Verdict, Failure> {
    let mut findings = certificates(files);
    match readiness(&context.connection_options(server)) {
        Ok(found) => {
            findings.extend(found);
            findings.push(journal(context));
        }
        Err(error) => findings.push(Finding::lacks(
            "server",
            Grade::Missing,
            error.to_string(),
            "--target names the server, with a user that it lets in: clickhouse://user@localhost:8123/",
        )),
    }
    findings.push(repository(context)?);
    let is_ready = findings.iter().all(|it| it.grade != Grade::Missing);
    let checked = Checked {
        server: server.place().to_owned(),
        repository: hide_in_url(&context.settings.repository),
        findings,
    };
    context.output.record(&checked, describe)?;
    Ok(if is_ready {
        Verdict::Done
    } else {
        Verdict::Drift
    })
}

fn certificates(files: &AgentFiles<'_>) -> Vec<Finding> {
    let opened = Certificates::open(files.certificate, files.key, Some(files.client_ca));
    let mut findings = vec![match opened {
        Ok(_) => Finding::good("TLS", "certificate, key and signers can be used"),
        Err(error) => Finding::lacks(
            "TLS",
            Grade::Missing,
            mendb_model::describe_error(&error),
            "--tls-cert and --tls-key name a certificate and its key in PEM, --tls-client-ca who signs coordinators",
        ),
    }];
    let each = [
        ("--tls-cert", files.certificate),
        ("--tls-client-ca", files.client_ca),
    ];
    for (flag, path) in each {
        // That it cannot be read was said.
        if let Ok(until_ms) = holds_until_ms(path) {
            findings.push(holds(flag, path, until_ms, env::now_ms()));
        }
    }
    findings
}

fn holds(flag: &str, path: &Path, until_ms: u64, now_ms: u64) -> Finding {
    let until = human::time(until_ms);
    let grade = match until_ms {
        ended if ended <= now_ms => Grade::Missing,
        soon if soon - now_ms < SOON_MS => Grade::Better,
        _ => return Finding::good(flag, format!("{} holds until {until}", path.display())),
    };
    let found = match grade {
        Grade::Missing => format!("{} held until {until}", path.display()),
        _ => format!("{} holds until {until} only", path.display()),
    };
    Finding::lacks(
        flag,
        grade,
        found,
        "renew it; SIGHUP has a running agent read it again",
    )
}

/// Where the agent keeps what it has begun.
fn journal(context: &Context) -> Finding {
    let subject = "journal";
    let directory = match context.journal_directory() {
        Ok(directory) => directory,
        Err(failure) => {
            let advice = failure.hint.clone().unwrap_or_else(|| {
                "--state names the directory of the journal of the server".to_owned()
            });
            return Finding::lacks(subject, Grade::Missing, failure.message, advice);
        }
    };
    if !directory.exists() {
        let shown = directory.display();
        return Finding::good(
            subject,
            format!("{shown} is made by the first that works here"),
        );
    }
    match StateLock::take(&directory) {
        Ok(_) => Finding::good(subject, format!("{} is free", directory.display())),
        Err(failure) if failure.kind == FailureKind::Busy => Finding::good(
            subject,
            format!(
                "another mendb works with {}: the agent, if it runs",
                directory.display()
            ),
        ),
        Err(failure) => {
            let advice = failure.hint.clone().unwrap_or_default();
            Finding::lacks(subject, Grade::Missing, failure.message, advice)
        }
    }
}

fn repository(context: &Context) -> Result<Finding, Failure> {
    let subject = "repository";
    let runtime = context.runtime()?;
    let url = hide_in_url(&context.settings.repository);
    let looked = runtime.block_on(async {
        let options = context.repository_options();
        let repository = Repository::open(&context.settings.repository, options).await?;
        let header = repository.header().await?;
        if header.is_some() {
            repository.check_writable().await?;
        }
        Ok::<_, mendb_repo::Error>(header)
    });
    Ok(match looked {
        Ok(Some(header)) => Finding::good(
            subject,
            format!("{url} is read and written (id {})", header.repository_id),
        ),
        Ok(None) => Finding::lacks(
            subject,
            Grade::Better,
            format!("there is none at {url} yet, so that nobody knows whether it can be written"),
            "the first backup makes one; mendb repository init does now",
        ),
        Err(error) => {
            let advice = Failure::from(error);
            let found = std::iter::once(advice.message.clone())
                .chain(advice.causes.clone())
                .collect::<Vec<_>>()
                .join(": ");
            Finding::lacks(
                subject,
                Grade::Missing,
                found,
                advice.hint.unwrap_or_else(|| {
                    "--repository names it, as the coordinator does; the agent reads and writes it itself".to_owned()
                }),
            )
        }
    })
}

fn describe(checked: &Checked) -> String {
    let mut text = format!(
        "agent of {}, with backups in {}\n\n",
        checked.server, checked.repository
    );
    text += &table(
        &checked.findings,
        &[
            Field::left("", |it: &Finding| it.subject.clone()),
            Field::left("", |it| grade(it.grade).to_owned()),
            Field::left("", |it| it.found.clone()),
        ],
    );
    for finding in &checked.findings {
        if let Some(advice) = &finding.advice {
            text += &format!("\n{}: {advice}\n", finding.subject);
        }
    }
    text
}

fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::Good => "good",
        Grade::Better => "better",
        Grade::Missing => "missing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_is_told_before_and_after() {
        let path = Path::new("agent.crt");
        let day_ms = 24 * 60 * 60 * 1000;
        let grade = |until_ms: u64| holds("--tls-cert", path, until_ms, 100 * day_ms).grade;
        assert_eq!(grade(100 * day_ms), Grade::Missing);
        assert_eq!(grade(101 * day_ms), Grade::Better);
        assert_eq!(grade(120 * day_ms), Grade::Good);
    }
}
