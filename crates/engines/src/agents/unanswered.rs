//! Why an agent was not heard.

use std::error::Error;
use std::io;

use mendb_model::describe_error;
use rustls::{AlertDescription, CertificateError};

/// What kept a request from being answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unanswered {
    /// Why, and what to look at.
    pub(super) why: String,
    /// Whether it does not pass: an address or a certificate is wrong.
    pub(super) is_wrong: bool,
}

impl Unanswered {
    pub(super) fn of(error: &reqwest::Error) -> Self {
        let told = describe_error(error);
        let (advice, is_wrong) = match cause(error) {
            _ if error.is_connect() && error.is_timeout() => (
                "nothing has answered there in time: the machine is not reached, or what listens there speaks no TLS; see \
                 its address, and that the list of servers has the port of mendb agent",
                false,
            ),
            Some(Cause::Tls(error)) => of_tls(error),
            Some(Cause::Io(io::ErrorKind::ConnectionRefused)) => (
                "nobody listens there: see that mendb agent runs, and which port the list of servers has",
                false,
            ),
            cause if has_closed(error, cause.as_ref()) => (
                "it closed the connection, as an agent does that does not take the certificate of this machine \
                 (cluster.tls_cert)",
                false,
            ),
            _ => return Self::passing(told),
        };
        Self {
            why: format!("{advice} ({told})"),
            is_wrong,
        }
    }

    pub(super) fn passing(why: String) -> Self {
        Self {
            why,
            is_wrong: false,
        }
    }
}

/// Whether the other side closed the connection, where nothing else was wrong with it.
fn has_closed(error: &reqwest::Error, cause: Option<&Cause<'_>>) -> bool {
    match cause {
        Some(Cause::Io(kind)) => matches!(
            kind,
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        ),
        Some(Cause::Tls(_)) => false,
        None => !error.is_connect() && !error.is_timeout(),
    }
}

/// What to look at, and whether it is of any use to wait.
fn of_tls(error: &rustls::Error) -> (&'static str, bool) {
    let what = match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is not one that cluster.tls_ca has signed"
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                "its certificate holds no more, or not yet: renew it, and see that clocks are right"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name than the list of servers has for it"
            }
            _ => "its certificate cannot be believed",
        },
        rustls::Error::AlertReceived(
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
        ) => "it speaks another TLS",
        rustls::Error::AlertReceived(_) => {
            "it does not take the certificate of this machine (cluster.tls_cert), which who is named by its \
             --tls-client-ca has to have signed"
        }
        rustls::Error::InvalidMessage(_) => {
            "what listens there speaks no TLS: see that the list of servers has the port of mendb agent"
        }
        _ => return ("TLS fails", false),
    };
    (what, true)
}

enum Cause<'a> {
    Tls(&'a rustls::Error),
    Io(io::ErrorKind),
}

/// The innermost cause that says something. An error of I/O does not give what it wraps as its source.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<Cause<'a>> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(Cause::Tls(tls));
        }
        next = error.source();
        if let Some(io) = error.downcast_ref::<io::Error>() {
            found = Some(Cause::Io(io.kind()));
            if let Some(inner) = io.get_ref() {
                next = Some(inner);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_through_errors_of_io() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let inner = io::Error::new(io::ErrorKind::InvalidData, tls);
        let outer = io::Error::other(inner);
        let Some(Cause::Tls(found)) = cause(&outer) else {
            panic!("no cause");
        };
        let (what, is_wrong) = of_tls(found);
        assert!(what.contains("cluster.tls_ca") && is_wrong, "{what}");
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(matches!(
            cause(&refused),
            Some(Cause::Io(io::ErrorKind::ConnectionRefused))
        ));
    }
}
