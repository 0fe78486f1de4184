//! Connection strings: URLs and `key=value` pairs, as libpq reads them (manual, "Connection
//! Strings").

/// The settings of a string, in its order; or why it is none.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = text.trim();
    let url = ["postgresql://", "postgres://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    match url {
        Some(rest) => parse_url(rest),
        None if text.is_empty() || text.contains('=') => parse_pairs(text),
        None => Err(
            "it is neither a URL that begins with postgresql:// nor a list of key=value".to_owned(),
        ),
    }
}

fn parse_url(rest: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: &str| -> Result<(), String> {
        if !value.is_empty() {
            found.push((name.to_owned(), decoded(value)?));
        }
        Ok(())
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    add("user", user)?;
    add("password", password)?;
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (host, port) = host_and_port(host)?;
        names.push(host);
        ports.push(port);
    }
    if names.iter().any(|host| !host.is_empty()) {
        add("host", &names.join(","))?;
    }
    if ports.iter().any(|port| !port.is_empty()) {
        add("port", &ports.join(","))?;
    }
    add("dbname", name)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(format!("its parameter {pair:?} has no value"));
        };
        match (decoded(name)?.as_str(), value) {
            // As JDBC writes it; libpq takes it, too.
            ("ssl", "true") => found.push(("sslmode".to_owned(), "require".to_owned())),
            (name, value) => found.push((name.to_owned(), decoded(value)?)),
        }
    }
    Ok(found)
}

/// A host and its port, both possibly empty. An IPv6 address stands in brackets.
fn host_and_port(text: &str) -> Result<(&str, &str), String> {
    let Some(rest) = text.strip_prefix('[') else {
        return Ok(text.split_once(':').unwrap_or((text, "")));
    };
    let Some((address, rest)) = rest.split_once(']') else {
        return Err("an IPv6 address has no closing bracket".to_owned());
    };
    match rest.strip_prefix(':') {
        Some(port) => Ok((address, port)),
        None if rest.is_empty() => Ok((address, "")),
        None => Err(format!("{rest:?} stands after an IPv6 address")),
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest
            .get(..2)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return Err("a % is not followed by two hexadecimal digits".to_owned());
        };
        bytes.push(byte);
        rest = &rest[2..];
    }
    if bytes.contains(&0) {
        return Err("it holds %00".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "its percent-encoded text is not UTF-8".to_owned())
}

fn parse_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        // The name alone is repeated in an error: the rest may be a password.
        let Some((name, after)) = rest.split_once('=') else {
            return Err("something stands without = in it".to_owned());
        };
        let name = name.trim_end();
        if name.contains(char::is_whitespace) {
            return Err("something stands without = in it".to_owned());
        }
        let (value, after) = value(after.trim_start(), name)?;
        found.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(found)
}

/// A value, quoted or not, and what follows it.
fn value<'t>(text: &'t str, name: &str) -> Result<(String, &'t str), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut letters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            letter if letter.is_whitespace() && !quoted => return Ok((value, &text[at..])),
            letter => value.push(letter),
        }
    }
    if quoted {
        return Err(format!("the value of {name} has no closing quote"));
    }
    Ok((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        let found = parse(text).unwrap();
        let pairs: Vec<String> = found
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join(" ")
    }

    #[test]
    fn both_forms_say_the_same() {
        let same = "user=u password=p:w host=h port=5 dbname=d sslmode=require";
        assert_eq!(parsed("postgresql://u:p:w@h:5/d?sslmode=require"), same);
        assert_eq!(parsed(" postgres://u:p%3Aw@h:5/d?ssl=true "), same);
        assert_eq!(
            parsed("user=u password = 'p:w' host=h port=5 dbname=d sslmode=require"),
            same
        );
    }

    #[test]
    fn urls_have_sockets_addresses_and_several_hosts() {
        for (url, said) in [
            ("postgresql://", ""),
            ("postgresql:///d", "dbname=d"),
            ("postgresql://[::1]/d", "host=::1 dbname=d"),
            ("postgresql://[fe80::2]:6/d", "host=fe80::2 port=6 dbname=d"),
            ("postgresql://%2Frun%2Fpg/d", "host=/run/pg dbname=d"),
            ("postgresql:///d?host=/run/pg", "dbname=d host=/run/pg"),
            ("postgresql://a:1,b/d", "host=a,b port=1, dbname=d"),
            ("postgresql://u%40x@h", "user=u@x host=h"),
            ("postgresql://:6/d", "port=6 dbname=d"),
        ] {
            assert_eq!(parsed(url), said, "{url}");
        }
    }

    #[test]
    fn pairs_have_quotes_and_escapes() {
        assert_eq!(
            parsed(r"password='it\'s \\ it' user=a\ b  dbname=''"),
            r"password=it's \ it user=a b dbname="
        );
    }

    #[test]
    fn what_is_no_string_is_refused_without_its_secrets() {
        for text in [
            "hunter2",
            "postgresql://u:hunter2@[::1/d",
            "postgresql://u:hunter2%zz@h/d",
            "postgresql://u:hunter2@h/d?sslmode",
            "host=h password='hunter2",
            "host=h hunter2 dbname=d",
            "password=hunter2 x",
        ] {
            let why = parse(text).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
