//! Commands that run beside a test: waiting for what they print and for their end, signals, and
//! what they take of the machine.

use crate::command::skyfill;
use crate::waiting::{LOOK, PATIENCE};
use rustix::process::{Pid, Signal};
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a process printed so far, on both its outputs.
#[derive(Default)]
struct Printed {
    bytes: Mutex<Vec<u8>>,
    more: Condvar,
}

impl Printed {
    fn text(&self) -> String {
        let bytes = self.bytes.lock().expect("what was printed");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it contains `text`. Waits for the next output, for a moment, if not.
    fn contains_soon(&self, text: &str) -> bool {
        let contains = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(text);
        let bytes = self.bytes.lock().expect("what was printed");
        if contains(&bytes) {
            return true;
        }
        // A process that ends prints nothing: the caller looks whether it has.
        let (bytes, _) = self
            .more
            .wait_timeout(bytes, Duration::from_millis(50))
            .expect("what was printed");
        contains(&bytes)
    }

    /// Reads to the end in a thread.
    fn read(self: &Arc<Self>, mut from: impl Read + Send + 'static) -> JoinHandle<()> {
        let printed = Arc::clone(self);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut piece) {
                let mut bytes = printed.bytes.lock().expect("what was printed");
                bytes.extend(&piece[..count]);
                printed.more.notify_all();
            }
        })
    }
}

/// A command that runs, and what it printed so far. It is killed with the value.
pub struct Watched {
    /// The process.
    pub child: Child,
    printed: Arc<Printed>,
    readers: Vec<JoinHandle<()>>,
}

impl Watched {
    /// Starts a command.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start a command");
        let printed = Arc::<Printed>::default();
        let out = child.stdout.take().expect("its stdout");
        let err = child.stderr.take().expect("its stderr");
        let readers = vec![printed.read(out), printed.read(err)];
        Self {
            child,
            printed,
            readers,
        }
    }

    /// What it printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        self.printed.text()
    }

    /// Waits until it has printed `text`. One that ends without fails the test with all that it
    /// printed.
    pub fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let has_ended = self.child.try_wait().expect("wait").is_some();
            if self.printed.contains_soon(text) {
                return;
            }
            assert!(!has_ended, "it ended without {text:?}:\n{}", self.printed());
            assert!(
                Instant::now() < deadline,
                "it never printed {text:?}:\n{}",
                self.printed()
            );
        }
    }

    /// Waits until it ends; its exit code. One that is held up for good fails the test with all
    /// that it printed.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "it does not end:\n{}",
                self.printed()
            );
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until it ends; its exit code and all that it printed.
    #[must_use]
    pub fn end(mut self) -> (Option<i32>, String) {
        let code = self.wait_for_end();
        for reader in self.readers.drain(..) {
            reader.join().expect("read what it printed");
        }
        (code, self.printed())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A running `skyfill consumer`. It is killed with the value.
pub struct Consumer {
    process: Watched,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Consumer {
    /// Starts it and waits until it listens.
    #[must_use]
    pub fn start(db_url: &str, folder: &Path, name: &str, args: &[&str]) -> Self {
        Self::start_with(db_url, folder, name, args, None)
    }

    /// The same with a failpoint.
    #[must_use]
    pub fn start_with(
        db_url: &str,
        folder: &Path,
        name: &str,
        args: &[&str],
        failpoint: Option<&str>,
    ) -> Self {
        let socket = folder.join(format!("{name}.sock"));
        let mut command = skyfill();
        command.arg("consumer").arg(&socket).arg("--rejects");
        command.arg(folder.join(format!("{name}.rejects")));
        command.args(args).env("BSKY_DB_POSTGRES_URL", db_url);
        if let Some(failpoint) = failpoint {
            command.env("SKYFILL_FAILPOINT", failpoint);
        }
        let mut consumer = Self {
            process: Watched::start(&mut command),
            socket,
        };
        consumer.wait_for("listening on");
        consumer
    }

    /// Waits until it has printed `text`.
    pub fn wait_for(&mut self, text: &str) {
        self.process.wait_for(text);
    }

    /// Waits until it ends; its exit code.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        self.process.wait_for_end()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.process.child
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(self) {
        // Watched does as it is dropped.
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.printed()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        signal(&self.process.child, name);
    }

    /// Ends it well; its exit code and all that it printed.
    #[must_use]
    pub fn end(self) -> (Option<i32>, String) {
        self.signal("TERM");
        self.process.end()
    }

    /// Ends it well; its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait_for_end()
    }
}

/// Sends a signal to a process that a test started.
pub fn signal(child: &Child, name: &str) {
    let signal = match name {
        "TERM" => Signal::TERM,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "USR1" => Signal::USR1,
        other => panic!("no signal {other}"),
    };
    send_signal(child.id(), signal);
}

/// Sends a signal to a process of the test's own.
pub fn send_signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    rustix::process::kill_process(pid.expect("a process id"), signal).expect("kill");
}

/// Sends `text` to a consumer as a producer would, and waits until it is committed.
pub fn send_lines(socket: &Path, text: &str) {
    let mut stream = UnixStream::connect(socket).expect("connect to the consumer");
    stream.write_all(text.as_bytes()).expect("send");
    stream.shutdown(Shutdown::Write).expect("end the stream");
    stream
        .read_to_end(&mut Vec::new())
        .expect("wait for the commit");
}

/// Seconds of processor time that a process has used.
#[must_use]
pub fn cpu_seconds(pid: u32) -> f64 {
    /// Ticks of the clock in a second, as `/proc` counts them.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

/// Peak memory of a process in KiB.
#[must_use]
pub fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
