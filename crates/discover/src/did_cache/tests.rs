//! Caches in each form, whole, broken and hostile.

use super::*;

fn entries(bytes: &[u8]) -> (Vec<String>, Option<String>) {
    let mut found = Vec::new();
    let outcome = read(bytes, |entry| -> Result<(), CacheError> {
        found.push(match entry {
            Entry::Pair { did, pds } => format!("{did} {pds}"),
            Entry::Bad { number, at, why } => format!("bad {number} at {at}: {why}"),
        });
        Ok(())
    });
    (found, outcome.err().map(|error| error.to_string()))
}

fn message_pack_pair(did: &str) -> Vec<u8> {
    let mut out = vec![0x92, 0xd9, u8::try_from(did.len()).unwrap()];
    out.extend(did.as_bytes());
    out.extend([0xa3, b'p', b'd', b's']);
    out
}

fn cbor_pair(did: &str) -> Vec<u8> {
    let mut out = vec![0x82, 0x78, u8::try_from(did.len()).unwrap()];
    out.extend(did.as_bytes());
    out.extend([0x63, b'p', b'd', b's']);
    out
}

fn array(head: &[u8], pair: fn(&str) -> Vec<u8>, count: usize) -> Vec<u8> {
    let pairs: Vec<u8> = (0..count)
        .flat_map(|n| pair(&format!("did:plc:{n:024}")))
        .collect();
    [head, &pairs].concat()
}

#[test]
fn the_form_is_told_from_the_bytes() {
    let cases: Vec<(Vec<u8>, usize)> = vec![
        (array(&[], message_pack_pair, 3), 3),
        (array(&[], cbor_pair, 3), 3),
        (array(&[0x93], message_pack_pair, 3), 3),
        (array(&[0x92], message_pack_pair, 2), 2),
        (array(&[0xdc, 0, 20], message_pack_pair, 20), 20),
        (array(&[0xdd, 0, 0, 0, 20], message_pack_pair, 20), 20),
        (array(&[0x83], cbor_pair, 3), 3),
        (array(&[0x82], cbor_pair, 2), 2),
        // Sixteen to 23 in CBOR looks like a short array in MessagePack.
        (array(&[0x92], cbor_pair, 18), 18),
        (array(&[0x98, 0x92], cbor_pair, 0x92), 0x92),
        (array(&[0x99, 1, 0], cbor_pair, 256), 256),
        ([array(&[0x9f], cbor_pair, 3), vec![0xff]].concat(), 3),
        // So many pairs that the count looks like a MessagePack pair.
        (array(&[0x99, 0x92, 0xa3], cbor_pair, 0x92a3), 0x92a3),
        (vec![], 0),
        (vec![0x90], 0),
        (vec![0x80], 0),
    ];
    for (bytes, count) in cases {
        let (found, error) = entries(&bytes);
        assert_eq!(
            (found.len(), error),
            (count, None),
            "{:02x?}",
            &bytes[..bytes.len().min(6)]
        );
        assert!(
            found
                .iter()
                .enumerate()
                .all(|(n, f)| *f == format!("did:plc:{n:024} pds")),
            "{found:?}"
        );
    }
    assert!(
        entries(b"did:plc:a https://pds\n")
            .1
            .unwrap()
            .contains("MessagePack or CBOR")
    );
}

#[test]
fn a_bad_first_entry_costs_that_entry() {
    let good = message_pack_pair("did:plc:a");
    let (found, error) = entries(&[&[0x92, 0xc0, 0xa1, b'x'][..], &good, &good].concat());
    assert_eq!((found.len(), error), (3, None), "{found:?}");
    let pairs: Vec<u8> = cbor_pair("did:plc:a").repeat(23);
    let (found, error) = entries(&[&[0x98, 24, 0xf6][..], &pairs].concat());
    assert_eq!((found.len(), error), (24, None), "{found:?}");
}

#[test]
fn what_is_no_pair_is_skipped_with_its_position() {
    let good = message_pack_pair("did:plc:a");
    // null; an array of one map with an extension; a pair of string and number.
    let bad: [&[u8]; 3] = [
        &[0xc0],
        &[0x91, 0x81, 0xa1, b'k', 0xd6, 1, 2, 3, 4, 5],
        &[0x92, 0xa1, b'x', 0xcd, 1, 2],
    ];
    let mut bytes = good.clone();
    for bad in bad {
        bytes.extend(bad);
    }
    bytes.extend(&good);
    let (found, error) = entries(&bytes);
    assert_eq!(error, None);
    assert_eq!(found.len(), 5);
    assert_eq!(found[1], "bad 1 at 16: not an array of two");
    assert_eq!(found[2], "bad 2 at 17: not an array of two");
    assert_eq!(found[3], "bad 3 at 27: something other than a string");
    assert_eq!(found[4], "did:plc:a pds");
}

#[test]
fn a_file_that_is_cut_off_or_hostile_ends_with_an_error() {
    let good = message_pack_pair("did:plc:a");
    let (found, error) = entries(&[&good[..], &good[..5]].concat());
    assert_eq!((found.len(), error.unwrap().contains("cut off")), (1, true));
    let (_, error) = entries(&[&[0x93], &good[..]].concat());
    assert!(error.unwrap().contains("cut off"));
    // A claim of 4 GiB of bytes, and a million nested arrays, allocate nothing.
    assert!(
        entries(&[&good[..], &[0xc6, 0xff, 0xff, 0xff, 0xff, 1]].concat())
            .1
            .is_some()
    );
    let (_, error) = entries(&[&good[..], &vec![0x91; 1_000_000]].concat());
    assert!(error.unwrap().contains("nested"));
}
