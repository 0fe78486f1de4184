//! The dashboard's server, asked as browsers, Prometheus and attackers ask it.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use testbed::*;

/// A token as an operator makes one.
const TOKEN: &str = "9b1f0c2d4e5a69788796a5b4";
/// The server disconnects clients that hold it up long before this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A database with a small network in it, for all tests of this module and of `browser`.
pub(crate) fn filled() -> &'static TestDb {
    static FILLED: OnceLock<TestDb> = OnceLock::new();
    FILLED.get_or_init(|| {
        let net = Net::of_tangle(&simnet::Tangle::new(7, 12, 300));
        let db = TestDb::migrated();
        let dir = folder();
        let dids = net.dids.iter().map(String::as_str);
        let file = did_file(dir.path(), &net.server.url(), dids);
        run_well(run_load(&db.url).arg(file).arg("--no-verify"));
        // What hosts may be called, and more failures than a page has.
        db.client()
            .batch_execute(
                r#"INSERT INTO skyfill.host (schema_name, host, failed, learned) VALUES
                    ('bsky', E'<script>document.title=''owned''</script>\x1b[31m\u202egnp.exe', 3, '{"limit":{"requests":300,"seconds":60}}'),
                    ('bsky', 'slow.example', 117, '{"ceiling":2.5,"lessons":1,"concurrency":4}');
                  INSERT INTO skyfill.repo (schema_name, did, pds, host, state, error_code, error, attempts, next_attempt)
                  SELECT 'bsky', 'did:plc:' || lpad(n::text, 24, 'a'), 'https://slow.example',
                    CASE WHEN n % 40 = 0 THEN E'<script>document.title=''owned''</script>\x1b[31m\u202egnp.exe' ELSE 'slow.example' END,
                    'failed', CASE WHEN n % 40 = 0 THEN 'forged' ELSE 'timeout' END,
                    CASE WHEN n % 40 = 0 THEN '<img src=x onerror=document.title=1>' ELSE 'nothing came for 60 s' END, 3, now() + interval '1 hour'
                  FROM generate_series(1, 120) n"#,
            )
            .unwrap();
        db
    })
}

/// A dashboard over a database.
pub(crate) struct Served {
    pub(crate) process: Watched,
    pub(crate) address: SocketAddr,
    /// What it printed as its link, after the address.
    pub(crate) link: String,
}

