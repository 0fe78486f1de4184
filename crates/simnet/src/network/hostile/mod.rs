//! Hosts and accounts that mean harm ([`super::Fault::HOSTILE`]): who they are, what their repos
//! hold, and what they answer.

mod answers;
mod plan;
mod records;

pub(super) use answers::{answer, odd_hosts, spoiled};
pub(super) use plan::{add_hosts, choose_foreign, neighbor};
pub(super) use records::records;
