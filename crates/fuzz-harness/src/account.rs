//! The account of every seed.

/// The DID of every seed repo.
pub const DID: &str = "did:plc:fuzzfuzzfuzzfuzzfuzzfuzz";
