// Rows that are divided by their root mean square: what the kernels of norm.cu and fused_norm.cu are made of. Each comes in a few
// widths, so that a row is held in registers and memory is read once: by a warp, by a block, or, where a row is too long for
// that, read again.
#pragma once
#include "canonical.cuh"
#include "codes.cuh"

constexpr int WARPS = THREADS / 32;

/// Numbers that a thread holds of a row that a block works on. 1024 threads hold 16384; in the backward pass, which needs more
/// registers for each, 512 hold 8192.
constexpr int FORWARD_HELD = 16;
constexpr int BACKWARD_HELD = 16;

/// How many of d elements a thread has that holds every count-th from its own number on. Where the first FULL are there for every
/// thread, that is not asked of them: `k < FULL || k < own`.
__device__ __forceinline__ int elements_of(unsigned thread, unsigned count, unsigned d) {
    return thread < d ? static_cast<int>((d - 1 - thread) / count) + 1 : 0;
}

// --- what is normalised ----------------------------------------------------------------------------------------------
// A source has what is loaded of an element, the value that it is, and, for a row that begins at element `at`, the source of
// which that is the first. What is loaded stands apart from what is done with it, so that the loads of a row are in flight
// together. Sources are not written while a kernel runs.

struct Plain {
    const float *x;
    struct Loaded {
        float x;
    };
    /// Arrays that are read.
    static constexpr int ARRAYS = 1;
    __device__ __forceinline__ Plain from(u64 at) const { return Plain{x + at}; }
    __device__ __forceinline__ Loaded load(u64 i) const { return Loaded{__ldg(x + i)}; }
    static __device__ __forceinline__ float value(Loaded loaded) { return loaded.x; }
};

struct SquaredRelu {
    const float *x;
    struct Loaded {
        float x;
    };
    static constexpr int ARRAYS = 1;
    __device__ __forceinline__ SquaredRelu from(u64 at) const { return SquaredRelu{x + at}; }
    __device__ __forceinline__ Loaded load(u64 i) const { return Loaded{__ldg(x + i)}; }
    static __device__ __forceinline__ float value(Loaded loaded) {
        const float positive = largest_of(loaded.x, 0.0f);
        return __fmul_rn(positive, positive);
    }
};

struct GatedSquaredRelu {
    const float *gate, *up;
    struct Loaded {
        float gate, up;
    };
    static constexpr int ARRAYS = 2;
    __device__ __forceinline__ GatedSquaredRelu from(u64 at) const { return GatedSquaredRelu{gate + at, up + at}; }
    __device__ __forceinline__ Loaded load(u64 i) const { return Loaded{__ldg(gate + i), __ldg(up + i)}; }
    static __device__ __forceinline__ float value(Loaded loaded) {
        const float positive = largest_of(loaded.gate, 0.0f);
        return __fmul_rn(__fmul_rn(positive, positive), loaded.up);
    }
};

// --- what becomes of it ----------------------------------------------------------------------------------------------

/// The numbers themselves.
struct Floats {
    float *y;

    template <int FULL, int HELD, class Largest>
    __device__ __forceinline__ void row_held(float (&normed)[HELD], u64 row, unsigned d, unsigned thread, unsigned count,
                                             Largest) const {
        float *const to = y + row * d + thread;
        const int own = elements_of(thread, count, d);
#pragma unroll
        for (int k = 0; k < HELD; ++k)
            if (k < FULL || k < own) to[k * count] = normed[k];
    }

    template <class Normed, class Largest>
    __device__ __forceinline__ void row_of(Normed normed, u64 row, u64 d, unsigned thread, unsigned count, Largest) const {
        for (u64 i = thread; i < d; i += count) y[row * d + i] = normed(i);
    }
};

/// Codes of 8 bits with a scale for the row, as activation.cu has them.
struct Codes {
    signed char *codes;
    float *scales;

    /// The least absolute maximum of a row.
    static __device__ __forceinline__ float least() { return 1e-5f; }

