//! What a look found, and how much it matters.

use observe::units;
use process::{Failure, NextStep};
use serde::Serialize;
use std::fmt;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It costs time or disk, or is a risk.
    Warning,
    /// A load cannot do its work.
    Problem,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, in a word or two that stay the same.
    pub about: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What there is.
    pub found: String,
    /// What it means for a load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    /// The line that changes it, or the next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

impl Finding {
    /// Something that is as it should be.
    pub(crate) fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self {
            about,
            level: Level::Ok,
            found: found.into(),
            means: None,
            change: None,
        }
    }

    /// The same, but it matters more, for this reason.
    pub(crate) fn but(mut self, level: Level, means: impl Into<String>) -> Self {
        self.level = level;
        self.means = Some(means.into());
        self
    }

    /// The same, with the line that changes it.
    pub(crate) fn change(mut self, line: impl Into<String>) -> Self {
        self.change = Some(line.into());
        self
    }

    /// What a failure is about.
    pub(crate) fn of_failure(about: &'static str, failure: &Failure) -> Self {
        let change = match failure.next_step() {
            Some(NextStep::Text(text) | NextStep::GoOn(text)) => Some(text.clone()),
            Some(NextStep::Run { text, command }) => Some(format!("{text}: skyfill {command}")),
            None => None,
        };
        Self {
            about,
            level: Level::Problem,
            found: failure.message().to_owned(),
            means: None,
            change,
        }
    }
}

impl fmt::Display for Finding {
    /// Lines for people, without one for what is missing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {}: {}", self.level.word(), self.about, self.found)?;
        if let Some(means) = &self.means {
            write!(f, "\n         {means}")?;
        }
        if let Some(change) = &self.change {
            write!(f, "\n         -> {change}")?;
        }
        Ok(())
    }
}

/// How many findings there are of each level that matters.
#[must_use]
pub fn counted(findings: &[Finding]) -> String {
    let of = |level: Level, one: &str| {
        let found = findings.iter().filter(|found| found.level == level);
        units::counted(found.count() as u64, one)
    };
    format!(
        "{}, {}, {}",
        of(Level::Problem, "problem"),
        of(Level::Warning, "warning"),
        of(Level::Note, "note")
    )
}

/// The highest level of some findings.
#[must_use]
pub fn highest(findings: &[Finding]) -> Level {
    findings
        .iter()
        .map(|finding| finding.level)
        .max()
        .unwrap_or(Level::Ok)
}
