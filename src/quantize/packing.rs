//! Trits and their packings, into each other. How they lie in bytes: `tensor/packing.rs`.

use super::check_length;
use crate::backend::{Context, with_scratch};
use crate::tensor::error::{ensure, error};
use crate::tensor::{MaskSign, Packing, Result, View, ViewMut};

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
        let fits = rows.checked_mul(columns.max(1)).is_some_and(|count| count <= isize::MAX as usize / 8);
        ensure!(fits, Shape, "a matrix of {rows} rows and {columns} columns is too large for this machine");
        Ok(Matrix { rows, columns, packing })
    }

    /// The same matrix in another packing.
    pub fn packed_as(&self, packing: Packing) -> Matrix {
        Matrix { packing, ..*self }
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

    /// The packed bytes as kernels see them: [rows, bytes of a row]; the parts of mask and signs as one, flat.
    pub fn shape(&self, bytes: usize) -> [usize; 2] {
        match self.packing {
            Packing::TwoBit => [self.rows, self.columns.div_ceil(4)],
            Packing::FivePerByte => [self.rows, self.columns.div_ceil(5)],
            Packing::MaskSign => [1, bytes],
        }
    }

    fn form(&self) -> MaskSign {
        MaskSign::new(self.rows, self.columns)
    }

    /// The packed size; of mask and signs the largest that it can be.
    pub fn bytes(&self) -> usize {
        match self.packing {
            Packing::MaskSign => self.form().largest(),
            _ => self.shape(0).iter().product(),
        }
    }

    /// SHAPE unless `packed` has a size that the matrix can have.
    pub fn check_size(&self, packed: &[u8]) -> Result<()> {
        self.check_count_of_bytes(packed.len())
    }

    /// The same for so many bytes.
    pub fn check_count_of_bytes(&self, there: usize) -> Result<()> {
        let (rows, columns, most) = (self.rows, self.columns, self.bytes());
        if self.packing == Packing::MaskSign {
            let least = self.form().signs();
            ensure!(
                (least..=most).contains(&there),
                Shape,
                "packed has {there} bytes, [{rows}, {columns}] trits take from {least} to {most}"
            );
            return Ok(());
        }
        ensure!(there == most, Shape, "packed has {there} bytes, [{rows}, {columns}] trits take {most}");
        Ok(())
    }

    /// SHAPE unless `packed` has room for this many bytes; `name` is that of its size.
    fn check_room(&self, name: &str, packed: &[u8], needed: usize) -> Result<()> {
        let (rows, columns, room) = (self.rows, self.columns, packed.len());
        ensure!(room >= needed, Shape, "{name} is {room}, [{rows}, {columns}] trits take {needed} bytes");
        Ok(())
    }

    /// SHAPE for a wrong size; FORMAT, naming the byte, or the block of mask and signs, where `packed` holds what is no trit, or
    /// a trit past the last column.
    pub fn check_packed(&self, context: &Context, packed: &[u8]) -> Result<()> {
        self.check_size(packed)?;
        let bytes = View::of(packed, &[packed.len()])?;
        (context.kernels().check_trits)(context.launch(), self.packing, &bytes, [self.rows, self.columns])
    }
}

/// SHAPE and FORMAT as `Matrix::check_packed` has them, for a row of `count` trits of two bits each.
pub fn check_two_bit(context: &Context, packed: &[u8], count: usize) -> Result<()> {
    let packed = View::of(packed, &[packed.len()])?;
    (context.kernels().check_trits)(context.launch(), Packing::TwoBit, &packed, [1, count])
}

/// Trits, one a byte, into their packed form; returns the bytes used. ARGUMENT, naming the first, for values other than -1, 0
/// and 1; SHAPE for too little room.
pub fn pack(context: &Context, matrix: &Matrix, trits: &[i8], packed: &mut [u8]) -> Result<usize> {
    check_length("trits", trits.len(), matrix.count())?;
    const BLOCK: usize = 1024;
    let bad = |t: i8| u8::from(t > 1) | u8::from(t < -1);
    if let Some(block) = trits.chunks(BLOCK).position(|block| block.iter().fold(0, |all, &t| all | bad(t)) != 0) {
        let index = block * BLOCK + trits[block * BLOCK..].iter().position(|&t| bad(t) != 0).unwrap_or_default();
        return Err(error!(Argument, "trits[{index}] is {}, expected -1, 0 or 1", trits[index]));
    }
    let run = matrix.packed_as(Packing::TwoBit);
    let to_two_bit = |two_bit: &mut [u8]| {
        let mut two_bit = ViewMut::of(two_bit, &run.shape(0))?;
        let trits = View::of(trits, &[matrix.rows, matrix.columns])?;
        (context.kernels().pack_two_bit)(context.launch(), &trits, &mut two_bit)
    };
    through_two_bit(context, matrix, packed, to_two_bit)
}