    /// `normed` is 0 past the end of the row; `largest` gives all threads the largest of their values.
    template <int FULL, int HELD, class Largest>
    __device__ __forceinline__ void row_held(float (&normed)[HELD], u64 row, unsigned d, unsigned thread, unsigned count,
                                             Largest largest) const {
        // In two chains.
        float a = least(), b = 0.0f;
#pragma unroll
        for (int k = 0; k < HELD; k += 2) {
            a = largest_of(a, fabsf(normed[k]));
            b = largest_of(b, fabsf(normed[k + 1]));
        }
        const float absmax = __uint_as_float(largest(__float_as_uint(largest_of(a, b))));
        const float factor = __fdiv_rn(127.0f, absmax);
        signed char *const to = codes + row * d + thread;
        const int own = elements_of(thread, count, d);
        if (has_code_bits(absmax, factor)) {
#pragma unroll
            for (int k = 0; k < HELD; ++k)
                if (k < FULL || k < own) to[k * count] = static_cast<signed char>(code_bits(normed[k], factor));
        } else {
            // By 127 / infinity, or by NaN.
#pragma unroll 1
            for (int k = 0; k < own; ++k) to[k * count] = 0;
        }
        if (thread == 0) scales[row] = __fdiv_rn(absmax, 127.0f);
    }

    template <class Normed, class Largest>
    __device__ __forceinline__ void row_of(Normed normed, u64 row, u64 d, unsigned thread, unsigned count,
                                           Largest largest) const {
        float a = least();
        for (u64 i = thread; i < d; i += count) a = largest_of(a, fabsf(normed(i)));
        const float absmax = __uint_as_float(largest(__float_as_uint(a))), factor = __fdiv_rn(127.0f, absmax);
        for (u64 i = thread; i < d; i += count) codes[row * d + i] = static_cast<signed char>(code_of(normed(i), factor));
        if (thread == 0) scales[row] = __fdiv_rn(absmax, 127.0f);
    }
};

// --- forward ---------------------------------------------------------------------------------------------------------

/// What all forward kernels are given besides the rows: gain[d], inverse_rms[m].
struct Norm {
    const float *gain;
    double epsilon;
    float *inverse_rms;
    u64 m, d;

    /// 1 / sqrt(sum / d + epsilon) in f64, rounded to f32. `sum` is the canonical sum of squares.
    __device__ __forceinline__ float inverse_of(double sum) const {
        const double mean = __ddiv_rn(sum, __ull2double_rn(max(d, 1ull)));
        return __double2float_rn(__ddiv_rn(1.0, __dsqrt_rn(__dadd_rn(mean, epsilon))));
    }

    __device__ __forceinline__ float normed(float value, float inverse, u64 i) const {
        return __fmul_rn(__fmul_rn(value, inverse), __ldg(gain + i));
    }
};

/// A warp works on ROWS rows at a time, of up to 32 * HELD numbers and at least 32 * FULL: they share the root and the divisions
/// in f64, each of a lane's own, and the gain. Lane j holds elements j, j + 32, ...: its squares are a lane of the canonical
/// sum.
template <int HELD, int FULL, int ROWS, class Source, class Output>
__device__ __forceinline__ void norm_by_warps(Source source, const Norm &norm, Output output) {
    // Of a source with two arrays, all of a long row at a time would take more registers than there are.
    constexpr int PART = HELD > 16 ? HELD / Source::ARRAYS : HELD, GAINS = 4;
    const unsigned lane = lane_number(), d = static_cast<unsigned>(norm.d);
    const int own = elements_of(lane, 32, d);
    const float *const gains = norm.gain + lane;
    const u64 step = static_cast<u64>(gridDim.x) * WARPS * ROWS;
    for (u64 first = (static_cast<u64>(blockIdx.x) * WARPS + warp_number()) * ROWS; first < norm.m; first += step) {
        float value[ROWS][HELD];
#pragma unroll
        for (int part = 0; part < HELD; part += PART) {
            typename Source::Loaded loaded[ROWS][PART] = {};
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                // Of rows that are not there, the last one again.
                const Source row = source.from((ROWS == 1 ? first : min(first + r, norm.m - 1)) * d + lane);
#pragma unroll
                for (int k = 0; k < PART; ++k)
                    if (part + k < FULL || part + k < own) loaded[r][k] = row.load(32 * (part + k));
            }
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
#pragma unroll
                for (int k = 0; k < PART; ++k) value[r][part + k] = Source::value(loaded[r][k]);
        }
        // The sum of row `lane`.
        float of_row = 0.0f;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            float sum = 0.0f;
#pragma unroll
            for (int k = 0; k < HELD; ++k) sum = __fadd_rn(sum, __fmul_rn(value[r][k], value[r][k]));
            sum = __shfl_sync(ALL_LANES, fold_lanes(sum), 0);
            if (lane == r) of_row = sum;
        }
        const float inverse = norm.inverse_of(of_row);
        if (lane < ROWS && first + lane < norm.m) norm.inverse_rms[first + lane] = inverse;
        float factor[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) factor[r] = __shfl_sync(ALL_LANES, inverse, r);
