//! Content encodings. Bodies are kept as they come over the wire and decompressed afterwards, so
//! that both sizes are known and the decompressed size stays in proportion ([`crate::packed`]).

use crate::error::FetchError;
use crate::packed;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use std::io::{self, Read};

/// The encodings that the client accepts.
pub(crate) const ACCEPTED: &str = "gzip, zstd";
/// Bytes that are decompressed in one step.
const PIECE: usize = 64 << 10;

/// The encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Plain,
    Gzip,
    Zstd,
}

impl Encoding {
    /// The one that the headers name.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, FetchError> {
        let mut named = headers.get_all(CONTENT_ENCODING).iter();
        let (first, second) = (named.next(), named.next());
        let Some(name) = first else {
            return Ok(Self::Plain);
        };
        let name = String::from_utf8_lossy(name.as_bytes())
            .trim()
            .to_ascii_lowercase();
        match (name.as_str(), second) {
            ("" | "identity", None) => Ok(Self::Plain),
            ("gzip" | "x-gzip", None) => Ok(Self::Gzip),
            ("zstd", None) => Ok(Self::Zstd),
            _ => {
                let name: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
                Err(FetchError::BrokenBody(format!(
                    "it is encoded as {name}; the request allowed {ACCEPTED}"
                )))
            }
        }
    }
}

/// Decompresses `body` piece by piece.
///
/// # Errors
/// It exceeds `most` bytes or the allowed ratio; it is broken; or the error that `each`
/// returns.
pub(crate) fn unpack(
    encoding: Encoding,
    body: &[u8],
    most: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), FetchError>,
) -> Result<(), FetchError> {
    let broken = |error: io::Error| FetchError::BrokenBody(packed::explained(error).to_string());
    let mut reader: Box<dyn Read + '_> = match encoding {
        Encoding::Plain => Box::new(body),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(body)),
        Encoding::Zstd => Box::new(packed::zstd(body).map_err(broken)?),
    };
    let size = body.len() as u64;
    let by_ratio = packed::most(size);
    let (mut piece, mut total) = (vec![0; PIECE], 0u64);
    loop {
        let count = match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(error)),
        };
        total = total.saturating_add(count as u64);
        if total > most {
            return Err(FetchError::TooLarge(most));
        }
        if total > by_ratio {
            return Err(FetchError::Swollen { packed: size });
        }
        each(piece.get(..count).unwrap_or_default())?;
    }
}

/// Decompresses a small body.
///
/// # Errors
/// As [`unpack`].
pub(crate) fn unpack_small(
    encoding: Encoding,
    body: Vec<u8>,
    most: u64,
) -> Result<Vec<u8>, FetchError> {
    if encoding == Encoding::Plain {
        return Ok(body);
    }
    let mut unpacked = Vec::new();
    unpack(encoding, &body, most, |piece| {
        unpacked.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use std::io::Write;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_unpack_to_what_they_were() {
        let plain: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        let most = plain.len() as u64;
        for (encoding, packed) in [
            (Encoding::Plain, plain.clone()),
            (Encoding::Gzip, gzip(&plain)),
            (
                Encoding::Gzip,
                [gzip(&plain[..999]), gzip(&plain[999..])].concat(),
            ),
            (
                Encoding::Zstd,
                zstd::encode_all(plain.as_slice(), 3).unwrap(),
            ),
        ] {
            assert!(unpack_small(encoding, packed.clone(), most).unwrap() == plain);
            if encoding != Encoding::Plain {
                let error = unpack_small(encoding, packed.clone(), most - 1).unwrap_err();
                assert_eq!(error, FetchError::TooLarge(most - 1));
                let cut = packed[..packed.len() - 20].to_vec();
                assert!(matches!(
                    unpack_small(encoding, cut, most),
                    Err(FetchError::BrokenBody(_))
                ));
            }
        }
    }

    #[test]
    fn a_body_that_swells_is_refused_with_its_ratio() {
        let zeros = vec![0; 64 << 20];
        for (encoding, packed) in [
            (Encoding::Gzip, gzip(&zeros)),
            (
                Encoding::Zstd,
                zstd::encode_all(zeros.as_slice(), 3).unwrap(),
            ),
        ] {
            let mut seen = 0u64;
            let error = unpack(encoding, &packed, u64::MAX, |piece| {
                seen += piece.len() as u64;
                Ok(())
            })
            .unwrap_err();
            let size = packed.len() as u64;
            assert_eq!(error, FetchError::Swollen { packed: size });
            assert!(seen <= packed::most(size), "{seen}");
            let told = error.to_string();
            assert!(
                told.contains("100 times") && told.contains(&size.to_string()),
                "{told}"
            );
        }
    }

    #[test]
    fn a_window_larger_than_the_standard_allows_is_refused() {
        let plain: Vec<u8> = (0..4_000_000u32).flat_map(u32::to_le_bytes).collect();
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&plain).unwrap();
        let packed = encoder.finish().unwrap();
        let error = unpack_small(Encoding::Zstd, packed, u64::MAX).unwrap_err();
        assert!(matches!(error, FetchError::BrokenBody(_)), "{error}");
        assert!(error.to_string().contains("larger than 8 MiB"), "{error}");
    }

    #[test]
    fn encodings_that_were_not_asked_for_are_named() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, value.parse().unwrap());
            }
            Encoding::of(&headers)
        };
        assert_eq!(of(&[]), Ok(Encoding::Plain));
        assert_eq!(of(&["GZIP"]), Ok(Encoding::Gzip));
        assert_eq!(of(&["zstd"]), Ok(Encoding::Zstd));
        for odd in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"]] {
            assert!(
                of(odd).unwrap_err().to_string().contains("encoded as"),
                "{odd:?}"
            );
        }
    }
}
