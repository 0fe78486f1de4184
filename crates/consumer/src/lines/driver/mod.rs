//! Two ways to talk to PostgreSQL: the Rust driver, and libpq (feature `pg-native`), as the
//! original scripts have it. The line form goes through [`Driver`]; everything else uses the Rust
//! client directly.

#[cfg(feature = "pg-native")]
mod native;
mod rust;
mod statements;

pub use statements::Driver;

use pg::DbError;
use process::Failure;

/// Which driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// The Rust driver.
    Rust,
    /// libpq.
    Native,
}

impl DriverKind {
    /// libpq if it is asked for, else the Rust driver.
    ///
    /// # Errors
    /// This build does not have it.
    pub fn chosen(native: bool) -> Result<Self, Failure> {
        let driver = if native { Self::Native } else { Self::Rust };
        if driver.is_built_in() {
            return Ok(driver);
        }
        Err(
        Failure::usage("--pg-native or CONSUMER_PG_NATIVE asks for libpq, but this skyfill was built without it").hint(
            "leave it out to use the built-in driver, which does the same; or build skyfill with: cargo build --release --features pg-native \
             (Debian: libpq-dev is needed)",
        ),
    )
    }

    /// Whether this build has it.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Rust => true,
            Self::Native => cfg!(feature = "pg-native"),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn connect(self, url: &str) -> Result<Box<dyn Driver>, DbError> {
        match self {
            Self::Rust => Ok(Box::new(rust::RustDriver::connect(url)?)),
            #[cfg(feature = "pg-native")]
            Self::Native => Ok(Box::new(native::NativeDriver::connect(url)?)),
            #[cfg(not(feature = "pg-native"))]
            Self::Native => Err(DbError::other(
                "this skyfill was built without libpq; build it with --features pg-native",
            )),
        }
    }
}
