//! Parts of repos through NATS JetStream: the way from producers to consumers between machines. And
//! records for other programs ([`records`]), and a reader of those ([`reader`]).
//!
//! A stream with work-queue retention holds what producers sent until PostgreSQL has it. Its
//! subjects are `STREAM.repos.SHARD.*`; a repo's shard follows from its DID. A part that fits into
//! one message is one message. A larger one is an upload: a series of messages on a subject of its
//! own ([`message`]). [`publish`] is the producer's end: a part is settled when the stream has all
//! of it. [`shard`] is the consumer's end: it reads the messages of one shard, and a message leaves
//! the stream when the part that it belongs to is durable in PostgreSQL.
//!
//! ## An upload that its producer never ends
//!
//! A producer that was killed leaves the beginning of an upload behind. A consumer has to remove
//! it, but must never remove a part that a producer takes for sent. The first message of an upload,
//! which has no content, decides: whoever deletes it has the upload, and the server lets only one
//! do so.
//!
//! - The producer deletes it when the stream has the last message. Then the part is sent. If the
//!   message is gone already, the producer sends the part again, as a new upload.
//! - The consumer deletes it when the upload does not go on. Then it removes the rest. If the
//!   message is gone already, everything that the producer sent is in the stream: the upload is
//!   stored when it is complete, and removed when there is nothing of it that the consumer does not
//!   have.
//!
//! Each message of an upload also names the one before it, and the server refuses it if that one is
//! gone. So a producer whose upload was dropped finds out with its next message.
//!
//! A server before 2.10 keeps deletions in memory for some seconds. If it is killed, some messages
//! come back that were deleted, and others do not, so that who deletes the first one decides
//! nothing any more. So an upload during which the connection was lost is sent again.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod connect;
mod error;
pub mod message;
pub mod publish;
mod pull;
pub mod reader;
pub mod records;
mod room;
mod settings;
pub mod shard;
mod stream;

pub use connect::Connection;
pub use error::NatsError;
pub use settings::{Limits, Login, Settings};
pub use stream::Stream;
