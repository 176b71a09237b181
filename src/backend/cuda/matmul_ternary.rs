//! int8 times trits, and the gradient to the input. See cuda/matmul_ternary.cu, and cuda/matmul.cu for the gradient.

use super::argument::{Last, Pointer, Struct, arguments};
use super::matmul::{Cut, FloatProduct, product};
use super::module::Kernel;
use super::stage::{Stage, Strided, THREADS, blocks_of, narrow};
use crate::backend::Launch;
use crate::backend::scalar::matmul::{check_base, check_ternary, check_ternary_backward};
use crate::backend::scalar::scheme::Groups;
use crate::tensor::error::{Result, error};
use crate::tensor::{DType, MaskSign, Packing, View, ViewMut};

/// As cuda/ternary_tiles.cuh has it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TernaryProduct {
    pub codes: Pointer,
    pub scales: Pointer,
    pub trits: Pointer,
    pub weight_scales: Pointer,
    pub base: Pointer,
    pub y: Pointer,
    pub m: u64,
    pub n: u64,
    pub k: u32,
    pub width: u32,
    pub groups: Last<u32>,
}

// SAFETY: const signed char *codes; const float *scales; const unsigned char *trits; const float *weight_scales, *base; float *y;
// u64 m, n; unsigned k, width, groups.
unsafe impl Struct for TernaryProduct {}

/// Columns of codes and trits come in units of so many.
pub const UNIT: usize = 64;
/// Trits in a word, and codes in 16 bytes.
pub const WORD: usize = 16;
/// Narrower groups are not widened to units, which would take more than eight times the memory.
const LEAST_WIDTH: usize = 8;

/// How the columns of a matrix lie in a copy of it: see cuda/matmul_ternary.cu, "layouts".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    pub columns: usize,
    width: usize,
    wide: usize,
    pub pitch: usize,
}

impl Columns {
    /// One group, and rows in multiples of so many columns.
    pub fn plain(columns: usize, multiple: usize) -> Columns {
        let pitch = columns.next_multiple_of(multiple);
        Columns { columns, width: pitch, wide: pitch, pitch }
    }

    fn grouped(groups: &Groups) -> Columns {
        let columns = groups.columns;
        if groups.per_row <= 1 {
            return Columns::plain(columns, UNIT);
        }
        let (width, wide) = (groups.width, groups.width.next_multiple_of(UNIT));
        let pitch = if wide == width { columns.next_multiple_of(UNIT) } else { groups.per_row * wide };
        Columns { columns, width, wide, pitch }
    }

    fn as_they_are(&self) -> bool {
        self.pitch == self.columns && self.width == self.wide
    }
}

/// Rows of int8 codes, [rows, columns], at multiples of 16 bytes: themselves, or a copy.
pub fn codes_of(stage: &mut Stage, codes: Pointer, rows: usize, columns: Columns) -> Result<Pointer> {
    if columns.as_they_are() && codes.0.is_multiple_of(16) {
        return Ok(codes);
    }
    let Columns { columns, width, wide, pitch } = columns;
    let to = stage.scratch(bytes_of(rows, pitch)?)?;
    let arguments = arguments![codes, to, rows as u64, narrow(columns)?, narrow(width)?, narrow(wide)?, narrow(pitch)?];
    // SAFETY: matmul_ternary_codes(codes, to, rows, columns, width, wide, pitch).
    unsafe { stage.launch(Kernel::matmul_ternary_codes, words(rows, pitch), THREADS, arguments) }?;
    Ok(to)
}

