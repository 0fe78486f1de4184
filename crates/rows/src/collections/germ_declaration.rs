//! `com.germnetwork.declaration`: the `record` row alone, at any rkey.

use crate::lexicon::{Definition, Format, Schema, Text, optional, required};

static MESSAGE_ME: Definition = Definition {
    name: "com.germnetwork.declaration#messageMe",
    fields: &[
        required(
            "messageMeUrl",
            Schema::Text(Text {
                least_bytes: 1,
                most_bytes: 2047,
                format: Some(Format::Uri),
                ..Text::ANY
            }),
        ),
        required(
            "showButtonTo",
            Schema::Text(Text {
                least_bytes: 1,
                most_bytes: 100,
                ..Text::ANY
            }),
        ),
    ],
};

pub(super) static LEXICON: Definition = Definition {
    name: "com.germnetwork.declaration",
    fields: &[
        required(
            "version",
            Schema::Text(Text {
                least_bytes: 5,
                most_bytes: 14,
                ..Text::ANY
            }),
        ),
        required("currentKey", Schema::Bytes),
        optional("messageMe", Schema::Object(&MESSAGE_ME)),
        optional("keyPackage", Schema::Bytes),
        optional("continuityProofs", Schema::List(&Schema::Bytes, 1000)),
    ],
};
