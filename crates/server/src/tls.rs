//! TLS from files: a chain of certificates and its key, in PEM.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

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
    /// Those who are to be known by their certificates cannot be.
    #[error("cannot tell clients by {path}: {reason}")]
    Clients {
        /// The file with the certificates of who signed theirs.
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
    /// Who signed the certificates that clients have to show; without, they need none.
    clients: Option<PathBuf>,
    acceptor: Mutex<TlsAcceptor>,
}

impl Certificates {
    /// Reads them from files. Where `clients` names one, only clients are let in whose certificates those in it have
    /// signed.
    ///
    /// # Errors
    /// The files cannot be read or do not fit.
    pub fn open(chain: &Path, key: &Path, clients: Option<&Path>) -> Result<Self, TlsError> {
        Ok(Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            clients: clients.map(Path::to_owned),
            acceptor: Mutex::new(acceptor(chain, key, clients)?),
        })
    }

    /// Reads the same files again.
    ///
    /// # Errors
    /// They cannot be read or do not fit. What is served with stays.
    pub fn read(&self) -> Result<TlsAcceptor, TlsError> {
        acceptor(&self.chain, &self.key, self.clients.as_deref())
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
fn acceptor(
    certificates: &Path,
    key: &Path,
    clients: Option<&Path>,
) -> Result<TlsAcceptor, TlsError> {
    let of = |path: &Path, reason: &dyn std::fmt::Display| TlsError::File {
        path: path.display().to_string(),
        reason: reason.to_string(),
    };
    let read = |path: &Path| {
        let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
            .map_err(|error| of(path, &error))?
            .collect();
        let read = read.map_err(|error| of(path, &error))?;
        match read.is_empty() {
            true => Err(of(path, &"it holds no certificate")),
            false => Ok(read),
        }
    };
    let chain = read(certificates)?;
    let key_of = PrivateKeyDer::from_pem_file(key).map_err(|error| of(key, &error))?;
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let config = match clients {
        None => config.with_no_client_auth(),
        Some(path) => {
            let cannot = |error: &dyn std::fmt::Display| TlsError::Clients {
                path: path.display().to_string(),
                reason: error.to_string(),
            };
            let mut signers = RootCertStore::empty();
            for signer in read(path)? {
                signers.add(signer).map_err(|error| cannot(&error))?;
            }
            let known = WebPkiClientVerifier::builder_with_provider(Arc::new(signers), provider)
                .build()
                .map_err(|error| cannot(&error))?;
            config.with_client_cert_verifier(known)
        }
    };
    let config = config.with_single_cert(chain, key_of)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
