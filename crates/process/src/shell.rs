//! Lines for a shell that people copy: words are quoted, and no password gets into them.

/// What stands for a password.
pub const PASSWORD: &str = "PASSWORD";

/// Words as a line for a shell.
#[must_use]
pub fn line(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    quoted.join(" ")
}

/// A word as a shell takes it.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Whether it is a URL, or a list of settings of a connection, with a password.
#[must_use]
pub fn has_secret(value: &str) -> bool {
    without_secret(value) != value
}

/// The same with [`PASSWORD`] for each password. URLs of PostgreSQL need not be URLs elsewhere, so
/// their text is looked at.
#[must_use]
pub fn without_secret(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return match value.contains("password") && value.contains('=') {
            true => PASSWORD.to_owned(),
            false => value.to_owned(),
        };
    };
    let (place, options) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    if options.contains("password") {
        return PASSWORD.to_owned();
    }
    let with_password = place
        .rsplit_once('@')
        .and_then(|(user, host)| Some((user.split_once(':')?.0, host)));
    match with_password {
        Some((user, host)) => format!("{scheme}://{user}:{PASSWORD}@{host}{options}"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_gets_into_a_line() {
        for (value, shown) in [
            ("postgresql://u:hunter2@h/d", "postgresql://u:PASSWORD@h/d"),
            (
                "postgresql://u:hunter2@/d?host=/run",
                "postgresql://u:PASSWORD@/d?host=/run",
            ),
            (
                "postgresql://u:hunt/er@2@h/d",
                "postgresql://u:PASSWORD@h/d",
            ),
            ("postgresql://u@h/d", "postgresql://u@h/d"),
            ("http://127.0.0.1:80/a", "http://127.0.0.1:80/a"),
            ("postgresql:///d?host=/run&password=hunter2", "PASSWORD"),
            ("host=h password=hunter2", "PASSWORD"),
            ("https://plc.directory", "https://plc.directory"),
            ("did:plc:abc", "did:plc:abc"),
        ] {
            assert_eq!(without_secret(value), shown);
        }
        assert_eq!(quoted("a b's"), r"'a b'\''s'");
        assert_eq!(
            quoted("http://127.0.0.1:80/?a=b"),
            "'http://127.0.0.1:80/?a=b'"
        );
    }
}
