//! URLs without their secrets.

/// `url` as it may be printed: without a password, neither before the host nor among the parameters. What is no URL
/// (libpq's `key=value` form) loses its `password=`.
#[must_use]
pub fn redact(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else {
        let safe = |part: &&str| !part.trim_start().to_ascii_lowercase().starts_with("password");
        return url.split_whitespace().filter(safe).collect::<Vec<_>>().join(" ");
    };
    if parsed.password().is_some() {
        // Refused only for URLs without a host, which have no password.
        let _ = parsed.set_password(Some("***"));
    }
    let secret = |key: &str| key.to_ascii_lowercase().contains("password");
    if parsed.query_pairs().any(|(key, _)| secret(&key)) {
        let kept: Vec<(String, String)> = parsed
            .query_pairs()
            .filter(|(key, _)| !secret(key))
            .map(|(k, v)| (k.into_owned(), v.into_owned()))
            .collect();
        parsed.query_pairs_mut().clear().extend_pairs(kept);
    }
    parsed.to_string()
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn no_password_is_left() {
        assert_eq!(
            redact("postgresql://u:hunter2@h:5432/d"),
            "postgresql://u:***@h:5432/d"
        );
        assert_eq!(
            redact("postgresql://u@h/d?host=/run&password=hunter2"),
            "postgresql://u@h/d?host=%2Frun"
        );
        assert_eq!(redact("host=h password=hunter2 dbname=d"), "host=h dbname=d");
        assert!(!redact("postgresql:///d?sslpassword=hunter2").contains("hunter2"));
    }
}
