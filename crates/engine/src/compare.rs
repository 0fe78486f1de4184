//! Compares two certificates: hosts and repos in which they differ.
//!
//! Hosts are compared by their figures, and by the hash of their repos. Repos are named if a list
//! of them lies beside each certificate (`FILE.repos`). Both lists are in the order of DIDs, so
//! they are read once, side by side, in constant memory. A list that does not belong to its
//! certificate is refused.

use crate::certificate::repos_beside;
use crate::repo_tree::{Leaf, TreeBuilder, hex};
use observe::printable;
use observe::units::counted;
use process::Failure;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Largest certificate that is read: 3,200 hosts take about 2 MB.
const MOST_BYTES: u64 = 256 << 20;
/// Longest line of a list of repos.
const MOST_LINE: u64 = 4096;
/// Repos and hosts that are named.
const NAMED: usize = 1000;
/// Figures of a whole certificate.
const FIGURES: [&str; 6] = [
    "verdict",
    "scope",
    "differences",
    "repos",
    "contested",
    "onlyAccounts",
];
/// Figures of a host.
const OF_HOSTS: [&str; 5] = ["repos", "verified", "differing", "records", "skipped"];

/// A difference between two values, as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What differs.
    pub name: String,
    /// In the first certificate, and in the second.
    pub values: (Value, Value),
}

/// A repo in which two certificates differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferingRepo {
    /// The account.
    pub did: String,
    /// Its host.
    pub host: String,
    /// Rev and root in the first certificate, if it has the repo, and in the second.
    pub at: [Option<(String, String)>; 2],
}

impl DifferingRepo {
    /// How it differs.
    #[must_use]
    pub fn how(&self) -> &'static str {
        match &self.at {
            [Some(_), None] => "only in the first",
            [None, Some(_)] => "only in the second",
            [Some((a, _)), Some((b, _))] if a != b => "another rev",
            _ => "the same rev with another root",
        }
    }
}

/// What differs.
#[derive(Debug, Default)]
pub struct Differences {
    /// Figures of the whole.
    pub figures: Vec<Figure>,
    /// By host, its figures.
    pub hosts: BTreeMap<String, Vec<Figure>>,
    /// Whether the hashes of all repos are the same; nothing if a certificate has none.
    pub same_tree: Option<bool>,
    /// Repos, if both lists were there: how many, and the first of them.
    pub repos: Option<(u64, Vec<DifferingRepo>)>,
}

impl Differences {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.figures.is_empty()
            && self.hosts.is_empty()
            && self.same_tree != Some(false)
            && self.repos.as_ref().is_none_or(|(count, _)| *count == 0)
    }

    /// All of it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let figures = |figures: &[Figure]| -> Map<String, Value> {
            let pair = |figure: &Figure| json!([figure.values.0, figure.values.1]);
            figures
                .iter()
                .map(|figure| (figure.name.clone(), pair(figure)))
                .collect()
        };
        let hosts: Map<String, Value> = self
            .hosts
            .iter()
            .map(|(host, differing)| (host.clone(), figures(differing).into()))
            .collect();
        let at = |at: &Option<(String, String)>| {
            at.as_ref()
                .map(|(rev, root)| json!({"rev": rev, "root": root}))
        };
        let repos = self.repos.as_ref().map(|(count, named)| {
            let named: Vec<Value> = named
                .iter()
                .map(|repo| {
                    json!({
                        "did": repo.did, "host": repo.host, "how": repo.how(),
                        "first": at(&repo.at[0]), "second": at(&repo.at[1]),
                    })
                })
                .collect();
            json!({"differing": count, "named": named})
        });
        json!({
            "same": self.is_none(), "figures": figures(&self.figures), "hosts": hosts,
            "sameTree": self.same_tree, "repos": repos,
        })
    }

    /// All of it as lines for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Figure { name, values } in &self.figures {
            lines.push(format!(
                "{name}\t{}\t{}",
                shown(&values.0),
                shown(&values.1)
            ));
        }
        for (host, figures) in self.hosts.iter().take(NAMED) {
            for Figure { name, values } in figures {
                let host = printable(host);
                lines.push(format!(
                    "{host}\t{name}\t{}\t{}",
                    shown(&values.0),
                    shown(&values.1)
                ));
            }
        }
        if let Some((count, named)) = &self.repos {
            for repo in named {
                let rev = |at: &Option<(String, String)>| {
                    at.as_ref()
                        .map_or_else(|| "-".to_owned(), |(rev, _)| printable(rev).into_owned())
                };
                lines.push(format!(
                    "{}\t{}\t{}\t{}\t{}",
                    repo.did,
                    printable(&repo.host),
                    repo.how(),
                    rev(&repo.at[0]),
                    rev(&repo.at[1])
                ));
            }
            if *count > named.len() as u64 {
                let more = counted(count - named.len() as u64, "more repo");
                lines.push(format!("... and {more}"));
            }
        }
        lines
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    printable(&text).into_owned()
}