#pragma unroll
        for (int k = 0; k < HELD; k += GAINS) {
            float gain[GAINS] = {};
#pragma unroll
            for (int g = 0; g < GAINS; ++g)
                if (k + g < FULL || k + g < own) gain[g] = __ldg(gains + 32 * (k + g));
#pragma unroll
            for (int g = 0; g < GAINS; ++g)
#pragma unroll
                for (int r = 0; r < ROWS; ++r) {
                    // Past the end of the row 0 too where the factor is infinite.
                    const float of = k + g < FULL || k + g < own ? factor[r] : 0.0f;
                    value[r][k + g] = __fmul_rn(__fmul_rn(value[r][k + g], of), gain[g]);
                }
        }
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
            // The same for all lanes.
            if (first + r < norm.m)
                output.template row_held<FULL>(value[r], first + r, d, lane, 32,
                                               [](unsigned a) { return __reduce_max_sync(ALL_LANES, a); });
    }
}

/// For rows of up to 512 numbers. Code that holds no more of a row than there is has less to do.
template <class Source, class Output>
__device__ __forceinline__ void norm_of_512(Source source, const Norm &norm, Output output) {
    if (norm.d <= 384)
        norm_by_warps<12, 0, 2>(source, norm, output);
    else
        norm_by_warps<16, 12, 2>(source, norm, output);
}

/// For rows of 512 to 2048 numbers.
template <class Source, class Output>
__device__ __forceinline__ void norm_of_2048(Source source, const Norm &norm, Output output) {
    if (norm.d <= 1024)
        norm_by_warps<32, 16, 1>(source, norm, output);
    else if (norm.d <= 1536)
        norm_by_warps<48, 32, 1>(source, norm, output);
    else
        norm_by_warps<64, 48, 1>(source, norm, output);
}

/// A block, of as many threads as hold a row, works on one row at a time; `squares` is shared memory for d numbers.
template <class Source, class Output>
__device__ __forceinline__ void norm_by_blocks(Source source, const Norm &norm, Output output, float *squares) {
    __shared__ float sums[FORWARD_HELD * 1024 / CANONICAL_BLOCK];
    __shared__ float shared_inverse;
    const unsigned d = static_cast<unsigned>(norm.d), blocks = (d + CANONICAL_BLOCK - 1) / CANONICAL_BLOCK;
    for (u64 row = blockIdx.x; row < norm.m; row += gridDim.x) {
        const Source of_row = source.from(row * d);
        float value[FORWARD_HELD];
        // In two halves: of a source with two arrays, all of it at a time would take more registers than there are.
        constexpr int HALF = FORWARD_HELD / 2;
#pragma unroll
        for (int half = 0; half < FORWARD_HELD; half += HALF) {
            typename Source::Loaded loaded[HALF] = {};
#pragma unroll
            for (int k = 0; k < HALF; ++k) {
                const unsigned i = threadIdx.x + (half + k) * blockDim.x;
                if (i < d) loaded[k] = of_row.load(i);
            }
#pragma unroll
            for (int k = 0; k < HALF; ++k) {
                const unsigned i = threadIdx.x + (half + k) * blockDim.x;
                value[half + k] = Source::value(loaded[k]);
                if (i < d) squares[i] = __fmul_rn(value[half + k], value[half + k]);
            }
        }
        __syncthreads();
        for (unsigned block = warp_number(); block < blocks; block += blockDim.x / 32) {
            const unsigned start = block * CANONICAL_BLOCK;
            const float sum = canonical_block(min(d - start, static_cast<unsigned>(CANONICAL_BLOCK)),
                                              [=](unsigned i) { return squares[start + i]; });
            if (lane_number() == 0) sums[block] = sum;
        }
        __syncthreads();
        // One warp: in f64 the whole block would take long.
        if (warp_number() == 0) {
            double sum = 0.0;
            for (unsigned block = 0; block < blocks; ++block) sum = __dadd_rn(sum, sums[block]);
            const float inverse = norm.inverse_of(sum);
            if (lane_number() == 0) shared_inverse = norm.inverse_rms[row] = inverse;
        }
        __syncthreads();
        const float inverse = shared_inverse;
#pragma unroll
        for (int k = 0; k < FORWARD_HELD; ++k) {
            const unsigned i = threadIdx.x + k * blockDim.x;
            value[k] = i < d ? norm.normed(value[k], inverse, i) : 0.0f;
        }
        output.template row_held<0>(value, row, d, threadIdx.x, blockDim.x, [](unsigned a) { return block_max(a); });
    }
}

