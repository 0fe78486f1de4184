//! Where the answers to parts go: a producer's connection, or a stream.

use handoff::frames::Answer;

/// Who waits for answers. No thread that stores rows waits for it.
pub(crate) trait Answers: Send + Sync {
    /// A part has come that will be answered.
    fn expect_answer(&self);

    /// Answers a part.
    fn answer(&self, answer: &Answer);

    /// Notes that something was lost: what was not answered has to come again.
    fn mark_lost(&self);

    /// Whether something was lost.
    fn is_lost(&self) -> bool;

    /// Sends the answers that can be sent now.
    fn send(&self);
}
