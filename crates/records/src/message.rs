//! The form of a message: docs/how-to/records.md.

use ledger::publication::Operation;
use serde_json::{Value, json};

/// The version of the form.
const VERSION: u32 = 1;

/// What a message says.
pub(crate) struct About<'a> {
    pub(crate) operation: Operation,
    pub(crate) did: &'a str,
    pub(crate) rev: Option<&'a str>,
    pub(crate) batch: i64,
    pub(crate) collection: &'a str,
    pub(crate) uri: &'a str,
}

/// A record as the table has it.
pub(crate) struct Stored<'s> {
    pub(crate) cid: &'s str,
    pub(crate) indexed_at: &'s str,
    pub(crate) json: &'s str,
}

/// The content of a message of at most so many bytes; a record that is too large for it is left
/// out.
pub(crate) fn content(about: &About<'_>, stored: Option<&Stored<'_>>, largest: usize) -> Vec<u8> {
    let mut data = json!({ "uri": about.uri });
    let mut obj = None;
    if let (Some(stored), Some(data)) = (stored, data.as_object_mut()) {
        data.insert("cid".to_owned(), Value::from(stored.cid));
        data.insert("timestamp".to_owned(), Value::from(stored.indexed_at));
        obj = Some(stored.json);
    }
    let whole = assemble(about, &data, obj);
    if whole.len() <= largest || obj.is_none() {
        return whole;
    }
    if let Some(data) = data.as_object_mut() {
        data.insert("omitted".to_owned(), Value::from("too large"));
    }
    assemble(about, &data, None)
}

/// Puts a message together. The record's JSON goes in as it is.
fn assemble(about: &About<'_>, data: &Value, obj: Option<&str>) -> Vec<u8> {
    let mut head = json!({
        "version": VERSION,
        "type": "commit",
        "operation": about.operation.word(),
        "did": about.did,
        "batch": about.batch,
        "collection": about.collection,
    });
    if let (Some(rev), Some(head)) = (about.rev, head.as_object_mut()) {
        head.insert("rev".to_owned(), Value::from(rev));
    }
    let (mut text, mut data) = (head.to_string(), data.to_string());
    if let Some(obj) = obj {
        data.pop();
        data.push_str(",\"obj\":");
        data.push_str(obj);
        data.push('}');
    }
    text.pop();
    text.push_str(",\"data\":");
    text.push_str(&data);
    text.push('}');
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_line_with_what_it_is_about() {
        let about = About {
            operation: Operation::Update,
            did: "did:plc:a",
            rev: Some("3k"),
            batch: 7,
            collection: "com.example.thing",
            uri: "at://did:plc:a/com.example.thing/self",
        };
        let stored = Stored {
            cid: "bafy",
            indexed_at: "2024-01-01T00:00:00.000Z",
            json: r#"{"text":"a \"quoted\" word"}"#,
        };
        let bytes = content(&about, Some(&stored), 4096);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["operation"], "update");
        assert_eq!(value["rev"], "3k");
        assert_eq!(value["data"]["obj"]["text"], "a \"quoted\" word");
        let bytes = content(&about, Some(&stored), bytes.len() - 1);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["data"]["omitted"], "too large");
        assert!(value["data"].get("obj").is_none());
        let gone = About {
            operation: Operation::Delete,
            rev: None,
            ..about
        };
        let value: Value = serde_json::from_slice(&content(&gone, None, 4096)).unwrap();
        assert_eq!(value["data"], json!({ "uri": about.uri }));
        assert!(value.get("rev").is_none());
    }
}
