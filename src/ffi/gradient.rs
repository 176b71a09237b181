//! GRADIENT: gradients in few bits
//!
//! What machines that train together exchange, or what a trainer keeps of a gradient: 8-bit codes, rounded at
//! random so that nothing is lost on average, or trits, whose error is kept and added to the next gradient.
//! Both have one scale for every block of elements. Of the options, the context counts.
//!
//!     float g[512], error[512] = {0}, back[512], scales[2];
//!     int8_t codes[512];
//!     setun_quantize_gradients(g, 512, 256, seed, step, 0, NULL, codes, scales);
//!     setun_dequantize_gradients(codes, scales, 512, 256, NULL, back);
//!     uint8_t packed[128];
//!     size_t bytes = sizeof packed;
//!     setun_ternarize_gradients(g, 512, 256, NULL, error, packed, &bytes, scales);
//!     setun_deternarize_gradients(packed, bytes, scales, 512, 256, NULL, back);

use super::arguments::{Room, check_apart, count, extent, size, slice, slice_mut};
use super::guard::guard;
use super::library::setun_status;
use super::quantize::{Choice, setun_quantize_options};
use crate::quantize;
use crate::tensor::random::{Purpose, Stream};

/// Quantizes a gradient g [n] to 8 bits by blocks: for every `block` elements, a positive multiple of 32 (the
/// trainer's is 256), scale = max |g| / 127 of the block, and code = g / scale, rounded up or down at random so
/// that the mean of scale * code is g: codes [n] int8 from -127 to 127, scales [ceil(n / block)]. (Blocks:
/// arXiv 2110.02861; stochastic rounding: QSGD, arXiv 1610.02132.)
///
/// The randomness is a function of (seed, step, tensor, index) alone, and the codes are the same on every
/// backend: give each tensor and step numbers of its own. The scale is at least 2^-126, also of zeros, and
/// such that 127 * scale is finite. NULL options = the default context. Returns ARGUMENT (a NaN or an
/// infinity, naming the first; block; n; overlap; misaligned).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_quantize_gradients(
    g: *const f32,
    n: i64,
    block: i64,
    seed: u64,
    step: u32,
    tensor: u32,
    options: *const setun_quantize_options,
    codes: *mut i8,
    scales: *mut f32,
) -> setun_status {
    guard("quantize_gradients", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let context = unsafe { Choice::read(options) }?.context;
        let (n, block) = (count::<f32>(&[size(n, "n")?], "g")?, size(block, "block")?);
        let blocks = quantize::gradient_blocks(n, block)?;
        check_apart(&[extent("codes", codes, n), extent("scales", scales, blocks)], &[extent("g", g, n)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (g, codes, scales) =
            unsafe { (slice(g, n, "g")?, slice_mut(codes, n, "codes")?, slice_mut(scales, blocks, "scales")?) };
        let stream = Stream::new(seed, Purpose::Gradient, step, tensor);
        quantize::quantize_gradients(&context, g, block, stream, codes, scales)
    })
}

/// The inverse but for the rounding: g [n] = scale * code, from scales [ceil(n / block)]. Returns ARGUMENT (a
/// scale that is NaN or infinite, naming the first; block; n; overlap; misaligned).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_dequantize_gradients(
    codes: *const i8,
    scales: *const f32,
    n: i64,
    block: i64,
    options: *const setun_quantize_options,
    g: *mut f32,
) -> setun_status {
    guard("dequantize_gradients", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let context = unsafe { Choice::read(options) }?.context;
        let (n, block) = (count::<f32>(&[size(n, "n")?], "g")?, size(block, "block")?);
        let blocks = quantize::gradient_blocks(n, block)?;
        check_apart(&[extent("g", g, n)], &[extent("codes", codes, n), extent("scales", scales, blocks)])?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (codes, scales, g) =
            unsafe { (slice(codes, n, "codes")?, slice(scales, blocks, "scales")?, slice_mut(g, n, "g")?) };
        quantize::dequantize_gradients(&context, codes, scales, block, g)
    })
}

