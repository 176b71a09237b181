//! The contracts of the innermost loops.

use super::{
    AttentionShape, Bins, KMeansCentroids, KMeansExact, KMeansFound, KMeansRows, KMeansSeed, KMeansWhole, PhiloxStream,
    StepScalars, StepTensors,
};

/// Decodes a row of mask[ceil(columns / 8)] and of as many bits of signs[end], from bit `first` on, as the mask has; returns the
/// bit after them.
pub type DecodeMaskSign<T> = unsafe extern "C" fn(
    mask: *const u8,
    columns: usize,
    signs: *const u8,
    first: usize,
    end: usize,
    to: *mut T,
) -> usize;

/// A block: mask[rows][ceil(columns / 8)] and signs[sign_bytes] of packed[rows][ceil(columns / 4)].
pub type PackMaskSign = unsafe extern "C" fn(
    packed: *const u8,
    rows: usize,
    columns: usize,
    mask: *mut u8,
    signs: *mut u8,
    sign_bytes: usize,
);

/// One entry per inner loop. All entries: unsafe, because pointers must be valid for the lengths that the entry states, and
/// outputs must not overlap inputs unless it says so.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Spans {
    // --- elementwise ---------------------------------------------------------------------------------------------
    /// y[n] = value.
    pub fill: unsafe extern "C" fn(value: f32, y: *mut f32, n: usize),
    /// y[n] += x[n].
    pub add: unsafe extern "C" fn(x: *const f32, y: *mut f32, n: usize),
    /// In place: x[i] = x[i] * scale if its 24 top random bits are at least `threshold`, else 0; element 0 is the first of
    /// `block`, a multiple of 8, of the stream.
    pub dropout: unsafe extern "C" fn(
        stream: *const PhiloxStream,
        block: u64,
        threshold: u32,
        scale: f32,
        x: *mut f32,
        n: usize,
    ),
    /// In place: x[n] clamped to low ..= high; returns how many were outside.
    pub clamp: unsafe extern "C" fn(low: f32, high: f32, x: *mut f32, n: usize) -> usize,
    // --- reductions ----------------------------------------------------------------------------------------------
    /// sums[ceil(n / 4096)]: the canonical sum of |x| of each block of x[n].
    pub absolute_sums: unsafe extern "C" fn(x: *const f32, n: usize, sums: *mut f32),
    /// The same of x^2.
    pub square_sums: unsafe extern "C" fn(x: *const f32, n: usize, sums: *mut f32),
    /// The index of the first NaN or infinity of x[n], or n.
    pub first_non_finite: unsafe extern "C" fn(x: *const f32, n: usize) -> usize,
    // --- schemes -------------------------------------------------------------------------------------------------
    /// thresholds and scales[ceil(n / width)] of the groups of w[n]: see `Kernels::absmean`. width is at least 1.
    pub absmean: unsafe extern "C" fn(w: *const f32, n: usize, width: usize, thresholds: *mut f32, scales: *mut f32),
    /// scales[ceil(n / width)] from thresholds: see `Kernels::mean_above`.
    pub mean_above:
        unsafe extern "C" fn(w: *const f32, n: usize, width: usize, thresholds: *const f32, scales: *mut f32),
    /// sums and counts[ceil(n / 4096)]: of each block of x[n] the canonical sum of the |x| above the threshold, and how many
    /// they are.
    pub sums_above: unsafe extern "C" fn(x: *const f32, n: usize, threshold: f32, sums: *mut f32, counts: *mut u32),
    /// thresholds and scales[count] of groups[count][lengths], each of at most [`SMALL`](super::SMALL) weights, 1 to 8 groups: see
    /// `Kernels::absmedian`. room[8 * p], where p is at least 8 and the longest length, and a power of two.
    pub small_medians: unsafe extern "C" fn(
        groups: *const *const f32,
        lengths: *const usize,
        count: usize,
        room: *mut f32,
        thresholds: *mut f32,
        scales: *mut f32,
    ),
    /// The same: see `Kernels::least_squares`.
    pub small_least_squares: unsafe extern "C" fn(
        groups: *const *const f32,
        lengths: *const usize,
        count: usize,
        room: *mut f32,
        thresholds: *mut f32,
        scales: *mut f32,
    ),
    /// The bits of the largest |w[n]|; those of NaN are above all others.
    pub largest_magnitude: unsafe extern "C" fn(w: *const f32, n: usize) -> u32,
    /// tables[TABLES][bins.count] += 1 << COUNT_SHIFT | m in the bin of each |w[n]|, finite: see [`Bins`]. The sum of the tables
    /// is the histogram; no more than [`HISTOGRAM`](super::HISTOGRAM) weights fit before they are cleared.
    pub magnitude_histogram: unsafe extern "C" fn(bins: *const Bins, w: *const f32, n: usize, tables: *mut u64),
    /// Writes the bits of the |w[n]| with low <= bits < high, below 2^31, to out, which has room for them; returns how many.
    pub magnitudes_between: unsafe extern "C" fn(w: *const f32, n: usize, low: u32, high: u32, out: *mut u32) -> usize,
    /// packed[ceil(n / 4)] from w[n], whose groups of `width` have thresholds[ceil(n / width)].
    pub ternarize: unsafe extern "C" fn(w: *const f32, n: usize, width: usize, thresholds: *const f32, packed: *mut u8),
    /// The same with scales, rounding at random; w[0] is weight `first` of the stream.
    pub ternarize_stochastic: unsafe extern "C" fn(
        stream: *const PhiloxStream,
        first: u64,
        w: *const f32,
        n: usize,
        width: usize,
        scales: *const f32,
        packed: *mut u8,
    ),
    /// w[n] from packed[ceil(n / 4)] and scales[ceil(n / width)].
    pub deternarize_groups:
        unsafe extern "C" fn(packed: *const u8, n: usize, width: usize, scales: *const f32, w: *mut f32),
    // --- ternary weights -----------------------------------------------------------------------------------------
    /// w[n] from packed[ceil(n / 4)].
    pub deternarize: unsafe extern "C" fn(packed: *const u8, n: usize, scale: f32, w: *mut f32),
    /// packed[ceil(n / 4)] of trits[n].
    pub pack_two_bit: unsafe extern "C" fn(trits: *const i8, n: usize, packed: *mut u8),
    /// trits[n] of packed[ceil(n / 4)].
    pub unpack_two_bit: unsafe extern "C" fn(packed: *const u8, n: usize, trits: *mut i8),
    /// trits[n] of five[ceil(n / 5)], all below 243.
    pub five_trits: unsafe extern "C" fn(five: *const u8, n: usize, trits: *mut i8),
    /// How many trits of packed[n], four a byte, are not zero.
    pub count_nonzeros: unsafe extern "C" fn(packed: *const u8, n: usize) -> usize,
    /// How many bits of x[n] are set.
    pub count_ones: unsafe extern "C" fn(x: *const u8, n: usize) -> usize,
    /// To packed[ceil(columns / 4)].
    pub unpack_mask_sign: DecodeMaskSign<u8>,
    /// To trits[columns].
    pub mask_sign_trits: DecodeMaskSign<i8>,
    pub pack_mask_sign: PackMaskSign,
    /// The three without the instructions that deposit and extract bits, which some processors have and are slow at.
    pub unpack_mask_sign_in_steps: DecodeMaskSign<u8>,
    pub mask_sign_trits_in_steps: DecodeMaskSign<i8>,
    pub pack_mask_sign_in_steps: PackMaskSign,
    /// five[ceil(n / 5)] from the n trits of packed[ceil(n / 4)], which holds no code 3 among them.
    pub pack_five: unsafe extern "C" fn(packed: *const u8, n: usize, five: *mut u8),
    /// packed[ceil(n / 4)] from the n trits of five[ceil(n / 5)], whose bytes are below 243.
    pub unpack_five: unsafe extern "C" fn(five: *const u8, n: usize, packed: *mut u8),
    /// Whether a 2-bit code of packed[n] is 3.
    pub holds_code_three: unsafe extern "C" fn(packed: *const u8, n: usize) -> bool,
    /// The largest of x[n], 0 for none.
    pub largest_byte: unsafe extern "C" fn(x: *const u8, n: usize) -> u8,
    // --- activations ---------------------------------------------------------------------------------------------
    /// codes[n] of one row x[n]; returns a = max(max |x|, least).
    pub quantize_activations: unsafe extern "C" fn(x: *const f32, n: usize, least: f32, codes: *mut i8) -> f32,
    /// x[n] = scale * codes[n].
    pub dequantize_activations: unsafe extern "C" fn(codes: *const i8, n: usize, scale: f32, x: *mut f32),
    // --- gradients -----------------------------------------------------------------------------------------------
    /// codes[n] of one block g[n], finite; element 0 is the first of `block`, a multiple of 8, of the stream. Returns the
    /// scale.
    pub quantize_gradients:
        unsafe extern "C" fn(stream: *const PhiloxStream, block: u64, g: *const f32, n: usize, codes: *mut i8) -> f32,
    /// The canonical sum of |g + error| above `threshold` of n <= 4096 elements; above[1] = how many there are.
    pub gradient_magnitudes:
        unsafe extern "C" fn(g: *const f32, error: *const f32, n: usize, threshold: f32, above: *mut usize) -> f32,
    /// error[n], in place, and packed[ceil(n / 4)] of a block with its threshold and scale.
    pub ternarize_gradients:
        unsafe extern "C" fn(g: *const f32, n: usize, threshold: f32, scale: f32, error: *mut f32, packed: *mut u8),
    // --- products ------------------------------------------------------------------------------------------------
    /// panel[groups][16][4] from packed[rows][bytes] of at most 16 weight rows that lie `stride` apart: the codes of each four
    /// bytes as four groups (`matmul.rs`). Groups are bytes rounded up to a multiple of 4; what is missing is 0.
    pub unpack_panel: unsafe extern "C" fn(packed: *const u8, stride: usize, rows: usize, bytes: usize, panel: *mut u8),
    /// x[n] in the order of a panel, then zeros up to a multiple of 16. Returns the sum of x, modulo 2^32.
    pub arrange_codes: unsafe extern "C" fn(x: *const i8, n: usize, arranged: *mut i8) -> i32,
    /// totals[rows][16] += the products of codes, modulo 2^32, of x[rows][4 * groups] and a panel; rows of x lie `stride`
    /// apart.
    pub panel_product: unsafe extern "C" fn(
        x: *const i8,
        stride: usize,
        rows: usize,
        panel: *const u8,
        groups: usize,
        totals: *mut i32,
    ),
    /// y[rows][columns] = base[rows][columns] + (the same products - sums[rows], modulo 2^32) * (factors[rows] *
    /// scales[columns * step]), where the step is 0 or 1 and base may be null for 0, or y; at most 16 columns, rows of y and base
    /// lie `y_stride` apart.
    pub panel_product_written: unsafe extern "C" fn(
        x: *const i8,
        stride: usize,
        rows: usize,
        panel: *const u8,
        groups: usize,
        sums: *const i32,
        factors: *const f32,
        scales: *const f32,
        scale_step: usize,
        base: *const f32,
        y: *mut f32,
        y_stride: usize,
        columns: usize,
    ),
    /// panel[ceil(rows / 4)][16][4] of the codes of at most 16 columns, `bytes` = 1 to 4 of each row of packed, which lie `stride`
    /// apart: four rows next to each other. What is missing is 0.
    pub unpack_panel_transposed:
        unsafe extern "C" fn(packed: *const u8, stride: usize, rows: usize, bytes: usize, panel: *mut u8),
    /// sums[rows] = times * the sum of codes[rows][n], modulo 2^32; rows lie `stride` apart.
    pub code_sums:
        unsafe extern "C" fn(codes: *const i8, stride: usize, rows: usize, n: usize, times: i32, sums: *mut i32),
    /// Codes and scales[columns] of a block g[tokens][columns], at most [`COLUMNS`](super::COLUMNS), whose rows lie `stride` apart and are multiplied
    /// by factors[tokens]: codes[columns][256], zeros past the tokens. The random bytes of a token below 128 are in [`COLUMNS`](super::COLUMNS) / 16
    /// blocks of the stream from `random` on, those of the next token `random_step` further; the tokens from 128 on take them again,
    /// inverted. The first column is number `first_column`, a multiple of 32, of those that share the bytes.
    pub quantize_columns: unsafe extern "C" fn(
        stream: *const PhiloxStream,
        random: u64,
        random_step: u64,
        g: *const f32,
        stride: usize,
        tokens: usize,
        columns: usize,
        factors: *const f32,
        first_column: usize,
        codes: *mut i8,
        scales: *mut f32,
    ),
    /// Two panels[ceil(tokens / 4)][16][4] of codes[tokens][columns] plus 128, at most 32 columns, whose rows lie `stride` apart: four
    /// tokens next to each other. What is missing of the last four is 0.
    pub token_panels:
        unsafe extern "C" fn(codes: *const i8, stride: usize, tokens: usize, columns: usize, panels: *mut u8),
    /// dw[rows][columns] += (the products of g[rows][4 * groups], of at most +-32, and a panel of `token_panels` - sums[rows]) *
    /// scales[rows], multiplied and added apart; at most 16 columns. Rows lie `stride` and `dw_stride` apart.
    pub weight_product: unsafe extern "C" fn(
        g: *const i8,
        stride: usize,
        rows: usize,
        panel: *const u8,
        groups: usize,
        sums: *const i32,
        scales: *const f32,
        dw: *mut f32,
        dw_stride: usize,
        columns: usize,
    ),
    /// The same of x[rows][parts][4 * groups] and panel[parts][groups][16][4], part by part:
    /// totals[rows][16] += (the products - sums[rows][part], modulo 2^32) * scales[part][16], multiplied and added apart.
    /// Rows of sums lie `sums_stride` apart.
    pub panel_product_scaled: unsafe extern "C" fn(
        x: *const i8,
        stride: usize,
        rows: usize,
        panel: *const u8,
        groups: usize,
        parts: usize,
        sums: *const i32,
        sums_stride: usize,
        scales: *const f32,
        totals: *mut f32,
    ),
    /// Bytes of a plane: 32 or 64.
    pub plane: usize,
    /// planes[..][digits][plane] of x[n]: for each digits * plane elements, plane i holds x[i], x[i + digits], ...; then zeros up to
    /// a multiple of digits * plane. Digits are 4 or 5. Returns the sum of x, modulo 2^32.
    pub split_codes: unsafe extern "C" fn(x: *const i8, n: usize, digits: usize, planes: *mut i8) -> i32,
    /// totals[x_rows][groups][rows] = the products of codes, modulo 2^32, of planes[x_rows][..], which lie `stride` apart, and
    /// packed[rows][bytes] with 4 or 5 digits a byte. Each `part_bytes` bytes of a row are a part, with planes of its own, and
    /// `split` groups: 1, or 2, 4 or at most plane / 8 where part_bytes is a plane. x_rows is 1 or 2.
    pub row_products: unsafe extern "C" fn(
        planes: *const i8,
        stride: usize,
        x_rows: usize,
        packed: *const u8,
        digits: usize,
        bytes: usize,
        rows: usize,
        part_bytes: usize,
        split: usize,
        groups: usize,
        totals: *mut i32,
    ),
    /// y[rows][columns] = (totals[rows][columns] - sums[rows], modulo 2^32) * (factors[rows] * scales[columns * step]), where
    /// the step is 0 or 1; rows of totals and of y lie `stride` and `y_stride` apart.
    pub scale_totals: unsafe extern "C" fn(
        totals: *const i32,
        stride: usize,
        rows: usize,
        columns: usize,
        sums: *const i32,
        factors: *const f32,
        scales: *const f32,
        scale_step: usize,
        y: *mut f32,
        y_stride: usize,
    ),
    /// c[rows][columns] = a[rows][depth] * panel[depth][16], or += when `accumulate`; at most 16 columns, and rows of a and of c
    /// lie `stride` and `c_stride` apart.
    pub float_panel_product: unsafe extern "C" fn(
        a: *const f32,
        stride: usize,
        rows: usize,
        panel: *const f32,
        depth: usize,
        accumulate: bool,
        c: *mut f32,
        c_stride: usize,
        columns: usize,
    ),
    /// y[rows] = factor * the sum over the groups in order of (totals[groups][rows] - sums[groups], modulo 2^32) *
    /// scales[rows][groups], multiplied and added apart.
    pub scale_groups: unsafe extern "C" fn(
        totals: *const i32,
        rows: usize,
        groups: usize,
        sums: *const i32,
        scales: *const f32,
        factor: f32,
        y: *mut f32,
    ),
    // --- embedding -----------------------------------------------------------------------------------------------
    /// A block of columns: dtable[tokens[i], 0..columns] += dy[i, 0..columns] for i in 0..count in order; rows of both lie
    /// `width` apart.
    pub embedding_backward: unsafe extern "C" fn(
        tokens: *const u32,
        count: usize,
        dy: *const f32,
        width: usize,
        columns: usize,
        dtable: *mut f32,
    ),
    // --- normalisation -------------------------------------------------------------------------------------------
    /// x[rows, width] to y[rows, width] and inverse_rms[rows].
    pub rms_norm: unsafe extern "C" fn(
        x: *const f32,
        gain: *const f32,
        epsilon: f32,
        rows: usize,
        width: usize,
        y: *mut f32,
        inverse_rms: *mut f32,
    ),
    /// dx[rows, width], written or added to; dgain[width] is added to, rows in order.
    pub rms_norm_backward: unsafe extern "C" fn(
        x: *const f32,
        gain: *const f32,
        inverse_rms: *const f32,
        dy: *const f32,
        accumulate: bool,
        rows: usize,
        width: usize,
        dx: *mut f32,
        dgain: *mut f32,
    ),
    /// Of x[rows, width]: codes[rows, width] of what `rms_norm` writes, with scales[rows] as `quantize_activations` finds them for
    /// least = 1e-5, and inverse_rms[rows]; the sums are canonical.
    pub rms_norm_quantize: unsafe extern "C" fn(
        x: *const f32,
        gain: *const f32,
        epsilon: f64,
        rows: usize,
        width: usize,
        codes: *mut i8,
        scales: *mut f32,
        inverse_rms: *mut f32,
    ),
    /// The same of max(gate, 0)^2 * up[rows, width], where up may be null for 1.
    pub squared_relu_norm_quantize: unsafe extern "C" fn(
        gate: *const f32,
        up: *const f32,
        gain: *const f32,
        epsilon: f64,
        rows: usize,
        width: usize,
        codes: *mut i8,
        scales: *mut f32,
        inverse_rms: *mut f32,
    ),
    /// dgate and dup[rows, width] of the norm of max(gate, 0)^2 * up; dgain[width] is added to, rows in order. up and dup are null
    /// for 1.
    pub squared_relu_norm_backward: unsafe extern "C" fn(
        gate: *const f32,
        up: *const f32,
        gain: *const f32,
        inverse_rms: *const f32,
        dy: *const f32,
        rows: usize,
        width: usize,
        dgate: *mut f32,
        dup: *mut f32,
        dgain: *mut f32,
    ),
    // --- attention -----------------------------------------------------------------------------------------------
    /// In place, x[rows, heads, 2, half], rows `stride` apart: row r stands at position (first + r) mod positions of cosine and
    /// sine[positions, half]; sign multiplies the sine; first < positions.
    pub rope: unsafe extern "C" fn(
        cosine: *const f32,
        sine: *const f32,
        sign: f32,
        first: usize,
        rows: usize,
        stride: usize,
        positions: usize,
        heads: usize,
        half: usize,
        x: *mut f32,
    ),
    /// The query heads of one KV head; scratch[shape.scratch()].
    pub attention: unsafe extern "C" fn(
        shape: *const AttentionShape,
        q: *const f32,
        k: *const f32,
        v: *const f32,
        o: *mut f32,
        log_sum: *mut f32,
        scratch: *mut f32,
    ),
    /// The same; scratch[shape.backward_scratch()].
    pub attention_backward: unsafe extern "C" fn(
        shape: *const AttentionShape,
        q: *const f32,
        k: *const f32,
        v: *const f32,
        o: *const f32,
        log_sum: *const f32,
        d_o: *const f32,
        dq: *mut f32,
        dk: *mut f32,
        dv: *mut f32,
        scratch: *mut f32,
    ),
    /// One query of each query head of one KV head, keys of 8 bits `shape.key_stride` apart, their scales `scale_stride`, and so the
    /// values; scratch[shape.scratch()].
    pub attention_cached: unsafe extern "C" fn(
        shape: *const AttentionShape,
        q: *const f32,
        k: *const i8,
        k_scales: *const f32,
        v: *const i8,
        v_scales: *const f32,
        scale_stride: usize,
        o: *mut f32,
        scratch: *mut f32,
    ),
    // --- feed-forward --------------------------------------------------------------------------------------------
    pub squared_relu: unsafe extern "C" fn(x: *const f32, y: *mut f32, n: usize),
    pub squared_relu_backward: unsafe extern "C" fn(x: *const f32, dy: *const f32, dx: *mut f32, n: usize),
    pub gated_squared_relu: unsafe extern "C" fn(gate: *const f32, up: *const f32, y: *mut f32, n: usize),
    pub gated_squared_relu_backward: unsafe extern "C" fn(
        gate: *const f32,
        up: *const f32,
        dy: *const f32,
        dgate: *mut f32,
        dup: *mut f32,
        n: usize,
    ),
    // --- loss ----------------------------------------------------------------------------------------------------
    /// losses[rows] of logits[rows, width]; targets below width.
    pub cross_entropy:
        unsafe extern "C" fn(logits: *const f32, targets: *const u32, rows: usize, width: usize, losses: *mut f32),
    /// In place: logits become factor * (softmax - one_hot); losses are those before.
    pub cross_entropy_gradient: unsafe extern "C" fn(
        targets: *const u32,
        factor: f32,
        rows: usize,
        width: usize,
        logits: *mut f32,
        losses: *mut f32,
    ),
    // --- optimizer -----------------------------------------------------------------------------------------------
    /// The step of n elements, the first of which is element `first` of the stream; counts[2]: see `Kernels::step`. sums are
    /// NULL, or those of `step_sums`.
    pub step: unsafe extern "C" fn(
        scalars: *const StepScalars,
        tensors: *const StepTensors,
        stream: *const PhiloxStream,
        first: u64,
        n: usize,
        counts: *mut u32,
        sums: *mut f32,
    ),
    /// sums[ceil(n / 4096)][STEP_SUMS]: of each block the canonical sums of `Kernels::step_sums`. Writes no state.
    pub step_sums:
        unsafe extern "C" fn(scalars: *const StepScalars, tensors: *const StepTensors, n: usize, sums: *mut f32),
    /// bins[FLIP_BINS]: see `Kernels::step_flips`. Writes no state.
    pub step_flips:
        unsafe extern "C" fn(scalars: *const StepScalars, tensors: *const StepTensors, n: usize, bins: *mut u32),
    /// m, in place, and direction[n]: see `Kernels::step_momentum`.
    pub step_momentum:
        unsafe extern "C" fn(scalars: *const StepScalars, tensors: *const StepTensors, n: usize, direction: *mut f32),
    /// lanes[n] += (g[n] * scale)^2; returns their canonical sum.
    pub step_factor_row: unsafe extern "C" fn(g: *const f32, n: usize, scale: f32, lanes: *mut f32) -> f64,
    /// totals[n] += the sums of the columns of lanes[32][stride], folded 16, 8, 4, 2, 1. n is a multiple of 8.
    pub step_factor_columns: unsafe extern "C" fn(lanes: *const f32, stride: usize, n: usize, totals: *mut f64),
    /// y[n] = factor * x[n].
    pub scale: unsafe extern "C" fn(factor: f32, x: *const f32, y: *mut f32, n: usize),
    // --- clusters ------------------------------------------------------------------------------------------------
    /// packed[d][16] = c - centre, 0 past the last of centroids[count, d], count up to 16, and squares[count] = |c - centre|^2;
    /// without a centre, it is 0.
    pub kmeans_pack: unsafe extern "C" fn(
        centroids: *const f64,
        count: usize,
        d: usize,
        centre: *const f32,
        packed: *mut f32,
        squares: *mut f64,
    ),
    /// centred[count, d] = the rows of x at d * places[count], less the centre, squares[count], their sums of squares, and
    /// norms[count], the roots of these times `rounding`, for a count that is a multiple of 8; without a centre, `centred` is
    /// not written.
    pub kmeans_centre: unsafe extern "C" fn(
        x: *const f32,
        places: *const u32,
        count: usize,
        d: usize,
        centre: *const f32,
        centred: *mut f32,
        squares: *mut f32,
        rounding: f32,
        norms: *mut f32,
    ),
    /// The centroid of the least score of each row, and its bounds; doubtful[..] are the rows that may have another nearest one, of
    /// which the count is returned.
    pub kmeans_nearest: unsafe extern "C" fn(
        rows: *const KMeansRows,
        centroids: *const KMeansCentroids,
        found: *const KMeansFound,
        doubtful: *mut u32,
    ) -> usize,
    /// Of the centroids of each row whose score is not above its upper bound, the nearest by f64.
    pub kmeans_exact:
        unsafe extern "C" fn(rows: *const KMeansRows, centroids: *const KMeansCentroids, exact: *const KMeansExact),
    /// The nearest of centroids[k, d] to x[d] by f64, and distances[2]: its squared distance, and the least of the others'.
    pub kmeans_least:
        unsafe extern "C" fn(x: *const f32, centroids: *const f64, k: usize, d: usize, distances: *mut f64) -> usize,
    /// bounds[rows][panels * 16]: lower bounds of the scores of all centroids, of rows and centroids of few dimensions.
    pub kmeans_bounds:
        unsafe extern "C" fn(rows: *const KMeansRows, centroids: *const KMeansCentroids, bounds: *mut f32),
    /// The nearest centroid of each row, from bounds[rows, width]; returns how many were looked at with all dimensions.
    pub kmeans_refine: unsafe extern "C" fn(
        whole: *const KMeansWhole,
        rows: usize,
        bounds: *const f32,
        width: usize,
        found: *const KMeansFound,
    ) -> usize,
    /// distances[rows] of x[rows, d] from centroids[any, d], those of its labels.
    pub kmeans_distances: unsafe extern "C" fn(
        x: *const f32,
        rows: usize,
        d: usize,
        labels: *const u32,
        centroids: *const f32,
        distances: *mut f32,
    ),
    /// What candidates would make of the distances of rows: see [`KMeansSeed`].
    pub kmeans_seed: unsafe extern "C" fn(seed: *const KMeansSeed),
    /// A block of columns of one cluster: sums[columns] = the sum over the rows members[count] of x, `width` apart, in this
    /// order, each times its weight, stripe by stripe; weights is indexed as x, or null for 1. `partial` is as `sums`.
    pub kmeans_update: unsafe extern "C" fn(
        x: *const f32,
        width: usize,
        columns: usize,
        members: *const u32,
        count: usize,
        weights: *const f32,
        stripe: usize,
        partial: *mut f64,
        sums: *mut f64,
    ),
    /// sums[d] and mass += what the rows members[count] of x add, in this order.
    pub kmeans_add_members: unsafe extern "C" fn(
        x: *const f32,
        d: usize,
        members: *const u32,
        count: usize,
        weights: *const f32,
        sums: *mut f64,
        mass: *mut f64,
    ),
    /// sums[any, d] and masses[any] += what the rows of x[rows, d] add to those of their labels.
    pub kmeans_add: unsafe extern "C" fn(
        x: *const f32,
        rows: usize,
        d: usize,
        labels: *const u32,
        weights: *const f32,
        sums: *mut f64,
        masses: *mut f64,
    ),
    // --- codebooks -------------------------------------------------------------------------------------------------
    /// labels[n]: how many of thresholds[count], ascending, are below each of x[n]. count is 2^p - 1, 15 at least.
    pub codebook_labels:
        unsafe extern "C" fn(x: *const f32, n: usize, thresholds: *const f32, count: usize, labels: *mut u32),
    /// The same as codes, low nibble first, packed[ceil(n / 2)] where count is 15, else packed[n]; no label is above 255.
    pub codebook_pack:
        unsafe extern "C" fn(x: *const f32, n: usize, thresholds: *const f32, count: usize, packed: *mut u8),
    /// y[n] from codes of 4 bits or 8 and table[256].
    pub codebook_unpack: unsafe extern "C" fn(packed: *const u8, n: usize, table: *const f32, bits: usize, y: *mut f32),
    // --- ceilings: what the level can do at most, for the benchmark ------------------------------------------------
    /// rounds * FLOAT_PEAK_ROUND multiplications and additions of f32, on registers; the result means nothing.
    pub float_peak: unsafe extern "C" fn(factor: f32, rounds: usize) -> f32,
    /// rounds * INT8_PEAK_ROUND multiplications and additions of 8-bit integers, on codes[INT8_PEAK_CODES] below 128.
    pub int8_peak: unsafe extern "C" fn(codes: *const u8, rounds: usize) -> i32,
    /// rounds * UNPACK_PEAK_ROUND multiplications and additions of 8-bit integers with trits of two bits, on
    /// packed[INT8_PEAK_CODES] below 128, which are unpacked for it.
    pub unpack_peak: unsafe extern "C" fn(packed: *const u8, rounds: usize) -> i32,
    /// Reads x[n], n a multiple of READ_PEAK_BYTES; the result is the exclusive or of its words.
    pub read_peak: unsafe extern "C" fn(x: *const u8, n: usize) -> i32,
}