/// Compares two certificates, and the lists beside them.
///
/// # Errors
/// A file cannot be read, or is no certificate, or a list does not belong to its certificate.
pub fn compare(first: &Path, second: &Path) -> Result<Differences, Failure> {
    let (a, b) = (read(first)?, read(second)?);
    let mut differences = Differences {
        figures: figures(&a, &b, &FIGURES),
        ..Differences::default()
    };
    let run = |of: &Value, name: &str| {
        of.pointer(&format!("/run/{name}"))
            .cloned()
            .unwrap_or_default()
    };
    for name in ["collections", "notifications", "since"] {
        let values = (run(&a, name), run(&b, name));
        if values.0 != values.1 {
            differences.figures.push(Figure {
                name: format!("run {name}"),
                values,
            });
        }
    }
    // Of hosts, a comparison of changes alone has figures of what it read.
    let is_whole = |of: &Value| of.pointer("/comparison/extent") == Some(&json!("all"));
    if is_whole(&a) && is_whole(&b) {
        add_hosts(&mut differences, (&hosts(&a), &hosts(&b)), &OF_HOSTS);
    }
    add_hosts(&mut differences, (&trees(&a), &trees(&b)), &["tree"]);
    let root = |of: &Value| {
        of.pointer("/repoTree/root")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let roots = (root(&a), root(&b));
    differences.same_tree = roots.0.as_ref().zip(roots.1.as_ref()).map(|(a, b)| a == b);
    let lists = (repos_beside(first), repos_beside(second));
    if let (Some(root_a), Some(root_b)) = roots
        && lists.0.exists()
        && lists.1.exists()
    {
        differences.repos = Some(repos((&lists.0, &root_a), (&lists.1, &root_b))?);
    }
    Ok(differences)
}

fn read(path: &Path) -> Result<Value, Failure> {
    let shown = path.display();
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(format!("{shown} cannot be read as a certificate: {why}"))
            .hint("skyfill verify --certificate FILE writes one")
    };
    let file = File::open(path).map_err(|error| failed(&error))?;
    let mut text = Vec::new();
    file.take(MOST_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| failed(&error))?;
    let value: Value = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    match value.get("verdict").and_then(Value::as_str) {
        Some(_) => Ok(value),
        None => Err(failed(&"it has no verdict")),
    }
}

fn figures(a: &Value, b: &Value, names: &[&str]) -> Vec<Figure> {
    let mut found = Vec::new();
    for name in names {
        let of = |value: &Value| value.get(name).cloned().unwrap_or_default();
        let values = (of(a), of(b));
        if values.0 != values.1 {
            found.push(Figure {
                name: (*name).to_owned(),
                values,
            });
        }
    }
    found
}

fn hosts(certificate: &Value) -> BTreeMap<String, Value> {
    let list = certificate.get("hosts").and_then(Value::as_array);
    let of = |host: &Value| Some((host.get("host")?.as_str()?.to_owned(), host.clone()));
    list.into_iter().flatten().filter_map(of).collect()
}

/// By host, the hash of its repos.
fn trees(certificate: &Value) -> BTreeMap<String, Value> {
    let hosts = certificate
        .pointer("/repoTree/hosts")
        .and_then(Value::as_object);
    let of = |(host, hash): (&String, &Value)| (host.clone(), json!({"tree": hash}));
    hosts.into_iter().flatten().map(of).collect()
}