/// Rows of trits of two bits, at multiples of `align` bytes: themselves, or a copy.
pub fn trits_of(
    stage: &mut Stage,
    packing: Packing,
    packed: Pointer,
    rows: usize,
    columns: Columns,
    align: u64,
) -> Result<Pointer> {
    if packing == Packing::TwoBit && columns.as_they_are() && packed.0.is_multiple_of(align) {
        return Ok(packed);
    }
    if packing == Packing::MaskSign {
        if columns.width == columns.wide {
            return mask_sign(stage, packed, rows, columns);
        }
        // Groups are widened in a second step.
        let plain = Columns::plain(columns.columns, UNIT);
        let trits = mask_sign(stage, packed, rows, plain)?;
        return widen(stage, trits, plain.pitch / 4, rows, columns);
    }
    if packing == Packing::TwoBit {
        return widen(stage, packed, columns.columns.div_ceil(4), rows, columns);
    }
    let Columns { columns, width, wide, pitch } = columns;
    let to = stage.scratch(bytes_of(rows, pitch / 4)?)?;
    let arguments =
        arguments![packed, to, rows as u64, narrow(columns)?, narrow(width)?, narrow(wide)?, narrow(pitch)?];
    // SAFETY: matmul_ternary_five(packed, to, rows, columns, width, wide, pitch).
    unsafe { stage.launch(Kernel::matmul_ternary_five, words(rows, pitch), THREADS, arguments) }?;
    Ok(to)
}

/// From two bits, `from_row` bytes a row.
fn widen(stage: &mut Stage, from: Pointer, from_row: usize, rows: usize, columns: Columns) -> Result<Pointer> {
    let Columns { columns, width, wide, pitch } = columns;
    let to = stage.scratch(bytes_of(rows, pitch / 4)?)?;
    let sizes = [narrow(columns)?, narrow(width)?, narrow(wide)?, narrow(pitch)?];
    let arguments = arguments![from, from_row as u64, to, rows as u64, sizes[0], sizes[1], sizes[2], sizes[3]];
    // SAFETY: matmul_ternary_two_bit(from, from_row, to, rows, columns, width, wide, pitch).
    unsafe { stage.launch(Kernel::matmul_ternary_two_bit, words(rows, pitch), THREADS, arguments) }?;
    Ok(to)
}

fn mask_sign(stage: &mut Stage, from: Pointer, rows: usize, columns: Columns) -> Result<Pointer> {
    let form = MaskSign::new(rows, columns.columns);
    let to = stage.scratch(bytes_of(rows, columns.pitch / 4)?)?;
    let (k, pitch) = (narrow(columns.columns)?, narrow(columns.pitch)?);
    let arguments = arguments![from, to, rows as u64, k, form.block_rows as u64, pitch];
    // SAFETY: matmul_ternary_mask_sign(from, to, rows, columns, block_rows, pitch), a warp for each block.
    unsafe { stage.warps(Kernel::matmul_ternary_mask_sign, form.blocks, arguments) }?;
    Ok(to)
}

/// Blocks of threads for a word each.
fn words(rows: usize, pitch: usize) -> usize {
    rows.saturating_mul(pitch / WORD).div_ceil(THREADS as usize)
}

fn bytes_of(rows: usize, row: usize) -> Result<usize> {
    rows.checked_mul(row).ok_or_else(|| error!(Memory, "matmul: {rows} rows of {row} bytes do not fit in memory"))
}

pub fn matmul_ternary(
    launch: &Launch,
    codes: &View,
    scales: &View,
    packing: Packing,
    packed: &View,
    group: usize,
    weight_scales: &View,
    base: Option<&View>,
    y: &mut ViewMut,
) -> Result<()> {
    let groups = check_ternary(codes, scales, packing, packed, group, weight_scales, y.dims())?;
    let base = check_base(base, y)?;
    let (m, n, k) = (codes.dim(0), groups.rows, groups.columns);
    let mut stage = Stage::new(launch)?;
    let (codes, scales) = (stage.input(codes, DType::I8)?, stage.input(scales, DType::F32)?);
    let (packed, weight_scales) = (stage.input(packed, DType::U8)?, stage.input(weight_scales, DType::F32)?);
    let base = base.map(|base| stage.input(base, DType::F32)).transpose()?;
    let y = stage.output(y, DType::F32)?;
    if m == 0 || n == 0 {
        return stage.finish();
    }
    if k == 0 {
        without_columns(&stage, base, y, m * n)?;
        return stage.finish();
    }
    let narrow_groups = groups.per_row > 1 && groups.width < LEAST_WIDTH;
    let columns = match (narrow_groups, packing) {
        (false, _) => Columns::grouped(&groups),
        (true, Packing::TwoBit) => Columns::plain(k, 1),
        (true, _) => Columns::plain(k, WORD),
    };
    let product = TernaryProduct {
        codes: if narrow_groups { codes } else { codes_of(&mut stage, codes, m, columns)? },
        scales,
        trits: trits_of(&mut stage, packing, packed, n, columns, if narrow_groups { 1 } else { 16 })?,
        weight_scales,
        base: base.unwrap_or(Pointer(0)),
        y,
        m: m as u64,
        n: n as u64,
        k: narrow(if narrow_groups { k } else { columns.pitch })?,
        width: narrow(if narrow_groups { groups.width } else { columns.wide })?,
        groups: (if groups.whole { 0 } else { narrow(groups.per_row)? }).into(),
    };
    if narrow_groups {
        let arguments = arguments![&product, columns.pitch.div_ceil(4) as u64];
        let blocks = m.saturating_mul(n).div_ceil(THREADS as usize);
        // SAFETY: matmul_ternary_narrow_groups(product, trit_row).
        unsafe { stage.launch(Kernel::matmul_ternary_narrow_groups, blocks, THREADS, arguments) }?;
        return stage.finish();
    }
    product.launch(&stage, groups.per_row > 1)?;
    stage.finish()
}

