//! Renders the definition of a command line as a page of Markdown: docs/reference/commands.md.

use clap::{Arg, Command};
use std::fmt::Write;

/// The page about a command and all that it has.
#[must_use]
pub fn page(mut root: Command) -> String {
    root.build();
    let mut out = String::from(
        "# Commands and environment\n\n\
         `make reference` generates this page from the definitions of the arguments; a test fails when it\n\
         is stale.\n",
    );
    let mut variables: Vec<(String, String, String, String)> = Vec::new();
    out.push_str("\n## Options of every command\n");
    let of_every_command: Vec<&Arg> = root.get_arguments().filter(|a| a.is_global_set()).collect();
    table(&of_every_command, &mut out, &mut variables);
    let _ = write!(
        out,
        "\n{}\n",
        wrapped(
            "The terminal shows what people need. A log file has details as well: why a repo failed, \
             why a host was put off, when a connection was opened again. RUST_LOG selects what is \
             logged in both, by crate and level."
        )
    );
    for command in root
        .get_subcommands()
        .filter(|c| !c.is_hide_set() && c.get_name() != "help")
    {
        section(command, "skyfill", &mut out, &mut variables);
    }
    out.push_str("\n## Environment\n\nAn argument wins over its variable.\n\n| variable | same as | meaning | default |\n|---|---|---|---|\n");
    variables.sort();
    variables.dedup_by(|a, b| a.0 == b.0);
    for (variable, option, help, default) in variables {
        let _ = writeln!(out, "| {variable} | `{option}` | {help} | {default} |");
    }
    out
}

fn section(
    command: &Command,
    parent: &str,
    out: &mut String,
    variables: &mut Vec<(String, String, String, String)>,
) {
    let name = format!("{parent} {}", command.get_name());
    let about = command
        .get_long_about()
        .or(command.get_about())
        .map(ToString::to_string)
        .unwrap_or_default();
    let _ = write!(out, "\n## {name}\n\n{}\n", wrapped(&about));
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()))
        .filter(|arg| !arg.is_global_set())
        .collect();
    table(&arguments, out, variables);
    if let Some(examples) = command.get_after_help() {
        let text = examples.to_string();
        let lines: Vec<&str> = text.lines().skip(1).map(str::trim_start).collect();
        let _ = write!(out, "\n```sh parse: examples\n{}\n```\n", lines.join("\n"));
    }
    for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
        section(inner, &name, out, variables);
    }
}

/// A row for each argument; those that have a variable are noted.
fn table(
    arguments: &[&Arg],
    out: &mut String,
    variables: &mut Vec<(String, String, String, String)>,
) {
    if !arguments.is_empty() {
        out.push_str("\n| argument | meaning | default | variable |\n|---|---|---|---|\n");
    }
    for arg in arguments {
        let shown = shown(arg);
        let help = one_line(&arg.get_help().map(ToString::to_string).unwrap_or_default());
        let default: Vec<String> = arg
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy().into_owned())
            .collect();
        let default = if arg.get_action().takes_values() {
            default.join(", ")
        } else {
            String::new()
        };
        let variable = arg
            .get_env()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let _ = writeln!(out, "| `{shown}` | {help} | {default} | {variable} |");
        if !variable.is_empty() {
            variables.push((variable, shown, help, default));
        }
    }
}

fn shown(arg: &Arg) -> String {
    let value = arg
        .get_value_names()
        .filter(|_| arg.get_action().takes_values())
        .map(|names| {
            names
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        });
    let short = arg
        .get_short()
        .map_or_else(String::new, |short| format!("-{short}, "));
    match (arg.get_long(), value) {
        (Some(long), Some(value)) => format!("{short}--{long} {value}"),
        (Some(long), None) => format!("{short}--{long}"),
        (None, Some(value)) if arg.get_num_args().is_some_and(|n| n.max_values() > 1) => {
            format!("{value}...")
        }
        (None, value) => value.unwrap_or_default(),
    }
}

/// Paragraphs, wrapped at 100 columns.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for (number, paragraph) in text.split("\n\n").enumerate() {
        if number > 0 {
            out.push_str("\n\n");
            column = 0;
        }
        for word in paragraph.split_whitespace() {
            let width = word.chars().count();
            if column > 0 && column + 1 + width > 100 {
                out.push('\n');
                column = 0;
            } else if column > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += width;
        }
    }
    out
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}
