//! An object store for tests: moto's server, which knows the interface of S3, on loopback, behind a
//! gate that cuts the way to it.
//!
//! `scripts/setup.sh test` installs it from PyPI into `target/tools/moto`.

use crate::database::target;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// The bucket of every store.
const BUCKET: &str = "archive";
/// The server asks for a signature, and does not check it.
const SIGNED: &str = "Authorization: AWS4-HMAC-SHA256 \
    Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n";

/// A store with one bucket. It ends with the value.
pub struct ObjectStore {
    server: Child,
    address: SocketAddr,
    gate: Arc<Gate>,
    /// Its side of the gate.
    outside: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

/// The way to the server.
#[derive(Default)]
struct Gate(Mutex<Way>);

#[derive(Default)]
struct Way {
    is_cut: bool,
    open: Vec<TcpStream>,
}

impl Gate {
    fn way(&self) -> std::sync::MutexGuard<'_, Way> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on a connection, until either side ends it or the way is cut.
    fn pass(self: &Arc<Self>, client: &TcpStream, to: SocketAddr) {
        let mut way = self.way();
        let server = TcpStream::connect(to);
        let (Ok(server), false) = (server, way.is_cut) else {
            return;
        };
        for (from, to) in [(client, &server), (&server, client)] {
            let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else {
                return;
            };
            way.open.extend(from.try_clone());
            std::thread::spawn(move || {
                // However it ends, both sides learn it.
                drop(std::io::copy(&mut from, &mut to));
                drop(to.shutdown(Shutdown::Write));
            });
        }
    }
}

impl ObjectStore {
    /// Starts one with an empty bucket that any credentials open.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one that knows no credentials.
    #[must_use]
    pub fn start_closed() -> Self {
        // The bucket is made by the one request that needs none.
        Self::start_with(&[("INITIAL_NO_AUTH_ACTION_COUNT", "1")])
    }

    fn start_with(environment: &[(&str, &str)]) -> Self {
        let target = target();
        let program = target.join("tools/moto/bin/moto_server");
        assert!(
            program.exists(),
            "{} is absent; install it: scripts/setup.sh test",
            program.display()
        );
        let mut server = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start moto's server");
        let mut lines = BufReader::new(server.stderr.take().expect("its stderr")).lines();
        let address = loop {
            let line = lines.next().expect("it told no address").expect("a line");
            if let Some((_, address)) = line.split_once("Running on http://") {
                break address.trim().parse().expect("an address");
            }
        };
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                noted.lock().expect("the requests").push(line);
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the gate");
        let outside = listener.local_addr().expect("its address");
        let gate = Arc::<Gate>::default();
        let passing = Arc::clone(&gate);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                passing.pass(&client, address);
            }
        });
        let store = Self {
            server,
            address,
            gate,
            outside,
            requests,
        };
        assert_eq!(store.request("PUT", "", &[]).0, 200, "make a bucket");
        store
    }

    /// A place in it, for `--keep-cars` and `--from-cars`.
    #[must_use]
    pub fn place(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// Lets a command use it.
    pub fn allow<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let endpoint = format!("endpoint=http://{}", self.outside);
        command.args(["--store-option", &endpoint]);
        command.args(["--store-option", "allow_http=true"]);
        command.env("AWS_ACCESS_KEY_ID", "test");
        command.env("AWS_SECRET_ACCESS_KEY", "test")
    }

    /// Cuts the way to it, or opens it again.
    pub fn cut(&self, is_cut: bool) {
        let mut way = self.gate.way();
        way.is_cut = is_cut;
        for stream in way.open.drain(..) {
            // One that has ended already is as good as cut.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// The requests so far with this method and a path that contains this text.
    #[must_use]
    pub fn requests(&self, method: &str, text: &str) -> usize {
        let requests = self.requests.lock().expect("the requests");
        let is_such = |line: &&String| {
            let asked = line.split(method).nth(1);
            asked.is_some_and(|asked| asked.starts_with(' ') && asked.contains(text))
        };
        requests.iter().filter(is_such).count()
    }

    /// The objects below a prefix, by name, with their contents.
    #[must_use]
    pub fn objects(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let (status, list) = self.request("GET", &format!("?list-type=2&prefix={prefix}/"), &[]);
        assert_eq!(status, 200);
        let list = String::from_utf8(list).expect("text");
        assert!(list.contains("<IsTruncated>false"), "{list}");
        let keys = list.split("<Key>").skip(1);
        let names = keys.map(|key| key.split('<').next().unwrap_or_default().to_owned());
        names
            .map(|name| {
                let content = self.request("GET", &format!("/{name}"), &[]).1;
                (name, content)
            })
            .collect()
    }

    /// Overwrites an object.
    pub fn put(&self, name: &str, content: &[u8]) {
        assert_eq!(self.request("PUT", &format!("/{name}"), content).0, 200);
    }

    /// Removes an object.
    pub fn delete(&self, name: &str) {
        assert_eq!(self.request("DELETE", &format!("/{name}"), &[]).0, 204);
    }

    fn request(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).expect("reach moto's server");
        let head = format!(
            "{method} /{BUCKET}{path} HTTP/1.1\r\nHost: {}\r\n{SIGNED}Connection: close\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("send");
        stream.write_all(body).expect("send");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let content = answer.split_off(end.expect("a head") + 4);
        let status = answer
            .get(9..12)
            .and_then(|code| std::str::from_utf8(code).ok());
        (
            status.and_then(|code| code.parse().ok()).expect("a status"),
            content,
        )
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
