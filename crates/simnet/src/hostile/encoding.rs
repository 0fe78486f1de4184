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

#[cfg(test)]
mod tests {
    use super::Encoding;

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
    }
}