/// A block works on one row at a time, of any length, which it reads again for each step.
template <class Source, class Output>
__device__ __forceinline__ void norm_of_long_rows(Source source, const Norm &norm, Output output) {
    __shared__ float sums[32];
    __shared__ float shared_inverse;
    const unsigned warps = blockDim.x / 32;
    const u64 d = norm.d;
    for (u64 row = blockIdx.x; row < norm.m; row += gridDim.x) {
        const Source of_row = source.from(row * d);
        // Of the first warp's lanes, the sum so far.
        double sum = 0.0;
        for (u64 base = 0; base < d; base += static_cast<u64>(warps) * CANONICAL_BLOCK) {
            const u64 start = base + static_cast<u64>(warp_number()) * CANONICAL_BLOCK;
            float squares = 0.0f;
            if (start < d) {
                const unsigned here = static_cast<unsigned>(min(d - start, static_cast<u64>(CANONICAL_BLOCK)));
                squares = canonical_block(here, [=](unsigned i) {
                    const float value = Source::value(of_row.load(start + i));
                    return __fmul_rn(value, value);
                });
            }
            if (lane_number() == 0) sums[warp_number()] = squares;
            __syncthreads();
            // Adding +0 for the blocks that are not there changes nothing.
            if (warp_number() == 0)
                for (unsigned warp = 0; warp < warps; ++warp) sum = __dadd_rn(sum, sums[warp]);
            __syncthreads();
        }
        if (warp_number() == 0) {
            const float inverse = norm.inverse_of(sum);
            if (lane_number() == 0) shared_inverse = norm.inverse_rms[row] = inverse;
        }
        __syncthreads();
        const float inverse = shared_inverse;
        const auto normed = [=](u64 i) { return norm.normed(Source::value(of_row.load(i)), inverse, i); };
        output.row_of(normed, row, d, threadIdx.x, blockDim.x, [](unsigned a) { return block_max(a); });
    }
}

// --- backward --------------------------------------------------------------------------------------------------------
// With r = inverse_rms and n = hidden r: dgain = the sum over rows of dy n, and the gradient to what was normalised is
// r (gain dy - n mean(gain dy n)). A block takes a chunk of rows, so many that there are at most a few hundred chunks, and keeps
// its sum of dgain; add_chunks adds those. What a chunk is depends on the shape alone.

// A gradient knows its source, what else is loaded with an element, and where it goes.

struct PlainGradient {
    Plain source;
    float *dx;
    unsigned accumulate;
    struct Loaded {
        float x, old;
    };
    __device__ __forceinline__ PlainGradient from(u64 at) const { return {source.from(at), dx + at, accumulate}; }
    __device__ __forceinline__ Loaded load(u64 i) const { return {__ldg(source.x + i), accumulate ? dx[i] : 0.0f}; }
    static __device__ __forceinline__ float value(Loaded loaded) { return loaded.x; }
    __device__ __forceinline__ void store(u64 i, Loaded loaded, float gradient) const { dx[i] = loaded.old + gradient; }
};

