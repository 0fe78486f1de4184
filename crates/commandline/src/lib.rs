//! A command line, for later commands: which of its options the ledger stores, and the line that
//! continues a stopped command.
//!
//! There are three kinds of options. Options about the network, and about being a guest in it, are
//! stored in the ledger (table `setting`) and apply to each later command on the same schema.
//! Options of a run are stored until that run is done. Options of the machine or of this one call
//! (database, memory, output, sources) are not stored: the line that continues repeats them. Stored
//! options are applied by parsing the command line again with them, so that they pass the same
//! checks.
//!
//! | module | what |
//! |---|---|
//! | `agreement` | whether a line goes with what other processes were told |
//! | `policy` | which options are stored, and for which commands |
//! | `given` | what of a command's arguments was given, and by what |
//! | `line` | [`CommandLine`]: what has had its effect, and the lines that are printed |
//! | `stored` | the ledger's settings: applied to a line, and noted from it |
//! | `variables` | environment variables: empty ones, and the one behind a value |

mod agreement;
mod given;
mod line;
mod policy;
mod stored;
#[cfg(test)]
mod tests;
pub mod variables;

pub use line::CommandLine;
pub use policy::Policy;