impl TernaryProduct {
    /// By whole units of columns; `grouped`: with several scales a row.
    pub fn launch(&self, stage: &Stage, grouped: bool) -> Result<()> {
        let sizes = [self.m as usize, self.n as usize];
        let form = Form::of(sizes, self.k as usize, grouped, stage.gpu.multiprocessors() as usize);
        let (grid, block) = (form.grid(sizes)?, [form.threads, 1, 1]);
        // SAFETY: kernel(product), a block for each tile.
        unsafe { stage.gpu.launch(form.kernel, grid, block, form.shared_for(self.k as usize), arguments![self]) }
    }
}

/// The base, or zeros, whatever the scales are.
fn without_columns(stage: &Stage, base: Option<Pointer>, y: Pointer, count: usize) -> Result<()> {
    let Some(base) = base else {
        // SAFETY: y has so many elements.
        return unsafe { stage.gpu.set_bytes(y, 0, count * size_of::<f32>()) };
    };
    let blocks = count.div_ceil(THREADS as usize);
    // SAFETY: matmul_add_slices(sums, slices, accumulate, c, count): of one slice, a copy.
    unsafe { stage.launch(Kernel::matmul_add_slices, blocks, THREADS, arguments![base, 1u64, 0i32, y, count as u64]) }
}

/// A kernel, and the rows of x and of the weights that its blocks take.
#[derive(Clone, Copy)]
pub struct Form {
    pub kernel: Kernel,
    pub rows: usize,
    pub columns: usize,
    pub threads: u32,
    /// Whether tiles of x and weights are brought to shared memory in stages; else rows of x are few, and it has none.
    staged: bool,
}

impl Form {
    pub const fn tile(kernel: Kernel, rows: usize, columns: usize, threads: u32) -> Form {
        Form { kernel, rows, columns, threads, staged: true }
    }

    pub const fn few(kernel: Kernel, rows: usize, columns: usize) -> Form {
        Form { kernel, rows, columns, threads: THREADS, staged: false }
    }

    /// With which what is left idle is least. The bits do not depend on it: integers have no roundings.
    fn of([m, n]: [usize; 2], k: usize, grouped: bool, multiprocessors: usize) -> Form {
        if m <= 16 {
            // Two blocks for every multiprocessor keep the memory busy; then x is read less often by larger ones.
            let narrow = n.div_ceil(32) < 2 * multiprocessors;
            if m == 1 && !grouped && !narrow && k <= Form::MOST_OF_ONE {
                return Form::few(Kernel::matmul_ternary_1, 1, 32);
            }
            return match (m <= 8, grouped, narrow) {
                (true, true, _) => Form::few(Kernel::matmul_ternary_8_groups, 8, 16),
                (false, true, _) => Form::few(Kernel::matmul_ternary_16_groups, 16, 16),
                (true, false, true) => Form::few(Kernel::matmul_ternary_8_narrow, 8, 16),
                (true, false, false) => Form::few(Kernel::matmul_ternary_8, 8, 32),
                (false, false, true) => Form::few(Kernel::matmul_ternary_16_narrow, 16, 16),
                (false, false, false) => Form::few(Kernel::matmul_ternary_16, 16, 32),
            };
        }
        let forms = if grouped { Form::BY_GROUPS } else { Form::WHOLE_ROWS };
        let cost = |(form, percent, end): &&(Form, usize, usize)| {
            let (tiles, size) = (form.tiles([m, n]), form.rows * form.columns);
            // Where a multiprocessor has one block of few threads, nothing is done while that waits.
            let alone = if tiles <= multiprocessors && form.threads < 256 { 13 } else { 10 };
            let rounds = tiles.div_ceil(multiprocessors).saturating_mul(alone);
            rounds.saturating_mul(size).saturating_mul(k.saturating_mul(*percent) / 100 + end)
        };
        forms.iter().min_by_key(cost).expect("there are forms").0
    }