struct SquaredReluGradient {
    SquaredRelu source;
    float *dx;
    typedef SquaredRelu::Loaded Loaded;
    __device__ __forceinline__ SquaredReluGradient from(u64 at) const { return {source.from(at), dx + at}; }
    __device__ __forceinline__ Loaded load(u64 i) const { return source.load(i); }
    static __device__ __forceinline__ float value(Loaded loaded) { return SquaredRelu::value(loaded); }
    __device__ __forceinline__ void store(u64 i, Loaded loaded, float gradient) const {
        dx[i] = gradient * (2.0f * largest_of(loaded.x, 0.0f));
    }
};

struct GatedSquaredReluGradient {
    GatedSquaredRelu source;
    float *dgate, *dup;
    typedef GatedSquaredRelu::Loaded Loaded;
    __device__ __forceinline__ GatedSquaredReluGradient from(u64 at) const { return {source.from(at), dgate + at, dup + at}; }
    __device__ __forceinline__ Loaded load(u64 i) const { return source.load(i); }
    static __device__ __forceinline__ float value(Loaded loaded) { return GatedSquaredRelu::value(loaded); }
    __device__ __forceinline__ void store(u64 i, Loaded loaded, float gradient) const {
        const float positive = largest_of(loaded.gate, 0.0f);
        dgate[i] = gradient * loaded.up * (2.0f * positive);
        dup[i] = gradient * (positive * positive);
    }
};

/// What all backward kernels are given besides: gain[d], inverse_rms[m], dy[m, d], sums[chunks, d].
struct NormGradient {
    const float *gain, *inverse_rms, *dy;
    float *sums;
    u64 m, d, rows_of_chunk;
    /// 1 / d.
    float inverse_d;
};

/// What a row has in common: r, and the mean of gain dy n.
struct RowFactors {
    float inverse, mean;
    __device__ __forceinline__ float gradient(float normed, float gain_dy) const {
        return inverse * fmaf(-normed, mean, gain_dy);
    }
};

/// What a thread holds between two rows, of the elements `at`, `at` + 32, ... of which it has `own`: the gain, and the sum of
/// dgain.
template <class Gradient>
struct HeldGradient {
    float gain[BACKWARD_HELD], dgain[BACKWARD_HELD];
    unsigned at;
    int own;

    __device__ __forceinline__ HeldGradient(const NormGradient &norm, unsigned at, unsigned end) : at(at) {
        own = elements_of(at, 32, end);
#pragma unroll
        for (int k = 0; k < BACKWARD_HELD; ++k) {
            gain[k] = k < own ? __ldg(norm.gain + at + 32 * k) : 0.0f;
            dgain[k] = 0.0f;
        }
    }

    /// One row. All that is read of memory is asked for before the first of it is used; `sum` adds up over the threads.
    template <class Sum>
    __device__ __forceinline__ void add(const Gradient &to, const NormGradient &norm, u64 row, Sum sum) {
        typename Gradient::Loaded loaded[BACKWARD_HELD] = {};
        float dy[BACKWARD_HELD] = {};
        const u64 start = row * norm.d + at;
        const Gradient of_row = to.from(start);
        const float *const dy_of_row = norm.dy + start;
#pragma unroll
        for (int k = 0; k < BACKWARD_HELD; ++k)
            if (k < own) {
                loaded[k] = of_row.load(32 * k);
                dy[k] = __ldg(dy_of_row + 32 * k);
            }
        RowFactors factors{__ldg(norm.inverse_rms + row), 0.0f};
        float product = 0.0f;
#pragma unroll
        for (int k = 0; k < BACKWARD_HELD; ++k) {
            const float normed = Gradient::value(loaded[k]) * factors.inverse;
            dgain[k] = fmaf(dy[k], normed, dgain[k]);
            // From here on gain dy.
            dy[k] *= gain[k];
            product = fmaf(dy[k], normed, product);
        }
        factors.mean = sum(product) * norm.inverse_d;
#pragma unroll
        for (int k = 0; k < BACKWARD_HELD; ++k)
            if (k < own)
                of_row.store(32 * k, loaded[k], factors.gradient(Gradient::value(loaded[k]) * factors.inverse, dy[k]));
    }
};

