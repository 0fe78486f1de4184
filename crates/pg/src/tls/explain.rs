//! What an error of TLS means for whoever connects, and what to do about it.

use super::{root_file, verifier::OldVersion};
use crate::settings::{Server, Settings};
use rustls::{AlertDescription, CertificateError, Error};

/// What happened, and what to do next.
pub(crate) fn explain(error: &Error, server: &Server, settings: &Settings) -> (String, String) {
    match error {
        Error::InvalidCertificate(why) => certificate(why, server, settings),
        Error::AlertReceived(alert) if is_about_certificate(*alert) => (
            format!("{server} does not take this client's certificate ({alert:?})"),
            "name a certificate that the server's ssl_ca_file has signed, and its key, in sslcert and sslkey".to_owned(),
        ),
        Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure)
        | Error::PeerIncompatible(_) => (
            format!("{server} and skyfill have no version of TLS or cipher in common ({error})"),
            "allow TLS 1.2 or 1.3 on the server (ssl_min_protocol_version, ssl_ciphers)".to_owned(),
        ),
        other => (
            format!("TLS with {server} failed: {other}"),
            "look into the server's log; skyfill knows TLS 1.2 and 1.3".to_owned(),
        ),
    }
}

fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    )
}

fn certificate(why: &CertificateError, server: &Server, settings: &Settings) -> (String, String) {
    let it = format!("the certificate of {server}");
    match why {
        // An authority of the same name, with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            format!("{it} is not signed by an authority in {}", roots(settings)),
            "name the file with the certificate of the server's authority in sslrootcert".to_owned(),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            format!("{it} has expired"),
            "renew it on the server (ssl_cert_file) and reload the server; or set this machine's clock".to_owned(),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            format!("{it} is not valid yet"),
            "set the clock of this machine, or of the one that made the certificate".to_owned(),
        ),
        CertificateError::NotValidForName => (
            format!("{it} is not for {}", server.host),
            names_hint(),
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = if presented.is_empty() {
                "no name at all".to_owned()
            } else {
                let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
                names.join(", ")
            };
            (
                format!("{it} is for {names}, not for {}", server.host),
                names_hint(),
            )
        }
        CertificateError::Other(other) if other.0.is::<OldVersion>() => (
            format!("{it} cannot be checked: {}", other.0),
            "make it again with a subjectAltName, put the certificate itself into sslrootcert, or set sslmode=require, which does not check it".to_owned(),
        ),
        other => (
            format!("{it} is refused: {other}"),
            "look at it with: openssl s_client -starttls postgres -connect HOST:PORT".to_owned(),
        ),
    }
}

/// rustls shows a name with its kind: `DnsName("db.example")`.
fn bare(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

fn names_hint() -> String {
    "connect by a name that the certificate is for (hostaddr can hold the address), or set sslmode=verify-ca, which does not compare names"
        .to_owned()
}

fn roots(settings: &Settings) -> String {
    match root_file(settings) {
        Some(path) => path.display().to_string(),
        None => "this machine's root certificates".to_owned(),
    }
}