    /// With how much longer than in the largest a column of x takes in each, in percent, and as how many columns it takes to
    /// write a tile: where two blocks or more share a multiprocessor, one multiplies while another one writes.
    const WHOLE_ROWS: &[(Form, usize, usize)] = &[
        (Form::tile(Kernel::matmul_ternary_large, 128, 256, 256), 100, 600),
        (Form::tile(Kernel::matmul_ternary_medium, 128, 128, 128), 110, 300),
        (Form::tile(Kernel::matmul_ternary_small, 64, 64, 128), 170, 200),
    ];
    const BY_GROUPS: &[(Form, usize, usize)] = &[
        (Form::tile(Kernel::matmul_ternary_groups, 128, 128, 256), 100, 600),
        (Form::tile(Kernel::matmul_ternary_groups_small, 64, 64, 128), 150, 200),
    ];

    fn tiles(&self, [m, n]: [usize; 2]) -> usize {
        m.div_ceil(self.rows).saturating_mul(n.div_ceil(self.columns))
    }

    fn grid(&self, [m, n]: [usize; 2]) -> Result<[u32; 3]> {
        Ok([blocks_of(&[m.div_ceil(self.rows), n.div_ceil(self.columns)])?, 1, 1])
    }

    /// Columns of the one row of x that is kept whole in shared memory, and what is padded to a multiple.
    const MOST_OF_ONE: usize = 48 << 10;
    const OF_ONE: usize = 2048;

    fn shared_for(&self, k: usize) -> u32 {
        if self.kernel == Kernel::matmul_ternary_1 { k.next_multiple_of(Form::OF_ONE) as u32 } else { self.shared() }
    }

    /// Four stages of 128 columns.
    pub fn shared(&self) -> u32 {
        if self.staged { 4 * (128 * self.rows + 32 * self.columns) as u32 } else { 0 }
    }
}

/// As cuda/matmul.cu has it.
#[repr(C)]
struct BackwardProduct {
    product: FloatProduct,
    trits: Pointer,
    pitch: u64,
    weight_scales: Pointer,
    groups: u64,
    width: u64,
}

// SAFETY: FloatProduct product; const unsigned *trits; u64 pitch; const float *weight_scales; u64 groups, width.
unsafe impl Struct for BackwardProduct {}