/// Quantizes a gradient with what the last one left over, x = g [n] + error [n], to trits by blocks: for every
/// `block` elements, a positive multiple of 32, h = 0.7 * mean |x| (Ternary Weight Networks, arXiv 1605.04711),
/// t = +-1 beyond h, scale = the mean of |x| beyond h, which is the best for these trits. `error` becomes x -
/// scale * t: what is sent over the steps, and what is still owed, is the sum of the gradients (error feedback,
/// arXiv 1901.09847; ternary gradients, arXiv 1705.07878). Begin with an error of zeros.
///
/// `packed` are the trits, four a byte: byte j = sum over i of (t [4 j + i] + 1) * 4^i, positions past the last
/// hold t = 0. `packed_size` is the room before, at least ceil(n / 4), and the bytes used after; `scales`
/// [ceil(n / block)]. The same bits on every backend. Returns ARGUMENT (a NaN or an infinity in g or error,
/// naming the first; sums beyond f32; block; n; overlap; misaligned), SHAPE (packed_size), MEMORY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_ternarize_gradients(
    g: *const f32,
    n: i64,
    block: i64,
    options: *const setun_quantize_options,
    error: *mut f32,
    packed: *mut u8,
    packed_size: *mut usize,
    scales: *mut f32,
) -> setun_status {
    guard("ternarize_gradients", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let context = unsafe { Choice::read(options) }?.context;
        let (n, block) = (count::<f32>(&[size(n, "n")?], "g")?, size(block, "block")?);
        let blocks = quantize::gradient_blocks(n, block)?;
        // SAFETY: NULL is checked; a readable and writable size is the caller's contract.
        let room = unsafe { Room::read(packed_size, "packed_size") }?;
        let outputs = [
            extent("error", error, n),
            extent("packed", packed, room.bytes()),
            room.extent(),
            extent("scales", scales, blocks),
        ];
        check_apart(&outputs, &[extent("g", g, n)])?;
        let needed = room.at_least(n.div_ceil(4), "packed")?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (g, error, packed, scales) = unsafe {
            (
                slice(g, n, "g")?,
                slice_mut(error, n, "error")?,
                slice_mut(packed, needed, "packed")?,
                slice_mut(scales, blocks, "scales")?,
            )
        };
        let used = quantize::ternarize_gradients(&context, g, block, error, packed, scales)?;
        room.used(used)
    })
}

/// The inverse but for the error: g [n] = scale * t, from `packed`, ceil(n / 4) bytes, and scales [ceil(n /
/// block)]. Returns ARGUMENT (a scale that is NaN or infinite, naming the first; block; n; overlap; misaligned),
/// FORMAT (bytes that are no trits, naming the first), SHAPE (packed_size).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setun_deternarize_gradients(
    packed: *const u8,
    packed_size: usize,
    scales: *const f32,
    n: i64,
    block: i64,
    options: *const setun_quantize_options,
    g: *mut f32,
) -> setun_status {
    guard("deternarize_gradients", || {
        // SAFETY: a struct as large as it says is the caller's contract.
        let context = unsafe { Choice::read(options) }?.context;
        let (n, block) = (count::<f32>(&[size(n, "n")?], "g")?, size(block, "block")?);
        let blocks = quantize::gradient_blocks(n, block)?;
        let inputs = [extent("packed", packed, packed_size), extent("scales", scales, blocks)];
        check_apart(&[extent("g", g, n)], &inputs)?;
        // SAFETY: NULL, alignment and overlap are checked; the lengths are the caller's contract.
        let (packed, scales, g) =
            unsafe { (slice(packed, packed_size, "packed")?, slice(scales, blocks, "scales")?, slice_mut(g, n, "g")?) };
        quantize::deternarize_gradients(&context, packed, scales, block, g)
    })
}
