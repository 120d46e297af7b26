//! Which database a URL names, and how it is reached: `postgres://user@host:5432/database`.
//!
//! What the URL does not say comes from the environment, as for other clients: `PGHOST`, `PGPORT`, `PGUSER`,
//! `PGDATABASE`, `PGPASSWORD`, and the password file (`PGPASSFILE`, `~/.pgpass`).

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use postgres::Config;
use postgres::config::{Host, SslMode};

const PORT: u16 = 5432;
/// Where servers of distributions have their sockets.
const SOCKETS: &str = "/var/run/postgresql";
const FORM: &str = "a PostgreSQL target is postgres://user@host:5432/database";

/// Values of the environment by their names.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A database, and the role that works on it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, an address, or the directory of a socket.
    host: String,
    port: u16,
    user: String,
    database: String,
    password: Option<Vec<u8>>,
    options: Option<String>,
}

/// Without the password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Address {
    /// Whether a URL is meant to name a PostgreSQL database.
    pub fn is_meant_by(target: &str) -> bool {
        matches!(
            target.split_once("://"),
            Some(("postgres" | "postgresql", _))
        )
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// Why it is none, without the password in it.
    pub fn parse(url: &str, environment: Environment<'_>) -> Result<Self, String> {
        let named_mode = query_value(url, "sslmode").or_else(|| environment("PGSSLMODE"));
        if let Some(mode @ ("require" | "verify-ca" | "verify-full")) = named_mode.as_deref() {
            return Err(format!(
                "it asks for sslmode={mode}, and this version of mendb does not speak TLS with PostgreSQL yet; use a \
                 socket, or a tunnel with sslmode=disable"
            ));
        }
        let config: Config = url.parse().map_err(|error: postgres::Error| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            format!("{}; {FORM}", why.unwrap_or_else(|| error.to_string()))
        })?;
        if config.get_hosts().len() > 1 || config.get_ports().len() > 1 {
            return Err(format!("it names several servers; {FORM}"));
        }
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            #[cfg(unix)]
            Some(Host::Unix(directory)) => directory.display().to_string(),
            None => environment("PGHOST").unwrap_or_else(|| {
                let is_there = Path::new(SOCKETS).is_dir();
                if is_there { SOCKETS } else { "localhost" }.to_owned()
            }),
        };
        let port = match config.get_ports().first() {
            Some(port) => *port,
            None => match environment("PGPORT") {
                None => PORT,
                Some(text) => text
                    .parse()
                    .map_err(|_| format!("PGPORT is {text:?}, which is no port"))?,
            },
        };
        let named = |given: Option<&str>, name: &str| {
            given.map(str::to_owned).or_else(|| environment(name))
        };
        let user = named(config.get_user(), "PGUSER").or_else(|| environment("USER"));
        let user = user.ok_or_else(|| format!("it names no user; {FORM}"))?;
        let database = named(config.get_dbname(), "PGDATABASE").unwrap_or_else(|| user.clone());
        let mut address = Self {
            host,
            port,
            user,
            database,
            password: config.get_password().map(<[u8]>::to_vec),
            options: config.get_options().map(str::to_owned),
        };
        if !address.is_here() && named_mode.as_deref() != Some("disable") {
            return Err(format!(
                "{} is another machine, and this version of mendb does not speak TLS with PostgreSQL yet: add \
                 ?sslmode=disable where the network between is trusted, or use a tunnel",
                address.host
            ));
        }
        if address.password.is_none() {
            address.password = environment("PGPASSWORD").map(String::into_bytes);
        }
        if address.password.is_none() {
            let home = || Some(PathBuf::from(environment("HOME")?).join(".pgpass"));
            let file = environment("PGPASSFILE").map(PathBuf::from).or_else(home);
            if let Some(text) = file.map(|file| password_file(&file)).transpose()? {
                address.password = address.password_in(&text);
            }
        }
        Ok(address)
    }

    /// Whether nothing goes over a network: it is a socket, or this machine.
    fn is_here(&self) -> bool {
        self.host.starts_with('/')
            || self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// The password that a password file has for it: `host:port:database:user:password`, `*` for any.
    fn password_in(&self, file: &str) -> Option<Vec<u8>> {
        let host = if self.host.starts_with('/') {
            "localhost"
        } else {
            &self.host
        };
        let port = self.port.to_string();
        let own = [host, &port, &self.database, &self.user];
        let lines = file.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let fields = fields(line);
            let [patterns @ .., password] = fields.as_slice() else {
                continue;
            };
            let fits = |(pattern, own): (&String, &&str)| pattern == "*" || pattern == *own;
            if patterns.len() == own.len() && patterns.iter().zip(&own).all(fits) {
                return Some(password.clone().into_bytes());
            }
        }
        None
    }

    /// How a client reaches it.
    pub(super) fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .user(&self.user)
            .dbname(&self.database)
            .port(self.port)
            .application_name("mendb")
            .ssl_mode(SslMode::Disable);
        #[cfg(unix)]
        if self.host.starts_with('/') {
            config.host_path(&self.host);
        } else {
            config.host(&self.host);
        }
        #[cfg(not(unix))]
        config.host(&self.host);
        if let Some(password) = &self.password {
            config.password(password);
        }
        if let Some(options) = &self.options {
            config.options(options);
        }
        config
    }

    /// Its URL as others may read it: without the password.
    pub fn shown(&self) -> String {
        let Self {
            host,
            port,
            user,
            database,
            ..
        } = self;
        if host.starts_with('/') {
            format!("postgres://{user}@/{database}?host={host}&port={port}")
        } else {
            format!("postgres://{user}@{host}:{port}/{database}")
        }
    }

    /// Host, port and database as a part of a path.
    pub fn file_name(&self) -> String {
        let text = format!("{}-{}-{}", self.host, self.port, self.database);
        let good = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '_'
            }
        };
        let plain: String = text
            .chars()
            .map(|c| if c == '-' { c } else { good(c) })
            .collect();
        // What was replaced may have told two databases apart.
        let hash = blake3::hash(text.as_bytes()).to_hex();
        format!("{}-{}", plain.trim_start_matches('_'), &hash[..8])
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }
}

