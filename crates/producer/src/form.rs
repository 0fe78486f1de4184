//! The two forms that repos have on the sockets.

/// The form on the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Frames, each part of a repo acknowledged when it is durable, if the consumer accepts them;
    /// else lines.
    Auto,
    /// Lines.
    Lines,
}