impl Served {
    /// Starts a command that serves one.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = Watched::start(command);
        process.wait_for("dashboard: http://");
        let printed = process.printed();
        let line = printed.split("dashboard: http://").nth(1).unwrap();
        let (address, link) = line.lines().next().unwrap().split_once('/').unwrap();
        Self {
            address: address.parse().unwrap(),
            link: format!("/{link}"),
            process,
        }
    }

    /// `skyfill dashboard` over a database.
    pub(crate) fn over(db: &TestDb) -> Self {
        Self::start(
            skyfill()
                .args(["dashboard", "--listen", "127.0.0.1:0"])
                .env("BSKY_DB_POSTGRES_URL", &db.url),
        )
    }

    fn with_token(db: &TestDb) -> Self {
        Self::start(
            skyfill()
                .args(["dashboard", "--listen", "127.0.0.1:0"])
                .args(["--listen-name", "fill.example"])
                .env("SKYFILL_LISTEN_TOKEN", TOKEN)
                .env("BSKY_DB_POSTGRES_URL", &db.url),
        )
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The whole answer to these bytes.
    fn send(&self, request: &str) -> String {
        let mut stream = self.connect();
        // A server that refuses may close before all of it is sent.
        let _refused = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get_with(&self, path: &str, header: &str) -> String {
        let host = match header.starts_with("Host:") {
            true => String::new(),
            false => format!("Host: {}\r\n", self.address),
        };
        self.send(&format!(
            "GET {path} HTTP/1.1\r\n{host}{header}Connection: close\r\n\r\n"
        ))
    }

    fn get(&self, path: &str) -> String {
        self.get_with(path, "")
    }

    /// The body of a path once it contains `text`: the database is asked by other threads.
    fn wait_for(&self, path: &str, text: &str) -> String {
        let mut body = String::new();
        wait_until(&format!("{text} in {path}"), || {
            let answer = self.get(path);
            body = answer
                .split_once("\r\n\r\n")
                .unwrap_or_default()
                .1
                .to_owned();
            body.contains(text)
        });
        body
    }
}

fn status(answer: &str) -> u16 {
    let word = answer.split(' ').nth(1).unwrap_or_default();
    word.parse()
        .unwrap_or_else(|_| panic!("no status: {answer:?}"))
}

#[test]
fn only_what_is_ours_is_answered() {
    let served = Served::over(filled());
    for path in [
        "/",
        "/app.js",
        "/health",
        "/metrics",
        "/api/state",
        "/api/history",
        "/api/hosts",
    ] {
        let answer = served.get(path);
        assert_eq!(status(&answer), 200, "{path}: {answer}");
        let head = answer
            .split("\r\n\r\n")
            .next()
            .unwrap()
            .to_ascii_lowercase();
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "referrer-policy: no-referrer",
            "x-frame-options: deny",
            "content-type: ",
        ] {
            assert!(head.contains(header), "{path} without {header}: {head}");
        }
        assert!(!head.contains("access-control-allow"), "{head}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "fill.example",
    ] {
        for path in ["/", "/health", "/metrics", "/sign-in?key=a"] {
            let answer = served.get_with(path, &format!("Host: {host}\r\n"));
            assert_eq!(status(&answer), 421, "{host}{path}: {answer}");
        }
    }
    let address = served.address;
    for (request, expected) in [
        (
            format!(
                "POST /api/state HTTP/1.1\r\nHost: {address}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
            ),
            405,
        ),
        (
            format!("DELETE / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
            405,
        ),
        (
            format!("OPTIONS * HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
            405,
        ),
        (
            format!(
                "GET http://evil.example/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
            ),
            421,
        ),
        (
            "GET / HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
            421,
        ),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), 421),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        assert_eq!(status(&served.send(&request)), expected, "{request}");
    }
    for path in [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/api/../metrics",
        "/app.js/",
        "/APP.JS",
        "/api",
        "/page/index.html",
        "/.git/config",
    ] {
        let answer = served.get(path);
        assert_eq!(status(&answer), 404, "{path}: {answer}");
        assert!(!answer.contains("root:"));
    }
    let head = served.send(&format!(
        "HEAD / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    ));
    assert!(status(&head) == 200 && head.ends_with("\r\n\r\n"), "{head}");
    // Parameters that are no question.
    for path in [
        "/api/account",
        "/api/failed?time=now()&did=a",
        "/api/failed?time=x'&did=a",
        &format!("/api/account?did={}", "a".repeat(3000)),
    ] {
        assert_eq!(status(&served.get(path)), 400, "{path}");
    }
    assert_eq!(status(&served.get("/api/account?did=did:plc:nobody")), 404);
    assert_eq!(status(&served.get("/api/account?did='%20OR%201=1--")), 404);
}

#[test]
fn pages_of_hosts_and_failures_are_bounded_and_whole() {
    let served = Served::over(filled());
    let hosts = served.wait_for("/api/hosts?q=slow", "\"repos\":117");
    let hosts: Value = serde_json::from_str(&hosts).unwrap();
    assert_eq!((&hosts["found"], &hosts["all"]), (&json!(1), &json!(3)));
    assert_eq!(hosts["hosts"][0]["rate"], 2.5);
    assert_eq!(hosts["hosts"][0]["failed"], 117);
    let (mut seen, mut place) = (BTreeSet::new(), String::new());
    for expected in [50, 50, 20] {
        let page = served.get(&format!("/api/failed?{place}"));
        let page: Value = serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap();
        let repos = page["repos"].as_array().unwrap();
        assert_eq!(repos.len(), expected);
        seen.extend(
            repos
                .iter()
                .map(|repo| repo["did"].as_str().unwrap().to_owned()),
        );
        if let (Some(time), Some(did)) =
            (page["next"]["time"].as_str(), page["next"]["did"].as_str())
        {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs([("time", time), ("did", did)])
                .finish();
            place = query;
        }
    }
    assert_eq!(seen.len(), 120);
    let forged = served.wait_for("/api/failed?code=forged", "\"next\":null");
    assert_eq!(forged.matches("\"did\"").count(), 3, "{forged}");
    let account = served.wait_for(&format!("/api/account?did=did:plc:{:a>24}", 1), "failed");
    assert!(
        account.contains("nothing came for 60 s") && account.contains("the next attempt is due"),
        "{account}"
    );
}

#[test]
fn metrics_are_those_of_the_reference() {
    let served = Served::over(filled());
    let text = served.wait_for("/metrics", "skyfill_postgres_table_bytes{");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    let reference = fs::read_to_string(page).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let names: BTreeSet<&str> = samples
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    assert!(names.len() > 10, "{text}");
    for name in names {
        assert!(
            reference.contains(&format!("| `{name}` |")),
            "{name} is not documented"
        );
    }
    let text = served.wait_for("/metrics", "skyfill_failed_repos{code=\"timeout\"} 117");
    assert!(
        text.contains("skyfill_repos{state=\"loaded\"} 12"),
        "{text}"
    );
    assert!(text.contains("skyfill_database_up 1"), "{text}");
}

#[test]
fn without_the_token_there_is_nothing_to_see() {
    let served = Served::with_token(filled());
    for path in [
        "/metrics",
        "/api/state",
        "/api/hosts",
        "/api/failed",
        "/api/account?did=a",
        "/sign-in",
    ] {
        for header in [
            "",
            "Authorization: Bearer wrong-wrong-wrong-wrong\r\n",
            "Authorization: Bearer \r\n",
            &format!("Authorization: Basic {TOKEN}\r\n"),
            &format!("Cookie: token={TOKEN}\r\n"),
        ] {
            let answer = served.get_with(path, header);
            assert_eq!(status(&answer), 401, "{path} {header}: {answer}");
            assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
        }
    }
    // The page to sign in with, and whether it is alive, are for everybody.
    let page = served.get("/");
    assert!(
        status(&page) == 401 && page.contains("needs a token"),
        "{page}"
    );
    assert_eq!(status(&served.get("/health")), 200);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(status(&served.get_with("/api/state", &bearer)), 200);
    let by_name = format!("Host: FILL.example:80\r\n{bearer}");
    assert_eq!(status(&served.get_with("/metrics", &by_name)), 200);
    // The link works once, and gives a cookie.
    assert_eq!(status(&served.get("/sign-in?key=wrong")), 401);
    let first = served.get(&served.link);
    assert_eq!(status(&first), 303, "{first}");
    assert_eq!(status(&served.get(&served.link)), 401);
    let cookie = first
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();
    let with_cookie = served.get_with("/api/state", &format!("Cookie: {cookie}\r\n"));
    assert_eq!(status(&with_cookie), 200);
    let printed = served.process.printed();
    assert!(!printed.contains(TOKEN), "{printed}");
}

#[test]
fn an_address_that_others_reach_needs_a_token() {
    let refuse = |listen: &str, token: &str| {
        let mut command = skyfill();
        command.args(["dashboard", "--listen", listen]);
        command.env("BSKY_DB_POSTGRES_URL", &filled().url);
        if !token.is_empty() {
            command.env("SKYFILL_LISTEN_TOKEN", token);
        }
        let output = command.output().unwrap();
        (output.status.code(), told(&output))
    };
    let (code, text) = refuse("0.0.0.0:0", "");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("SKYFILL_LISTEN_TOKEN"), "{text}");
    let (code, text) = refuse("0.0.0.0:0", "too short");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("openssl rand"), "{text}");
    let served = Served::over(filled());
    let (code, text) = refuse(&served.address.to_string(), "");
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("--listen"), "{text}");
}

