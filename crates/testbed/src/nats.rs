//! A real NATS server with JetStream on a free port of loopback, and what others than skyfill do
//! with it.

use crate::command::clean;
use crate::database::cluster_folder;
use crate::namespaces::Machines;
use crate::waiting::wait_until;
use data_encoding::BASE64;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMessage {
    /// Its number in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// Where a server of a cluster listens for clients and for the others, and its machine.
type Place = (SocketAddrV4, SocketAddrV4, Option<(Arc<Machines>, u8)>);

/// A server. It is killed with the value.
pub struct Nats {
    process: Child,
    folder: tempfile::TempDir,
    /// Where it listens.
    address: SocketAddrV4,
    /// The machine that it runs on, if that is another one.
    machine: Option<(Arc<Machines>, u8)>,
}

impl Nats {
    /// Starts one with a user `me` who may do what a guide lists: subjects in backquotes, those to
    /// publish to before the word "subscribe". Whoever does not log in may do everything.
    #[must_use]
    pub fn with_rights(listed: &str) -> Self {
        let (publish, subscribe) = listed.split_once("subscribe").expect("both rights");
        let subjects = |text: &str| {
            let subjects: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
            format!("[\"{}\"]", subjects.join("\", \""))
        };
        Self::start(&format!(
            "authorization {{ users = [ {{ user: me, password: right,
               permissions: {{ publish: {}, subscribe: {} }} }},
               {{ user: all, password: right }} ] }}\nno_auth_user: all",
            subjects(publish),
            subjects(subscribe)
        ))
    }

    /// Its URL with that user's password.
    #[must_use]
    pub fn url_of_me(&self) -> String {
        format!("nats://me:right@{}", self.address)
    }

    /// Starts one with these lines in its configuration.
    #[must_use]
    pub fn start(settings: &str) -> Self {
        Self::start_at(here(free_port()), None, settings)
    }

    /// Starts so many as one cluster, and waits until each knows all.
    #[must_use]
    pub fn cluster(size: usize, settings: &str) -> Vec<Self> {
        let places = (0..size).map(|_| (here(free_port()), here(free_port()), None));
        Self::cluster_at(&places.collect::<Vec<_>>(), settings)
    }

    /// Starts a cluster with a server on each of the first machines.
    #[must_use]
    pub fn cluster_on(machines: &Arc<Machines>, size: u8, settings: &str) -> Vec<Self> {
        let place = |machine| {
            let address = machines.address(machine);
            let [clients, routes] = [4222, 6222].map(|port| SocketAddrV4::new(address, port));
            (clients, routes, Some((Arc::clone(machines), machine)))
        };
        Self::cluster_at(&(0..size).map(place).collect::<Vec<_>>(), settings)
    }

    /// Starts a cluster: where each server listens for clients and for the others, and its machine.
    fn cluster_at(places: &[Place], settings: &str) -> Vec<Self> {
        let urls: Vec<String> = places
            .iter()
            .map(|(_, routes, _)| format!("\"nats://{routes}\""))
            .collect();
        let start = |(number, place): (usize, &Place)| {
            let (clients, routes, machine) = place.clone();
            let settings = format!(
                "server_name: n{number}\n\
                 cluster {{ name: test, listen: \"{routes}\", routes: [{}] }}\n{settings}",
                urls.join(", ")
            );
            Self::start_at(clients, machine, &settings)
        };
        let nodes: Vec<Self> = places.iter().enumerate().map(start).collect();
        for node in &nodes {
            node.wait_for_cluster(places.len());
        }
        nodes
    }

    /// Waits until it knows so many servers, itself included, and JetStream has a leader.
    pub fn wait_for_cluster(&self, size: usize) {
        wait_until("the cluster", || {
            let Some((_, line)) = self.connect() else {
                return false;
            };
            let info: Value =
                serde_json::from_str(line.trim_start_matches("INFO ")).unwrap_or_default();
            let known = info["connect_urls"].as_array().map_or(0, Vec::len);
            known >= size && self.ask("STREAM.NAMES").get("error").is_none()
        });
    }

    /// Starts one without JetStream.
    #[must_use]
    pub fn without_jetstream() -> Self {
        let address = here(free_port());
        let config = format!("listen: \"{address}\"\n");
        Self::start_in(cluster_folder(), address, None, &config)
    }

    fn start_at(
        address: SocketAddrV4,
        machine: Option<(Arc<Machines>, u8)>,
        settings: &str,
    ) -> Self {
        let folder = cluster_folder();
        let store = folder.path().join("store");
        let config = format!(
            "listen: \"{address}\"\njetstream {{ store_dir: \"{}\", max_file_store: 10GB }}\n{settings}\n",
            store.display()
        );
        Self::start_in(folder, address, machine, &config)
    }

    fn start_in(
        folder: tempfile::TempDir,
        address: SocketAddrV4,
        machine: Option<(Arc<Machines>, u8)>,
        config: &str,
    ) -> Self {
        fs::write(folder.path().join("server.conf"), config).expect("write a configuration");
        let process = spawn(&folder, machine.as_ref());
        let server = Self {
            process,
            folder,
            address,
            machine,
        };
        server.wait();
        server
    }

    fn wait(&self) {
        wait_until("the NATS server", || self.connect().is_some());
    }

    /// A connection, and what the server says first.
    fn connect(&self) -> Option<(TcpStream, String)> {
        let stream = TcpStream::connect(self.address).ok()?;
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).expect("limit a read");
        let mut line = String::new();
        // Byte by byte: nothing of what follows is lost.
        let mut byte = [0];
        while !line.ends_with('\n') {
            if (&stream).read(&mut byte).ok()? == 0 {
                return None;
            }
            line.push(char::from(byte[0]));
        }
        line.starts_with("INFO ").then_some((stream, line))
    }

    /// The numbers of its version.
    #[must_use]
    pub fn version(&self) -> [u64; 3] {
        let (_, line) = self.connect().expect("the NATS server");
        let info: Value =
            serde_json::from_str(line.trim_start_matches("INFO ")).expect("what the server is");
        let version = info["version"].as_str().expect("its version");
        let mut numbers = version.split(['.', '-']).map(|part| part.parse().ok());
        std::array::from_fn(|_| numbers.next().flatten().expect("three numbers"))
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Where it keeps its streams.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill().expect("kill the NATS server");
        self.process.wait().expect("wait for its end");
    }

    /// Starts it again, over what it had stored.
    pub fn start_again(&mut self) {
        self.process = spawn(&self.folder, self.machine.as_ref());
        self.wait();
    }

    /// Publishes a message as anybody may, and waits until the server has seen it.
    pub fn publish(&self, subject: &str, headers: &[(&str, &str)], content: &[u8]) {
        let mut text = String::from("NATS/1.0\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        let (head, all) = (text.len(), text.len() + content.len());
        let mut message = format!("HPUB {subject} {head} {all}\r\n{text}").into_bytes();
        message.extend(content);
        message.extend(b"\r\n");
        self.speak(&message, "PONG");
    }

    /// Asks JetStream.
    #[must_use]
    pub fn ask(&self, subject: &str) -> Value {
        self.ask_with(subject, "")
    }

    /// Asks JetStream with a request.
    pub fn ask_with(&self, subject: &str, request: &str) -> Value {
        let length = request.len();
        let message =
            format!("SUB answers 1\r\nPUB $JS.API.{subject} answers {length}\r\n{request}\r\n");
        let mut answer = None;
        // In a cluster that elects a leader, nobody answers.
        wait_until("an answer of JetStream", || {
            answer = self.try_speak(message.as_bytes(), "{");
            answer.is_some()
        });
        let answer = answer.expect("an answer");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// The messages in a stream after this number, in their order.
    #[must_use]
    pub fn messages_after(&self, stream: &str, after: u64) -> Vec<StreamMessage> {
        let info = self.ask(&format!("STREAM.INFO.{stream}"));
        let number = |name: &str| info["state"][name].as_u64().unwrap_or(0);
        let (first, last) = (number("first_seq").max(after + 1), number("last_seq"));
        let (connection, _) = self.connect().expect("the NATS server");
        let mut begin = b"CONNECT {\"verbose\":false}\r\nSUB answers 1\r\n".to_vec();
        for sequence in first..=last {
            let request = json!({ "seq": sequence }).to_string();
            let subject = format!("$JS.API.STREAM.MSG.GET.{stream}");
            let publish = format!("PUB {subject} answers {}\r\n{request}\r\n", request.len());
            begin.extend(publish.as_bytes());
        }
        let mut writing = connection.try_clone().expect("a connection");
        let writer = std::thread::spawn(move || writing.write_all(&begin));
        let mut answers = BufReader::new(connection).lines();
        let mut messages = Vec::new();
        let mut left = (last + 1).saturating_sub(first);
        while left > 0 {
            let line = answers.next().expect("an answer").expect("an answer");
            if !line.starts_with('{') {
                continue;
            }
            left -= 1;
            let answer: Value = serde_json::from_str(&line).expect("JSON");
            // A message that was deleted is none.
            let Some(message) = answer.get("message") else {
                continue;
            };
            let content = message["data"].as_str().unwrap_or_default();
            messages.push(StreamMessage {
                sequence: message["seq"].as_u64().expect("a number"),
                subject: message["subject"].as_str().expect("a subject").to_owned(),
                content: BASE64.decode(content.as_bytes()).expect("base64"),
            });
        }
        writer.join().expect("the writer").expect("send requests");
        messages.sort_by_key(|message| message.sequence);
        messages
    }

    /// Messages in a stream.
    #[must_use]
    pub fn messages(&self, stream: &str) -> u64 {
        let info = self.ask(&format!("STREAM.INFO.{stream}"));
        info.pointer("/state/messages")
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// Sends commands of the protocol, and returns the first line that begins like this.
    fn speak(&self, commands: &[u8], until: &str) -> String {
        self.try_speak(commands, until).expect("an answer")
    }

    fn try_speak(&self, commands: &[u8], until: &str) -> Option<String> {
        let (stream, _) = self.connect()?;
        let login = json!({ "verbose": false, "headers": true, "no_responders": true });
        let mut begin = format!("CONNECT {login}\r\n").into_bytes();
        begin.extend(commands);
        begin.extend(b"PING\r\n");
        (&stream).write_all(&begin).ok()?;
        let mut lines = BufReader::new(stream).lines();
        let found = lines.find(|line| line.as_ref().map_or(true, |line| line.starts_with(until)));
        found?.ok()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// An address of loopback.
fn here(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// A port that nobody listens on now. It is none of those that systems give out by themselves, from
/// 32,768 on: a server that was killed has to find it free again.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Processes begin at different places.
        let step = std::process::id().wrapping_mul(64);
        let number = step.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = 12_000 + u16::try_from(number).expect("a small number");
        if TcpListener::bind(here(port)).is_ok() {
            return port;
        }
    }
}

fn spawn(folder: &tempfile::TempDir, machine: Option<&(Arc<Machines>, u8)>) -> Child {
    let program = ["/usr/sbin/nats-server", "/usr/bin/nats-server"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("nats-server"));
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.path().join("log"))
        .expect("a log");
    let mut command = clean(Command::new(program));
    command.arg("-c").arg(folder.path().join("server.conf"));
    if let Some((machines, machine)) = machine {
        command = machines.on(*machine, &command);
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("start nats-server; scripts/setup.sh test installs it")
}
