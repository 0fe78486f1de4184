//! Answers what a load is going to take, before its first request: for the repos that somebody
//! names, for those that are pending, else for the full network.
//!
//! The numbers are a [`Plan`]'s. Here they are put together: the work, the machine with its disk,
//! the server's settings, and the sizes that a load would choose on both.

use crate::archives;
use crate::estimates::{self, Server};
use crate::identities::Documents;
use crate::run::{Options, Scale, Wanted};
use archive::OpenOptions;
use doctor::Level;
use plan::page::{Page, Setting};
use plan::{Basis, Choice, Costs, Inputs, Machine, Plan, Work};
use process::{Database, Failure, Target, database};
use serde_json::Value;
use std::path::PathBuf;

/// The rate of the PLC directory's answers unless the operator chose one, in requests per second.
pub const DIRECTORY_RATE: f64 = 20.0;

/// The rate of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskRate {
    /// It is not known: the plan says which rate is needed.
    Unknown,
    /// Bytes that it reads and writes per second.
    Given(u64),
    /// It is measured, by writing a file beside the database.
    Measured,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The database.
    pub target: Target,
    /// What is to be loaded; without it, what is pending, else the full network.
    pub work: Option<Work>,
    /// Cores of another machine.
    pub cores: Option<usize>,
    /// Memory of another machine, in bytes.
    pub memory: Option<u64>,
    /// Free disk of another machine, in bytes.
    pub free: Option<u64>,
    /// The rate of the disk.
    pub disk_rate: DiskRate,
    /// The sizes that the operator chose.
    pub wanted: Wanted,
    /// What is done beside loading.
    pub choice: Choice,
    /// How documents are read.
    pub documents: Documents,
    /// Requests per second at the PLC directory.
    pub directory_rate: f64,
    /// Whether only a part of each repo is loaded.
    pub is_part: bool,
    /// What there is to know about the question.
    pub notes: Vec<String>,
}

/// The answer.
pub struct Answer {
    plan: Plan,
    costs: Costs,
    server: String,
    settings: Vec<Setting>,
    folder: Option<PathBuf>,
    is_part: bool,
    notes: Vec<String>,
}

impl Answer {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        self.page().json()
    }

    /// For people, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.page().lines()
    }

    /// Whether the disk is clearly too small.
    #[must_use]
    pub fn clearly_lacks_disk(&self) -> bool {
        self.plan.clearly_lacks_disk()
    }

    fn page(&self) -> Page<'_> {
        let folder = self.folder.as_ref();
        Page {
            plan: &self.plan,
            costs: &self.costs,
            server: self.server.clone(),
            settings: &self.settings,
            folder: folder.map(|folder| folder.display().to_string()),
            is_part: self.is_part,
            notes: self.notes.clone(),
        }
    }
}

/// Calculates the answer; nothing, if nothing is pending. No private database is made, and nothing
/// is changed.
///
/// # Errors
/// The server cannot be reached, or refused; or the disk cannot be measured.
pub fn answer(question: &Question) -> Result<Option<Answer>, Failure> {
    let database = existing(&question.target)?;
    let mut notes = question.notes.clone();
    let work = match (&question.work, &database) {
        (Some(work), _) => work.clone(),
        (None, Some(database)) => pending(database, &mut notes)?,
        (None, None) => Work::full_network(),
    };
    if work.repos == 0 {
        return Ok(None);
    }
    let place = Place::of(question, database.as_ref())?;
    let costs = Costs::committed();
    let inputs = Inputs {
        work,
        machine: place.machine,
        sizes: estimates::sizes(
            place.machine.cores,
            &place.scale,
            place.settings,
            question.documents,
            question.directory_rate,
        ),
        choice: question.choice,
    };
    Ok(Some(Answer {
        plan: Plan::of(&costs, &inputs),
        costs,
        server: place.server,
        settings: place.findings,
        folder: place.folder,
        is_part: question.is_part,
        notes,
    }))
}