/// Adds the figures in which hosts differ.
fn add_hosts(
    differences: &mut Differences,
    (first, second): (&BTreeMap<String, Value>, &BTreeMap<String, Value>),
    names: &[&str],
) {
    let all: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    for host in all {
        let none = Value::Null;
        let (a, b) = (
            first.get(host).unwrap_or(&none),
            second.get(host).unwrap_or(&none),
        );
        let differing = figures(a, b, names);
        if !differing.is_empty() {
            differences
                .hosts
                .entry(host.clone())
                .or_default()
                .extend(differing);
        }
    }
}

/// A list of repos that is read line by line.
struct List {
    path: PathBuf,
    reader: BufReader<File>,
    tree: TreeBuilder,
    line: String,
    before: String,
    number: u64,
}

impl List {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::with_capacity(1 << 20, file),
            tree: TreeBuilder::default(),
            line: String::new(),
            before: String::new(),
            number: 0,
        })
    }

    fn bad(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::new(format!(
            "{}, line {}: {why}",
            self.path.display(),
            self.number
        ))
        .hint("write it anew with: skyfill verify --certificate FILE --certificate-repos")
    }

    /// Reads the next line. False at the end.
    fn next(&mut self) -> Result<bool, Failure> {
        self.before.clear();
        self.before
            .push_str(self.line.split(' ').next().unwrap_or_default());
        self.line.clear();
        self.number += 1;
        let mut limited = (&mut self.reader).take(MOST_LINE);
        let length = limited.read_line(&mut self.line);
        match length.map_err(|error| self.bad(&error))? {
            0 => return Ok(false),
            _ if !self.line.ends_with('\n') => return Err(self.bad(&"it is cut off, or too long")),
            _ => self.line.truncate(self.line.len() - 1),
        }
        match Leaf::parse(&self.line) {
            Some(leaf) if leaf.did > self.before.as_str() => self.tree.add(&leaf),
            Some(_) => return Err(self.bad(&"it is not in the order of DIDs")),
            None => return Err(self.bad(&"it is not DID, rev, root and host")),
        }
        Ok(true)
    }

    /// The present line, if there is one.
    fn leaf(&self) -> Option<Leaf<'_>> {
        Leaf::parse(&self.line)
    }

    /// Checks that it is the list of the certificate with this root.
    fn require(self, root: &str) -> Result<(), Failure> {
        let path = self.path;
        if hex(&self.tree.finish().root) == root {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{} is not the list of its certificate: its hash is another one",
            path.display()
        ))
        .hint("write both anew with: skyfill verify --certificate FILE --certificate-repos"))
    }
}

/// Reads two lists side by side.
fn repos(
    (first, root_a): (&Path, &str),
    (second, root_b): (&Path, &str),
) -> Result<(u64, Vec<DifferingRepo>), Failure> {
    let (mut a, mut b) = (List::open(first)?, List::open(second)?);
    let (mut more_a, mut more_b) = (a.next()?, b.next()?);
    let (mut count, mut named) = (0, Vec::new());
    let at = |leaf: &Leaf<'_>| Some((leaf.rev.to_owned(), leaf.root.to_owned()));
    while more_a || more_b {
        let order = {
            let (left, right) = (a.leaf(), b.leaf());
            let order = match (&left, &right) {
                (Some(left), Some(right)) => left.did.cmp(right.did),
                (Some(_), None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            let (left, right) = match order {
                Ordering::Less => (left, None),
                Ordering::Equal => (left, right),
                Ordering::Greater => (None, right),
            };
            let pair = [left.as_ref().and_then(at), right.as_ref().and_then(at)];
            if pair[0] != pair[1] {
                count += 1;
                if let Some(leaf) = left.or(right).filter(|_| named.len() < NAMED) {
                    named.push(DifferingRepo {
                        did: leaf.did.to_owned(),
                        host: leaf.host.to_owned(),
                        at: pair,
                    });
                }
            }
            order
        };
        if order != Ordering::Greater {
            more_a = a.next()?;
        }
        if order != Ordering::Less {
            more_b = b.next()?;
        }
    }
    a.require(root_a)?;
    b.require(root_b)?;
    Ok((count, named))
}
