//! `skyfill unpack-as-did-file`.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use testbed::*;

/// Pairs as msgpackr's `PackrStream` writes them.
fn pairs(count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..count {
        let did = format!("did:plc:{n:024}");
        out.extend([0x92, 0xd9, u8::try_from(did.len()).unwrap()]);
        out.extend(did.as_bytes());
        out.extend([0xb3]);
        out.extend(b"https://pds.example");
    }
    out
}

#[test]
fn a_cache_becomes_a_did_file_and_bad_entries_are_told() {
    let folder = folder();
    let path = folder.path().join("cache");
    std::fs::write(&path, [pairs(2), vec![0xc0], pairs(1)].concat()).unwrap();
    let output = skyfill()
        .arg("unpack-as-did-file")
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let first = format!("[\"did:plc:{:024}\",\"https://pds.example\"]", 0);
    let lines: Vec<&str> = std::str::from_utf8(&output.stdout)
        .unwrap()
        .lines()
        .collect();
    assert_eq!((lines.len(), lines[0]), (3, first.as_str()));
    assert!(
        told(&output).contains("entry 2 at byte 110"),
        "{}",
        told(&output)
    );
    std::fs::write(&path, pairs(3)).unwrap();
    assert_eq!(
        skyfill()
            .arg("unpack-as-did-file")
            .arg(&path)
            .output()
            .unwrap()
            .status
            .code(),
        Some(0)
    );
    std::fs::write(&path, "not a cache").unwrap();
    assert_eq!(
        skyfill()
            .arg("unpack-as-did-file")
            .arg(&path)
            .output()
            .unwrap()
            .status
            .code(),
        Some(3)
    );
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let folder = folder();
    let path = folder.path().join("cache");
    std::fs::write(&path, pairs(200_000)).unwrap();
    let script = format!(
        "{} unpack-as-did-file {} | head -1",
        binary().display(),
        path.display()
    );
    let output = Command::new("bash")
        .args(["-c", &format!("set -o pipefail; {script}")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(output.stderr.is_empty(), "{}", told(&output));
}

#[test]
fn memory_does_not_grow_with_the_cache() {
    let folder = folder();
    let path = folder.path().join("cache");
    let mut file = File::create(&path).unwrap();
    let chunk = pairs(100_000);
    for _ in 0..20 {
        file.write_all(&chunk).unwrap();
    }
    drop(file);
    let mut child = skyfill()
        .arg("unpack-as-did-file")
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()).unwrap());
    let mut peak = 0u64;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_kib(child.id()));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(reader.join().unwrap() > 100_000_000);
    assert!(
        peak > 0 && peak < 30 << 10,
        "{peak} KiB for a cache of 120 MB"
    );
}
