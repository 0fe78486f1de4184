//! Reads DID files: one JSON array per line, `["did:plc:...","https://pds.example"]`. Further
//! values in an array are for people: a file of failures has the reason there.

use crate::page::{Scalar, ScalarSeed};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::io::{self, BufRead};

/// Longest line that is read, in bytes.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Longest URL of a PDS, in bytes.
const MAX_PDS_BYTES: usize = 1024;

/// A line of a DID file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DidLine {
    /// Its line number, from 0.
    pub number: u64,
    /// The account.
    pub did: String,
    /// Its PDS, a URL.
    pub pds: String,
}

/// A line that is not a line of a DID file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its line number, from 0.
    pub number: u64,
    /// What is wrong.
    pub why: &'static str,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the DID file: {}", self.number, self.why)
    }
}

/// The lines from `starting` up to and without `ending` (0: to the end of the file), counted from
/// 0, so that the partitions 0..N and N..2N meet exactly. Empty lines are left out.
pub fn read(
    mut file: impl BufRead,
    starting: u64,
    ending: u64,
) -> impl Iterator<Item = io::Result<Result<DidLine, BadLine>>> {
    let mut next = 0u64;
    let mut line = Vec::new();
    std::iter::from_fn(move || {
        loop {
            if ending != 0 && next >= ending {
                return None;
            }
            match read_line(&mut file, &mut line) {
                Ok(None) => return None,
                Ok(Some(complete)) => {
                    let number = next;
                    next = next.saturating_add(1);
                    if number < starting || (complete && line.iter().all(u8::is_ascii_whitespace)) {
                        continue;
                    }
                    let parsed = if complete {
                        parse(&line, number)
                    } else {
                        Err("longer than 64 KiB")
                    };
                    return Some(Ok(parsed.map_err(|why| BadLine { number, why })));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    })
}

/// What is wrong with the first line of `head`, the beginning of a file, if no complete line of it
/// belongs to a DID file: the rest is unlikely to be better. `None` if a line is good, or if `head`
/// contains no complete line.
#[must_use]
pub fn refused_head(head: &[u8]) -> Option<BadLine> {
    let whole = head.get(..head.iter().rposition(|b| *b == b'\n')?)?;
    let mut first = None;
    for line in read(whole, 0, 0) {
        match line {
            Ok(Ok(_)) | Err(_) => return None,
            Ok(Err(bad)) => first = first.or(Some(bad)),
        }
    }
    first
}

fn parse(line: &[u8], number: u64) -> Result<DidLine, &'static str> {
    let Columns(did, pds) = serde_json::from_slice(line).map_err(|_| "not a JSON array")?;
    let (Some(did), Some(pds)) = (did, pds) else {
        return Err("not an array of a DID and a PDS");
    };
    if !atrepo::syntax::is_did(&did) {
        return Err("the first string is not a DID");
    }
    if pds.len() > MAX_PDS_BYTES || pds.chars().any(char::is_control) {
        return Err("the second string is not the URL of a PDS");
    }
    Ok(DidLine { number, did, pds })
}

/// The first two values of an array, if they are texts. What follows is never built.
struct Columns(Option<String>, Option<String>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct ColumnsVisitor;
        impl<'de> Visitor<'de> for ColumnsVisitor {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Columns, A::Error> {
                let mut text = || -> Result<Option<String>, A::Error> {
                    Ok(match list.next_element_seed(ScalarSeed)? {
                        Some(Scalar::Text(text)) => Some(text),
                        _ => None,
                    })
                };
                let columns = Columns(text()?, text()?);
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(columns)
            }
        }
        json.deserialize_seq(ColumnsVisitor)
    }
}

/// Reads a line without its line feed. `Some(false)` means that it was too long and its rest was
/// skipped; `None` means the end of the file.
fn read_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let mut complete = true;
    let mut any = false;
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok(any.then_some(complete));
        }
        any = true;
        let end = buffer.iter().position(|b| *b == b'\n');
        let part = buffer
            .get(..end.unwrap_or(buffer.len()))
            .unwrap_or_default();
        if line.len().saturating_add(part.len()) <= MAX_LINE_BYTES {
            line.extend_from_slice(part);
        } else {
            complete = false;
        }
        let used = part.len().saturating_add(usize::from(end.is_some()));
        file.consume(used);
        if end.is_some() {
            return Ok(Some(complete));
        }
    }
}

/// A line of a file of failures, with its line feed: a line of a DID file, with a reason.
#[must_use]
pub fn failure_line(did: &str, pds: &str, reason: &str) -> String {
    format!("{}\n", serde_json::json!([did, pds, reason]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dids(text: &str, starting: u64, ending: u64) -> Vec<Result<String, BadLine>> {
        read(text.as_bytes(), starting, ending)
            .map(|line| line.unwrap().map(|l| l.did))
            .collect()
    }

    #[test]
    fn partitions_meet_exactly() {
        let text: String = (0..10)
            .map(|n| format!("[\"did:plc:{n}\",\"https://pds.example\"]\n"))
            .collect();
        let all = dids(&text, 0, 0);
        assert_eq!(all.len(), 10);
        assert_eq!(
            [dids(&text, 0, 4), dids(&text, 4, 8), dids(&text, 8, 0)].concat(),
            all
        );
    }

    #[test]
    fn bad_lines_are_named_by_number_and_cost_only_themselves() {
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        let text = format!(
            "\n{{}}\n[\"did:plc:a\"]\n{long}\n[\"x\",\"y\"]\n[\"did:plc:a\",\"https://b\",\"why\"]"
        );
        let found = dids(&text, 0, 0);
        let numbers: Vec<u64> = found
            .iter()
            .filter_map(|l| l.as_ref().err())
            .map(|bad| bad.number)
            .collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert_eq!(found.last(), Some(&Ok("did:plc:a".to_owned())));
    }

    #[test]
    fn a_failure_line_is_a_did_file_line() {
        let line = failure_line("did:plc:a", "https://b", "said \"no\"\n");
        assert_eq!(dids(&line, 0, 0), [Ok("did:plc:a".to_owned())]);
    }
}
