//! TLS as libpq does it, over rustls: which authorities are trusted, whether the server's name is
//! compared, and which certificate this side shows.

mod explain;
mod verifier;

pub(crate) use explain::explain;

use crate::DbError;
use crate::settings::{Settings, SslMode};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, SupportedProtocolVersion, version};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;
use verifier::{Check, Verifier};

/// What PostgreSQL calls itself in TLS's list of protocols; a server asks for it when TLS begins
/// without a question before (`sslnegotiation=direct`).
const PROTOCOL: &[u8] = b"postgresql";

/// What TLS connections of these settings are made with.
pub(crate) fn connector(settings: &Settings) -> Result<MakeRustlsConnect, DbError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(&provider, check(settings)?);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(settings)?)
        .map_err(|error| DbError::other(format!("TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own_certificate(settings, &provider)? {
        Some((certificates, key)) => {
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| {
                    DbError::other(format!("the client certificate: {error}"))
                        .with_hint("sslkey has to be the private key of the certificate in sslcert")
                })?
        }
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = settings.get("sslsni") != Some("0");
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

/// Where the certificates of trusted authorities are.
pub(crate) fn root_file(settings: &Settings) -> Option<PathBuf> {
    match settings.get("sslrootcert") {
        Some("system") => None,
        Some(path) => Some(path.into()),
        None => settings.default_file("root.crt"),
    }
}

/// What of the server's certificate is checked.
fn check(settings: &Settings) -> Result<Check, DbError> {
    let mode = settings.ssl_mode()?;
    let compare_name = mode == SslMode::VerifyFull;
    if mode < SslMode::Require {
        return Ok(Check::Nothing);
    }
    if settings.get("sslrootcert") == Some("system") {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            return Err(DbError::other(
                "sslrootcert=system: this machine has no root certificates",
            )
            .with_hint("install the system's certificates (Debian: ca-certificates)"));
        }
        return Check::signed(found.certs, compare_name);
    }
    let Some(path) = root_file(settings) else {
        if mode == SslMode::Require {
            return Ok(Check::Nothing);
        }
        return Err(
            DbError::other("there is no file of root certificates to check the server with").with_hint(
                "name the file with the certificate of the server's authority in sslrootcert, or set sslrootcert=system",
            ),
        );
    };
    Check::signed(certificates("sslrootcert", &path)?, compare_name)
}

/// The certificates of a PEM file.
fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, DbError> {
    let shown = path.display();
    let refused = |why: String| {
        DbError::other(format!("{setting} {shown}: {why}")).with_hint(format!(
            "name a file with certificates in PEM form in {setting}"
        ))
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| refused(pem_error(&error)))?;
    if found.is_empty() {
        return Err(refused("it holds no certificate".to_owned()));
    }
    Ok(found)
}

fn pem_error(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// The certificate and key that this side shows to a server that asks for them.
fn own_certificate(
    settings: &Settings,
    provider: &CryptoProvider,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, DbError> {
    if settings.get("sslcertmode") == Some("disable") {
        return Ok(None);
    }
    let file = |setting: &str, default: &str| match settings.get(setting) {
        Some(path) => Some(PathBuf::from(path)),
        None => settings.default_file(default),
    };
    let Some(path) = file("sslcert", "postgresql.crt") else {
        if settings.get("sslcertmode") == Some("require") {
            return Err(
                DbError::other("sslcertmode=require, and there is no certificate").with_hint(
                    "name the files of the client certificate and its key in sslcert and sslkey",
                ),
            );
        }
        return Ok(None);
    };
    let own = certificates("sslcert", &path)?;
    let Some(path) = file("sslkey", "postgresql.key") else {
        return Err(
            DbError::other(format!("sslcert {} has no key beside it", path.display()))
                .with_hint("name the file of its private key in sslkey"),
        );
    };
    let key = private_key(&path)?;
    provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|error| DbError::other(format!("sslkey {}: {error}", path.display())))?;
    Ok(Some((own, key)))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, DbError> {
    let shown = path.display();
    let refused = |why: &str| DbError::other(format!("sslkey {shown}: {why}"));
    let about = std::fs::metadata(path).map_err(|error| refused(&error.to_string()))?;
    // libpq's rule: a key is its owner's alone, or root's and its group's.
    let open = if about.uid() == 0 { 0o137 } else { 0o177 };
    if about.mode() & open != 0 {
        return Err(
            refused("is open to others and was not read").with_hint(format!("chmod 600 {shown}"))
        );
    }
    let bytes = std::fs::read(path).map_err(|error| refused(&error.to_string()))?;
    if let Ok(key) = PrivateKeyDer::from_pem_slice(&bytes) {
        return Ok(key);
    }
    if !bytes.starts_with(b"-----") {
        // Not PEM: libpq then takes it for DER.
        return PrivateKeyDer::try_from(bytes).map_err(refused);
    }
    Err(
        refused("is not a private key that can be read; it may be encrypted").with_hint(format!(
            "store it without a passphrase: openssl pkey -in {shown} -out KEY"
        )),
    )
}

/// The versions of TLS that may be used.
fn versions(settings: &Settings) -> Result<Vec<&'static SupportedProtocolVersion>, DbError> {
    let bound = |name: &str, default: u8| match settings.get(name) {
        None => Ok(default),
        Some("TLSv1" | "TLSv1.0" | "TLSv1.1") => Ok(1),
        Some("TLSv1.2") => Ok(2),
        Some("TLSv1.3") => Ok(3),
        Some(other) => Err(DbError::other(format!(
            "{name}={other} is not a version of TLS"
        ))),
    };
    let (least, most) = (
        bound("ssl_min_protocol_version", 2)?,
        bound("ssl_max_protocol_version", 3)?,
    );
    let known = [(2, &version::TLS12), (3, &version::TLS13)];
    let usable: Vec<_> = known
        .into_iter()
        .filter(|(number, _)| (least..=most).contains(number))
        .map(|(_, version)| version)
        .collect();
    if usable.is_empty() {
        return Err(DbError::other(
            "ssl_min_protocol_version and ssl_max_protocol_version leave no version of TLS; 1.2 and 1.3 are known",
        ));
    }
    Ok(usable)
}
