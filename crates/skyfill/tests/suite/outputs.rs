//! What each command prints, as snapshots (`INSTA_UPDATE=always` writes them anew): help texts,
//! summaries, `--json`. What differs between machines and moments is masked: times, rates, ports,
//! paths.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use testbed::*;

/// The help of a command and of those below it, in order.
fn help(path: &[&str]) -> String {
    let output = run_well(skyfill().args(path).arg("--help"));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut all = format!("$ skyfill {} --help\n{text}", path.join(" "));
    let below: Vec<String> = text
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|name| name != "help")
        .collect();
    for name in below {
        let mut path = path.to_vec();
        path.push(&name);
        all += "\n";
        all += &help(&path);
    }
    all
}

#[test]
fn help_of_every_command() {
    let all = help(&[]);
    assert!(all.matches("--help\n").count() > 15, "{all}");
    insta::assert_snapshot!(all);
}

/// Puts a word where a number or name differs each time.
struct Masks(Vec<(String, &'static str)>);

impl Masks {
    fn new(db: &TestDb, dir: &Path) -> Self {
        let config: postgres::Config = db.url.parse().unwrap();
        let postgres::config::Host::Unix(socket) = &config.get_hosts()[0] else {
            panic!("{}: a socket", db.url);
        };
        let name = config.get_dbname().unwrap();
        Self(vec![
            (db.url.clone(), "URL"),
            (format!("skyfill@{}/{name}", socket.display()), "DATABASE"),
            (socket.display().to_string(), "SOCKETS"),
            (name.to_owned(), "NAME"),
            (dir.display().to_string(), "FOLDER"),
            (NOW.to_owned(), "NOW"),
        ])
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, mask) in &self.0 {
            text = text.replace(name, mask);
        }
        // Warnings are of the machine, its server and its load. A table is vacuumed a second time
        // if another transaction kept the first one from it.
        let lines = text.lines().filter(|line| {
            !line.starts_with("warning: ") && !line.starts_with("vacuuming and analyzing ")
        });
        let of_machine = |line: &str| match line.starts_with("sizes: ") {
            true => without_numbers(line),
            false => without_processes(&without_measures(line)),
        };
        let lines: Vec<String> = lines.map(of_machine).collect();
        lines.join("\n")
    }

    /// JSON with sorted keys, a line each.
    fn json(&self, output: &Output) -> String {
        let text = String::from_utf8_lossy(&output.stdout);
        let pretty = |line: &str| -> String {
            let mut value: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{error}: {}", told(output)));
            hide_measures(&mut value);
            format!("{value:#}")
        };
        let all: Vec<String> = text.lines().map(pretty).collect();
        self.text(&all.join("\n"))
    }
}

/// The line without what differs between machines.
fn without_numbers(line: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let words = line
        .split(' ')
        .map(|word| match word.chars().all(is_number) {
            true => "#",
            false => word,
        });
    words
        .collect::<Vec<_>>()
        .join(" ")
        .replace("# MiB", "# GiB")
}

/// Members of JSON that are measured, or of a process.
const MEASURED: &[&str] = &[
    "allComparedAt",
    "at",
    "beganAt",
    "boundBy",
    "checkedAt",
    "concurrency",
    "cursor",
    "endedAt",
    "joinedAt",
    "limit",
    "limitSeconds",
    "limitWhy",
    "machine",
    "ownCpuSeconds",
    "oldest",
    "perSecond",
    "pid",
    "provedAt",
    "readAt",
    "rowsPerSecond",
    "seconds",
    "seenAt",
    "seenSecondsAgo",
    "serverCpuSeconds",
    "workedAt",
];

fn hide_measures(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if let ("workers", Value::Array(workers)) = (name.as_str(), &mut *member) {
                    // Called by the name of the machine.
                    workers
                        .iter_mut()
                        .for_each(|worker| worker["name"] = Value::from("#"));
                }
                // Whether a phase was long enough to see what limits it is of the machine.
                let is_seen =
                    !member.is_null() || matches!(name.as_str(), "boundBy" | "limit" | "limitWhy");
                if MEASURED.contains(&name.as_str()) && is_seen {
                    *member = Value::from("#");
                } else {
                    hide_measures(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_measures),
        _ => {}
    }
}

/// A line of `skyfill status` without what is of a machine, a process and its time.
fn without_processes(line: &str) -> String {
    let first = line.split(' ').next().unwrap_or_default();
    match first {
        "process" => "process     PROCESS".to_owned(),
        // The width of a column depends on ports.
        "host" | "127.0.0.1:#" => line.split_whitespace().collect::<Vec<_>>().join(" "),
        "run" => line
            .split_once("; it took ")
            .map_or(line, |(begin, _)| begin)
            .to_owned(),
        "phases" => "phases      PHASE".to_owned(),
        "" => {
            let word = line.split_whitespace().next().unwrap_or_default();
            let is_phase = ledger::runs::Phase::ALL
                .iter()
                .any(|phase| phase.label() == word);
            match is_phase {
                true => format!("            {word}"),
                false => line.to_owned(),
            }
        }
        _ => line.to_owned(),
    }
}

/// A line with `#` for each number that has a fraction, is a rate or a time, and for the port of
/// each loopback host.
fn without_measures(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        text += &rest[..start];
        let number = &rest[start..];
        let end = number
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(number.len());
        let digits = number[..end].trim_end_matches('.');
        let after = &number[digits.len()..];
        if digits == "127.0.0.1" && after.starts_with(':') {
            let port = after[1..].find(|c: char| !c.is_ascii_digit());
            text += "127.0.0.1:#";
            rest = &after[port.map_or(after.len(), |at| at + 1)..];
            continue;
        }
        // A time of a minute or more is masked as one of seconds.
        if let Some(seconds) = after.strip_prefix(" min ") {
            rest = seconds;
            continue;
        }
        let is_fraction = digits.matches('.').count() == 1;
        let is_measure = ["/s", " s"].iter().any(|unit| {
            let after = after.strip_prefix(*unit);
            after.is_some_and(|after| !after.starts_with(char::is_alphanumeric))
        });
        text += if is_fraction || is_measure {
            "#"
        } else {
            digits
        };
        rest = after;
    }
    text + rest
}

