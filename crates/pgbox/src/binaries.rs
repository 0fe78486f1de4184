//! Finds PostgreSQL's programs.

use crate::PgBoxError;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with PostgreSQL's server programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binaries {
    pub(crate) folder: PathBuf,
    /// `15`, `16`, ...
    pub(crate) major: String,
}

impl Binaries {
    /// The path of a program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The binaries for a cluster of version `wanted`, or the first ones found for a new cluster.
    pub(crate) fn find(cluster: &Path, wanted: Option<&str>) -> Result<Self, PgBoxError> {
        let found = installed(&candidates());
        let Some(wanted) = wanted else {
            return found.into_iter().next().ok_or(PgBoxError::NoBinaries);
        };
        let installed = found.iter().map(|b| b.major.clone()).collect();
        let fitting = found.into_iter().find(|b| b.major == wanted);
        fitting.ok_or_else(|| PgBoxError::Version {
            folder: cluster.to_owned(),
            data: wanted.to_owned(),
            installed,
        })
    }

    /// Checks that the extension `pg_trgm` is installed. Without pg_config, the server itself will
    /// report it.
    pub(crate) fn require_trgm(&self) -> Result<(), PgBoxError> {
        let Some(share) = ask(&self.program("pg_config"), "--sharedir") else {
            return Ok(());
        };
        let folder = PathBuf::from(share).join("extension");
        if folder.join("pg_trgm.control").exists() {
            Ok(())
        } else {
            Err(PgBoxError::NoTrgm { folder })
        }
    }
}

/// Where server programs can be, in order of preference.
fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    if let Some(config) = std::env::var_os("PG_CONFIG") {
        folders.extend(ask(Path::new(&config), "--bindir").map(PathBuf::from));
    }
    // Debian and Ubuntu keep each version apart; Homebrew's versioned formulas are keg-only.
    for (root, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/usr/pgsql", ""),
        ("/opt/homebrew/opt", "postgresql"),
        ("/usr/local/opt", "postgresql"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql"),
    ] {
        let mut versions: Vec<PathBuf> = fs::read_dir(root)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path().join("bin"))
            .collect();
        versions.sort();
        folders.extend(versions.into_iter().rev());
    }
    folders
}

/// Those of `folders` that contain all needed programs, with their versions.
fn installed(folders: &[PathBuf]) -> Vec<Binaries> {
    let mut found: Vec<Binaries> = Vec::new();
    for folder in folders {
        if !["postgres", "initdb", "pg_ctl"]
            .iter()
            .all(|name| folder.join(name).is_file())
        {
            continue;
        }
        let Some(version) = ask(&folder.join("postgres"), "--version") else {
            continue;
        };
        let Some(major) = major_of(&version) else {
            continue;
        };
        found.push(Binaries {
            folder: folder.clone(),
            major,
        });
    }
    found
}

/// `postgres (PostgreSQL) 15.18 (Debian ...)` to `15`.
fn major_of(version: &str) -> Option<String> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some(digits)
}

/// What a program prints for one option.
fn ask(program: &Path, option: &str) -> Option<String> {
    let output = Command::new(program).arg(option).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)").as_deref(),
            Some("15")
        );
        assert_eq!(
            major_of("postgres (PostgreSQL) 18beta1").as_deref(),
            Some("18")
        );
        assert_eq!(major_of("psql 15"), None);
    }

    #[test]
    fn a_cluster_of_another_version_is_a_named_error() {
        let error = Binaries::find(Path::new("/x"), Some("7")).unwrap_err();
        assert!(
            matches!(&error, PgBoxError::Version { data, .. } if data == "7"),
            "{error}"
        );
        assert!(error.to_string().contains("made by PostgreSQL 7"));
    }
}
