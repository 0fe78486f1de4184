//! Unsigned LEB128 as multiformats restricts it: at most nine bytes, no padding
//! (<https://github.com/multiformats/unsigned-varint>).

/// Reads one varint and returns it with the bytes after it, or `None` if it is cut off, too long or padded.
#[inline]
pub(crate) fn read(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().take(9).enumerate() {
        let shift = u32::try_from(at).ok()?.checked_mul(7)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            let padded = byte == 0 && at > 0;
            return (!padded).then_some((value, bytes.get(at.checked_add(1)?..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn reads_what_fits_and_refuses_padding_and_overlong_numbers() {
        assert_eq!(read(&[0x00, 9]), Some((0, &[9u8][..])));
        assert_eq!(read(&[0x80, 0x01]), Some((128, &[][..])));
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).map(|r| r.0),
            Some(u64::MAX >> 1)
        );
        assert_eq!(read(&[0x80, 0x00]), None);
        assert_eq!(read(&[0x80]), None);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0xff; 12]), None);
    }
}
