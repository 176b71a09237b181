//! The dispatch table: one entry per operation, none optional, the same contract on every row.
//!
//! Conventions of all entries:
//! - Shapes stand in brackets after the argument. `f` is f32, or f64 on the scalar row alone (gradient checks); the other
//!   rows answer DTYPE to f64. All other types are as stated. Views are contiguous unless the entry says "strided".
//! - Arguments have been checked by the caller; a kernel re-checks only what its memory safety stands on.
//! - Inputs come first, what is written comes last. "adds" means `+=`, otherwise what was there is overwritten.
//! - Inputs and outputs never overlap, but for entries that say "in place".
//! - Any dimension may be 0: then there is nothing to do (sums are 0).

// The types are long because the table is where the contracts stand.
#![allow(clippy::type_complexity)]

use super::Launch;
use super::operations::operations;
use super::projection::Projection;
use crate::tensor::random::Stream;
use crate::tensor::{Packing, Result, View, ViewMut};

/// The direction of a step: what is subtracted from a parameter p, before weight decay and the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// AdamW (Loshchilov & Hutter, arXiv 1711.05101): m and v are running means of g and g^2.
    AdamW,
    /// The same with v by rows and columns (Adafactor, arXiv 1804.04235), which `step_factors` keeps.
    Factored,
    /// Momentum, or Nesterov's: m = beta m + g.
    Momentum,
    /// The gradient is the direction: of Muon, which is made of all elements at once.
    Given,
}

/// The scalars of one step of one tensor.
#[derive(Clone, Copy, Debug)]
pub struct StepRule {
    pub direction: Direction,
    /// Multiplies the gradient first: what clips it; of a given direction, its scale.
    pub gradient_scale: f32,
    /// Of momentum.
    pub beta: f32,
    pub nesterov: bool,
    /// 1 - beta1 and 1 - beta2.
    pub rate1: f32,
    pub rate2: f32,
    /// 1 / (1 - beta1^t) and 1 / (1 - beta2^t), computed in f64.
    pub inverse1: f32,
    pub inverse2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    /// What the direction is multiplied by.
    pub rate: f32,
    /// The box of the parameter.
    pub lower: f32,
    pub upper: f32,
    /// |p| above it is a trit that is not 0; NaN where there are no trits.
    pub threshold: f32,
}