/// What a command printed for people, with its exit code.
fn printed(command: &mut Command, masks: &Masks) -> String {
    let arguments: Vec<String> = command
        .get_args()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let output = command.output().expect("run skyfill");
    masks.text(&format!(
        "$ skyfill {}\nexit code {}\n{}{}",
        arguments.join(" "),
        output.status.code().expect("an exit code"),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// What `command --json` printed on stdout.
fn json(command: &mut Command, masks: &Masks) -> String {
    let output = command.arg("--json").output().expect("run skyfill");
    let name = command.get_args().next().unwrap().to_string_lossy();
    format!("$ skyfill {name} ... --json\n{}", masks.json(&output))
}

fn on(db: &TestDb, args: &[&str]) -> Command {
    let mut command = skyfill();
    command.args(args).env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

/// No rate lines, however slow the machine is.
const QUIET: [&str; 2] = ["--logging-interval", "86400"];

/// The way of five accounts through `run` and what comes after it.
#[test]
fn commands_of_a_run() {
    let net = Net::of_tangle(&simnet::Tangle::new(7, 5, 120));
    let (db, dir) = (TestDb::empty(), folder());
    let url = net.server.url();
    let masks = Masks::new(&db, dir.path());
    let file = did_file(dir.path(), &url, net.dids.iter().map(String::as_str));
    let file = file.to_str().unwrap();
    let run = |args: &[&str]| -> Command {
        let mut command = on(&db, &["run", file, "--allow-private-hosts", "--now", NOW]);
        command.args([
            "--handles",
            "skip",
            "--host-rate",
            "10000",
            "--threads",
            "1",
        ]);
        command.args(QUIET).args(args);
        command
    };
    let identities = || {
        let mut command = net.identities(&db);
        command.args(QUIET);
        command
    };
    let mut all = vec![
        printed(&mut on(&db, &["migrate"]), &masks),
        printed(&mut on(&db, &["migrate"]), &masks),
        printed(&mut run(&[]), &masks),
        json(&mut run(&[]), &masks),
        masks.json(&run_well(&mut identities())),
        printed(&mut on(&db, &["finalize"]), &masks),
        printed(&mut on(&db, &["finalize", "--restart"]), &masks),
        json(&mut on(&db, &["finalize", "--restart"]), &masks),
        printed(&mut on(&db, &["verify"]), &masks),
        printed(&mut on(&db, &["verify"]), &masks),
        json(&mut on(&db, &["verify", "--all"]), &masks),
        printed(&mut on(&db, &["status"]), &masks),
        json(&mut on(&db, &["status"]), &masks),
    ];
    for command in ["status", "restore"] {
        all.push(printed(&mut on(&db, &["indexes", command]), &masks));
        all.push(json(&mut on(&db, &["indexes", command]), &masks));
    }
    run_well(&mut on(&db, &["migrate", "--drop-follow-indexes"]));
    all.push(printed(&mut on(&db, &["indexes", "status"]), &masks));
    all.push(printed(&mut on(&db, &["indexes", "restore"]), &masks));
    insta::assert_snapshot!(all.join("\n\n"));
}

/// The same accounts through a producer and a consumer.
#[test]
fn producer_and_consumer() {
    let net = Net::of_tangle(&simnet::Tangle::new(7, 5, 120));
    let (db, dir) = (TestDb::migrated(), folder());
    let masks = Masks::new(&db, dir.path());
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let mut all = Vec::new();
    for with_json in [false, true] {
        let mut arguments = QUIET.to_vec();
        arguments.extend(["--json"].iter().filter(|_| with_json));
        let consumer = Consumer::start(&db.url, dir.path(), "s", &arguments);
        let mut command = skyfill();
        command.arg("producer").arg(&file).arg(&consumer.socket);
        command.args([
            "--now",
            NOW,
            "--allow-private-hosts",
            "--host-rate",
            "10000",
        ]);
        command.args(["--failures", "failures.jsonl"]).args(QUIET);
        command.current_dir(dir.path());
        if with_json {
            all.push(json(&mut command, &masks));
        } else {
            all.push(printed(&mut command, &masks));
        }
        let (code, log) = consumer.end();
        // Two pipes: which line came first, nobody knows.
        let (data, people): (Vec<&str>, Vec<&str>) =
            log.lines().partition(|line| line.starts_with('{'));
        let log = [people, data].concat().join("\n") + "\n";
        all.push(masks.text(&format!("$ skyfill consumer\nexit code {code:?}\n{log}")));
    }
    let mut command = on(
        &db,
        &["consumer", "--db-test", "copy-binary", "--rows", "100"],
    );
    all.push(json(&mut command, &masks));
    insta::assert_snapshot!(all.join("\n\n"));
}

/// Puts the line of a pass before that of the load beside it: which one ends first, nobody knows.
fn pass_first(printed: &str) -> String {
    let mut lines: Vec<&str> = printed.lines().collect();
    let of_pass = lines
        .iter()
        .position(|line| line.contains(" repos listed: "));
    let of_load = lines.iter().position(|line| line.starts_with("run 1 of "));
    if let (Some(of_pass), Some(of_load)) = (of_pass, of_load)
        && of_load < of_pass
    {
        let line = lines.remove(of_pass);
        lines.insert(of_load, line);
    }
    lines.join("\n")
}

/// A practice network: found, loaded, caught up with.
#[test]
fn discovery_and_catching_up() {
    let network = simnet::Network::start(crate::network::settings(9, 12, 2));
    let (db, dir) = (TestDb::migrated(), folder());
    let masks = Masks::new(&db, dir.path());
    let relay = network.relay_url();
    let command = |name: &str| -> Command {
        let mut command = crate::network::plain_on(&network, &db, name, "skip");
        command.args(["--relay", &relay]).args(QUIET);
        if name == "run" {
            command.arg("--discover");
        }
        command
    };
    let mut all = Vec::new();
    for name in ["discover", "run", "catch-up"] {
        all.push(pass_first(&printed(&mut command(name), &masks)));
        all.push(json(&mut command(name), &masks));
    }
    insta::assert_snapshot!(all.join("\n\n"));
}

/// What needs no database.
#[test]
fn commands_without_a_database() {
    let (db, dir) = (TestDb::empty(), folder());
    let masks = Masks::new(&db, dir.path());
    let mut simnet = skyfill();
    simnet.args(["simnet", "--repos", "3", "--records", "30", "--hosts", "1"]);
    let mut practice = Watched::start(simnet.stdin(Stdio::null()));
    practice.wait_for("--relay");
    practice.wait_for("\"dns\"");
    signal(&practice.child, "TERM");
    let (code, mut text) = practice.end();
    // Its two outputs come in any order.
    let at = text.find('{').unwrap();
    let end = at + text[at..].find('\n').unwrap() + 1;
    let line = text.drain(at..end).collect::<String>();
    // It may end before it has said that it is going to.
    let text = text.replace(
        "stopping after the present work; a second signal stops at once\n",
        "",
    );
    let practice = masks.text(&format!(
        "$ skyfill simnet\nexit code {code:?}\n{line}{text}"
    ));
    let cache = dir.path().join("cache");
    fs::write(&cache, "no cache\n").unwrap();
    let mut unpack = skyfill();
    let all = [
        practice,
        printed(unpack.arg("unpack-as-did-file").arg(&cache), &masks),
    ];
    insta::assert_snapshot!(all.join("\n\n"));
}

/// What packages install beside the binary: completions that a shell accepts, and a man page for
/// each command that the help lists.
#[test]
fn completions_and_man_pages_of_every_command() {
    let dir = folder();
    let script = dir.path().join("skyfill.bash");
    let output = run_well(skyfill().args(["completions", "bash"]));
    fs::write(&script, output.stdout).unwrap();
    let complete = "source \"$1\"; COMP_WORDS=(skyfill cat); COMP_CWORD=1
        _skyfill skyfill cat skyfill; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["-c", complete, "bash"]).arg(&script);
    let output = bash.output().unwrap();
    assert_eq!(told(&output).trim(), "catch-up");

    run_well(skyfill().arg("man-pages").arg(dir.path().join("man")));
    let mut commands: Vec<String> = help(&[])
        .lines()
        .filter_map(|line| line.strip_prefix("$ skyfill ")?.strip_suffix(" --help"))
        .map(|path| format!("skyfill-{}.1", path.trim().replace(' ', "-")))
        .map(|name| name.replace("-.1", ".1"))
        .collect();
    let mut pages: Vec<String> = fs::read_dir(dir.path().join("man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    commands.sort();
    pages.sort();
    assert_eq!(pages, commands);
    let run = fs::read_to_string(dir.path().join("man/skyfill-run.1")).unwrap();
    assert!(
        run.contains("retry") && run.contains("SKYFILL_CONTACT"),
        "{run}"
    );
    let other = skyfill()
        .args(["man-pages", "/dev/null/x"])
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(3), "{}", told(&other));
}
