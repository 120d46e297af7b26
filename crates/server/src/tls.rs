//! TLS from files: a chain of certificates and its key, in PEM.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM of that kind.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not fit.
    #[error("cannot serve with this certificate: {0}")]
    Config(#[from] tokio_rustls::rustls::Error),
}

/// A chain of certificates and its key, which may be replaced while connections come in.
pub struct Certificates {
    chain: PathBuf,
    key: PathBuf,
    acceptor: Mutex<TlsAcceptor>,
}

impl Certificates {
    /// Reads them from files.
    ///
    /// # Errors
    /// The files cannot be read or do not fit.
    pub fn open(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            acceptor: Mutex::new(acceptor(chain, key)?),
        })
    }

    /// Reads the same files again.
    ///
    /// # Errors
    /// They cannot be read or do not fit. What is served with stays.
    pub fn read(&self) -> Result<TlsAcceptor, TlsError> {
        acceptor(&self.chain, &self.key)
    }

    /// Serves connections that come from now on with what was read.
    pub fn replace(&self, read: TlsAcceptor) {
        *self.current() = read;
    }

    /// What takes a connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.current().clone()
    }

    fn current(&self) -> MutexGuard<'_, TlsAcceptor> {
        self.acceptor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What takes connections with TLS.
fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let of = |path: &Path, reason: &dyn std::fmt::Display| TlsError::File {
        path: path.display().to_string(),
        reason: reason.to_string(),
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificates)
        .map_err(|error| of(certificates, &error))?
        .collect();
    let chain = chain.map_err(|error| of(certificates, &error))?;
    if chain.is_empty() {
        return Err(of(certificates, &"it holds no certificate"));
    }
    let key_of = PrivateKeyDer::from_pem_file(key).map_err(|error| of(key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key_of)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