/// The value of a parameter of a URL.
fn query_value(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

/// The fields of a line of a password file; a backslash takes its meaning from what follows.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (c, fields.len()) {
            ('\\', _) => fields
                .last_mut()
                .expect("there is one")
                .extend(characters.next()),
            (':', 1..=4) => fields.push(String::new()),
            _ => fields.last_mut().expect("there is one").push(c),
        }
    }
    fields
}

/// What a password file says: nothing where there is none.
fn password_file(file: &Path) -> Result<String, String> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| {
            format!(
                "the password file {} cannot be read: {error}; PGPASSFILE names another one",
                file.display()
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, environment: &[(&str, &str)]) -> Result<Address, String> {
        let find = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Address::parse(url, &find)
    }

    #[test]
    fn a_password_file_that_cannot_be_read_is_an_error_and_a_missing_one_is_not() {
        let url = "postgres://ada@localhost/shop";
        let error = parse(url, &[("PGPASSFILE", "/tmp")]).unwrap_err();
        assert!(error.contains("password file /tmp"), "{error}");
        let address = parse(url, &[("PGPASSFILE", "/no/such/file")]).unwrap();
        assert_eq!(address.password, None);
    }

    #[test]
    fn what_a_url_does_not_say_comes_from_the_environment() {
        let address = parse("postgres://ada@localhost:5433/shop", &[]).unwrap();
        assert_eq!(address.shown(), "postgres://ada@localhost:5433/shop");
        let variables = [("PGHOST", "/run/pg"), ("PGPORT", "5444"), ("PGUSER", "ada")];
        let address = parse("postgres://", &variables).unwrap();
        assert_eq!(
            address.shown(),
            "postgres://ada@/ada?host=/run/pg&port=5444"
        );
        let address = parse("postgresql://ada@/shop?host=/tmp/x", &[]).unwrap();
        assert_eq!(
            address.shown(),
            "postgres://ada@/shop?host=/tmp/x&port=5432"
        );
        assert_ne!(
            address.file_name(),
            parse("postgresql://ada@/shop?host=/tmp_x", &[])
                .map_or_else(|_| String::new(), |a| a.file_name())
        );
    }

    #[test]
    fn nothing_goes_over_a_network_in_the_clear_unless_that_is_said() {
        let refused = parse("postgres://ada:hunter2@db.example/shop", &[]).unwrap_err();
        assert!(
            refused.contains("sslmode=disable") && !refused.contains("hunter2"),
            "{refused}"
        );
        parse("postgres://ada@db.example/shop?sslmode=disable", &[]).unwrap();
        let refused = parse("postgres://ada@localhost/shop?sslmode=verify-full", &[]).unwrap_err();
        assert!(refused.contains("verify-full"), "{refused}");
    }

    #[test]
    fn a_password_is_found_in_its_file_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pass");
        fs::write(
            &file,
            "# comment\nother:*:*:*:no\nlocalhost:5432:*:ada:a\\:b\n",
        )
        .unwrap();
        let variables = [("PGPASSFILE", file.to_str().unwrap())];
        let address = parse("postgres://ada@localhost/shop", &variables).unwrap();
        assert_eq!(address.password.as_deref(), Some(b"a:b".as_slice()));
        assert!(!format!("{address:?}").contains("a:b"));
        let none = parse("postgres://eve@localhost/shop", &variables).unwrap();
        assert_eq!(none.password, None);
    }
}
