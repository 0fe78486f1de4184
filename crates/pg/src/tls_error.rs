//! The TLS error inside an error of the driver.

use rustls::Error;
use std::io;

/// The error of rustls that an error of the driver comes from, if it comes from one.
pub(crate) fn rustls_error(error: &postgres::Error) -> Option<&Error> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        // An error inside an I/O error is not its source.
        let inside = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .and_then(|inside| inside.downcast_ref::<Error>());
        if inside.is_some() {
            return inside;
        }
        source = error.source();
    }
    None
}

/// Whether the server closed the connection while this side wrote.
pub(crate) fn is_cut(error: &postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let kind = error.kind();
            return matches!(
                kind,
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            );
        }
        source = error.source();
    }
    false
}