/// A block takes as many rows at a time as it has warps, where a warp holds one, else one row, of which each warp has
/// 32 * BACKWARD_HELD numbers. `of_warps` is shared memory for dgain of each warp, where a warp holds a row.
template <class Gradient>
__device__ __forceinline__ void norm_backward_held(const Gradient &to, const NormGradient &norm, float *of_warps) {
    constexpr unsigned OF_WARP = 32 * BACKWARD_HELD;
    const unsigned d = static_cast<unsigned>(norm.d), warps = blockDim.x / 32;
    const bool by_warps = d <= OF_WARP;
    const unsigned begin = by_warps ? 0 : warp_number() * OF_WARP;
    const u64 start = blockIdx.x * norm.rows_of_chunk, end = min(norm.m, start + norm.rows_of_chunk);
    HeldGradient<Gradient> held(norm, begin + lane_number(), min(d, begin + OF_WARP));
    for (u64 row = start + (by_warps ? warp_number() : 0); row < end; row += by_warps ? warps : 1)
        held.add(to, norm, row, [=](float sum) { return by_warps ? warp_sum(sum) : block_sum(sum); });
    float *const sums = by_warps ? of_warps + warp_number() * d : norm.sums + blockIdx.x * norm.d;
#pragma unroll
    for (int k = 0; k < BACKWARD_HELD; ++k)
        if (k < held.own) sums[held.at + 32 * k] = held.dgain[k];
    if (!by_warps) return;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < d; i += blockDim.x) {
        float sum = of_warps[i];
        for (unsigned warp = 1; warp < warps; ++warp) sum += of_warps[warp * d + i];
        norm.sums[blockIdx.x * norm.d + i] = sum;
    }
}

/// Of rows of any length, first means[m] = mean(gain dy n). A block for each row.
template <class Gradient>
__device__ __forceinline__ void norm_backward_means(const Gradient &to, const NormGradient &norm, float *means) {
    typedef decltype(to.source) Source;
    for (u64 row = blockIdx.x; row < norm.m; row += gridDim.x) {
        const float inverse = __ldg(norm.inverse_rms + row);
        const u64 base = row * norm.d;
        float sum = 0.0f;
#pragma unroll 4
        for (u64 i = threadIdx.x; i < norm.d; i += blockDim.x)
            sum = fmaf(__ldg(norm.gain + i) * __ldg(norm.dy + base + i), Source::value(to.source.load(base + i)) * inverse, sum);
        sum = block_sum(sum);
        if (threadIdx.x == 0) means[row] = sum * norm.inverse_d;
    }
}

/// Then the rest, by tiles of THREADS columns times a chunk of rows; `tiles` of them make a row.
template <class Gradient>
__device__ __forceinline__ void norm_backward_of_long_rows(const Gradient &to, const NormGradient &norm, const float *means, u64 tiles) {
    const u64 chunk = blockIdx.x / tiles, i = blockIdx.x % tiles * THREADS + threadIdx.x;
    if (i >= norm.d) return;
    const u64 start = chunk * norm.rows_of_chunk, end = min(norm.m, start + norm.rows_of_chunk);
    const float gain = norm.gain[i];
    float dgain = 0.0f;
#pragma unroll 4
    for (u64 row = start; row < end; ++row) {
        const u64 at = row * norm.d + i;
        const typename Gradient::Loaded loaded = to.load(at);
        const RowFactors factors{__ldg(norm.inverse_rms + row), __ldg(means + row)};
        const float dy = __ldg(norm.dy + at), normed = Gradient::value(loaded) * factors.inverse;
        dgain = fmaf(dy, normed, dgain);
        to.store(at, loaded, factors.gradient(normed, gain * dy));
    }
    norm.sums[chunk * norm.d + i] = dgain;
}
