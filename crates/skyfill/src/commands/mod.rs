//! A file for each command: options from arguments, the engine's work, its summary and its exit
//! code.

pub(crate) mod consumer;
pub(crate) mod producer;
