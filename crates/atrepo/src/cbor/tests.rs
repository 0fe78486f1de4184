//! What the DAG-CBOR reader takes, refuses and costs.

use super::*;
use crate::Cid;

fn rule(hex: &str) -> Option<&'static str> {
    check(&data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap())
        .err()
        .map(|e| e.rule)
}

#[test]
fn the_strict_form_is_enforced() {
    assert_eq!(rule("a2616101626262f5"), None);
    assert_eq!(
        rule("a2626262f5616101"),
        Some("map keys out of order or twice")
    );
    assert_eq!(
        rule("a2616101616102"),
        Some("map keys out of order or twice")
    );
    assert_eq!(rule("a1f601"), Some("a map key that is not text"));
    assert_eq!(
        rule("1801"),
        Some("number or length not in its shortest form")
    );
    assert_eq!(rule("9fff"), Some("indefinite length"));
    assert_eq!(
        rule("fb7ff8000000000000"),
        Some("a float that is not finite")
    );
    assert_eq!(rule("fa3fc00000"), Some("a float of less than 64 bits"));
    assert_eq!(rule("f7"), Some("an unknown simple value"));
    assert_eq!(rule("f818"), Some("an unknown simple value"));
    assert_eq!(rule("c001"), Some("a tag other than 42"));
    assert_eq!(rule("d82a4500"), Some("cut off"));
    assert_eq!(rule("d82a420001"), Some("tag 42 without a CIDv1"));
    assert_eq!(rule("5b1000000000000000"), Some("cut off"));
    assert_eq!(rule("9b1000000000000000"), Some("cut off"));
    assert_eq!(rule("61ff"), Some("text is not UTF-8"));
    assert_eq!(rule("0101"), Some("bytes after the item"));
    assert_eq!(rule(""), Some("cut off"));
    assert_eq!(rule("1c"), Some("reserved length"));
}

#[test]
fn depth_is_bounded_without_recursion() {
    let nested = |depth: usize| [vec![0x81; depth], vec![1]].concat();
    assert!(check(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(
        check(&nested(MAX_DEPTH + 1)).err().map(|e| e.rule),
        Some("nested deeper than 100 levels")
    );
    assert_eq!(
        check(&nested(1_000_000)).err().map(|e| e.rule),
        Some("nested deeper than 100 levels")
    );
}

#[test]
fn a_value_is_read_where_it_lies() {
    let cid = Cid::of(crate::Codec::Raw, b"x");
    let mut w = Writer::new();
    w.map(4)
        .text("a")
        .list(2)
        .integer(-7)
        .map(0)
        .text("b")
        .cid(&cid)
        .text("cc")
        .float(1.5)
        .text("dd")
        .unsigned(u64::MAX);
    let bytes = w.into_bytes();
    let map = check(&bytes).unwrap().as_map().unwrap();
    assert!(
        matches!(map.get("b").unwrap().value(), Value::Link(l) if l.as_bytes() == cid.to_bytes())
    );
    assert!(matches!(map.get("cc").unwrap().value(), Value::Float(f) if f == 1.5));
    assert!(matches!(
        map.get("dd").unwrap().value(),
        Value::Unsigned(u64::MAX)
    ));
    assert!(map.get("aa").is_none());
    let Value::List(mut list) = map.get("a").unwrap().value() else {
        panic!("a list")
    };
    assert!(matches!(list.next().unwrap().value(), Value::Negative(6)));
    assert_eq!(list.next().unwrap().as_map().unwrap().len(), 0);
    assert!(list.next().is_none());
}
