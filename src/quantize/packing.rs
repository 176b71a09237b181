//! How trits lie in bytes. A matrix is packed row by row, each row from a byte of its own:
//!
//! ```text
//! two bits:      byte = sum over i in 0..4 of (t[i] + 1) << 2 i     values 0..=0xaa without the code 3
//! five a byte:   byte = sum over i in 0..5 of (t[i] + 1) * 3^i      values 0..=242
//! ```
//!
//! Positions past the last column hold t = 0, and are checked: one matrix has one packed form.

use crate::tensor::Result;
use crate::tensor::error::{ensure, error};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Four trits a byte: the form that products run on.
    TwoBit,
    /// Five trits a byte: the form for files.
    FivePerByte,
}

impl Packing {
    pub const ALL: [Packing; 2] = [Packing::TwoBit, Packing::FivePerByte];

    /// As files name it.
    pub const fn name(self) -> &'static str {
        match self {
            Packing::TwoBit => "two-bit",
            Packing::FivePerByte => "five-per-byte",
        }
    }

    pub const fn trits_per_byte(self) -> usize {
        match self {
            Packing::TwoBit => 4,
            Packing::FivePerByte => 5,
        }
    }

    /// The trits of a byte, lowest position first; None for a byte that holds another digit.
    const fn trits(self, byte: u8) -> Option<[i8; 5]> {
        let mut trits = [0; 5];
        let mut rest = byte;
        let mut i = 0;
        while i < self.trits_per_byte() {
            let (digit, next) = match self {
                Packing::TwoBit => (rest & 3, rest >> 2),
                Packing::FivePerByte => (rest % 3, rest / 3),
            };
            if digit == 3 {
                return None;
            }
            trits[i] = digit as i8 - 1;
            rest = next;
            i += 1;
        }
        if rest == 0 { Some(trits) } else { None }
    }

    const fn table(self) -> [Option<[i8; 5]>; 256] {
        let mut table = [None; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = self.trits(byte as u8);
            byte += 1;
        }
        table
    }

    fn decoded(self) -> &'static [Option<[i8; 5]>; 256] {
        static TWO_BIT: [Option<[i8; 5]>; 256] = Packing::TwoBit.table();
        static FIVE_PER_BYTE: [Option<[i8; 5]>; 256] = Packing::FivePerByte.table();
        match self {
            Packing::TwoBit => &TWO_BIT,
            Packing::FivePerByte => &FIVE_PER_BYTE,
        }
    }

    /// The byte of up to `trits_per_byte` trits; the rest of its positions are t = 0.
    fn encode(self, trits: &[i8]) -> u8 {
        let base = match self {
            Packing::TwoBit => 4,
            Packing::FivePerByte => 3,
        };
        let digit = |i: usize| trits.get(i).map_or(1, |&t| (t + 1) as u8);
        (0..self.trits_per_byte()).rev().fold(0, |byte, i| byte * base + digit(i))
    }
}

/// Above this many columns a product of trits and 8-bit codes could pass 2^31 (127 * 2^24 does not).
const MAX_COLUMNS: usize = 1 << 24;

/// The size and packing of a ternary matrix, checked for overflow once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    packing: Packing,
}