// From each entry `operations.rs` makes the operation's name and its way through the dispatcher: arguments are named.
operations! {
pub struct Kernels {
    // --- elementwise ---------------------------------------------------------------------------------------------
    /// y[..] f = value.
    pub fill: fn(&Launch, value: f64, y: &mut ViewMut) -> Result<()>,
    /// y[..] f += x[..] f.
    pub add: fn(&Launch, x: &View, y: &mut ViewMut) -> Result<()>,
    /// In place: x[..] f = x * keep / (1 - rate), where keep is 1 if `stream.uniform(i) >= rate`, else 0.
    /// The same call on a gradient is the backward pass.
    pub dropout: fn(&Launch, rate: f32, stream: Stream, x: &mut ViewMut) -> Result<()>,
    /// In place: x[..] f = min(max(x, low), high), where low <= high, infinities allowed; NaN stays. Returns how many elements
    /// were below low or above high.
    pub clamp: fn(&Launch, low: f64, high: f64, x: &mut ViewMut) -> Result<usize>,

    // --- reductions ----------------------------------------------------------------------------------------------
    /// sum[1] f64 += the canonical sum of squares of x[..] f.
    /// Canonical: blocks of 4096; element i of a block adds into f32 lane i mod 32 (square and sum rounded apart, never
    /// fused); lanes fold 16, 8, 4, 2, 1; block sums add in f64 in index order. (f64 input: the same with f64 lanes.)
    pub sum_squares: fn(&Launch, x: &View, sum: &mut ViewMut) -> Result<()>,
    /// The index of the first NaN or infinity of x[..] f.
    pub first_non_finite: fn(&Launch, x: &View) -> Result<Option<usize>>,

    // --- schemes -------------------------------------------------------------------------------------------------
    // Weights w[n, k] f share scales by groups of `group` columns of a row, the last of a row being what is left: thresholds
    // and scales f are [n, ceil(k / group)]; or, where `group` is 0, by the whole matrix: [1]. A group that holds a NaN or an
    // infinity has a scale that is NaN or infinite, under every scheme.
    /// The absmean scheme of BitNet b1.58 (arXiv 2402.17764): gamma = canonical sum of |w| / count of the group, counted from
    /// its first weight and rounded to f; scale = max(gamma, 1e-5); threshold = scale / 2.
    pub absmean: fn(&Launch, w: &View, group: usize, thresholds: &mut ViewMut, scales: &mut ViewMut) -> Result<()>,
    /// The same with the lower median of |w| for gamma: number floor((count - 1) / 2) in ascending order, 0 of none.
    pub absmedian: fn(&Launch, w: &View, group: usize, thresholds: &mut ViewMut, scales: &mut ViewMut) -> Result<()>,
    /// The trits and scale with the least sum of (w - scale * t)^2. With e the least exponent for which all |w| < 2^e, the
    /// magnitudes are the integers m = trunc(|w| * 2^(31 - e)), and P_k is the exact sum of the k largest; k, with m_k > m_(k+1)
    /// or the number of all, is the least that maximizes (P_k * P_k) * (1 / k) in f64, P_k rounded to it; scale =
    /// P_k / k * 2^(e - 31) in f64, rounded to f; threshold = scale / 2. Both are 0 where all w are. SHAPE for groups above 2^33.
    pub least_squares: fn(&Launch, w: &View, group: usize, thresholds: &mut ViewMut, scales: &mut ViewMut) -> Result<()>,
    /// scale = the canonical sum of |w| over the |w| above the threshold h >= 0 of the group, others counting as 0 in their
    /// place, / how many those are, rounded to f; 0 for none.
    pub mean_above: fn(&Launch, w: &View, group: usize, thresholds: &View, scales: &mut ViewMut) -> Result<()>,
    // --- ternary weights -----------------------------------------------------------------------------------------
    /// Trits t = (w > h) - (w < -h) of w[n, k] f with the threshold h >= 0 or NaN of the group, packed four a byte into
    /// packed[n, ceil(k / 4)] u8: byte j of a row is sum over i in 0..4 of (t[4 j + i] + 1) << 2 i. Positions past k hold code
    /// 1 (t = 0).
    pub ternarize: fn(&Launch, w: &View, group: usize, thresholds: &View, packed: &mut ViewMut) -> Result<()>,
    /// The same with t = sign(w) * (u * s < |w|), s >= 0 the scale of the group and u = `stream.uniform(i)` for weight i of the
    /// matrix: the mean of s * t over the streams is w where |w| <= s.
    pub ternarize_stochastic:
        fn(&Launch, w: &View, group: usize, scales: &View, stream: Stream, packed: &mut ViewMut) -> Result<()>,
    /// w[n, k] f = scale * t, from packed[n, ceil(k / 4)] u8 and the scale of the group.
    pub deternarize: fn(&Launch, packed: &View, group: usize, scales: &View, w: &mut ViewMut) -> Result<()>,
    /// Fails with FORMAT, naming the byte or the block, unless packed[bytes] u8 is a matrix [n, k] = `shape` in this packing, with
    /// nothing but t = 0 past the last column.
    pub check_trits: fn(&Launch, packing: Packing, packed: &View, shape: [usize; 2]) -> Result<()>,
    /// Trits, one a byte, trits[n, k] i8 of -1, 0 and 1, to two bits, packed[n, ceil(k / 4)] u8, as `ternarize` has it.
    pub pack_two_bit: fn(&Launch, trits: &View, packed: &mut ViewMut) -> Result<()>,
    /// The inverse; packed holds no code 3.
    pub unpack_two_bit: fn(&Launch, packed: &View, trits: &mut ViewMut) -> Result<()>,
    /// Two bits a trit, packed[n, ceil(k / 4)] u8, to five trits a byte, five[n, ceil(k / 5)] u8: byte j of a row is
    /// sum over i in 0..5 of (t[5 j + i] + 1) * 3^i. Positions past k hold digit 1 (t = 0). Fails with FORMAT, naming the
    /// byte, on the code 3, which is no trit.
    pub pack_five: fn(&Launch, packed: &View, columns: usize, five: &mut ViewMut) -> Result<()>,
    /// The inverse. Fails with FORMAT, naming the byte, on the bytes 243 to 255, which are no five trits, and on a digit
    /// past the last column other than 1.
    pub unpack_five: fn(&Launch, five: &View, columns: usize, packed: &mut ViewMut) -> Result<()>,
    /// From five trits a byte, five[n, ceil(k / 5)] u8, to trits[n, k] i8; fails as `unpack_five` does.
    pub five_trits: fn(&Launch, five: &View, trits: &mut ViewMut) -> Result<()>,
    /// The size in bytes of packed[n, ceil(columns / 4)] u8, two bits a trit, as mask and signs: see
    /// [`MaskSign`](crate::tensor::MaskSign). Fails with FORMAT, naming the byte, on the code 3; with SHAPE for more signs
    /// than an offset can count.
    pub mask_sign_bytes: fn(&Launch, packed: &View, columns: usize) -> Result<usize>,
    /// packed[n, ceil(columns / 4)] u8, which holds no code 3, as mask and signs, mask_sign[bytes] u8: as
    /// many bytes as `mask_sign_bytes` says.
    pub pack_mask_sign: fn(&Launch, packed: &View, columns: usize, mask_sign: &mut ViewMut) -> Result<()>,
    /// The inverse. Fails with FORMAT, naming byte or block, and writes nothing, where the bytes are no such matrix: offsets
    /// that do not rise, masks whose number of bits is not that of the signs, bits that stand for nothing.
    pub unpack_mask_sign: fn(&Launch, mask_sign: &View, columns: usize, packed: &mut ViewMut) -> Result<()>,
    /// As `unpack_mask_sign`, to trits[n, k] i8.
    pub mask_sign_trits: fn(&Launch, mask_sign: &View, trits: &mut ViewMut) -> Result<()>,

    // --- activations ---------------------------------------------------------------------------------------------
    /// Per row of x[m, k] f: a = max(max |x|, least), where activations have [`LEAST_ABSMAX`](super::LEAST_ABSMAX); codes[m, k] i8 = clip(round_half_even(x * (127 / a)), -127, 127);
    /// scales[m] f = a / 127. A row with a NaN has the scale NaN, a row with an infinity an infinite one, and where x or
    /// the product is NaN the code is 0: what is not finite shows in every product of the row.
    pub quantize_activations: fn(&Launch, x: &View, least: f64, codes: &mut ViewMut, scales: &mut ViewMut) -> Result<()>,
    /// x[m, k] f = scales[m] f * codes[m, k] i8.
    pub dequantize_activations: fn(&Launch, codes: &View, scales: &View, x: &mut ViewMut) -> Result<()>,

    // --- gradients -----------------------------------------------------------------------------------------------
    /// Per block of `block` elements, a multiple of 32, of g[n] f32, which are finite:
    /// scales[ceil(n / block)] f32 = max |g| / 127, at least 2^-126 and at most the largest whose 127-fold is finite;
    /// codes[n] i8 = sign(g) * (floor(q) + (stream.uniform(i) < q - floor(q))) with q = min(|g / scale|, 127), where i counts
    /// over all of g. The mean of scale * code over the streams is g (stochastic rounding: arXiv 1610.02132, 2110.02861).
    pub quantize_gradients:
        fn(&Launch, g: &View, stream: Stream, block: usize, codes: &mut ViewMut, scales: &mut ViewMut) -> Result<()>,
    /// g[n] f32 = scales[ceil(n / block)] f32 * codes[n] i8.
    pub dequantize_gradients: fn(&Launch, codes: &View, scales: &View, block: usize, g: &mut ViewMut) -> Result<()>,

    /// Ternary gradients with error feedback (arXiv 1705.07878, 1901.09847). Per block of `block` elements, a multiple of 32, of
    /// x = g[n] f32 + error[n] f32: with m the canonical mean of |x|, rounded to f32, h = 0.7 * m (arXiv 1605.04711);
    /// scales[ceil(n / block)] f32 = the canonical mean of |x| over |x| > h, where others add +0, or 0 where there is none:
    /// the scale of least error for the trits t = (x > h) - (x < -h), packed[ceil(n / 4)] u8 two bits each.
    /// In place, error = x - scale * t. Fails with ARGUMENT, and writes nothing, when a mean is beyond f32.
    pub ternarize_gradients: fn(
        &Launch,
        g: &View,
        block: usize,
        error: &mut ViewMut,
        packed: &mut ViewMut,
        scales: &mut ViewMut,
    ) -> Result<()>,

    // --- products ------------------------------------------------------------------------------------------------
    /// c[m, n] f = a[m, k] f (strided) * b[k, n] f (strided), or += when `accumulate`. c is contiguous.
    pub matmul: fn(&Launch, a: &View, b: &View, accumulate: bool, c: &mut ViewMut) -> Result<()>,
    /// y[m, n] f = codes[m, k] i8 times scales[m] f, by weights of trits t[n, k] times weight_scales f: shaped and meant as the
    /// scales of schemes above. With S = the sum over a group of codes * t, exact for every k up to 2^24 and |codes| <= 127, and
    /// rounded to f:
    /// y = (the sum of S * weight_scale over the groups of the row in index order, from 0) * scale, all rounded apart; but
    /// where a row has one group, y = S * (scale * weight_scale). The same bits on every row, and for every m.
    /// base[m, n] f is added at last, where there is one.
    /// packed u8 has n * ceil(k / 4) elements at two bits, n * ceil(k / 5) at five trits a byte, as many as it takes as mask and
    /// signs, and holds nothing but trits.
    pub matmul_ternary: fn(
        &Launch,
        codes: &View,
        scales: &View,
        packing: Packing,
        packed: &View,
        group: usize,
        weight_scales: &View,
        base: Option<&View>,
        y: &mut ViewMut,
    ) -> Result<()>,
    /// Queries, keys and values of codes[b t, d] i8 and scales[b t] f: q[b, t, h, e] f, k and v[b, t, g, e] f are what
    /// `matmul_ternary` gives for weights of two bits with one scale, q_packed[h e, ceil(d / 4)] u8 and q_scale[1] f, and so on; q and
    /// k turned as by `rope` with cosine and sine[t, e / 2] f. The same bits on every row.
    pub matmul_ternary_qkv: fn(
        &Launch,
        codes: &View,
        scales: &View,
        q_packed: &View,
        q_scale: &View,
        k_packed: &View,
        k_scale: &View,
        v_packed: &View,
        v_scale: &View,
        cosine: &View,
        sine: &View,
        q: &mut ViewMut,
        k: &mut ViewMut,
        v: &mut ViewMut,
    ) -> Result<()>,
    /// The gradient to the input: dx[m, k] f = dy[m, n] f * (weight_scale f * t[n, k]), from the same weights, or += when
    /// `accumulate`.
    pub matmul_ternary_backward: fn(
        &Launch,
        dy: &View,
        packing: Packing,
        packed: &View,
        group: usize,
        weight_scales: &View,
        accumulate: bool,
        dx: &mut ViewMut,
    ) -> Result<()>,

    /// Half of a gradient to weights in integers, dw = g^T x for x[m, k] = factors[m] f * codes i8: the columns of g[m, n] f in
    /// blocks of 256 tokens, the last being what is left. With v = g * factor and a = max |v| of a block of a column,
    /// scales[ceil(m / 256), n] f = max(a / 32, 2^-126), and codes[ceil(m / 256), n, 256] i8 =
    /// round_half_even(v * (1 / scale) + (b - 127.5) / 256), at most +-32, zeros past m. The random byte b of token i of a block and
    /// column j is byte j / 8 mod 4 of word 8 * (j / 32) + j mod 8 of the stream, from word 32 r * ceil(n / 128) on, where r is
    /// the block's number times 128, plus i mod 128; for i of 128 and more it is 255 less that byte. So the mean of scale * code
    /// over the streams is v to 1 / 512 of a step (stochastic rounding). A scale is NaN or infinite where an a is; where the number
    /// to be rounded is NaN the code is 0.
    pub quantize_columns: fn(
        &Launch,
        g: &View,
        factors: &View,
        stream: Stream,
        codes: &mut ViewMut,
        scales: &mut ViewMut,
    ) -> Result<()>,
    /// The other half: dw[n, k] f += S * scale for each block of 256 tokens in index order, multiplied and added apart, where
    /// S = the sum over the block of g i8 * codes i8, exact, from `quantize_columns`' g[ceil(m / 256), n, 256],
    /// scales[ceil(m / 256), n] f, and codes[m, k] of at most +-127. The same bits on every row.
    pub weight_gradient: fn(&Launch, g: &View, scales: &View, codes: &View, dw: &mut ViewMut) -> Result<()>,
    /// The gradient to the input in integers: dx[m, k] f = S * (scale * weight_scale), or += when `accumulate`, with
    /// S = the sum over n of codes[m, n] i8 * t[n, k], exact for every n up to 2^24 and |codes| <= 127, scales[m] f and
    /// weight_scale[1] f. packed[n, ceil(k / 4)] u8, two bits a trit, holds nothing but trits. The same bits on every row.
    pub matmul_ternary_transposed: fn(
        &Launch,
        codes: &View,
        scales: &View,
        packed: &View,
        weight_scale: &View,
        accumulate: bool,
        dx: &mut ViewMut,
    ) -> Result<()>,

    // --- embedding -----------------------------------------------------------------------------------------------
    /// y[n, d] f = table[v, d] f at row tokens[n] u32. Every token is below v (SHAPE otherwise).
    pub embedding: fn(&Launch, tokens: &View, table: &View, y: &mut ViewMut) -> Result<()>,
    /// Adds dy[n, d] f into dtable[v, d] f at row tokens[n] u32; every row sums in token order.
    pub embedding_backward: fn(&Launch, tokens: &View, dy: &View, dtable: &mut ViewMut) -> Result<()>,

    // --- normalisation -------------------------------------------------------------------------------------------
    /// RMSNorm (arXiv 1910.07467): per row of x[m, d] f: inverse_rms[m] f = 1 / sqrt(mean(x^2) + epsilon),
    /// y[m, d] f = x * inverse_rms * gain[d] f.
    pub rms_norm:
        fn(&Launch, x: &View, gain: &View, epsilon: f64, y: &mut ViewMut, inverse_rms: &mut ViewMut) -> Result<()>,
    /// dx[m, d] f from dy[m, d] f, or += when `accumulate`; adds to dgain[d] f, rows in index order by fixed chunks.
    pub rms_norm_backward: fn(
        &Launch,
        x: &View,
        gain: &View,
        inverse_rms: &View,
        dy: &View,
        accumulate: bool,
        dx: &mut ViewMut,
        dgain: &mut ViewMut,
    ) -> Result<()>,

    // --- attention -----------------------------------------------------------------------------------------------
    /// In place, rotary embedding (arXiv 2104.09864), half rotation: for x[b, t, h, e] f and pair (i, i + e / 2) of a head
    /// at position t: (u, v) -> (u c - v s, v c + u s) with c = cosine[t, e / 2] f, s = sine[t, e / 2] f; `inverse`
    /// rotates back (s -> -s), which is the backward pass.
    pub rope: fn(&Launch, cosine: &View, sine: &View, inverse: bool, x: &mut ViewMut) -> Result<()>,
    /// Causal attention with grouped KV heads: q[b, tq, h, e] f, k and v[b, tk, g, e] f, h a multiple of g, tq <= tk;
    /// query i sees keys 0 ..= i + tk - tq; head j reads KV head j / (h / g); logits are q . k / sqrt(e).
    /// o[b, tq, h, e] f; log_sum[b, h, tq] f = ln(sum of exp(logits)), which the backward pass needs.
    pub attention: fn(&Launch, q: &View, k: &View, v: &View, o: &mut ViewMut, log_sum: &mut ViewMut) -> Result<()>,
    /// dq, dk, dv f from do = d_o[b, tq, h, e] f, shaped like q, k, v.
    pub attention_backward: fn(
        &Launch,
        q: &View,
        k: &View,
        v: &View,
        o: &View,
        log_sum: &View,
        d_o: &View,
        dq: &mut ViewMut,
        dk: &mut ViewMut,
        dv: &mut ViewMut,
    ) -> Result<()>,

    /// Attention of one token on keys and values in 8 bits, all of which it sees: q[h, e] f, k and v[t, g, e] i8 with
    /// scales[t, g] f, as `quantize_activations` makes them of [t g, e]; heads and logits as above. o[h, e] f.
    pub attention_cached: fn(
        &Launch,
        q: &View,
        k: &View,
        k_scales: &View,
        v: &View,
        v_scales: &View,
        o: &mut ViewMut,
    ) -> Result<()>,

    // --- feed-forward --------------------------------------------------------------------------------------------
    /// y[..] f = max(x, 0)^2 (arXiv 2109.08668). In these four, max(NaN, 0) is NaN: a broken value must reach the loss.
    pub squared_relu: fn(&Launch, x: &View, y: &mut ViewMut) -> Result<()>,
    /// dx[..] f = dy * 2 max(x, 0).
    pub squared_relu_backward: fn(&Launch, x: &View, dy: &View, dx: &mut ViewMut) -> Result<()>,
    /// y[..] f = max(gate, 0)^2 * up.
    pub gated_squared_relu: fn(&Launch, gate: &View, up: &View, y: &mut ViewMut) -> Result<()>,
    /// dgate and dup[..] f from dy[..] f.
    pub gated_squared_relu_backward:
        fn(&Launch, gate: &View, up: &View, dy: &View, dgate: &mut ViewMut, dup: &mut ViewMut) -> Result<()>,

    // --- between the products of a ternary layer -----------------------------------------------------------------
    /// `rms_norm` with the canonical sum of squares, then `quantize_activations` with [`LEAST_ABSMAX`](super::LEAST_ABSMAX):
    /// codes[m, d] i8, scales[m] f and inverse_rms[m] f of x[m, d] f. The same bits on every row.
    pub rms_norm_quantize: fn(
        &Launch,
        x: &View,
        gain: &View,
        epsilon: f64,
        codes: &mut ViewMut,
        scales: &mut ViewMut,
        inverse_rms: &mut ViewMut,
    ) -> Result<()>,
    /// The same of `squared_relu` of x[m, d] f.
    pub squared_relu_norm_quantize: fn(
        &Launch,
        x: &View,
        gain: &View,
        epsilon: f64,
        codes: &mut ViewMut,
        scales: &mut ViewMut,
        inverse_rms: &mut ViewMut,
    ) -> Result<()>,
    /// The same of `gated_squared_relu` of gate and up[m, d] f.
    pub gated_squared_relu_norm_quantize: fn(
        &Launch,
        gate: &View,
        up: &View,
        gain: &View,
        epsilon: f64,
        codes: &mut ViewMut,
        scales: &mut ViewMut,
        inverse_rms: &mut ViewMut,
    ) -> Result<()>,
    /// The gradient through `squared_relu` and `rms_norm`, straight through the codes: dx[m, d] f from dy[m, d] f; adds to
    /// dgain[d] f, rows in index order by fixed chunks.
    pub squared_relu_norm_backward: fn(
        &Launch,
        x: &View,
        gain: &View,
        inverse_rms: &View,
        dy: &View,
        dx: &mut ViewMut,
        dgain: &mut ViewMut,
    ) -> Result<()>,
    /// The same through `gated_squared_relu`: dgate and dup[m, d] f.
    pub gated_squared_relu_norm_backward: fn(
        &Launch,
        gate: &View,
        up: &View,
        gain: &View,
        inverse_rms: &View,
        dy: &View,
        dgate: &mut ViewMut,
        dup: &mut ViewMut,
        dgain: &mut ViewMut,
    ) -> Result<()>,

    // --- loss ----------------------------------------------------------------------------------------------------
    /// losses[n] f = ln(sum of exp(logits[n, v] f)) - logits[n, targets[n] u32], in nats. Targets are below v.
    pub cross_entropy: fn(&Launch, logits: &View, targets: &View, losses: &mut ViewMut) -> Result<()>,
    /// The same losses; in place, logits become factor * (softmax(logits) - one_hot(target)).
    pub cross_entropy_gradient:
        fn(&Launch, targets: &View, factor: f64, logits: &mut ViewMut, losses: &mut ViewMut) -> Result<()>,

    // --- optimizer -----------------------------------------------------------------------------------------------
    // A gradient[..] f32 and the states of its parameter, of as many elements, in one of the forms that `scalar/step.rs` lists:
    // parameter f32 or i8, m f32 or i8, v f32 or u8, with a scale f32 for each 256 elements of codes and none for floats. m and v
    // are empty where the direction has none; of FACTORED, gradient is [r, c] and v [r + c + 1] f32. What an element becomes, and
    // its codes, is `StepRule::element` and the functions beside it, to the bit on every row.
    /// m of MOMENTUM, in place, and its direction[..] f32, weight decay left out.
    pub step_momentum: fn(
        &Launch,
        rule: &StepRule,
        gradient: &View,
        m: &mut ViewMut,
        m_scales: &mut ViewMut,
        direction: &mut ViewMut,
    ) -> Result<()>,
    /// new[r + c + 1] from v[r + c + 1]: the running means, at `rate2`, of the mean of (gradient[r, c] * gradient_scale)^2 of each
    /// row and of each column (canonical sums, divided in f64), and the inverse of the mean of the new row means (0 for 0).
    pub step_factors: fn(&Launch, rule: &StepRule, gradient: &View, v: &View, new: &mut ViewMut) -> Result<()>,
    /// sums[5] f64 += the canonical sums of d^2, of p^2, of g m, of m^2 and of v, with d the direction, weight decay in it, of the
    /// step from these states, g = gradient * gradient_scale, and m and v as they are before it (0 where there are none). A NaN
    /// or an infinity of d or p makes its sum NaN or infinite. `rate`, the box and the threshold are not read.
    pub step_sums: fn(
        &Launch,
        rule: &StepRule,
        gradient: &View,
        parameter: &View,
        parameter_scales: &View,
        m: &View,
        m_scales: &View,
        v: &View,
        v_scales: &View,
        sums: &mut ViewMut,
    ) -> Result<()>,
    /// bins[129] u32 += how many trits would change after which share of the step: see `flip_bin`.
    pub step_flips: fn(
        &Launch,
        rule: &StepRule,
        gradient: &View,
        parameter: &View,
        parameter_scales: &View,
        m: &View,
        m_scales: &View,
        v: &View,
        v_scales: &View,
        bins: &mut ViewMut,
    ) -> Result<()>,
    /// In place, the step: p = clamp(p - rate * d, lower, upper), m and v (but not that of FACTORED). Codes of p and v are rounded
    /// at random, element i by `stream.rounding(i)`. counts[2] u32 += elements that the box held, and trits that changed.
    /// sums[5] f64, or [0] where they are not wanted: += those of `step_sums`, of the states before the step.
    pub step: fn(
        &Launch,
        rule: &StepRule,
        stream: Stream,
        gradient: &View,
        parameter: &mut ViewMut,
        parameter_scales: &mut ViewMut,
        m: &mut ViewMut,
        m_scales: &mut ViewMut,
        v: &mut ViewMut,
        v_scales: &mut ViewMut,
        counts: &mut ViewMut,
        sums: &mut ViewMut,
    ) -> Result<()>,
    /// y[..] f32 = factor * x[..] f32.
    pub scale: fn(&Launch, factor: f32, x: &View, y: &mut ViewMut) -> Result<()>,

    // --- clusters ------------------------------------------------------------------------------------------------
    /// The nearest of centroids[k, d] f64 to each row of x[n, d] f by squared Euclidean distance, in f64: (x - c)^2 of dimension
    /// j adds into lane j mod 8, square and sum rounded apart; the lanes fold 4, 2, 1. labels[n] u32 is the lowest index of the
    /// least distance: the same on every row. All numbers are below sqrt(f32::MAX / (64 d)) in magnitude. With rows[m] u32,
    /// ascending and below n (SHAPE otherwise), only those rows are looked at and written.
    ///
    /// `projection` is one of x, if there is one, and changes nothing but the time that it takes.
    ///
    /// bounds[n, 2] f32, or [0, 2] where they are not wanted: how far the row is from that centroid at most, and from each other
    /// one at least. Where they lie is up to the row of the table. SHAPE when there is a row of x and no centroid.
    pub kmeans_assign: fn(
        &Launch,
        x: &View,
        rows: Option<&View>,
        centroids: &View,
        projection: Option<&Projection>,
        labels: &mut ViewMut,
        bounds: &mut ViewMut,
    ) -> Result<()>,
    /// Of the rows of each cluster: sums[k, d] f64 = the sum of w * x[n, d] f, masses[k] f64 = the sum of w, with w =
    /// weights[n] f, or 1 when `weights` is empty. The rows of a stripe, max(2048, ceil(n / 32)) that follow each other, add up
    /// in index order; so do the sums of stripes. Labels[n] u32 are below k (SHAPE otherwise). The same bits on every row:
    /// w * x is exact in f64 where f is f32. With changed[k] u32, sums and masses where it is 0 are right already, and may be left
    /// as they are.
    pub kmeans_update: fn(
        &Launch,
        x: &View,
        labels: &View,
        weights: &View,
        changed: Option<&View>,
        sums: &mut ViewMut,
        masses: &mut ViewMut,
    ) -> Result<()>,
    /// `kmeans_assign` of all rows, then `kmeans_update`.
    pub kmeans_iterate: fn(
        &Launch,
        x: &View,
        weights: &View,
        centroids: &View,
        projection: Option<&Projection>,
        labels: &mut ViewMut,
        bounds: &mut ViewMut,
        sums: &mut ViewMut,
        masses: &mut ViewMut,
    ) -> Result<()>,
    /// distances[n] f: the squared Euclidean distance of each row of x[n, d] f from the centroid of its label, of
    /// centroids[k, d] f64 rounded to f: the canonical sum of (x - c)^2, rounded to f. Labels[n] u32 are below k (SHAPE
    /// otherwise). The same bits on every row.
    pub kmeans_distances:
        fn(&Launch, x: &View, labels: &View, centroids: &View, distances: &mut ViewMut) -> Result<()>,
    /// The m nearest of centroids[k, d] f64 to each row of x[n, d] f, nearest first, by the squared distances of `kmeans_assign`,
    /// lower indices first where they tie: labels[n, m] u32, and distances[n, m] f, rounded to f. m is at most k (SHAPE
    /// otherwise). The same bits on every row.
    pub kmeans_closest: fn(
        &Launch,
        x: &View,
        centroids: &View,
        labels: &mut ViewMut,
        distances: &mut ViewMut,
    ) -> Result<()>,
    /// What the rows candidates[m] u32 of x[n, d] f, below n (SHAPE otherwise), would do for the distances least[n] f of all rows
    /// from the seeds so far: lower[m, n] f = the lesser of `least` and the squared distance from the candidate, by
    /// `kmeans_distances`; gains[m] f64 = the sum of w (least - lower), with w = weights[n] f, or 1 when `weights` is empty, by
    /// stripes as those of `kmeans_update`. `projection` is one of x, if there is one, and changes nothing but the time that it
    /// takes. Nor does what is known of the seeds: with labels[n] u32, the nearest seed of each row, and limits[m, seeds] f32, a
    /// row whose `least` is not above limits[candidate, label] is no nearer to the candidate; labels[0] says that nothing is known.
    /// The same bits on every row.
    pub kmeans_seed: fn(
        &Launch,
        x: &View,
        weights: &View,
        candidates: &View,
        projection: Option<&Projection>,
        labels: &View,
        limits: &View,
        least: &View,
        lower: &mut ViewMut,
        gains: &mut ViewMut,
    ) -> Result<()>,

    // --- codebooks -----------------------------------------------------------------------------------------------
    /// labels[n] u32: how many of thresholds[k - 1] f32, which ascend and may be infinite, are below x[n] f32, which is finite.
    pub codebook_labels: fn(&Launch, x: &View, thresholds: &View, labels: &mut ViewMut) -> Result<()>,
    /// The same labels as codes of 4 bits for k up to 16, packed[ceil(n / 2)] u8, low half first and 0 past the last, of 8 bits for
    /// k up to 256, packed[n] u8 (SHAPE otherwise).
    pub codebook_pack: fn(&Launch, x: &View, thresholds: &View, packed: &mut ViewMut) -> Result<()>,
    /// y[n] f32 from such codes and entries[k] f32. Fails with FORMAT, naming the position, and writes nothing, for a code that is k or
    /// above and for what is not 0 past the last.
    pub codebook_unpack: fn(&Launch, packed: &View, entries: &View, y: &mut ViewMut) -> Result<()>,
}
}