pub fn matmul_ternary_backward(
    launch: &Launch,
    dy: &View,
    packing: Packing,
    packed: &View,
    group: usize,
    weight_scales: &View,
    accumulate: bool,
    dx: &mut ViewMut,
) -> Result<()> {
    let groups = check_ternary_backward(dy, packing, packed, group, weight_scales, dx)?;
    let (m, n, k) = (dy.dim(0), groups.rows, groups.columns);
    let mut stage = Stage::new(launch)?;
    let (dy, packed) = (stage.input(dy, DType::F32)?, stage.input(packed, DType::U8)?);
    let weight_scales = stage.input(weight_scales, DType::F32)?;
    let dx = stage.sum(dx, DType::F32, accumulate)?;
    if m == 0 || k == 0 {
        return stage.finish();
    }
    if n == 0 {
        if !accumulate {
            // SAFETY: dx is [m, k].
            unsafe { stage.gpu.set_bytes(dx, 0, m * k * size_of::<f32>()) }?;
        }
        return stage.finish();
    }
    let columns = Columns::plain(k, WORD);
    let trits = trits_of(&mut stage, packing, packed, n, columns, 4)?;
    let (pitch, per_row) = ((columns.pitch / WORD) as u64, if groups.whole { 0 } else { groups.per_row as u64 });
    let cut = Cut::of([m, k, n]);
    if groups.per_row > 1 && !groups.width.is_multiple_of(cut.side()) {
        // A tile has weights of several groups: then they are made floats first.
        let w = stage.scratch(bytes_of(n, k * size_of::<f32>())?)?;
        let blocks = (n * k).div_ceil(THREADS as usize);
        let arguments = arguments![trits, pitch, weight_scales, per_row, groups.width as u64, w, n as u64, k as u64];
        // SAFETY: matmul_ternary_weights(trits, pitch, scales, groups, width, w, rows, columns).
        unsafe { stage.launch(Kernel::matmul_ternary_weights, blocks, THREADS, arguments) }?;
        let (dy, w) = (Strided { data: dy, strides: [n as i64, 1] }, Strided { data: w, strides: [k as i64, 1] });
        product(&mut stage, [m, k, n], dy, w, accumulate, dx)?;
        return stage.finish();
    }
    // b is trits.
    let (dy, none) = (Strided { data: dy, strides: [n as i64, 1] }, Strided { data: Pointer(0), strides: [0, 0] });
    let product = FloatProduct::new([m, k, n], dy, none, accumulate, dx);
    let kernel = if cut.large { Kernel::matmul_ternary_backward } else { Kernel::matmul_ternary_backward_small };
    let shared = cut.shared(4);
    cut.run(&mut stage, product, |stage, product, grid, block| {
        let product =
            BackwardProduct { product, trits, pitch, weight_scales, groups: per_row, width: groups.width as u64 };
        // SAFETY: kernel(product), a block for each tile and slice, with two stages of three planes of dy and one of trits.
        unsafe { stage.gpu.launch(kernel, grid, block, shared, arguments![&product]) }
    })?;
    stage.finish()
}

#[cfg(test)]
mod tests {
    use super::{Columns, Form};
    use crate::backend::cuda::module::Kernel;
    use crate::backend::scalar::scheme::Groups;

    #[test]
    fn columns_are_widened_where_groups_or_rows_are_no_whole_units() {
        let columns = |k, group| Columns::grouped(&Groups::new("a test", &[3, k], group).unwrap());
        assert!(columns(128, 0).as_they_are() && columns(128, 64).as_they_are() && columns(192, 128).as_they_are());
        assert_eq!(columns(100, 0), Columns { columns: 100, width: 128, wide: 128, pitch: 128 });
        assert_eq!(columns(100, 200), columns(100, 0));
        assert_eq!(columns(200, 64), Columns { columns: 200, width: 64, wide: 64, pitch: 256 });
        assert_eq!(columns(128, 32), Columns { columns: 128, width: 32, wide: 64, pitch: 256 });
        assert_eq!(columns(250, 100), Columns { columns: 250, width: 100, wide: 128, pitch: 384 });
    }

    #[test]
    fn tiles_are_large_where_there_are_many() {
        let kernel = |m, n, k| Form::of([m, n], k, false, 132).kernel;
        assert_eq!(kernel(1, 4096, 4096), Kernel::matmul_ternary_8_narrow);
        assert_eq!(kernel(1, 32_768, 4096), Kernel::matmul_ternary_1);
        assert_eq!(kernel(1, 32_768, 1 << 20), Kernel::matmul_ternary_8);
        assert_eq!(kernel(8, 32_768, 4096), Kernel::matmul_ternary_8);
        assert_eq!(kernel(9, 32_768, 4096), Kernel::matmul_ternary_16);
        assert_eq!(kernel(4096, 4096, 4096), Kernel::matmul_ternary_large);
        assert_eq!(kernel(16_384, 384, 1536), Kernel::matmul_ternary_medium);
        assert_eq!(kernel(768, 512, 128), Kernel::matmul_ternary_small);
        // Of few columns, the writing is what takes time.
        assert_eq!(kernel(16_384, 1536, 384), Kernel::matmul_ternary_medium);
        assert_eq!(Form::of([4096, 4096], 4096, false, 132).shared(), 4 * (128 * 128 + 256 * 32));
    }
}