#[test]
fn large_and_slow_and_many_clients_cost_themselves() {
    process::connections::allow_many();
    let served = Served::over(filled());
    let address = served.address;
    let large = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nX: {}\r\n\r\n",
        "a".repeat(100_000)
    );
    let answer = served.send(&large);
    assert!(answer.is_empty() || status(&answer) == 431, "{answer}");
    let lines = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\n{}\r\n",
        "X: a\r\n".repeat(100)
    );
    assert_eq!(status(&served.send(&lines)), 431);
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: {address}\r\n\r\n",
        "a".repeat(100_000)
    );
    let answer = served.send(&long);
    assert!(
        answer.is_empty() || matches!(status(&answer), 414 | 431),
        "{answer}"
    );
    // A thousand that say nothing, and some that say a little.
    let begun = Instant::now();
    let mut held: Vec<TcpStream> = (0..1000).map(|_| served.connect()).collect();
    for stream in held.iter_mut().take(100) {
        let _closed = stream.write_all(b"GET / HTTP/1.1\r\nHost: ");
    }
    let open = open_files(served.process.child.id());
    assert!(open <= 128 + 40, "{open} open files");
    // Each is closed by the server, at once or when it had its time.
    for stream in &mut held {
        let mut rest = Vec::new();
        let _reset = stream.read_to_end(&mut rest);
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert_eq!(status(&served.get("/api/state")), 200);
    assert!(peak_kib(served.process.child.id()) < 200_000);
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
