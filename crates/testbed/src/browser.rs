//! A headless Chromium for tests of pages, driven over its DevTools protocol, which is JSON on a
//! WebSocket.
//!
//! `scripts/setup.sh test` installs the browser, and axe-core, which looks for faults of
//! accessibility, into `target/browser`.

use crate::database::target;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

/// A browser that does not answer for so long never will.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a page is waited for, in milliseconds.
const PAGE_PATIENCE: u32 = 60_000;

/// Programs that are a Chromium, the smallest first.
const PROGRAMS: &[&str] = &[
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
];

/// A browser with one page. It ends with the value.
pub struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    next: u64,
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = PROGRAMS.iter().find_map(|name| {
        let places = folders.iter().map(|folder| folder.join(name));
        places.into_iter().find(|place| place.exists())
    });
    found.expect("no Chromium in the PATH; install it: scripts/setup.sh test")
}

impl Browser {
    /// Starts it with an empty page.
    #[must_use]
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder for the browser");
        let mut child = Command::new(program())
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-sync",
                "--hide-scrollbars",
            ])
            .args(["--disable-dev-shm-usage", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            // It is several processes, which end together.
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the browser");
        let stderr = child.stderr.take().expect("its stderr");
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let url = lines
            .find_map(|line| {
                line.strip_prefix("DevTools listening on ")
                    .map(str::to_owned)
            })
            .expect("the browser listens");
        // What it prints later must not stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let place = url.strip_prefix("ws://").expect("a WebSocket");
        let (address, _) = place.split_once('/').expect("a path");
        let stream = TcpStream::connect(address).expect("connect to the browser");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        let (socket, _) = tokio_tungstenite::tungstenite::client(url.as_str(), stream)
            .expect("a WebSocket of the browser");
        let mut browser = Self {
            child,
            socket,
            session: None,
            next: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = page["targetId"].clone();
        let attached = browser.call(
            "Target.attachToTarget",
            json!({ "targetId": target, "flatten": true }),
        );
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method of the protocol.
    #[allow(clippy::needless_pass_by_value, reason = "callers write json! there")]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let answer = self.ask(method, &params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket
            .send(Message::text(message.to_string()))
            .expect("ask the browser");
        loop {
            let answer = self.read();
            if answer["id"] == id {
                return answer;
            }
            self.events.push(answer);
        }
    }

    fn read(&mut self) -> Value {
        loop {
            let message = self.socket.read().expect("an answer of the browser");
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).expect("JSON");
            }
        }
    }

    /// Goes to a page, and waits until it is loaded.
    pub fn goto(&mut self, url: &str) {
        let already = self.events.len();
        let went = self.call("Page.navigate", json!({ "url": url }));
        assert!(went.get("errorText").is_none(), "{url}: {went}");
        let is_loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().skip(already).any(is_loaded) {
            let event = self.read();
            self.events.push(event);
        }
    }

    /// The value of an expression of JavaScript; of a promise, what it comes to.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true,
        });
        let result = self.call("Runtime.evaluate", params);
        assert!(
            result.get("exceptionDetails").is_none(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait_for(&mut self, condition: &str) {
        let wait = format!(
            "new Promise((resolve) => {{
               const end = performance.now() + {PAGE_PATIENCE};
               const look = () => {{
                 let is_so = false;
                 try {{ is_so = Boolean({condition}); }} catch (error) {{ is_so = false; }}
                 if (is_so || performance.now() > end) resolve(is_so); else setTimeout(look, 25);
               }};
               look();
             }})"
        );
        let params = json!({ "expression": wait, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.ask("Runtime.evaluate", &params);
        // A page that goes to another one takes along what waits in it.
        while answer.get("error").is_some() {
            answer = self.ask("Runtime.evaluate", &params);
        }
        if answer["result"]["result"]["value"] != true {
            let text = self.eval("document.body.innerText");
            panic!(
                "{condition} never came true; errors {:?}; the page: {text}",
                self.errors()
            );
        }
    }

    /// Presses a key, such as `Tab`, `Enter` or `ArrowLeft`.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            "Home" => (36, ""),
            "ArrowLeft" => (37, ""),
            "ArrowRight" => (39, ""),
            other => panic!("no key {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let params = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
            });
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Types text where the focus is.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// The size of the window in CSS pixels, and whether the system is set to dark.
    pub fn set_screen(&mut self, (width, height): (u32, u32), is_dark: bool) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
        let scheme = if is_dark { "dark" } else { "light" };
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
    }

    /// Writes pictures of the window and of the whole page to the folder that
    /// `SKYFILL_SCREENSHOTS` names, if it names one.
    pub fn screenshot(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("SKYFILL_SCREENSHOTS") else {
            return;
        };
        let folder = Path::new(&folder);
        fs::create_dir_all(folder).expect("a folder for pictures");
        for (part, is_whole) in [("window", false), ("page", true)] {
            if is_whole {
                self.eval("scrollTo({ top: 0, behavior: 'instant' })");
            }
            let params = json!({ "format": "png", "captureBeyondViewport": is_whole });
            let shot = self.call("Page.captureScreenshot", params);
            let text = shot["data"].as_str().expect("a picture").as_bytes();
            let bytes = data_encoding::BASE64.decode(text).expect("base64");
            let path = folder.join(format!("{name}-{part}.png"));
            fs::write(path, bytes).expect("write a picture");
        }
    }

    /// Serious and critical faults of accessibility that axe-core finds, a line each.
    pub fn accessibility_faults(&mut self) -> Vec<String> {
        let path = target().join("browser/node_modules/axe-core/axe.min.js");
        let axe = fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!(
                "{}: {error}; install it: scripts/setup.sh test",
                path.display()
            )
        });
        self.eval(&format!("{axe}; 0"));
        let found = self.eval(
            "axe.run(document, { resultTypes: ['violations'] }).then((result) => result.violations
               .filter((fault) => ['serious', 'critical'].includes(fault.impact))
               .map((fault) => `${fault.id}: ${fault.help}: ${fault.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(' | ')}`))",
        );
        let found = found.as_array().expect("a list of faults").iter();
        found
            .filter_map(|fault| fault.as_str().map(str::to_owned))
            .collect()
    }

    /// What went wrong in the page so far: exceptions, errors on the console, files that did not
    /// come, what the policy refused.
    pub fn errors(&mut self) -> Vec<String> {
        // All events before this answer are here.
        self.call("Runtime.evaluate", json!({ "expression": "0" }));
        let is_error = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        let errors = self.events.iter().filter(is_error);
        errors.map(|event| event["params"].to_string()).collect()
    }

    /// The URLs that the page asked for so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let asked = self
            .events
            .iter()
            .filter(|event| event["method"] == "Network.requestWillBeSent");
        asked
            .filter_map(|event| {
                event["params"]["request"]["url"]
                    .as_str()
                    .map(str::to_owned)
            })
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ended = rustix::process::kill_process_group(group, Signal::KILL);
        }
        drop(self.child.wait());
    }
}
