//! The TLS error inside an error of the driver.

use rustls::Error;

/// The error of rustls that an error of the driver comes from, if it comes from one.
pub(crate) fn rustls_error(error: &postgres::Error) -> Option<&Error> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        // An error inside an I/O error is not its source.
        let inside = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inside| inside.downcast_ref::<Error>());
        if inside.is_some() {
            return inside;
        }
        source = error.source();
    }
    None
}
