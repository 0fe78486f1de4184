//! Arguments of `archive`.

use super::{OutputArgs, SpoolArgs};
use archive::{Access, Place};
use clap::{Args, Subcommand};
use process::{Failure, size};

/// Checks, merges and prunes archives of CARs.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  skyfill archive verify cars
  skyfill archive verify s3://bucket/cars
  skyfill archive merge monday tuesday --into s3://bucket/cars
  skyfill archive prune s3://bucket/cars")]
pub struct ArchiveArgs {
    #[command(subcommand)]
    pub action: ArchiveAction,
}

#[derive(Debug, Subcommand)]
pub enum ArchiveAction {
    /// Proves an archive by itself.
    ///
    /// Every CAR that the index names is checked, also older ones: its length, hash, root, DID and
    /// rev must be those of the index, and the tree below its commit must be complete. What is
    /// missing, torn or altered is printed on stdout, as one JSON object per line; the exit code is
    /// then 1. The signatures of the commits are checked by `skyfill run --from-cars`.
    Verify(VerifyArchiveArgs),
    /// Copies the newest CAR of each account from other archives.
    ///
    /// Each CAR is proved to be a whole repo before it is copied; one that is not is printed on
    /// stdout, as `archive verify` does, and the exit code is then 1. Nothing is removed anywhere.
    /// After a stop or a kill, repeat the command: it copies nothing twice.
    Merge(MergeArchivesArgs),
    /// Removes from an archive the CARs that are not the newest of their accounts.
    ///
    /// The CARs that stay are checked and copied to new segments; only then the old segment is
    /// removed, so that no repo is ever missing, whatever ends the command. Small segments are
    /// joined. A segment with a CAR that cannot be proved stays, and so do plain .car files. No
    /// other command may write to a folder meanwhile, nor read from it.
    Prune(PruneArchiveArgs),
}

#[derive(Args, Debug)]
pub struct MergeArchivesArgs {
    /// Archives, or folders or buckets of .car files, to copy from
    #[arg(value_name = "PLACE", required = true)]
    pub from: Vec<Place>,
    /// Archive to add to: a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or
    /// az://CONTAINER/PREFIX; it is created if it is missing
    #[arg(long, value_name = "PLACE")]
    pub into: Place,
    #[command(flatten)]
    pub cars: CarsArgs,
}

#[derive(Args, Debug)]
pub struct PruneArchiveArgs {
    /// Archive made by --keep-cars or `archive merge`
    #[arg(value_name = "PLACE")]
    pub place: Place,
    #[command(flatten)]
    pub cars: CarsArgs,
}

/// How CARs are read and proved.
#[derive(Args, Debug)]
pub struct CarsArgs {
    /// Memory budget of the whole process [bytes, or with KiB, MiB, GiB]
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub memory: u64,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub spool: SpoolArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args, Debug)]
pub struct VerifyArchiveArgs {
    /// Archive made by --keep-cars, or folder or bucket of .car files: a folder,
    /// s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX
    #[arg(value_name = "PLACE")]
    pub place: Place,
    /// CARs to check concurrently [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    #[command(flatten)]
    pub cars: CarsArgs,
}

impl ArchiveArgs {
    /// How CARs are read, whatever is done with them.
    pub fn cars(&self) -> &CarsArgs {
        match &self.action {
            ArchiveAction::Verify(args) => &args.cars,
            ArchiveAction::Merge(args) => &args.cars,
            ArchiveAction::Prune(args) => &args.cars,
        }
    }
}

/// How object stores are reached.
#[derive(Args, Clone, Debug, Default)]
pub struct StoreArgs {
    /// Setting of an object store, as NAME=VALUE: endpoint, region, allow_http=true and others;
    /// credentials come from the environment, in the variables that AWS's, Google's and Azure's own
    /// tools read (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY and
    /// so on) [repeatable]
    #[arg(
        long = "store-option",
        value_name = "NAME=VALUE",
        help_heading = "Object stores"
    )]
    pub store_option: Vec<String>,
}

impl StoreArgs {
    /// How object stores are reached, with these and the variables of the environment.
    pub fn access(&self) -> Result<Access, Failure> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| Access::VARIABLES.iter().any(|of| name.starts_with(of)));
        // Checked here: what is wrong may be a secret, which a usage error would print.
        let options = self.store_option.iter().map(|text| Access::option(text));
        Ok(Access {
            environment: environment.collect(),
            options: options
                .collect::<Result<_, _>>()
                .map_err(|why| Failure::usage(format!("--store-option: {why}")))?,
        })
    }
}
