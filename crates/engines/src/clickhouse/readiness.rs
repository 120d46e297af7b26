//! Whether a server can be worked beside: what its user may do, how it is set, and whether its files can be read and written
//! here. Nothing of the server is changed; a file of a few bytes is made on each disk and removed again.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::client::{Client, literal};
use super::{ClickHouse, Connection, ConnectionOptions};
use crate::error::Result;

/// What backups and mends do in the databases that they work on.
const RIGHTS: [&str; 6] = [
    "SELECT",
    "INSERT",
    "ALTER",
    "CREATE",
    "DROP",
    "SYSTEM MERGES",
];
/// Settings of the user without which nothing is changed, and what they have to be.
const SETTINGS: [(&str, &str); 2] = [("readonly", "0"), ("allow_ddl", "1")];
/// A server does not know the statement, or the setting.
const SYNTAX_ERROR: u32 = 62;
/// Less than this part of a disk free is little: what a mend brings is beside the live parts before they go.
const LITTLE_FREE: u64 = 10;

/// How something is that has to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Good,
    /// Not known, or something does not work without it.
    Better,
    /// Nothing works without it.
    Missing,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: rights, settings, paths, a disk.
    pub subject: String,
    /// How it is.
    pub grade: Grade,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// That something is as it should be.
    pub fn good(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            grade: Grade::Good,
            found: found.into(),
            advice: None,
        }
    }

    /// That something is not, and what to do.
    pub fn lacks(
        subject: impl Into<String>,
        grade: Grade,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            grade,
            advice: Some(advice.into()),
            ..Self::good(subject, found)
        }
    }
}

/// Looks at a server, and at its files as this process sees them.
///
/// # Errors
/// It does not answer, or shows its user nothing.
pub fn readiness(options: &ConnectionOptions) -> Result<Vec<Finding>> {
    let connection = Connection::open(options)?;
    let mut findings = vec![settings(&connection.client)?];
    findings.extend(rights(&connection.client, &options.user)?);
    let data = connection.data_directory().to_owned();
    // No record of it is read or written.
    let server = ClickHouse::new(connection, PathBuf::new());
    findings.push(owner(&data));
    findings.extend(disks(&server));
    Ok(findings)
}

fn settings(client: &Client) -> Result<Finding> {
    #[derive(Deserialize)]
    struct Setting {
        name: String,
        value: String,
    }
    let names: Vec<String> = SETTINGS.iter().map(|(name, _)| literal(name)).collect();
    let told: Vec<Setting> = client.rows(&format!(
        "SELECT name, value FROM system.settings WHERE name IN ({})",
        names.join(", ")
    ))?;
    let wrong: Vec<String> = (told.iter())
        .filter(|told| !SETTINGS.contains(&(told.name.as_str(), told.value.as_str())))
        .map(|told| format!("{} = {}", told.name, told.value))
        .collect();
    Ok(match wrong.is_empty() {
        true => Finding::good("settings", "the user may change things"),
        false => Finding::lacks(
            "settings",
            Grade::Missing,
            format!("the profile of the user has {}", wrong.join(", ")),
            "give the user a profile with readonly = 0 and allow_ddl = 1",
        ),
    })
}

fn rights(client: &Client, user: &str) -> Result<Vec<Finding>> {
    #[derive(Deserialize)]
    struct Answer {
        result: u8,
    }
    let mut lacks = Vec::new();
    for right in RIGHTS {
        let answer = client.rows::<Answer>(&format!("CHECK GRANT {right} ON *.*"));
        match answer {
            Ok(rows) if rows.iter().all(|row| row.result == 1) => {}
            Ok(_) => lacks.push(right),
            Err(error) if error.code() == Some(SYNTAX_ERROR) => {
                return Ok(vec![Finding::good(
                    "rights",
                    "the server is too old to tell; what is missing is named when it is needed",
                )]);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(vec![match lacks.is_empty() {
        true => Finding::good("rights", format!("all of them: {}", RIGHTS.join(", "))),
        false => Finding::lacks(
            "rights",
            Grade::Better,
            format!("not on all databases: {}", lacks.join(", ")),
            format!(
                "on each database that is backed up or mended: GRANT {} ON database.* TO {user}",
                lacks.join(", ")
            ),
        ),
    }])
}

/// The server reads what this process writes.
fn owner(data: &Path) -> Finding {
    let subject = "files";
    let own = geteuid();
    match fs::metadata(data) {
        Err(error) => Finding::lacks(
            subject,
            Grade::Missing,
            format!("{} cannot be looked at: {error}", data.display()),
            "run the agent on the host of the server, as root or as the user of the server; --data-path says where its \
             files are seen from here",
        ),
        Ok(_) if own.is_root() => Finding::good(subject, "they are read and written as root"),
        Ok(found) if found.uid() == own.as_raw() => Finding::good(
            subject,
            "they are read and written as the user of the server",
        ),
        Ok(found) => Finding::lacks(
            subject,
            Grade::Missing,
            format!(
                "the files of the server belong to the user {}, and this process is {}",
                found.uid(),
                own.as_raw()
            ),
            "run the agent as root or as the user of the server",
        ),
    }
}

fn disks(server: &ClickHouse) -> Vec<Finding> {
    let disks = match server.list_disks() {
        Ok(disks) => disks,
        Err(error) => {
            return vec![Finding::lacks(
                "disks",
                Grade::Missing,
                error.to_string(),
                "--data-path says where the files of the server are seen from here",
            )];
        }
    };
    let mut findings = Vec::new();
    for disk in &disks {
        let subject = format!("disk {}", disk.name);
        let probe = disk
            .path
            .join(format!("mendb-check-{}", std::process::id()));
        let written = File::create(&probe).and_then(|_| fs::remove_file(&probe));
        findings.push(match written {
            Err(error) => Finding::lacks(
                subject,
                Grade::Missing,
                format!("{} cannot be written: {error}", disk.path.display()),
                "run the agent as root or as the user of the server, on a disk that is not mounted read-only",
            ),
            Ok(()) if disk.free_bytes < disk.total_bytes / LITTLE_FREE => Finding::lacks(
                subject,
                Grade::Better,
                format!(
                    "{} has {} % free",
                    disk.path.display(),
                    disk.free_bytes.saturating_mul(100) / disk.total_bytes.max(1)
                ),
                "make room: a mend brings parts beside the live ones before it removes any, and keeps the state before \
                 only where that fits",
            ),
            Ok(()) => Finding::good(subject, format!("{} is there", disk.path.display())),
        });
    }
    match server.all_disk_names() {
        Ok(names) => {
            let ours = |name: &String| disks.iter().any(|disk| disk.name == *name);
            for name in names.iter().filter(|name| !ours(name)) {
                findings.push(Finding::lacks(
                    format!("disk {name}"),
                    Grade::Better,
                    "it is encrypted or of object storage, and tables on it are neither backed up nor mended",
                    format!("leave them out: --exclude-disks {name}"),
                ));
            }
        }
        Err(error) => findings.push(Finding::lacks(
            "disks",
            Grade::Missing,
            error.to_string(),
            "the user has to read the tables of the database system: GRANT SELECT ON system.*",
        )),
    }
    findings
}
