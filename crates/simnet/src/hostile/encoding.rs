//! Bodies that unpack to far more than was sent.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Read, Write};

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// gzip: at best a thousandth of what is packed.
    Gzip,
    /// zstd: at best some thirty-thousandth.
    Zstd,
}

impl Encoding {
    /// Its name in `Content-Encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// `body` in it.
    ///
    /// # Panics
    /// There is no memory for it.
    #[must_use]
    pub fn pack(self, body: &[u8]) -> Vec<u8> {
        self.pack_from(body).expect("memory for a packed body")
    }

    /// So many zeros in it.
    ///
    /// # Panics
    /// There is no memory for it.
    #[must_use]
    pub fn zeros(self, count: u64) -> Vec<u8> {
        self.pack_from(std::io::repeat(0).take(count))
            .expect("memory for packed zeros")
    }

    /// `body` so many times in it. The whole is never held.
    ///
    /// # Panics
    /// There is no memory for it.
    #[must_use]
    pub fn repeated(self, body: &[u8], count: usize) -> Vec<u8> {
        let repeated = Repeated {
            body,
            at: 0,
            left: body.len().saturating_mul(count),
        };
        self.pack_from(repeated).expect("memory for a packed body")
    }

    fn pack_from(self, mut body: impl Read) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                std::io::copy(&mut body, &mut encoder)?;
                encoder.finish()
            }
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), 3)?;
                std::io::copy(&mut body, &mut encoder)?;
                encoder.flush()?;
                encoder.finish()
            }
        }
    }
}

/// A body again and again.
struct Repeated<'a> {
    body: &'a [u8],
    at: usize,
    left: usize,
}

impl Read for Repeated<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let count = rest.len().min(into.len()).min(self.left);
        into[..count].copy_from_slice(&rest[..count]);
        self.left -= count;
        self.at = (self.at + count) % self.body.len().max(1);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::Encoding;
    use std::io::Read;

    #[test]
    fn ratios_are_extreme() {
        for (encoding, ratio) in [(Encoding::Gzip, 200), (Encoding::Zstd, 5_000)] {
            let packed = encoding.zeros(64 << 20);
            assert!(
                packed.len() * ratio < 64 << 20,
                "{encoding:?}: {}",
                packed.len()
            );
        }
        assert_eq!(Encoding::Gzip.name(), "gzip");
        let packed = Encoding::Gzip.repeated(b"abc", 30_000);
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_string(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, "abc".repeat(30_000));
    }
}