/// Packs what `make` writes, two bits a trit, and returns the bytes used. SHAPE for too little room.
pub fn through_two_bit(
    context: &Context,
    matrix: &Matrix,
    packed: &mut [u8],
    make: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<usize> {
    let run = matrix.packed_as(Packing::TwoBit);
    if matrix.packing == Packing::TwoBit {
        matrix.check_room("packed_size", packed, run.bytes())?;
        make(&mut packed[..run.bytes()])?;
        return Ok(run.bytes());
    }
    with_scratch::<u8, _>(run.bytes(), |two_bit| {
        make(two_bit)?;
        from_two_bit(context, matrix, two_bit, "packed_size", packed)
    })?
}

/// Packs trits of two bits each, and returns the bytes used. SHAPE for too little room, FORMAT for what is no trit.
fn from_two_bit(context: &Context, matrix: &Matrix, two_bit: &[u8], name: &str, packed: &mut [u8]) -> Result<usize> {
    let run = matrix.packed_as(Packing::TwoBit);
    let (launch, kernels, columns) = (context.launch(), context.kernels(), matrix.columns);
    let from = View::of(two_bit, &run.shape(0))?;
    let used = match matrix.packing {
        Packing::MaskSign => (kernels.mask_sign_bytes)(launch, &from, columns)?,
        _ => matrix.bytes(),
    };
    matrix.check_room(name, packed, used)?;
    let packed = &mut packed[..used];
    match matrix.packing {
        Packing::TwoBit => packed.copy_from_slice(two_bit),
        Packing::FivePerByte => {
            (kernels.pack_five)(launch, &from, columns, &mut ViewMut::of(packed, &matrix.shape(used))?)?;
        }
        Packing::MaskSign => (kernels.pack_mask_sign)(launch, &from, columns, &mut ViewMut::of(packed, &[used])?)?,
    }
    Ok(used)
}

/// Calls `work` with the trits at two bits each. SHAPE and FORMAT as `check_packed` has them.
pub fn with_two_bit<R>(
    context: &Context,
    matrix: &Matrix,
    packed: &[u8],
    work: impl FnOnce(&[u8]) -> Result<R>,
) -> Result<R> {
    matrix.check_size(packed)?;
    if matrix.packing == Packing::TwoBit {
        matrix.check_packed(context, packed)?;
        return work(packed);
    }
    let run = matrix.packed_as(Packing::TwoBit);
    with_scratch::<u8, _>(run.bytes(), |two_bit| {
        let (launch, kernels, columns) = (context.launch(), context.kernels(), matrix.columns);
        let mut to = ViewMut::of(two_bit, &run.shape(0))?;
        if matrix.packing == Packing::FivePerByte {
            (kernels.unpack_five)(launch, &View::of(packed, &matrix.shape(0))?, columns, &mut to)?;
        } else {
            (kernels.unpack_mask_sign)(launch, &View::of(packed, &[packed.len()])?, columns, &mut to)?;
        }
        work(two_bit)
    })?
}

/// The inverse of `pack`.
pub fn unpack(context: &Context, matrix: &Matrix, packed: &[u8], trits: &mut [i8]) -> Result<()> {
    check_length("trits", trits.len(), matrix.count())?;
    matrix.check_size(packed)?;
    let (launch, kernels) = (context.launch(), context.kernels());
    let mut trits = ViewMut::of(trits, &[matrix.rows, matrix.columns])?;
    match matrix.packing {
        Packing::TwoBit => {
            matrix.check_packed(context, packed)?;
            (kernels.unpack_two_bit)(launch, &View::of(packed, &matrix.shape(0))?, &mut trits)
        }
        Packing::FivePerByte => (kernels.five_trits)(launch, &View::of(packed, &matrix.shape(0))?, &mut trits),
        Packing::MaskSign => (kernels.mask_sign_trits)(launch, &View::of(packed, &[packed.len()])?, &mut trits),
    }
}

/// Packed trits into another packing; returns the bytes used. SHAPE for too little room.
pub fn repack(context: &Context, matrix: &Matrix, packed: &[u8], packing: Packing, to: &mut [u8]) -> Result<usize> {
    let target = matrix.packed_as(packing);
    if packing == matrix.packing {
        matrix.check_packed(context, packed)?;
        target.check_room("out_size", to, packed.len())?;
        to[..packed.len()].copy_from_slice(packed);
        return Ok(packed.len());
    }
    with_two_bit(context, matrix, packed, |two_bit| from_two_bit(context, &target, two_bit, "out_size", to))
}

/// How many trits are -1, 0 and +1.
pub fn histogram(context: &Context, matrix: &Matrix, packed: &[u8]) -> Result<[i64; 3]> {
    with_two_bit(context, matrix, packed, |two_bit| Ok(histogram_of_two_bit(matrix, two_bit)))
}

/// The same of bytes that are checked and in the two-bit packing, whatever that of `matrix` is.
pub fn histogram_of_two_bit(matrix: &Matrix, two_bit: &[u8]) -> [i64; 3] {
    // The low bit of a code says zero, also past the last column; the high one positive.
    let nonzeros = 4 * two_bit.len() as u64 - ones(two_bit, 0x55);
    let positive = ones(two_bit, 0xAA);
    [nonzeros - positive, matrix.count() as u64 - nonzeros, positive].map(|count| count as i64)
}

/// How many bits are set among those of `select` in each byte.
fn ones(bytes: &[u8], select: u8) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let select_word = u64::from_le_bytes([select; 8]);
    let of_words = words.iter().map(|word| u64::from((u64::from_le_bytes(*word) & select_word).count_ones()));
    of_words.sum::<u64>() + rest.iter().map(|byte| u64::from((byte & select).count_ones())).sum::<u64>()
}

#[cfg(test)]
#[path = "packing_tests.rs"]
mod tests;
