//! Service files: connections under names, in sections of `PGSERVICEFILE`, `~/.pg_service.conf` or
//! `PGSYSCONFDIR/pg_service.conf`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Values of the environment by their names.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a section can say, and the variable that it stands for.
const SETTINGS: [(&str, &str); 9] = [
    ("host", "PGHOST"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("options", "PGOPTIONS"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
];
/// What changes nothing that matters here.
const IGNORED: [&str; 10] = [
    "application_name",
    "fallback_application_name",
    "client_encoding",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "gssencmode",
];

/// What a service says, by the variables of the environment that it takes the place of.
///
/// # Errors
/// There is no such service, a file cannot be read, or it says what is not heeded.
pub(super) fn variables(
    service: &str,
    environment: Environment<'_>,
) -> Result<BTreeMap<&'static str, String>, String> {
    let mut looked = Vec::new();
    for file in files(environment) {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                looked.push(file.display().to_string());
                continue;
            }
            Err(error) => {
                return Err(format!(
                    "the service file {} cannot be read: {error}",
                    file.display()
                ));
            }
        };
        if let Some(found) = section(&text, service) {
            let found = found.and_then(|pairs| heeded(service, &pairs));
            return found.map_err(|why| format!("{why}, in {}", file.display()));
        }
        looked.push(file.display().to_string());
    }
    Err(format!(
        "there is no service {service} in {}",
        looked.join(", ")
    ))
}

fn files(environment: Environment<'_>) -> Vec<PathBuf> {
    let home = || Some(PathBuf::from(environment("HOME")?).join(".pg_service.conf"));
    let own = environment("PGSERVICEFILE")
        .map(PathBuf::from)
        .or_else(home);
    let system = environment("PGSYSCONFDIR");
    let system = system.map(|directory| PathBuf::from(directory).join("pg_service.conf"));
    own.into_iter().chain(system).collect()
}

/// The pairs of a section; `None` where there is none.
fn section<'t>(text: &'t str, name: &str) -> Option<Result<Vec<(&'t str, &'t str)>, String>> {
    let lines = text.lines().map(str::trim);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let is_it = |line: &str| {
        let inner = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'));
        inner.is_some_and(|inner| inner == name)
    };
    lines.find(|line| is_it(line))?;
    let pair = |line: &'t str| {
        let pair = line
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()));
        pair.ok_or_else(|| format!("service {name} has the line {line:?}, which is no key=value"))
    };
    let own = lines.take_while(|line| !line.starts_with('['));
    Some(own.map(pair).collect())
}

fn heeded(service: &str, pairs: &[(&str, &str)]) -> Result<BTreeMap<&'static str, String>, String> {
    let mut variables = BTreeMap::new();
    for (key, value) in pairs {
        match SETTINGS.iter().find(|(name, _)| name == key) {
            Some((_, variable)) => {
                variables.insert(*variable, (*value).to_owned());
            }
            None if IGNORED.contains(key) => {}
            None => {
                return Err(format!(
                    "service {service} sets {key}, which this version of mendb does not heed"
                ));
            }
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_says_what_the_environment_would() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("services");
        fs::write(
            &file,
            "# all of them\n[other]\nhost=no\n\n[shop]\nhost = db.example\nport=5433\nconnect_timeout=10\nsslmode=verify-full\n[bad]\nsslkey=/k\n[worse]\nnothing\n",
        )
        .unwrap();
        let environment =
            |name: &str| (name == "PGSERVICEFILE").then(|| file.display().to_string());
        let found = variables("shop", &environment).unwrap();
        let expected = [
            ("PGHOST", "db.example"),
            ("PGPORT", "5433"),
            ("PGSSLMODE", "verify-full"),
        ];
        assert!(
            found
                .iter()
                .map(|(key, value)| (*key, value.as_str()))
                .eq(expected)
        );
        for (service, why) in [
            ("bad", "sets sslkey"),
            ("worse", "no key=value"),
            ("none", "there is no service none"),
        ] {
            let error = variables(service, &environment).unwrap_err();
            assert!(error.contains(why) && error.contains("services"), "{error}");
        }
    }
}
