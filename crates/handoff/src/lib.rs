//! The way from producer to consumer.
//!
//! [`line`] is the form of the original scripts: one JSON object a line. It has no acknowledgements; what stands in
//! for one is the end of the stream: a consumer closes its side only when everything that it read is committed.
//! [`route`] says which socket a collection goes to, [`listen`] and [`send`] are the two ends of a unix socket.
//!
//! The framed form with acknowledgements has its place here, beside [`line`].

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
pub mod line;
pub mod lines;
pub mod listen;
pub mod route;
pub mod send;
