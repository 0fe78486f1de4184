//! Material that tests do not make themselves. What was generated is in the crate's folder
//! `material`. Real repos hold real people's posts: they stay at `../shared`, beside the clone.

use std::path::{Path, PathBuf};

/// A file or folder of `crates/testbed/material`.
#[must_use]
pub fn material(what: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("material")
        .join(what);
    assert!(path.exists(), "{} is absent", path.display());
    path
}

/// A file or folder of `../shared`.
///
/// # Panics
/// If it is absent: a test that compares with nothing must not pass. Tests that need it are
/// declared with [`needs_shared!`](crate::needs_shared), so that a machine without `../shared` can
/// have them listed as ignored.
#[must_use]
pub fn shared(what: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let path = root.join("shared").join(what);
    assert!(
        path.exists(),
        "{} is absent. Place the project's shared folder beside the clone (or a link to it: \
         ln -s FOLDER {}), or set SKYFILL_TESTS_WITHOUT_SHARED=1 to have the tests that need it \
         ignored.",
        path.display(),
        root.join("shared").display()
    );
    path
}

/// Declares tests that need `../shared`. With `SKYFILL_TESTS_WITHOUT_SHARED=1` they are listed as
/// ignored; without it they fail where `../shared` is absent.
#[cfg(not(without_shared))]
#[macro_export]
macro_rules! needs_shared {
    ($($(#[$attribute:meta])* fn $name:ident() $body:block)+) => {
        $($(#[$attribute])* #[test] fn $name() $body)+
    };
}

/// Declares tests that need `../shared`, which this build was told is absent: they are ignored.
#[cfg(without_shared)]
#[macro_export]
macro_rules! needs_shared {
    ($($(#[$attribute:meta])* fn $name:ident() $body:block)+) => {
        $($(#[$attribute])* #[test] #[ignore = "needs ../shared, which is absent"] fn $name() $body)+
    };
}
