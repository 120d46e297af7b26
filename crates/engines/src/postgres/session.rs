//! Connections to the server: each is used by one thread at a time, and again by the next.
//!
//! A connection on which something failed is closed: the server then forgets whatever was open on it.

use std::fmt::Display;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mendb_model::describe_error;
use postgres::{Client, NoTls};

use super::address::Address;
use super::drivers;
use super::error::{failed, refused};
use super::pace::Pace;
use super::tls::{Mode, Tls};
use crate::error::Result;

/// The oldest version that is worked with: 14.
pub(super) const OLDEST: u32 = 140_000;
/// So many connections are kept while nobody uses them.
const IDLE: usize = 8;

/// What every session begins with: nothing that a role or a database was set to changes what is read, how it is
/// written, or how long it may take. A relation that is not named with its schema is one of the system.
const SETTINGS: &str = "
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET idle_session_timeout = 0;
SET search_path = pg_catalog;
SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout';
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;
SET default_transaction_deferrable = off;
SET synchronous_commit = on;
SET row_security = off;
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
SET TimeZone = 'UTC';
SET extra_float_digits = 1;
SET bytea_output = 'hex';
SET standard_conforming_strings = on;
SET client_min_messages = error;
SET jit = off;
";

/// A server, and connections to it.
pub(super) struct Server {
    address: Address,
    /// Once it was needed.
    tls: OnceLock<Tls>,
    idle: Mutex<Vec<Client>>,
    /// What tells the process from others that work on the database, if it does.
    epoch: OnceLock<i64>,
    pace: Arc<Pace>,
}

impl Server {
    pub(super) fn new(address: Address) -> Self {
        Self {
            pace: Arc::new(Pace::new(address.bytes_per_s())),
            address,
            tls: OnceLock::new(),
            idle: Mutex::default(),
            epoch: OnceLock::new(),
        }
    }

    /// From now on all connections are of a process that works on the database.
    pub(super) fn drive(&self, epoch: i64) {
        self.epoch.get_or_init(|| epoch);
        lock(&self.idle).clear();
    }

    /// The bytes of rows a second that may come and go, where that is bounded.
    pub(super) fn most_bytes_per_s(&self) -> Option<u64> {
        self.address.bytes_per_s()
    }

    /// How fast rows may come and go.
    pub(super) fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// A new connection.
    pub(super) fn connect(&self) -> Result<Client> {
        let doing = || format!("connect to {}", self.address.shown());
        let config = self.address.config();
        let client = match self.address.tls() {
            (Mode::Disable, _) => config.connect(NoTls),
            (mode, roots) => {
                let cannot = |why| refused(format!("cannot {}: {why}", doing()));
                let tls = match self.tls.get() {
                    Some(tls) => tls.clone(),
                    None => {
                        let made = Tls::new(mode, roots).map_err(cannot)?;
                        self.tls.get_or_init(|| made).clone()
                    }
                };
                let opened = config.connect(tls);
                if let Some(error) = opened.as_ref().err().filter(|error| is_unproved(error)) {
                    return Err(refused(format!(
                        "cannot {}: {}; sslrootcert={roots} are believed, and sslmode=verify-full asks for a certificate of \
                         the host as it is named",
                        doing(),
                        describe_error(error)
                    )));
                }
                opened
            }
        };
        let mut client = client.map_err(|error| failed(doing(), &error))?;
        client
            .batch_execute(SETTINGS)
            .map_err(|error| failed(doing(), &error))?;
        if let Some(epoch) = self.epoch.get() {
            drivers::mark(&mut client, *epoch)?;
        }
        Ok(client)
    }

    /// A connection, for as long as what is returned lives.
    pub(super) fn session(&self) -> Result<Session<'_>> {
        let found =
            std::iter::from_fn(|| lock(&self.idle).pop()).find(|client| !client.is_closed());
        let client = match found {
            Some(client) => client,
            None => self.connect()?,
        };
        Ok(Session::new(client, &self.idle))
    }

    /// Does something on a connection.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<T> {
        let mut session = self.session()?;
        let done = work(&mut session)?;
        session.keep();
        Ok(done)
    }

    /// Does something in one transaction.
    pub(super) fn within<T>(
        &self,
        doing: &str,
        work: impl FnOnce(&mut Client) -> Result<T>,
    ) -> Result<T> {
        self.with(|client| {
            run(client, doing, "BEGIN")?;
            let done = work(client)?;
            run(client, doing, "COMMIT")?;
            Ok(done)
        })
    }
}

/// Whether a server could not prove who it is.
fn is_unproved(error: &postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let of_tls = inner.downcast_ref::<std::io::Error>();
        let of_tls = of_tls.and_then(|inner| inner.get_ref()?.downcast_ref::<rustls::Error>());
        if matches!(of_tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Runs statements that give nothing back.
pub(super) fn run(client: &mut Client, doing: impl Display, statements: &str) -> Result<()> {
    let ran = client.batch_execute(statements);
    ran.map_err(|error| failed(doing, &error))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that goes back to where it came from when it was [kept](Self::keep), and is closed otherwise.
pub(super) struct Session<'a> {
    client: Option<Client>,
    home: &'a Mutex<Vec<Client>>,
    is_kept: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(client: Client, home: &'a Mutex<Vec<Client>>) -> Self {
        Self {
            client: Some(client),
            home,
            is_kept: false,
        }
    }

    /// Nothing is open on it: the next may use it.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Deref for Session<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.as_ref().expect("it goes when it is dropped")
    }
}

impl DerefMut for Session<'_> {
    fn deref_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("it goes when it is dropped")
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take().filter(|_| self.is_kept) {
            let mut idle = lock(self.home);
            if idle.len() < IDLE {
                idle.push(client);
            }
        }
    }
}
