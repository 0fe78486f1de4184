//! A batch of messages: in memory up to a limit, then in a file of the spool, so that no
//! transaction stays open while the stream takes them. What exceeds that, too, is too large for one
//! batch.

use fetch::{Claim, Spool, SpoolFile};
use ledger::publication;
use postgres::{Error, GenericClient};
use process::Failure;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

/// Bytes of a batch that stay in memory.
const IN_MEMORY: usize = 8 << 20;
/// Bytes of a batch that are in its file.
const MOST_IN_FILE: u64 = 256 << 20;
/// Whose files these are, for the spool.
const OWNER: &str = "the records to publish";

/// Where the messages of a batch come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The oldest notes, while the first round has come to this account, if it is not done: what
    /// was stored for the first time after that account is published in its turn.
    Notes {
        /// The account.
        round_at: Option<String>,
    },
    /// The first round over all repos, after this account.
    Round {
        /// The account.
        after: String,
    },
}

/// What the ledger forgets when the stream has a batch.
#[derive(Debug)]
pub(crate) enum Done {
    /// These notes.
    Notes(Vec<i64>),
    /// The first round up to this account, or all of it.
    Round(Option<String>),
}

impl Done {
    /// Has the ledger forget it.
    pub(crate) fn note(
        &self,
        client: &mut impl GenericClient,
        schema: &str,
        name: &str,
    ) -> Result<(), Error> {
        match self {
            Self::Notes(numbers) => publication::forget(client, schema, numbers),
            Self::Round(to) => publication::came_to(client, schema, name, to.as_deref()),
        }
    }
}

/// A batch.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) messages: Messages,
    pub(crate) done: Done,
}

/// Why a batch cannot take a message.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The batch would be too large; of fewer records, it might not.
    TooLarge(Failure),
    Failed(Failure),
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'m> {
    pub(crate) collection: &'m str,
    pub(crate) id: &'m str,
    pub(crate) content: &'m [u8],
}

/// Messages that are read once, in their order.
#[derive(Debug)]
pub(crate) struct Messages {
    file: Option<(File, Claim)>,
    /// What follows the file.
    memory: Vec<u8>,
}

/// Takes the messages of a batch.
pub(crate) struct Writer<'w> {
    spool: &'w Spool,
    file: Option<SpoolFile>,
    in_file: u64,
    memory: Vec<u8>,
}

impl<'w> Writer<'w> {
    pub(crate) fn new(spool: &'w Spool) -> Self {
        Self {
            spool,
            file: None,
            in_file: 0,
            memory: Vec::new(),
        }
    }

    /// Adds a message.
    pub(crate) fn add(&mut self, message: &Message<'_>) -> Result<(), Refused> {
        let Message {
            collection,
            id,
            content,
        } = message;
        for part in [collection.as_bytes(), id.as_bytes(), content] {
            let length =
                u32::try_from(part.len()).map_err(|error| Refused::Failed(Failure::new(error)))?;
            self.memory.extend_from_slice(&length.to_le_bytes());
            self.memory.extend_from_slice(part);
        }
        if self.memory.len() > IN_MEMORY {
            self.spill().map_err(|error| {
                let is_full = error.kind() == io::ErrorKind::StorageFull;
                let folder = self.spool.folder().display();
                let failure = Failure::new(format!("spool in {folder}: {error}"))
                    .hint("make room there, or name another folder with --spool-dir");
                match is_full {
                    true => Refused::TooLarge(failure),
                    false => Refused::Failed(failure),
                }
            })?;
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.in_file += self.memory.len() as u64;
        if self.in_file > MOST_IN_FILE {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("a batch of {} bytes is too large", self.in_file),
            ));
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.spool.file(OWNER)?,
        };
        file.push(&self.memory)?;
        self.memory.clear();
        self.file = Some(file);
        Ok(())
    }

    /// The messages.
    pub(crate) fn end(self) -> Messages {
        Messages {
            file: self.file.map(SpoolFile::into_parts),
            memory: self.memory,
        }
    }
}

impl Messages {
    /// Hands each message to `take`.
    pub(crate) fn each(
        self,
        mut take: impl FnMut(Message<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let unreadable = |error| Failure::new(format!("the spool: {error}"));
        // Its claim on the spool ends with it.
        if let Some((mut file, _claim)) = self.file {
            file.rewind().map_err(unreadable)?;
            each(
                BufReader::with_capacity(1 << 18, file),
                &mut take,
                unreadable,
            )?;
        }
        each(self.memory.as_slice(), &mut take, unreadable)
    }
}

fn each(
    mut from: impl Read,
    take: &mut impl FnMut(Message<'_>) -> Result<(), Failure>,
    unreadable: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut parts: [Vec<u8>; 3] = Default::default();
    loop {
        for (at, part) in parts.iter_mut().enumerate() {
            let mut length = [0; 4];
            match from.read_exact(&mut length) {
                Err(error) if at == 0 && error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(());
                }
                read => read.map_err(&unreadable)?,
            }
            part.resize(u32::from_le_bytes(length) as usize, 0);
            from.read_exact(part).map_err(&unreadable)?;
        }
        let [collection, id, content] = &parts;
        let text = |bytes| {
            std::str::from_utf8(bytes)
                .map_err(|error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error)))
        };
        take(Message {
            collection: text(collection)?,
            id: text(id)?,
            content,
        })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_in_their_order_from_memory_and_spool() {
        let spool = Spool::open(&std::env::temp_dir(), None).unwrap();
        let mut writer = Writer::new(&spool);
        let content = vec![b'x'; 1 << 20];
        for number in 0..20 {
            let id = number.to_string();
            writer
                .add(&Message {
                    collection: "com.example.thing",
                    id: &id,
                    content: &content[number..],
                })
                .unwrap();
        }
        assert!(writer.file.is_some() && !writer.memory.is_empty());
        let mut next = 0usize;
        writer
            .end()
            .each(|message| {
                assert_eq!(message.id, next.to_string());
                assert_eq!(message.content.len(), content.len() - next);
                next += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(next, 20);
    }
}
