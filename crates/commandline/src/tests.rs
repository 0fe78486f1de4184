//! Command lines of a small program: what is noted, what is added, and the lines that continue.

use crate::{CommandLine, Policy, variables};
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use ledger::settings::Setting;
use std::ffi::OsString;

const POLICY: Policy = Policy {
    commands: &["load", "again"],
    loads: &["load", "again"],
    run: "load",
    of_network: &["rate", "contact"],
    of_loads: &[],
    of_run: &["keep_cars", "from_cars", "relay"],
    paths: &["keep_cars"],
    either: &[("keep_cars", "from_cars")],
};

fn option(id: &'static str, long: &'static str) -> Arg {
    Arg::new(id).long(long)
}

fn definition() -> Command {
    let arguments = || {
        [
            Arg::new("file"),
            option("rate", "rate"),
            option("contact", "contact"),
            option("keep_cars", "keep-cars"),
            option("from_cars", "from-cars").conflicts_with("keep_cars"),
            option("relay", "relay").env("COMMANDLINE_TEST_RELAY"),
            option("database_url", "database-url"),
            option("only", "only")
                .value_delimiter(',')
                .action(ArgAction::Append),
            option("did", "did").action(ArgAction::Append),
            option("retry", "retry").action(ArgAction::SetTrue),
        ]
    };
    let verbose = option("verbose", "verbose").short('v');
    Command::new("skyfill")
        .arg(option("log-file", "log-file").global(true))
        .arg(verbose.global(true).action(ArgAction::Count))
        .subcommand(Command::new("load").args(arguments()))
        .subcommand(Command::new("again").args(arguments()))
        .subcommand(Command::new("other").args(arguments()))
}

fn line(words: &str) -> CommandLine {
    let words: Vec<OsString> = words.split(' ').map(Into::into).collect();
    let matches = definition().try_get_matches_from(&words).unwrap();
    CommandLine::new(&POLICY, definition, words, &matches)
}

fn setting(name: &str, values: &[&str]) -> Setting {
    Setting {
        name: name.to_owned(),
        values: values.iter().map(|&value| value.to_owned()).collect(),
        from_environment: false,
        of_run: false,
    }
}

/// All options with values that a line has in the end.
struct Values(Vec<(String, String)>);

impl FromArgMatches for Values {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |id: &str| matches.get_one::<String>(id).cloned();
        let ids = ["file", "rate", "relay", "log-file"];
        let found = ids
            .iter()
            .filter_map(|id| Some(((*id).to_owned(), value(id)?)));
        Ok(Self(found.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[test]
fn the_line_to_continue_with_has_what_the_ledger_does_not_know() {
    let line = line(
        "skyfill load a.jsonl --rate 5 --did did:plc:a --did did:plc:b --only x,y --retry -vv \
         --database-url postgresql://u:hunter2@h/d",
    );
    assert_eq!(
        line.to_continue(),
        "skyfill load a.jsonl --database-url postgresql://u:PASSWORD@h/d --only x,y --did did:plc:a \
         --did did:plc:b --retry --verbose --verbose (with the password, which is not kept, for PASSWORD)"
    );
    line.on_effective(&["file", "retry", "did"]);
    assert!(!line.to_continue().contains("did:plc:a") && !line.to_continue().contains("retry"));
    assert_eq!(
        line.of_command("status --failed"),
        "skyfill status --failed --database-url postgresql://u:PASSWORD@h/d"
    );
}

#[test]
fn a_command_notes_its_options_but_no_secret_and_no_run_that_is_not_its_own() {
    let noted = |words: &str, before: &[Setting]| line(words).to_note(before);
    let names = |noted: &[Setting]| -> Vec<(String, bool)> {
        let name = |setting: &Setting| (setting.name.clone(), setting.of_run);
        noted.iter().map(name).collect()
    };
    let (of_load, displaced) = noted(
        "skyfill load --rate 5 --keep-cars cars --relay https://u:p@r",
        &[],
    );
    let expected = [("rate".to_owned(), false), ("keep-cars".to_owned(), true)];
    assert_eq!(names(&of_load), expected);
    assert_eq!(displaced, ["from-cars"]);
    assert!(of_load[1].values[0].starts_with('/'), "{of_load:?}");
    let (of_other_load, _) = noted("skyfill again --rate 5 --keep-cars cars", &[]);
    assert_eq!(names(&of_other_load), expected[..1]);
    assert!(noted("skyfill other --rate 5", &[]).0.is_empty());
    // What was done is not noted.
    let done = line("skyfill load --rate 5");
    done.on_effective(&["rate"]);
    assert!(done.to_note(&[]).0.is_empty());
}

#[test]
fn what_is_stored_is_added_unless_it_is_given_or_excluded() {
    let stored = [
        setting("rate", &["5"]),
        setting("keep-cars", &["/cars"]),
        setting("unknown", &["1"]),
        setting("did", &["did:plc:a"]),
    ];
    let added = |words: &str| line(words).to_add(&stored);
    assert_eq!(added("skyfill load"), ["--rate=5", "--keep-cars=/cars"]);
    assert_eq!(added("skyfill load --rate 6"), ["--keep-cars=/cars"]);
    assert_eq!(added("skyfill load --from-cars x"), ["--rate=5"]);
    assert!(added("skyfill other").is_empty());
}

#[test]
fn options_are_added_behind_the_command_wherever_it_stands() {
    let line = line("skyfill --log-file load load load");
    let Values(values) = line.parse_with(vec!["--rate=5".to_owned()]).unwrap();
    let value = |id: &str, value: &str| (id.to_owned(), value.to_owned());
    assert_eq!(
        values,
        [
            value("file", "load"),
            value("rate", "5"),
            value("log-file", "load")
        ]
    );
    let conflict = line.parse_with::<Values>(vec!["--no-such-option".to_owned()]);
    let message = conflict.err().unwrap().message().to_owned();
    assert!(
        message.contains("conflict with this command line"),
        "{message}"
    );
}

#[test]
fn a_line_without_a_command_is_no_reason_to_panic() {
    let none = CommandLine::new(&POLICY, definition, Vec::new(), &ArgMatches::default());
    assert!(none.parse_with::<Values>(Vec::new()).is_err());
    assert!(none.to_add(&[setting("rate", &["5"])]).is_empty());
}

#[test]
fn a_switch_in_the_environment_is_on_unless_it_says_no() {
    let values = ["", "0", "false", "1", "true", "no"];
    let on = [false, false, false, true, true, true];
    assert_eq!(values.map(variables::is_on), on);
}

#[test]
fn a_line_that_says_something_else_than_others_were_told_is_named() {
    let noted = [setting("rate", &["5"]), setting("keep-cars", &["/cars"])];
    for (words, found) in [
        ("skyfill load", None),
        ("skyfill load --rate 5", None),
        ("skyfill load --keep-cars here", None),
        ("skyfill load --rate 6", Some(("--rate 6", "--rate 5"))),
        ("skyfill load --retry", Some(("--retry", "no --retry"))),
        (
            "skyfill load --contact me",
            Some(("--contact me", "no --contact")),
        ),
    ] {
        let ids = ["rate", "contact", "retry"];
        let contradiction = line(words).contradiction(&noted, &ids);
        let found = found.map(|(given, told)| (given.to_owned(), told.to_owned()));
        assert_eq!(contradiction, found, "{words}");
    }
}