impl Matrix {
    /// SHAPE for more columns than a product can sum exactly, or more elements than f32 weights of them can be addressed.
    pub fn new(rows: usize, columns: usize, packing: Packing) -> Result<Matrix> {
        ensure!(
            columns <= MAX_COLUMNS,
            Shape,
            "a row has {columns} columns, at most {MAX_COLUMNS} can be summed exactly"
        );
        let fits = rows.checked_mul(columns).is_some_and(|count| count <= isize::MAX as usize / 8);
        ensure!(fits, Shape, "a matrix of {rows} rows and {columns} columns is too large for this machine");
        Ok(Matrix { rows, columns, packing })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// How many trits there are.
    pub fn count(&self) -> usize {
        self.rows * self.columns
    }

    pub fn row_bytes(&self) -> usize {
        self.columns.div_ceil(self.packing.trits_per_byte())
    }

    /// The packed size.
    pub fn bytes(&self) -> usize {
        self.rows * self.row_bytes()
    }

    /// SHAPE unless `packed` has the packed size.
    pub fn check_size(&self, packed: &[u8]) -> Result<()> {
        let (rows, columns, bytes) = (self.rows, self.columns, self.bytes());
        ensure!(
            packed.len() == bytes,
            Shape,
            "packed has {} bytes, [{rows}, {columns}] trits take {bytes}",
            packed.len()
        );
        Ok(())
    }

    /// SHAPE for a wrong size; FORMAT, naming the byte, where `packed` holds what is no trit, or a trit past the last column.
    pub fn check_packed(&self, packed: &[u8]) -> Result<()> {
        self.check_size(packed)?;
        if let Some(index) = self.first_bad_byte(packed) {
            let byte = packed[index];
            return Err(error!(Format, "byte {index} of packed is {byte:#04x}, which holds a digit that is no trit"));
        }
        let tail = self.columns % self.packing.trits_per_byte();
        if tail == 0 {
            return Ok(());
        }
        let decoded = self.packing.decoded();
        for (row, last) in packed.chunks_exact(self.row_bytes()).filter_map(<[u8]>::last).enumerate() {
            let trits = decoded[usize::from(*last)].unwrap_or_default();
            let index = (row + 1) * self.row_bytes() - 1;
            ensure!(
                trits[tail..].iter().all(|&t| t == 0),
                Format,
                "byte {index} of packed is {last:#04x}, which holds a trit past the last of {} columns",
                self.columns
            );
        }
        Ok(())
    }

    fn first_bad_byte(&self, packed: &[u8]) -> Option<usize> {
        match self.packing {
            // Both bits of a pair: the code 3. Blocks first, which the compiler turns into vector code.
            Packing::TwoBit => {
                const BLOCK: usize = 1024;
                let bad = |byte: &u8| byte & byte >> 1 & 0x55 != 0;
                let block = packed
                    .chunks(BLOCK)
                    .position(|block| block.iter().fold(0, |all, b| all | b & b >> 1) & 0x55 != 0)?;
                packed[block * BLOCK..].iter().position(bad).map(|at| block * BLOCK + at)
            }
            Packing::FivePerByte => packed.iter().position(|&byte| byte > 242),
        }
    }
}

/// Whether a row of `count` trits, two bits each, is one; FORMAT, naming the byte.
pub fn check_two_bit(packed: &[u8], count: usize) -> Result<()> {
    let bad = packed.iter().position(|byte| byte & byte >> 1 & 0x55 != 0);
    // With `rest` codes in the last byte, those above are all 1: 0x55 with its low 2 * rest bits gone.
    let rest = 0xFFu8.checked_shl(2 * (count % 4) as u32).filter(|_| count % 4 != 0).unwrap_or(0);
    let padded = packed.last().is_some_and(|last| last & rest != 0x55 & rest);
    match bad.or(if padded { Some(packed.len() - 1) } else { None }) {
        None => Ok(()),
        Some(index) => {
            let byte = packed[index];
            Err(error!(
                Format,
                "byte {index} of packed is {byte:#04x}, which holds no trits, or one past the last of {count}"
            ))
        }
    }
}

/// Trits, one a byte, into their packed form. ARGUMENT, naming the first, for values other than -1, 0 and 1.
pub fn pack(matrix: &Matrix, trits: &[i8], packed: &mut [u8]) -> Result<()> {
    super::check_length("trits", trits.len(), matrix.count())?;
    matrix.check_size(packed)?;
    if let Some(index) = trits.iter().position(|t| !(-1..=1).contains(t)) {
        return Err(error!(Argument, "trits[{index}] is {}, expected -1, 0 or 1", trits[index]));
    }
    if matrix.count() == 0 {
        return Ok(());
    }
    let packing = matrix.packing;
    for (row, bytes) in trits.chunks_exact(matrix.columns).zip(packed.chunks_exact_mut(matrix.row_bytes())) {
        for (trits, byte) in row.chunks(packing.trits_per_byte()).zip(bytes) {
            *byte = packing.encode(trits);
        }
    }
    Ok(())
}

/// The inverse; FORMAT as [`Matrix::check_packed`] says.
pub fn unpack(matrix: &Matrix, packed: &[u8], trits: &mut [i8]) -> Result<()> {
    super::check_length("trits", trits.len(), matrix.count())?;
    matrix.check_packed(packed)?;
    if matrix.count() == 0 {
        return Ok(());
    }
    let decoded = matrix.packing.decoded();
    for (row, bytes) in trits.chunks_exact_mut(matrix.columns).zip(packed.chunks_exact(matrix.row_bytes())) {
        for (trits, byte) in row.chunks_mut(matrix.packing.trits_per_byte()).zip(bytes) {
            let all = decoded[usize::from(*byte)].unwrap_or_default(); // checked: every byte decodes
            trits.copy_from_slice(&all[..trits.len()]);
        }
    }
    Ok(())
}

/// How many trits are -1, 0 and +1.
pub fn histogram(matrix: &Matrix, packed: &[u8]) -> Result<[i64; 3]> {
    matrix.check_packed(packed)?;
    let mut bytes = [0i64; 256];
    for &byte in packed {
        bytes[usize::from(byte)] += 1;
    }
    let mut counts = [0i64; 3];
    for (trits, number) in matrix.packing.decoded().iter().zip(bytes) {
        let Some(trits) = trits else { continue };
        for &trit in &trits[..matrix.packing.trits_per_byte()] {
            counts[(trit + 1) as usize] += number;
        }
    }
    let padding = matrix.row_bytes() * matrix.packing.trits_per_byte() - matrix.columns;
    counts[1] -= (matrix.rows * padding) as i64;
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ErrorKind;
    use crate::tensor::random::{Purpose, Stream};

    const BOTH: [Packing; 2] = [Packing::TwoBit, Packing::FivePerByte];

    fn random_trits(count: usize) -> Vec<i8> {
        let stream = Stream::new(1, Purpose::Test, 0, 0);
        (0..count as u64).map(|i| (stream.bits(i) % 3) as i8 - 1).collect()
    }

    #[test]
    fn bytes_are_the_documented_sums() {
        let trits = [1, -1, 0, 1, -1];
        let two = Matrix::new(1, 5, Packing::TwoBit).unwrap();
        let mut packed = [0; 2];
        pack(&two, &trits, &mut packed).unwrap();
        assert_eq!(packed, [2 + 4 + 2 * 64 - 4 + 16, 1 << 2 | 1 << 4 | 1 << 6]);
        let five = Matrix::new(1, 5, Packing::FivePerByte).unwrap();
        let mut packed = [0; 1];
        pack(&five, &trits, &mut packed).unwrap();
        assert_eq!(packed, [2 + 9 + 2 * 27]);
    }

    #[test]
    fn packing_and_unpacking_give_back_every_size() {
        for packing in BOTH {
            for (rows, columns) in
                [(0, 0), (0, 7), (3, 0), (1, 1), (2, 4), (2, 5), (3, 7), (5, 63), (2, 257), (1, 4099)]
            {
                let matrix = Matrix::new(rows, columns, packing).unwrap();
                let trits = random_trits(matrix.count());
                let mut packed = vec![0xEE; matrix.bytes()];
                pack(&matrix, &trits, &mut packed).unwrap();
                let mut back = vec![9; trits.len()];
                unpack(&matrix, &packed, &mut back).unwrap();
                assert_eq!(trits, back, "{matrix:?}");
                let count = |value: i8| trits.iter().filter(|&&t| t == value).count() as i64;
                assert_eq!(histogram(&matrix, &packed).unwrap(), [count(-1), count(0), count(1)], "{matrix:?}");
            }
        }
    }

    #[test]
    fn a_byte_that_is_no_trits_is_named() {
        for (packing, bad) in [(Packing::TwoBit, 0b01_11_01_01), (Packing::FivePerByte, 243)] {
            let matrix = Matrix::new(40, 100, packing).unwrap();
            let mut packed = vec![0; matrix.bytes()];
            pack(&matrix, &random_trits(matrix.count()), &mut packed).unwrap();
            for index in [0, 1, matrix.bytes() - 1] {
                let mut damaged = packed.clone();
                damaged[index] = bad;
                let error = matrix.check_packed(&damaged).unwrap_err();
                assert_eq!(error.kind, ErrorKind::Format);
                assert!(error.message.starts_with(&format!("byte {index} of packed")), "{}", error.message);
            }
        }
    }

    #[test]
    fn a_trit_past_the_last_column_is_named() {
        for packing in BOTH {
            let matrix = Matrix::new(3, packing.trits_per_byte() + 1, packing).unwrap();
            let mut packed = vec![0; matrix.bytes()];
            pack(&matrix, &random_trits(matrix.count()), &mut packed).unwrap();
            packed[3] = packing.encode(&[0, 1]);
            let error = matrix.check_packed(&packed).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Format);
            assert!(error.message.starts_with("byte 3 of packed"), "{}", error.message);
        }
    }

    #[test]
    fn values_that_are_no_trits_leave_the_output_alone() {
        let matrix = Matrix::new(1, 4, Packing::TwoBit).unwrap();
        let mut packed = [7];
        let error = pack(&matrix, &[0, 1, 2, -3], &mut packed).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Argument, "trits[2] is 2, expected -1, 0 or 1"));
        assert_eq!(packed, [7]);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        assert_eq!(Matrix::new(1, MAX_COLUMNS + 1, Packing::TwoBit).unwrap_err().kind, ErrorKind::Shape);
        assert_eq!(Matrix::new(usize::MAX, 2, Packing::TwoBit).unwrap_err().kind, ErrorKind::Shape);
        let matrix = Matrix::new(2, 9, Packing::FivePerByte).unwrap();
        assert_eq!(matrix.check_size(&[0; 3]).unwrap_err().message, "packed has 3 bytes, [2, 9] trits take 4");
    }
}
