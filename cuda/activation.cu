// Activations as int8 with one scale a row.
#include "codes.cuh"

/// Four codes, where each has its bits: see codes.cuh.
__device__ __forceinline__ unsigned codes_of(float4 x, float factor) {
    const unsigned low = __byte_perm(code_bits(x.x, factor), code_bits(x.y, factor), 0x0040);
    const unsigned high = __byte_perm(code_bits(x.z, factor), code_bits(x.w, factor), 0x0040);
    return __byte_perm(low, high, 0x5410);
}

/// The largest of `a` and of four magnitudes, in two chains.
__device__ __forceinline__ float largest_of_four(float a, float4 x) {
    return largest_of(largest_of(largest_of(a, fabsf(x.x)), fabsf(x.y)), largest_of(fabsf(x.z), fabsf(x.w)));
}

/// One row of k numbers, by `count` threads of which this one is number `thread`; `largest` gives all of them the largest of
/// their values. A thread keeps up to VECTORS vectors of four; what is beyond them, only where rows are LONG, is read twice.
template <int VECTORS, bool LONG, class Largest>
__device__ __forceinline__ void quantize_row(const float *x, float least, signed char *codes, float *scale, u64 k,
                                             unsigned thread, unsigned count, Largest largest) {
    // Whole vectors only where every row begins with one: then codes are aligned to four, too.
    const bool vector = is_aligned(x, 16) && is_aligned(codes, 4);
    const u64 quads = vector ? k / 4 : 0;
    const unsigned held = static_cast<unsigned>(min(quads, static_cast<u64>(VECTORS) * count));
    float4 kept[VECTORS];
    float a = least;
    // Vectors that no thread has are left out.
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        if (v * count >= held) break;
        const unsigned q = thread + v * count;
        kept[v] = q < held ? load4(x + 4 * q) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        if (v * count >= held) break;
        a = largest_of_four(a, kept[v]);
    }
    if (LONG)
        for (u64 q = thread + static_cast<u64>(VECTORS) * count; q < quads; q += count) a = largest_of_four(a, load4(x + 4 * q));
    for (u64 i = 4 * quads + thread; i < k; i += count) a = largest_of(a, fabsf(x[i]));
    const float absmax = __uint_as_float(largest(__float_as_uint(a))), factor = __fdiv_rn(127.0f, absmax);
    const bool bits = has_code_bits(absmax, factor);
    if (bits) {
#pragma unroll
        for (int v = 0; v < VECTORS; ++v) {
            if (v * count >= held) break;
            const unsigned q = thread + v * count;
            if (q < held) *reinterpret_cast<unsigned *>(codes + 4 * q) = codes_of(kept[v], factor);
        }
        if (LONG)
            for (u64 q = thread + static_cast<u64>(VECTORS) * count; q < quads; q += count)
                *reinterpret_cast<unsigned *>(codes + 4 * q) = codes_of(load4(x + 4 * q), factor);
    }
    for (u64 i = (bits ? 4 * quads : 0) + thread; i < k; i += count)
        codes[i] = static_cast<signed char>(code_of(x[i], factor));
    if (thread == 0) *scale = __fdiv_rn(absmax, 127.0f);
}

/// A warp for each row, of which it keeps VECTORS vectors in each lane.
template <int VECTORS>
__device__ __forceinline__ void quantize_by_warps(const float *x, float least, signed char *codes, float *scales, u64 m, u64 k) {
    const u64 warps = static_cast<u64>(gridDim.x) * (THREADS / 32);
    for (u64 row = static_cast<u64>(blockIdx.x) * (THREADS / 32) + warp_number(); row < m; row += warps)
        quantize_row<VECTORS, false>(x + row * k, least, codes + row * k, scales + row, k, lane_number(), 32,
                                     [](unsigned a) { return __reduce_max_sync(ALL_LANES, a); });
}

/// For rows of up to 512 numbers.
extern "C" __global__ void __launch_bounds__(THREADS)
quantize_activations_512(const float *x, float least, signed char *codes, float *scales, u64 m, u64 k) {
    quantize_by_warps<4>(x, least, codes, scales, m, k);
}

/// For rows of up to 2048 numbers.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
quantize_activations_2048(const float *x, float least, signed char *codes, float *scales, u64 m, u64 k) {
    quantize_by_warps<16>(x, least, codes, scales, m, k);
}

/// A block for each row.
extern "C" __global__ void __launch_bounds__(THREADS)
quantize_activations_wide(const float *x, float least, signed char *codes, float *scales, u64 m, u64 k) {
    for (u64 row = blockIdx.x; row < m; row += gridDim.x)
        quantize_row<8, true>(x + row * k, least, codes + row * k, scales + row, k, threadIdx.x, THREADS,
                              [](unsigned a) { return block_max(a); });
}

/// A warp for each row.
extern "C" __global__ void __launch_bounds__(THREADS)
dequantize_activations(const signed char *codes, const float *scales, float *x, u64 m, u64 k) {
    const u64 warps = static_cast<u64>(gridDim.x) * (THREADS / 32);
    for (u64 row = static_cast<u64>(blockIdx.x) * (THREADS / 32) + warp_number(); row < m; row += warps) {
        const float scale = scales[row];
        const signed char *const from = codes + row * k;
        float *const to = x + row * k;
        const u64 quads = is_aligned(from, 4) && is_aligned(to, 16) ? k / 4 : 0;
        for (u64 q = lane_number(); q < quads; q += 32) {
            const char4 four = *reinterpret_cast<const char4 *>(from + 4 * q);
            store4(to + 4 * q, make_float4(__fmul_rn(scale, four.x), __fmul_rn(scale, four.y), __fmul_rn(scale, four.z),
                                           __fmul_rn(scale, four.w)));
        }
        for (u64 i = 4 * quads + lane_number(); i < k; i += 32) to[i] = __fmul_rn(scale, from[i]);
    }
}
