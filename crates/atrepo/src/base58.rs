//! Base 58 in Bitcoin's alphabet, the form of keys and of old CIDs. The time grows with the square
//! of the length, so use it for short texts.

/// The bytes that `text` stands for; `None` if it contains other characters.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    // The number, least significant byte first.
    let mut number: Vec<u8> = Vec::new();
    for byte in text.bytes() {
        let mut carry = u32::try_from(DIGITS.iter().position(|digit| *digit == byte)?).ok()?;
        for place in &mut number {
            let value = u32::from(*place).wrapping_mul(58).wrapping_add(carry);
            let [low, ..] = value.to_le_bytes();
            *place = low;
            carry = value >> 8;
        }
        if carry > 0 {
            let [low, ..] = carry.to_le_bytes();
            number.push(low);
        }
    }
    let zeros = text.bytes().take_while(|b| *b == b'1').count();
    number.extend(std::iter::repeat_n(0, zeros));
    number.reverse();
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn known_values() {
        assert_eq!(
            decode("2NEpo7TZRRrLZSi2U").as_deref(),
            Some(&b"Hello World!"[..])
        );
        assert_eq!(
            decode("11233QC4").as_deref(),
            Some(&[0, 0, 0x28, 0x7f, 0xb4, 0xcd][..])
        );
        assert_eq!(decode(""), Some(Vec::new()));
        assert_eq!(decode("0OIl"), None);
    }
}
