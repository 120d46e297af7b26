//! Until when certificates hold: what X.509 says of that, read from the DER of a file in PEM, as far as it is needed.

use std::path::Path;

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::tls::TlsError;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version, which may be left out.
const VERSION: u8 = 0xa0;

/// The moment from which the first of the certificates in a file does not hold any more, in milliseconds since 1970.
///
/// # Errors
/// The file cannot be read, holds no certificate, or one that says no such moment.
pub fn holds_until_ms(path: &Path) -> Result<u64, TlsError> {
    let failed = |reason: String| TlsError::File {
        path: path.display().to_string(),
        reason,
    };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let mut first = None;
    for certificate in read {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        let until = not_after(&certificate).ok_or_else(|| {
            failed("a certificate in it does not say until when it holds".to_owned())
        })?;
        first = Some(first.map_or(until, |known: u64| known.min(until)));
    }
    first.ok_or_else(|| failed("it holds no certificate".to_owned()))
}

fn not_after(der: &[u8]) -> Option<u64> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        (_, rest) = element(rest, VERSION)?;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, rest) = element(rest, tag)?;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, after) = time(validity)?;
    let (until, _) = time(after)?;
    Some(until)
}

/// The content of the element at the beginning, which has this tag, and what comes behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    if *found != tag {
        return None;
    }
    let (short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..0x80 => (usize::from(*short), rest),
        _ => {
            let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            if bytes.len() > 4 {
                return None;
            }
            let length = bytes
                .iter()
                .fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
            (usize::try_from(length).ok()?, rest)
        }
    };
    rest.split_at_checked(length)
}

/// The moment at the beginning, and what comes behind it.
fn time(der: &[u8]) -> Option<(u64, &[u8])> {
    let (text, rest, digits) = match *der.first()? {
        UTC_TIME => element(der, UTC_TIME).map(|(text, rest)| (text, rest, 2))?,
        GENERALIZED_TIME => element(der, GENERALIZED_TIME).map(|(text, rest)| (text, rest, 4))?,
        _ => return None,
    };
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest_of_text) = text.split_at_checked(digits)?;
    let year: i16 = year.parse().ok()?;
    let year = match digits {
        // Two digits are of 1950 to 2049.
        2 if year < 50 => 2000 + year,
        2 => 1900 + year,
        _ => year,
    };
    let at = |from: usize| rest_of_text.get(from..from + 2)?.parse::<i8>().ok();
    let moment =
        jiff::civil::DateTime::new(year, at(0)?, at(2)?, at(4)?, at(6)?, at(8)?, 0).ok()?;
    let moment = moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    // What was over before 1970 is over.
    let ms = u64::try_from(moment.timestamp().as_millisecond()).unwrap_or(0);
    Some((ms, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate with nothing in it but when it holds.
    fn certificate(with_version: bool, from: &str, until: &str) -> Vec<u8> {
        let wrap = |tag: u8, content: &[u8]| {
            let mut der = vec![tag, 0x82];
            der.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            der.extend(content);
            der
        };
        let moment = |text: &str| {
            let tag = if text.len() == 13 {
                UTC_TIME
            } else {
                GENERALIZED_TIME
            };
            wrap(tag, text.as_bytes())
        };
        let mut inner = Vec::new();
        if with_version {
            inner.extend(wrap(VERSION, &[INTEGER, 1, 2]));
        }
        inner.extend([INTEGER, 1, 7]);
        inner.extend(wrap(SEQUENCE, b"algorithm"));
        inner.extend(wrap(SEQUENCE, b"issuer"));
        inner.extend(wrap(SEQUENCE, &[moment(from), moment(until)].concat()));
        wrap(SEQUENCE, &wrap(SEQUENCE, &inner))
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms_of_time() {
        let noon_2026 = 1_767_268_800_000;
        let short = certificate(true, "250101000000Z", "260101120000Z");
        assert_eq!(not_after(&short), Some(noon_2026));
        let long = certificate(false, "20250101000000Z", "20260101120000Z");
        assert_eq!(not_after(&long), Some(noon_2026));
        let past = certificate(true, "500101000000Z", "600101120000Z");
        assert_eq!(not_after(&past), Some(0));
    }

    #[test]
    fn what_is_cut_off_or_something_else_says_nothing() {
        let whole = certificate(true, "250101000000Z", "260101120000Z");
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
        assert_eq!(
            not_after(&certificate(true, "250101000000Z", "269901120000Z")),
            None
        );
        assert_eq!(not_after(&[SEQUENCE, 0x85, 1, 1, 1, 1, 1]), None);
    }
}
