//! The byte-level alphabet of GPT-2: printable bytes stand for themselves, the others for the characters from U+0100 on.

/// The byte that a character of the alphabet stands for.
pub fn byte_of_char(character: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(character) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(|&byte| printable(byte)),
        code => (0..=u8::MAX).filter(|&byte| !printable(byte)).nth(code as usize - 0x100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn the_alphabet_is_the_crates_and_covers_every_byte() {
        let bytes: BTreeSet<u8> = ByteLevel::alphabet().into_iter().map(|c| byte_of_char(c).unwrap()).collect();
        assert_eq!(bytes.len(), 256);
        assert_eq!(byte_of_char('Ġ'), Some(b' '));
        assert_eq!(byte_of_char('Ċ'), Some(b'\n'));
        assert_eq!(byte_of_char('猫'), None);
        assert_eq!(byte_of_char(' '), None);
    }
}
