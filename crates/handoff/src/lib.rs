//! The way from producer to consumer.
//!
//! `frames` is the form between skyfill's own ends: records as they are in the CAR, acknowledged
//! part by part; [`write_part()`] makes them of a repo, and `part` is what is checked of a part.
//! `line` is the form of the original scripts: one JSON object per line. It has no
//! acknowledgements; what stands in for one is the end of the stream: a consumer closes its side
//! only when everything that it read is committed. A consumer of skyfill's greets with
//! [`account::GREETING`]; a producer that hears it sends frames, else lines. [`listen`], [`send`]
//! and [`send_frames`] are the ends of a unix socket.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod account;
pub mod frames;
pub mod line;
pub mod lines;
pub mod listen;
pub mod part;
pub mod send;
pub mod send_frames;
mod write_part;

pub use write_part::write_part;
