//! Hosts and accounts that mean harm ([`super::Fault::HOSTILE`]): who they are, what their repos
//! hold, and what they answer.

mod answers;
mod plan;
mod records;

pub(super) use answers::{
    answer, commit_bomb, duplicate_sections, odd_hosts, refusal_with_escapes, zstd_bomb,
};
pub(super) use plan::{add_hosts, choose_foreign, neighbor};
pub(super) use records::records;
