//! Which database a URL names, and how it is reached: `postgres://user@host:5432/database`.
//!
//! What the URL does not say comes from its service, or that of `PGSERVICE` ([`super::service`]); then from the
//! environment, as for other clients: `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE`, `PGPASSWORD`, `PGOPTIONS`,
//! `PGSSLMODE`, `PGSSLROOTCERT`, and the password file (`PGPASSFILE`, `~/.pgpass`).

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use postgres::Config;
use postgres::config::{Host, SslMode};

use super::service::{self, Environment};
use super::tls::{Mode, Roots};

const PORT: u16 = 5432;
/// Where servers of distributions have their sockets.
const SOCKETS: &str = "/var/run/postgresql";
const FORM: &str = "a PostgreSQL target is postgres://user@host:5432/database";

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
    tls: Mode,
    roots: Roots,
    bytes_per_s: Option<u64>,
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
        let (url, own) = take_parameters(url);
        let parameter = |name: &str| {
            let found = own.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.clone())
        };
        let outer = environment;
        let named_service = parameter("service").or_else(|| outer("PGSERVICE"));
        let of_service = named_service.map(|name| service::variables(&name, outer));
        let of_service = of_service.transpose()?.unwrap_or_default();
        let environment = |name: &str| of_service.get(name).cloned().or_else(|| outer(name));
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
            options: named(config.get_options(), "PGOPTIONS"),
            tls: Mode::VerifyFull,
            roots: Roots::System,
            bytes_per_s: None,
        };
        let mode = parameter("sslmode").or_else(|| environment("PGSSLMODE"));
        address.tls = match mode {
            _ if address.host.starts_with('/') => Mode::Disable,
            Some(mode) => Mode::parse(&mode)?,
            None if address.is_here() => Mode::Prefer,
            // Nothing goes over a network to anybody by accident.
            None => Mode::VerifyFull,
        };
        let roots = parameter("sslrootcert").or_else(|| environment("PGSSLROOTCERT"));
        address.roots = match roots.as_deref() {
            Some("system") => Roots::System,
            Some(file) => Roots::File(PathBuf::from(file)),
            None => {
                let own = environment("HOME")
                    .map(|home| PathBuf::from(home).join(".postgresql/root.crt"));
                own.filter(|file| file.is_file())
                    .map_or(Roots::System, Roots::File)
            }
        };
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
            .ssl_mode(match self.tls {
                Mode::Disable => SslMode::Disable,
                Mode::Prefer => SslMode::Prefer,
                Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
            });
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

    /// Whether connections are encrypted, and who is believed.
    pub(super) fn tls(&self) -> (Mode, &Roots) {
        (self.tls, &self.roots)
    }

    /// The same, from which and to which no more bytes of rows go a second; as many as there are without.
    pub fn paced(self, bytes_per_s: Option<u64>) -> Self {
        Self {
            bytes_per_s,
            ..self
        }
    }

    /// How many bytes of rows go a second, if that is bounded.
    pub fn bytes_per_s(&self) -> Option<u64> {
        self.bytes_per_s
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

/// What a URL says that the client library does not know.
const OWN: [&str; 3] = ["service", "sslmode", "sslrootcert"];

/// The same URL without such parameters, and these.
fn take_parameters(url: &str) -> (String, Vec<(String, String)>) {
    let Some((base, query)) = url.split_once('?') else {
        return (url.to_owned(), Vec::new());
    };
    let mut own = Vec::new();
    let mut left = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((key, value)) if OWN.contains(&key) => own.push((key.to_owned(), decoded(value))),
            _ => left.push(pair),
        }
    }
    let url = match left.is_empty() {
        true => base.to_owned(),
        false => format!("{base}?{}", left.join("&")),
    };
    (url, own)
}

/// A value of a URL as it is meant.
fn decoded(value: &str) -> String {
    let pair = format!("v={}", value.replace('+', "%2B"));
    let mut pairs = url::form_urlencoded::parse(pair.as_bytes());
    pairs
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
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
    fn another_machine_has_to_prove_who_it_is_unless_something_else_is_said() {
        let mode = |url: &str, variables: &[(&str, &str)]| parse(url, variables).unwrap().tls;
        let far = "postgres://ada:hunter2@db.example/shop";
        assert_eq!(mode(far, &[]), Mode::VerifyFull);
        assert_eq!(mode(&format!("{far}?sslmode=disable"), &[]), Mode::Disable);
        assert_eq!(mode(far, &[("PGSSLMODE", "require")]), Mode::Require);
        assert_eq!(mode("postgres://ada@localhost/shop", &[]), Mode::Prefer);
        let socket = "postgres://ada@/shop?host=/tmp&sslmode=verify-full";
        assert_eq!(
            mode(socket, &[]),
            Mode::Disable,
            "a socket is of this machine"
        );
        let refused = parse(&format!("{far}?sslmode=allow"), &[]).unwrap_err();
        assert!(
            refused.contains("verify-full") && !refused.contains("hunter2"),
            "{refused}"
        );
        let address = parse(
            &format!("{far}?sslrootcert=/a%20b.crt&connect_timeout=3"),
            &[],
        )
        .unwrap();
        assert_eq!(address.roots, Roots::File(PathBuf::from("/a b.crt")));
    }

    #[test]
    fn a_service_says_what_a_url_does_not_and_goes_before_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("services");
        fs::write(
            &file,
            "[shop]\nhost=db.example\nuser=ada\ndbname=shop\nsslmode=require\n",
        )
        .unwrap();
        let variables = [("PGSERVICEFILE", file.to_str().unwrap()), ("PGUSER", "eve")];
        let address = parse("postgres://?service=shop", &variables).unwrap();
        assert_eq!(address.shown(), "postgres://ada@db.example:5432/shop");
        assert_eq!(address.tls, Mode::Require);
        let address = parse("postgres://bob@/?service=shop", &variables).unwrap();
        assert_eq!(address.shown(), "postgres://bob@db.example:5432/shop");
        let refused = parse("postgres://?service=none", &variables).unwrap_err();
        assert!(refused.contains("no service none"), "{refused}");
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
