//! Checks of values that several commands take. They come before the database is opened, and their
//! messages say what is expected.

use std::net::SocketAddr;

/// An account.
pub(crate) fn did(text: &str) -> Result<String, String> {
    match atrepo::syntax::is_did(text) {
        true => Ok(text.to_owned()),
        false => Err(
            "expected a DID, which begins with did:plc: or did:web:; skyfill run takes handles with --handle"
                .to_owned(),
        ),
    }
}

/// The base of the URLs of a server.
pub(crate) fn web_url(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.to_owned()),
        _ => Err("expected a URL that begins with https:// or http://".to_owned()),
    }
}

/// Where something listens.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an IP address and a port, such as 127.0.0.1:7455 or [::1]:7455".to_owned()
    })
}
