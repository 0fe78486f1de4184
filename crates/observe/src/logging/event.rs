//! One report as text: for people, for a log file, for programs.

use crate::printable::{escape_json, printable, shown};
use serde_json::{Map, Value};
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// The field of an error whose text is the next step of whoever reads it.
const HINT: &str = "hint";

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The message; of details time, level and fields, too.
    People,
    /// Time, level, origin, message, fields.
    Text,
    /// The same as an object of JSON.
    Json,
}

/// What was reported.
pub(super) struct Said {
    level: Level,
    target: &'static str,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Said {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut said = Self {
            level: *metadata.level(),
            target: metadata.target(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut said);
        said
    }

    /// Another field, unless there is one of this name.
    pub(super) fn add(&mut self, name: &'static str, value: &str) {
        if !self.fields.iter().any(|(other, _)| *other == name) {
            self.fields.push((name, value.into()));
        }
    }

    /// Its lines, each with its end. `colors` goes for people's form alone.
    pub(super) fn lines(&self, shape: Shape, time: &str, colors: bool) -> String {
        match shape {
            Shape::People if self.level <= Level::INFO => self.for_people(colors),
            Shape::People | Shape::Text => self.text(time),
            Shape::Json => self.json(time),
        }
    }

    fn for_people(&self, colors: bool) -> String {
        let style = |word: &str, color: u8| match colors {
            true => format!("\u{1b}[1;{color}m{word}:\u{1b}[0m "),
            false => format!("{word}: "),
        };
        let mut text = match self.level {
            Level::ERROR => style("error", 31),
            Level::WARN => style("warning", 33),
            _ => String::new(),
        };
        let lines: Vec<_> = self.message.split('\n').map(shown).collect();
        text.push_str(&lines.join("\n"));
        text.push('\n');
        if let Some(hint) = self.hint() {
            let lines: Vec<_> = hint.split('\n').map(shown).collect();
            // A text takes all that is written to it.
            let _ = writeln!(text, "{}{}", style("hint", 36), lines.join("\n"));
        }
        text
    }

    fn hint(&self) -> Option<&str> {
        let (_, hint) = self.fields.iter().find(|(name, _)| *name == HINT)?;
        hint.as_str()
    }

    fn text(&self, time: &str) -> String {
        let mut fields = String::new();
        for (name, value) in &self.fields {
            let value = match value {
                Value::String(text) => quoted(text),
                value => value.to_string(),
            };
            let _ = write!(fields, " {name}={value}");
        }
        let mut text = String::new();
        for line in self.message.split('\n') {
            let (level, target, line) = (self.level, self.target, shown(line));
            let _ = writeln!(text, "{time} {level:>5} {target}: {line}{fields}");
            fields.clear();
        }
        text
    }

    fn json(&self, time: &str) -> String {
        let mut object = Map::new();
        object.insert("time".to_owned(), time.into());
        object.insert("level".to_owned(), self.level.as_str().into());
        object.insert("target".to_owned(), self.target.into());
        object.insert("message".to_owned(), self.message.as_str().into());
        for (name, value) in &self.fields {
            object.entry(*name).or_insert_with(|| value.clone());
        }
        format!("{}\n", escape_json(&Value::Object(object).to_string()))
    }
}

/// A value of a field, in quotes if it would not be one word otherwise.
fn quoted(text: &str) -> String {
    let text = printable(text);
    let is_word = |c: char| !c.is_whitespace() && !matches!(c, '"' | '=');
    match !text.is_empty() && text.chars().all(is_word) {
        true => text.into_owned(),
        false => format!("\"{}\"", text.replace('"', "\\\"")),
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.fields.push((name, value.into())),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), value.into()));
    }
}

/// The time, as RFC 3339 has it.
pub(crate) fn now() -> String {
    let mut text = String::new();
    // It writes to a text, which takes it.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-28T19:24:45.000001Z";

    fn said(level: Level, message: &str, fields: &[(&'static str, Value)]) -> Said {
        Said {
            level,
            target: "fetch::turns",
            message: message.to_owned(),
            fields: fields.to_vec(),
        }
    }

    #[test]
    fn people_read_the_message_and_the_next_step() {
        let error = said(
            Level::ERROR,
            "cannot connect",
            &[("hint", "start it".into()), ("host", "a.example".into())],
        );
        let people = |said: &Said| said.lines(Shape::People, TIME, false);
        assert_eq!(people(&error), "error: cannot connect\nhint: start it\n");
        assert_eq!(people(&said(Level::INFO, "one\ntwo", &[])), "one\ntwo\n");
        assert_eq!(people(&said(Level::WARN, "x", &[])), "warning: x\n");
        assert_eq!(
            error.lines(Shape::People, TIME, true),
            "\u{1b}[1;31merror:\u{1b}[0m cannot connect\n\u{1b}[1;36mhint:\u{1b}[0m start it\n"
        );
        assert_eq!(
            people(&said(
                Level::DEBUG,
                "put off",
                &[("host", "a.example".into())]
            )),
            format!("{TIME} DEBUG fetch::turns: put off host=a.example\n")
        );
    }

    #[test]
    fn a_log_file_has_time_level_and_fields_in_each_line() {
        let fields = [
            ("why", "no \"way\"".into()),
            ("tries", 3.into()),
            ("empty", "".into()),
        ];
        assert_eq!(
            said(Level::WARN, "failed\nagain", &fields).lines(Shape::Text, TIME, true),
            format!(
                "{TIME}  WARN fetch::turns: failed why=\"no \\\"way\\\"\" tries=3 empty=\"\"\n\
                 {TIME}  WARN fetch::turns: again\n"
            )
        );
    }

    #[test]
    fn programs_read_objects_whatever_a_field_is_called() {
        let fields = [
            ("host", "a.example".into()),
            ("time", "noon".into()),
            ("tries", 3.into()),
        ];
        let line = said(Level::INFO, "a \"b\"", &fields).lines(Shape::Json, TIME, false);
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["time"], TIME);
        assert_eq!(object["message"], "a \"b\"");
        assert_eq!(
            (&object["host"], &object["tries"]),
            (&"a.example".into(), &3.into())
        );
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn what_hosts_send_acts_in_no_form() {
        let evil = "\u{1b}[2J\u{9b}31m\u{202e}\r\u{e0001}\u{7f}";
        let hostile = said(
            Level::ERROR,
            evil,
            &[("hint", evil.into()), ("name", evil.into())],
        );
        for shape in [Shape::People, Shape::Text, Shape::Json] {
            let lines = hostile.lines(shape, TIME, false);
            assert_eq!(
                lines.replace('\n', ""),
                shown(&lines.replace('\n', "")),
                "{shape:?}"
            );
        }
        let line = hostile.lines(Shape::Json, TIME, false);
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["name"], evil, "{line}");
        // A forged line is a value of its field.
        let forged = said(Level::INFO, "m", &[("name", "x\nerror: forged".into())]);
        assert_eq!(forged.lines(Shape::Text, TIME, false).lines().count(), 1);
    }

    #[test]
    fn the_time_is_as_rfc_3339_has_it() {
        let now = now();
        assert!(now.ends_with('Z') && now.as_bytes()[10] == b'T', "{now}");
    }
}
