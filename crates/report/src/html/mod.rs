//! The page of a report: one file of HTML with its style, without scripts and without a request.
//!
//! Whatever hosts, files and the database say stands in it as text: every value goes through
//! `text` on its way in.

mod charts;
mod sections;
mod tables;
mod words;

use crate::Report;
use words::{moment, text};

const STYLE: &str = include_str!("style.css");

/// The page of a report.
#[must_use]
pub fn page(report: &Report) -> String {
    let title = match &report.status.coverage.run {
        Some(run) => format!("skyfill, run {}", run.id),
        None => "skyfill".to_owned(),
    };
    let sections = [
        sections::head(report),
        sections::phases(report),
        sections::rates(report),
        sections::content(report),
        sections::hosts(report),
        sections::failures(report),
        sections::proof(report),
        sections::sizes(report),
        sections::settings(report),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n\
         <footer>Made by skyfill {} on {}. This file needs no network.</footer>\n</body>\n</html>\n",
        text(&title),
        sections.concat(),
        env!("CARGO_PKG_VERSION"),
        moment(report.status.at),
    )
}
