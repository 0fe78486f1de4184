//! Why a framed connection ended before its end.

use handoff::frames::FrameError;
use handoff::part::PartError;
use pg::DbError;
use std::fmt;

/// Why a connection ended before its end.
pub(crate) enum Disconnect {
    /// The stream cannot be read on.
    Frames(FrameError),
    /// A part is not what its producer has to send.
    Part(String),
    /// The database.
    Database(DbError),
    /// The consumer was stopped.
    Stopped(String),
    /// A part needs more memory than there is for one.
    TooLarge(String),
    /// Something was lost on the way to the database.
    Lost,
}

impl Disconnect {
    /// The consumer was stopped.
    pub(crate) fn stopped() -> Self {
        Self::Stopped("the consumer was stopped".to_owned())
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frames(error) => error.fmt(f),
            Self::Part(why) | Self::Stopped(why) | Self::TooLarge(why) => f.write_str(why),
            Self::Database(error) => error.fmt(f),
            Self::Lost => f.write_str(
                "parts were lost on the way to the database; the producer has to send them again",
            ),
        }
    }
}

impl From<FrameError> for Disconnect {
    fn from(error: FrameError) -> Self {
        Self::Frames(error)
    }
}

impl From<PartError> for Disconnect {
    fn from(error: PartError) -> Self {
        Self::Part(error.to_string())
    }
}

impl From<postgres::Error> for Disconnect {
    fn from(error: postgres::Error) -> Self {
        Self::Database(error.into())
    }
}
