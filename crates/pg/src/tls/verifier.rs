//! The check of a server's certificate.
//!
//! It differs from rustls' own where libpq does: `verify-ca` does not compare names, a certificate
//! without alternative names is known by its common name, and a certificate that is itself in the
//! file of trusted ones (a self-signed one, as PostgreSQL's manual makes it) is trusted.

use crate::DbError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;
use x509_cert::certificate::Version;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// What of the server's certificate is checked.
#[derive(Debug)]
pub(super) enum Check {
    /// Nothing: what travels is encrypted, but the other end may be anybody.
    Nothing,
    /// That one of these authorities signed it.
    Signed {
        roots: Vec<CertificateDer<'static>>,
        store: RootCertStore,
        compare_name: bool,
    },
}

impl Check {
    /// Signed by one of `roots`.
    pub(super) fn signed(
        roots: Vec<CertificateDer<'static>>,
        compare_name: bool,
    ) -> Result<Self, DbError> {
        let mut store = RootCertStore::empty();
        // One that cannot be an authority may still be the server's own.
        store.add_parsable_certificates(roots.iter().cloned());
        Ok(Self::Signed {
            roots,
            store,
            compare_name,
        })
    }
}

/// A certificate of version 1 of X.509. rustls follows none to the authority that signed it.
#[derive(Debug)]
pub(super) struct OldVersion;

impl fmt::Display for OldVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was made without extensions (X.509 version 1)")
    }
}

impl std::error::Error for OldVersion {}

/// Checks servers' certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    check: Check,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(provider: &CryptoProvider, check: Check) -> Self {
        Self {
            check,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Check::Signed {
            roots,
            store,
            compare_name,
        } = &self.check
        else {
            return Ok(ServerCertVerified::assertion());
        };
        let about = parsed(end_entity)?;
        if roots
            .iter()
            .any(|root| root.as_ref() == end_entity.as_ref())
        {
            require_time(&about, now)?;
        } else if about.tbs_certificate.version == Version::V1 {
            return Err(CertificateError::Other(OtherError(Arc::new(OldVersion))).into());
        } else {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                store,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        if *compare_name {
            require_name(end_entity, &about, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let about = parsed(cert)?;
        if about.tbs_certificate.version != Version::V1 {
            return verify_tls13_signature(message, cert, dss, &self.algorithms);
        }
        let key = about
            .tbs_certificate
            .subject_public_key_info
            .to_der()
            .map_err(|_| CertificateError::BadEncoding)?;
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(key),
            dss,
            &self.algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn parsed(certificate: &CertificateDer<'_>) -> Result<x509_cert::Certificate, Error> {
    x509_cert::Certificate::from_der(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
}

fn require_time(about: &x509_cert::Certificate, now: UnixTime) -> Result<(), Error> {
    let validity = &about.tbs_certificate.validity;
    let time = |time: x509_cert::time::Time| UnixTime::since_unix_epoch(time.to_unix_duration());
    let (not_before, not_after) = (time(validity.not_before), time(validity.not_after));
    if now.as_secs() > not_after.as_secs() {
        return Err(CertificateError::ExpiredContext {
            time: now,
            not_after,
        }
        .into());
    }
    if now.as_secs() < not_before.as_secs() {
        return Err(CertificateError::NotValidYetContext {
            time: now,
            not_before,
        }
        .into());
    }
    Ok(())
}

fn require_name(
    end_entity: &CertificateDer<'_>,
    about: &x509_cert::Certificate,
    name: &ServerName<'_>,
) -> Result<(), Error> {
    let has_alternatives = matches!(about.tbs_certificate.get::<SubjectAltName>(), Ok(Some(_)));
    if has_alternatives {
        return verify_server_name(&ParsedCertificate::try_from(end_entity)?, name);
    }
    let common = common_name(about);
    let wanted = name.to_str();
    if common
        .as_deref()
        .is_some_and(|common| is_name(common, &wanted))
    {
        return Ok(());
    }
    Err(CertificateError::NotValidForNameContext {
        expected: name.to_owned(),
        presented: common.into_iter().collect(),
    }
    .into())
}

fn common_name(about: &x509_cert::Certificate) -> Option<String> {
    let names = &about.tbs_certificate.subject.0;
    let found = names
        .iter()
        .flat_map(|name| name.0.iter())
        .find(|part| part.oid == COMMON_NAME)?;
    String::from_utf8(found.value.value().to_vec()).ok()
}

/// Whether a common name is that of the host; a star at its front stands for one label.
fn is_name(common: &str, wanted: &str) -> bool {
    let of_domain = common.strip_prefix("*.").zip(wanted.split_once('.'));
    common.eq_ignore_ascii_case(wanted)
        || of_domain.is_some_and(|(domain, (_, rest))| {
            domain.contains('.') && domain.eq_ignore_ascii_case(rest)
        })
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn a_star_stands_for_one_label() {
        for (common, wanted, is) in [
            ("db.example.org", "DB.example.org", true),
            ("*.example.org", "db.example.org", true),
            ("*.example.org", "a.db.example.org", false),
            ("*.example.org", "example.org", false),
            ("*.org", "example.org", false),
            ("db.example.org", "db.example.org.evil", false),
        ] {
            assert_eq!(is_name(common, wanted), is, "{common} {wanted}");
        }
    }
}
