//! The password file, `.pgpass` (manual, "The Password File").

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whom a password is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whom<'w> {
    pub(super) host: &'w str,
    pub(super) port: u16,
    pub(super) database: &'w str,
    pub(super) user: &'w str,
}

/// What the file has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The password.
    Password(String),
    /// No line for it, or no file.
    Nothing,
    /// The file is not read, as libpq would not read it.
    Refused(String),
}

/// Looks a password up.
pub(super) fn look_up(path: &Path, whom: Whom<'_>) -> Found {
    let refused = |why: &str| Found::Refused(format!("password file {} {why}", path.display()));
    let Ok(about) = std::fs::metadata(path) else {
        return Found::Nothing;
    };
    if !about.is_file() {
        return refused("is not a file and was not read");
    }
    if about.mode() & 0o077 != 0 {
        return refused("is open to others and was not read: chmod 600 it");
    }
    match std::fs::read_to_string(path) {
        Ok(text) => text
            .lines()
            .find_map(|line| password(line, whom))
            .map_or(Found::Nothing, Found::Password),
        Err(error) => refused(&format!("was not read: {error}")),
    }
}

/// The password of a line that is for `whom`.
fn password(line: &str, whom: Whom<'_>) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let port = whom.port.to_string();
    let mut rest = line;
    for wanted in [whom.host, &port, whom.database, whom.user] {
        let (field, after) = field(rest)?;
        if field != wanted && rest.get(..2) != Some("*:") {
            return None;
        }
        rest = after;
    }
    // The rest of the line; escapes count in it, too.
    let mut password = String::new();
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => password.extend(letters.next()),
            ':' => break,
            letter => password.push(letter),
        }
    }
    Some(password)
}

/// The text up to the next colon that is not escaped, and what follows that.
fn field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => field.extend(letters.next().map(|(_, escaped)| escaped)),
            ':' => return Some((field, &text[at + 1..])),
            letter => field.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    const WHOM: Whom<'_> = Whom {
        host: "h",
        port: 5432,
        database: "d",
        user: "u",
    };

    #[test]
    fn the_first_line_that_fits_counts() {
        for (line, found) in [
            ("h:5432:d:u:secret", Some("secret")),
            ("*:*:*:*:secret", Some("secret")),
            (r"h:5432:d:u:a\:b\\c", Some(r"a:b\c")),
            ("#h:5432:d:u:secret", None),
            ("h:5433:d:u:secret", None),
            ("h:5432:d:secret", None),
            (r"\*:5432:d:u:secret", None),
        ] {
            assert_eq!(password(line, WHOM).as_deref(), found, "{line}");
        }
        let socket = Whom {
            host: "/run/a:b",
            ..WHOM
        };
        let line = r"/run/a\:b:*:*:*:secret";
        assert_eq!(password(line, socket).as_deref(), Some("secret"));
    }

    #[test]
    fn a_file_open_to_others_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x:1:d:u:other\nh:*:*:u:secret\n").unwrap();
        set_permissions(file.path(), Permissions::from_mode(0o600)).unwrap();
        assert_eq!(
            look_up(file.path(), WHOM),
            Found::Password("secret".to_owned())
        );
        set_permissions(file.path(), Permissions::from_mode(0o640)).unwrap();
        assert!(
            matches!(look_up(file.path(), WHOM), Found::Refused(why) if why.contains("chmod 600"))
        );
        assert_eq!(look_up(Path::new("/nowhere/at/all"), WHOM), Found::Nothing);
    }
}
