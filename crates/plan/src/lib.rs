//! A plan: what a load is going to take, before its first request. Phases on one clock, each with
//! what bounds it; disk by table, for sorting and for WAL; memory.
//!
//! [`Costs`] is the table of what a record costs, as `bench costs` measured it; the program carries
//! it (`costs.tsv`). [`Plan::of`] is arithmetic alone: from the costs and the [`Inputs`] to phases
//! and sizes. [`page`] is what people and programs read of it. What the numbers rest on is in
//! docs/explanation/plan.md.

mod costs;
mod disk;
mod inputs;
mod model;
pub mod page;
mod phase;
mod what_if;

pub use costs::{Costs, Growth, IndexCost, PhaseCost, TableCost};
pub use disk::unfrozen;
pub use disk::{Disk, TableSize};
pub use inputs::{
    Basis, Choice, FULL_NETWORK, Fullest, HOST_RATE, Handles, Inputs, Machine, Sizes, Work,
    average_records, in_proportion,
};
pub use model::{Bound, PhaseTime, Plan, seconds_of_handles};
pub use phase::Phase;
pub use what_if::{Change, changes};
