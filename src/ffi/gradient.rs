//! GRADIENT: gradients in few bits
//!
//! What machines that train together exchange, or what a trainer keeps of a gradient: codes with one scale
//! for every block, rounded at random so that nothing is lost on average.
//!
//!     float g[512], back[512], scales[2];
//!     int8_t codes[512];
//!     setun_quantize_gradients(g, 512, 256, seed, step, 0, NULL, codes, scales);
//!     setun_dequantize_gradients(codes, scales, 512, 256, NULL, back);

use super::arguments::{check_apart, count, extent, size, slice, slice_mut};
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
