//! Unsigned LEB128 as multiformats restricts it: at most nine bytes, no padding
//! (<https://github.com/multiformats/unsigned-varint>).

/// Why bytes do not begin with a varint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoVarint {
    /// The bytes end before the varint does.
    CutOff,
    /// It continues after nine bytes.
    TooLong,
    /// It ends with a zero byte: the number has a shorter form.
    Padded,
}

impl NoVarint {
    /// What is wrong with a length; `None` if the bytes only end too early.
    pub(crate) fn broken_length(self) -> Option<&'static str> {
        match self {
            Self::CutOff => None,
            Self::TooLong => Some("a length of more than nine bytes"),
            Self::Padded => Some("a length that is not in its shortest form"),
        }
    }
}

/// Reads one varint; returns it with the bytes after it.
#[inline]
pub(crate) fn read(bytes: &[u8]) -> Result<(u64, &[u8]), NoVarint> {
    let mut value = 0u64;
    let mut rest = bytes;
    for shift in [0u32, 7, 14, 21, 28, 35, 42, 49, 56] {
        let (&byte, after) = rest.split_first().ok_or(NoVarint::CutOff)?;
        rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            if byte == 0 && shift > 0 {
                return Err(NoVarint::Padded);
            }
            return Ok((value, rest));
        }
    }
    Err(NoVarint::TooLong)
}

#[cfg(test)]
mod tests {
    use super::{NoVarint, read};

    #[test]
    fn reads_what_fits_and_says_what_is_wrong_with_the_rest() {
        assert_eq!(read(&[0x00, 9]), Ok((0, &[9u8][..])));
        assert_eq!(read(&[0x80, 0x01]), Ok((128, &[][..])));
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).map(|r| r.0),
            Ok(u64::MAX >> 1)
        );
        assert_eq!(read(&[0x80, 0x00]), Err(NoVarint::Padded));
        assert_eq!(read(&[0x80]), Err(NoVarint::CutOff));
        assert_eq!(read(&[]), Err(NoVarint::CutOff));
        assert_eq!(read(&[0xff; 12]), Err(NoVarint::TooLong));
        assert_eq!(read(&[0xff; 9]), Err(NoVarint::TooLong));
        assert_eq!(read(&[0xff; 8]), Err(NoVarint::CutOff));
    }
}