/// The repos that the options of a run name, if they name any, and what there is to know about
/// that. `archive` says how an archive is opened that they come from.
///
/// # Errors
/// The DID file or the archive cannot be read.
pub fn named(
    options: Options,
    archive: impl FnOnce() -> Result<OpenOptions, Failure>,
) -> Result<(Option<Work>, Vec<String>), Failure> {
    let mut notes = Vec::new();
    let (repos, source) = (options.repos, options.source);
    if repos.around.names_any() {
        notes.push("accounts around others are found by requests, and not counted".to_owned());
    }
    let of_so_many = |count| Work {
        basis: Basis::Named,
        ..Work::given(Some(count), None)
    };
    let accounts = (repos.dids.len() + repos.handles.len()) as u64;
    let work = if let Some(file) = repos.did_file {
        let work = estimates::of_did_file(file.reader).map_err(|error| {
            Failure::new(format!("cannot read {}: {error}", file.shown))
                .hint("give a DID file that can be read to its end")
        })?;
        Some(work)
    } else if let Some(place) = &repos.from_cars {
        let archive = archives::open(place, &archive()?)?;
        Some(Work {
            hosts: 0,
            fullest: None,
            ..of_so_many(archive.accounts())
        })
    } else {
        (accounts > 0).then(|| of_so_many(accounts))
    };
    let is_known = work.is_some() || options.discovers && source.is_full_network();
    if !is_known && options.discovers {
        notes.push("what these hosts list is not known before they are asked".to_owned());
    }
    Ok((work, notes))
}

/// The database, if there is one: no private one is made.
fn existing(target: &Target) -> Result<Option<Database>, Failure> {
    let is_private = target.url.as_ref().is_none_or(String::is_empty);
    if is_private && database::require_made(&target.data_dir).is_err() {
        return Ok(None);
    }
    Database::open(target).map(Some)
}

/// What is pending in the ledger; the full network, if it knows of no repo.
fn pending(database: &Database, notes: &mut Vec<String>) -> Result<Work, Failure> {
    let Some(pending) = estimates::pending(database)? else {
        return Ok(Work::full_network());
    };
    if pending.is_merge {
        notes.push(
            "the tables have rows: a merge takes longer per repo than the fresh load that this is calculated for".to_owned(),
        );
    }
    Ok(pending.work)
}

/// Where the load would be.
struct Place {
    machine: Machine,
    scale: Scale,
    settings: Server,
    server: String,
    findings: Vec<Setting>,
    folder: Option<PathBuf>,
}

impl Place {
    fn of(question: &Question, database: Option<&Database>) -> Result<Self, Failure> {
        let is_other = question.cores.is_some() || question.memory.is_some();
        let mut place = match database {
            Some(database) if !is_other => Self::of_server(question, database)?,
            _ => Self::assumed(question, is_other),
        };
        if question.free.is_some() {
            (place.machine.free, place.folder) = (question.free, None);
        }
        place.machine.disk_rate = match question.disk_rate {
            DiskRate::Unknown => None,
            DiskRate::Given(rate) => Some(rate),
            DiskRate::Measured if is_other => {
                return Err(Failure::usage(
                    "--measure-disk measures this machine, and --cores and --memory name another",
                )
                .hint("give the rate of its disk with --disk-rate"));
            }
            DiskRate::Measured => {
                let folder = place.folder.as_ref().ok_or_else(|| {
                    Failure::usage("the disk of the database cannot be seen from here")
                        .hint("give its rate with --disk-rate")
                })?;
                Some(estimates::measure_disk(folder)?)
            }
        };
        Ok(place)
    }

    /// The server of the database, as it is.
    fn of_server(question: &Question, database: &Database) -> Result<Self, Failure> {
        let scale = Scale::choose(&question.wanted, database)?;
        let (settings, version) = Server::asked(database)?;
        let found = doctor::of_settings(database, scale.connections)?;
        let matters = found.into_iter().filter(|one| one.level >= Level::Note);
        let here = process::Machine::this();
        let (folder, free) = database.room(&mut *database.connect()?)?.free.ok().unzip();
        Ok(Self {
            machine: Machine {
                cores: here.cores,
                memory: here.memory,
                free,
                disk_rate: None,
                is_shared: database.machine().is_some(),
            },
            scale,
            settings,
            server: format!("PostgreSQL {version}, {}", database.shown()),
            findings: matters
                .map(|one| Setting {
                    name: one.about.to_owned(),
                    found: one.found,
                    gains: one.means,
                    change: one.change,
                })
                .collect(),
            folder,
        })
    }

    /// A machine on which PostgreSQL has the settings of the private one.
    fn assumed(question: &Question, is_other: bool) -> Self {
        let this = process::Machine::this();
        let here = process::Machine {
            cores: question.cores.unwrap_or(this.cores),
            memory: question.memory.unwrap_or(this.memory),
        };
        let folder = (!is_other).then(|| question.target.data_dir.clone());
        let folder = folder.and_then(|folder| std::path::absolute(folder).ok());
        Self {
            machine: Machine {
                cores: here.cores,
                memory: here.memory,
                free: folder.as_deref().and_then(process::free_at),
                disk_rate: None,
                is_shared: true,
            },
            scale: Scale::assumed(&question.wanted, here),
            settings: Server::private(here.memory),
            server: "PostgreSQL with the settings of the private one, as assumed".to_owned(),
            findings: Vec::new(),
            folder,
        }
    }
}
