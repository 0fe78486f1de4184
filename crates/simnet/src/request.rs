//! The head of a request, as far as the practice servers look at it.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longest head that is read.
const MAX_HEAD: usize = 64 << 10;

/// A request without a body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// The path, its escapes resolved.
    pub(crate) path: String,
    /// The name and port that it was sent to, in lower case.
    pub(crate) host: String,
    /// Whether the client takes gzip.
    pub(crate) takes_gzip: bool,
    /// Whether it comes with a user and a password.
    pub(crate) has_credentials: bool,
    /// The key of a WebSocket that it asks for.
    pub(crate) websocket: Option<String>,
    parameters: Vec<(String, String)>,
}

impl Request {
    /// The value of a parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The key in the tree of the record that the query names.
    pub(crate) fn record_key(&self) -> String {
        let parameter = |name: &str| self.parameter(name).unwrap_or_default();
        format!("{}/{}", parameter("collection"), parameter("rkey"))
    }
}

/// The next request of a connection. `buffer` keeps what was read beyond it. `None` at the end, or
/// if what comes is not HTTP.
pub(crate) async fn read(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> std::io::Result<Option<Request>> {
    loop {
        match parse(buffer) {
            Ok(Some((length, request))) => {
                buffer.drain(..length);
                return Ok(Some(request));
            }
            Ok(None) if buffer.len() <= MAX_HEAD => {}
            _ => return Ok(None),
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// A complete head and its length; nothing if more has to come.
fn parse(buffer: &[u8]) -> Result<Option<(usize, Request)>, httparse::Error> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(buffer)? else {
        return Ok(None);
    };
    let header = |name: &str| {
        let found = request
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let is_websocket =
        header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let request = Request {
        path: unescape(path),
        host: header("host").unwrap_or_default().to_ascii_lowercase(),
        takes_gzip: header("accept-encoding").is_some_and(|value| value.contains("gzip")),
        has_credentials: header("authorization").is_some(),
        websocket: header("sec-websocket-key").filter(|_| is_websocket),
        parameters: pairs
            .map(|(key, value)| (unescape(key), unescape(value)))
            .collect(),
    };
    Ok(Some((length, request)))
}

/// Resolves `%3A` and the like.
fn unescape(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let escaped = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{parse, unescape};

    #[test]
    fn heads_are_read_whole_or_not_at_all() {
        let head = b"GET /a%3Ab?did=did%3Aweb%3Ax%253A1&limit=5 HTTP/1.1\r\nHost: A.test\r\nAccept-Encoding: br, gzip\r\n\r\nmore";
        let (length, request) = parse(head).unwrap().unwrap();
        assert_eq!((length, request.path.as_str()), (head.len() - 4, "/a:b"));
        assert_eq!(request.parameter("did"), Some("did:web:x%3A1"));
        assert_eq!(
            (request.parameter("limit"), request.parameter("cursor")),
            (Some("5"), None)
        );
        assert!(request.host == "a.test" && request.takes_gzip && request.websocket.is_none());
        assert!(parse(&head[..40]).unwrap().is_none());
        assert!(parse(b"\x16\x03\x01 hello of TLS").is_err());
        assert_eq!(unescape("%zz%4"), "%zz%4");
    }
}
