//! Which requests are answered at all: GET and HEAD, under a name that is ours, with a key where
//! one is needed.
//!
//! The Host header is what keeps other web pages out: a page of `evil.example` whose name suddenly
//! leads to this machine (DNS rebinding) sends its own name there. Addresses cannot be rebound, so
//! they are accepted, like `localhost`; other names only if the operator gave them.

use crate::keys::Keys;
use hyper::header::{AUTHORIZATION, COOKIE, HOST};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another method than GET and HEAD.
    Method,
    /// A Host header that is none of ours.
    Host,
    /// No key, or a wrong one.
    Key,
}

impl Refusal {
    /// Status and text.
    pub(crate) fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are answered\n",
            ),
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "this name is not one of the dashboard's; --listen-name adds one\n",
            ),
            Self::Key => (
                StatusCode::UNAUTHORIZED,
                "send the token as Authorization: Bearer TOKEN\n",
            ),
        }
    }
}

/// What a dashboard goes by.
pub(crate) struct Guard {
    /// Names besides `localhost` and addresses, in lower case.
    pub(crate) names: Vec<String>,
    pub(crate) keys: Keys,
    /// Name of its cookie. Cookies are for all ports of a host, so each port has a name.
    pub(crate) cookie: String,
}

impl Guard {
    /// Whether it may be answered, whoever asks.
    pub(crate) fn admits(&self, request: &Parts) -> Result<(), Refusal> {
        if request.method != Method::GET && request.method != Method::HEAD {
            return Err(Refusal::Method);
        }
        let mut hosts = request.headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Refusal::Host);
        };
        // A target with an authority of its own is for proxies.
        if request.uri.authority().is_some() {
            return Err(Refusal::Host);
        }
        let name = host.to_str().ok().and_then(name_of).ok_or(Refusal::Host)?;
        match self.is_ours(&name) {
            true => Ok(()),
            false => Err(Refusal::Host),
        }
    }

    fn is_ours(&self, name: &str) -> bool {
        let bare = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        name == "localhost"
            || name.parse::<Ipv4Addr>().is_ok()
            || bare.is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok())
            || self.names.iter().any(|ours| ours == name)
    }

    /// Whether it comes with a key, or needs none.
    pub(crate) fn knows(&self, request: &Parts) -> Result<(), Refusal> {
        if self.keys.is_open() || self.shows_token(request) {
            return Ok(());
        }
        let prefix = format!("{}=", self.cookie);
        let cookies = request.headers.get_all(COOKIE).iter();
        let is_signed_in = cookies
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(&prefix))
            .any(|cookie| self.keys.is_cookie(cookie));
        match is_signed_in {
            true => Ok(()),
            false => Err(Refusal::Key),
        }
    }

    /// Whether it shows the token itself.
    pub(crate) fn shows_token(&self, request: &Parts) -> bool {
        let value = request.headers.get(AUTHORIZATION);
        let text = value.and_then(|value| value.to_str().ok());
        let token = text
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        token.is_some_and(|(_, token)| self.keys.is_token(token.trim()))
    }
}

/// The name in a Host header, without its port, in lower case.
fn name_of(host: &str) -> Option<String> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let is_sound = !name.is_empty() && port.is_none_or(is_port);
    is_sound.then(|| name.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::keys::Token;
    use hyper::Request;

    fn guard(token: Option<&str>) -> Guard {
        Guard {
            names: vec!["fill.example".to_owned()],
            keys: Keys::new(token.map(|token| Token::parse(token).unwrap())),
            cookie: "skyfill_1".to_owned(),
        }
    }

    fn request(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/api/state");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn names_that_can_be_rebound_are_refused() {
        let guard = guard(None);
        for host in [
            "localhost",
            "localhost:9000",
            "LOCALHOST",
            "127.0.0.1:7455",
            "10.0.0.7",
            "[::1]:7455",
            "[::1]",
            "fill.example",
            "Fill.Example.:443",
        ] {
            let asked = request("GET", &[("host", host)]);
            assert_eq!(guard.admits(&asked), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:7455",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:7455@evil.example",
            "evil.example#localhost",
            "localhost:port",
            "::1",
            "[evil]",
            "2130706433",
            "0x7f.0.0.1",
        ] {
            let asked = request("GET", &[("host", host)]);
            assert_eq!(guard.admits(&asked), Err(Refusal::Host), "{host}");
        }
        assert_eq!(guard.admits(&request("GET", &[])), Err(Refusal::Host));
        let two = request("GET", &[("host", "localhost"), ("host", "evil.example")]);
        assert_eq!(guard.admits(&two), Err(Refusal::Host));
    }

    #[test]
    fn only_get_and_head_are_answered() {
        let guard = guard(None);
        for (method, outcome) in [
            ("GET", Ok(())),
            ("HEAD", Ok(())),
            ("POST", Err(Refusal::Method)),
            ("OPTIONS", Err(Refusal::Method)),
            ("TRACE", Err(Refusal::Method)),
        ] {
            let asked = request(method, &[("host", "localhost")]);
            assert_eq!(guard.admits(&asked), outcome, "{method}");
        }
    }

    #[test]
    fn a_key_is_the_token_or_a_cookie() {
        assert_eq!(guard(None).knows(&request("GET", &[])), Ok(()));
        let guard = guard(Some("0123456789abcdef"));
        let cookie = guard.keys.make_cookie().unwrap();
        let among = format!("a=b; skyfill_1={cookie}; c");
        let other_port = format!("skyfill_2={cookie}");
        for (header, value, is_known) in [
            ("authorization", "Bearer 0123456789abcdef", true),
            ("authorization", "bearer  0123456789abcdef", true),
            ("authorization", "Bearer 0123456789abcdee", false),
            ("authorization", "Basic 0123456789abcdef", false),
            ("authorization", "0123456789abcdef", false),
            ("cookie", &among, true),
            ("cookie", &other_port, false),
            ("cookie", "skyfill_1=", false),
        ] {
            let asked = request("GET", &[(header, value)]);
            assert_eq!(guard.knows(&asked).is_ok(), is_known, "{header}: {value}");
        }
    }
}
