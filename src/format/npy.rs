//! The header of NumPy's .npy format (NEP 1): `\x93NUMPY`, version, the header's length (u16, or u32 from version 2 on), and
//! one Python dictionary of three entries:
//!
//! ```text
//! {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
//! ```
//!
//! Read here because the crates for it bring a parser of Python along, for this one line.

use super::tensor_file::Stored;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Error, Result};

pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longer than any header of an array that Setun reads.
const LONGEST: usize = 1 << 16;

#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub stored: Stored,
    pub dims: Vec<usize>,
    /// Whether the first index runs fastest.
    pub fortran: bool,
}

impl Header {
    /// The bytes of a file that come before the data, of which the first twelve say so.
    pub fn extent(first: &[u8]) -> Result<usize> {
        let short = || error!(Format, "truncated: a .npy file of {} bytes", first.len());
        let version = *first.get(6).ok_or_else(short)?;
        let length = match version {
            1 => {
                10 + usize::from(u16::from_le_bytes([
                    *first.get(8).ok_or_else(short)?,
                    *first.get(9).ok_or_else(short)?,
                ]))
            }
            2 | 3 => {
                let bytes: [u8; 4] = first.get(8..12).ok_or_else(short)?.try_into().map_err(|_| short())?;
                12 + u32::from_le_bytes(bytes) as usize
            }
            _ => return Err(error!(Format, "the .npy file has version {version}, expected 1, 2 or 3")),
        };
        ensure!(
            length <= LONGEST,
            Format,
            "the .npy file begins with a header of {length} bytes, expected {LONGEST} at most"
        );
        Ok(length)
    }

    /// From the first bytes, as many as `extent` says.
    pub fn parse(first: &[u8]) -> Result<Header> {
        let start = if first[6] == 1 { 10 } else { 12 };
        let text =
            std::str::from_utf8(&first[start..]).map_err(|e| error!(Format, "the .npy header is no text: {e}"))?;
        let mut scanner = Scanner { rest: text };
        let (mut descr, mut fortran, mut dims) = (None, None, None);
        scanner.expect('{')?;
        while !scanner.accept('}') {
            let key = scanner.string()?;
            scanner.expect(':')?;
            match key {
                "descr" => descr = Some(scanner.descr()?),
                "fortran_order" => fortran = Some(scanner.boolean()?),
                "shape" => dims = Some(scanner.shape()?),
                _ => return Err(error!(Format, "the .npy header has the entry '{key}', which no version has")),
            }
            if !scanner.accept(',') {
                scanner.expect('}')?;
                break;
            }
        }
        match (descr, fortran, dims) {
            (Some(stored), Some(fortran), Some(dims)) => Ok(Header { stored, dims, fortran }),
            _ => Err(error!(Format, "the .npy header lacks descr, fortran_order or shape")),
        }
    }
}

/// Reads the few tokens that such a dictionary is made of.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn unexpected(&self, expected: &str) -> Error {
        let found: String = self.rest.chars().take(16).collect();
        error!(Format, "the .npy header has '{found}' where {expected} should stand")
    }

    fn accept(&mut self, token: char) -> bool {
        self.skip();
        let found = self.rest.strip_prefix(token);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn expect(&mut self, token: char) -> Result<()> {
        if self.accept(token) { Ok(()) } else { Err(self.unexpected(&format!("'{token}'"))) }
    }

    fn string(&mut self) -> Result<&'a str> {
        self.skip();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let inside = quote.and_then(|quote| self.rest[1..].split_once(quote));
        let (text, rest) = inside.ok_or_else(|| self.unexpected("a string"))?;
        self.rest = rest;
        Ok(text)
    }

    fn descr(&mut self) -> Result<Stored> {
        self.skip();
        ensure!(!self.rest.starts_with('['), Unsupported, "the .npy file holds records, expected an array of numbers");
        let descr = self.string()?;
        // '|' and '=' are the byte orders of bytes and of this machine.
        match descr.trim_start_matches(['<', '|', '=']) {
            "f2" => Ok(Stored::F16),
            "f4" => Ok(Stored::F32),
            "f8" => Ok(Stored::F64),
            "i1" => Ok(Stored::I8),
            "u1" => Ok(Stored::U8),
            "i4" => Ok(Stored::I32),
            "u4" => Ok(Stored::U32),
            _ => Err(error!(
                Unsupported,
                "the .npy file holds elements '{descr}', expected little-endian f2, f4, f8, i1, u1, i4 or u4"
            )),
        }
    }

    fn boolean(&mut self) -> Result<bool> {
        self.skip();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(self.unexpected("True or False"))
    }

    fn shape(&mut self) -> Result<Vec<usize>> {
        let mut dims = Vec::new();
        self.expect('(')?;
        while !self.accept(')') {
            self.skip();
            let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let (digits, rest) = self.rest.split_at(end);
            dims.push(digits.parse().map_err(|_| self.unexpected("a size"))?);
            self.rest = rest;
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(dims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ErrorKind;

    fn file(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((text.len() as u16).to_le_bytes()),
            _ => bytes.extend((text.len() as u32).to_le_bytes()),
        }
        bytes.extend(text.bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Header> {
        let extent = Header::extent(bytes)?;
        ensure!(extent <= bytes.len(), Format, "truncated");
        Header::parse(&bytes[..extent])
    }

    #[test]
    fn what_numpy_writes_is_read() {
        let header = |stored, dims: &[usize], fortran| Header { stored, dims: dims.to_vec(), fortran };
        let cases = [
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n", header(Stored::F32, &[3, 4], false)),
            ("{'descr': '|i1', 'fortran_order': True, 'shape': (5,), }\n", header(Stored::I8, &[5], true)),
            ("{\"shape\": (), \"descr\": \"=f8\", \"fortran_order\": False}", header(Stored::F64, &[], false)),
        ];
        for (text, expected) in cases {
            for version in 1..=3 {
                assert_eq!(read(&file(version, text)).unwrap(), expected, "{text}");
            }
        }
    }

    #[test]
    fn what_is_none_is_refused_with_its_reason() {
        let cases = [
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (3,), }", ErrorKind::Unsupported, "elements '>f4'"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,), }", ErrorKind::Unsupported, "records"),
            ("{'descr': '<f4', 'shape': (3,), }", ErrorKind::Format, "lacks"),
            ("{'descr': '<f4', 'fortran_order': 0, 'shape': (3,), }", ErrorKind::Format, "'0, 'shape'"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", ErrorKind::Format, "a size"),
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
                ErrorKind::Format,
                "a size",
            ),
            ("{'descr': '<f4', 'colour': 'red'}", ErrorKind::Format, "'colour'"),
            ("", ErrorKind::Format, "'{'"),
        ];
        for (text, kind, says) in cases {
            let error = read(&file(1, text)).unwrap_err();
            assert_eq!(error.kind, kind, "{text}: {error}");
            assert!(error.message.contains(says), "{text}: {error}");
        }
        assert_eq!(read(&file(4, "")).unwrap_err().kind, ErrorKind::Format);
    }

    #[test]
    fn no_prefix_and_no_flipped_bit_panics() {
        let whole = file(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }");
        for end in 6..whole.len() {
            assert_eq!(read(&whole[..end]).unwrap_err().kind, ErrorKind::Format);
        }
        for bit in 6 * 8..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = read(&damaged);
        }
    }
}
