// Fill, add, scale, dropout, clamp: one pass over memory.
#include "map.cuh"
#include "philox.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) fill(float value, float *y, u64 count) {
    const u64 head = min(count, static_cast<u64>((4 - place_in_vector(y)) % 4));
    const u64 quads = (count - head) / 4;
    const float4 four = make_float4(value, value, value, value);
    for (u64 i = global_thread(); i < quads; i += global_threads()) store4(y + head + 4 * i, four);
    const u64 thread = global_thread(), tail = head + 4 * quads;
    if (thread < head) y[thread] = value;
    if (thread < count - tail) y[tail + thread] = value;
}

extern "C" __global__ void __launch_bounds__(THREADS) add(const float *x, float *y, u64 count) {
    map<2, 1>({x, y}, {y}, count, [](const float(&in)[2], float(&out)[1]) { out[0] = __fadd_rn(in[1], in[0]); });
}

extern "C" __global__ void __launch_bounds__(THREADS) scale(float factor, const float *x, float *y, u64 count) {
    map<1, 1>({x}, {y}, count, [=](const float(&in)[1], float(&out)[1]) { out[0] = __fmul_rn(factor, in[0]); });
}

/// The four elements of block `block` of the stream, of which `left` are there.
__device__ __forceinline__ void drop_out(float rate, float kept, const Stream &stream, float *x, u64 block, u64 left,
                                         bool vector) {
    const uint4 words = philox(stream, block);
    const bool keep[4] = {uniform(words.x) >= rate, uniform(words.y) >= rate, uniform(words.z) >= rate,
                          uniform(words.w) >= rate};
    float *const four = x + 4 * block;
    if (vector && left >= 4) {
        float4 value = load4(four);
#pragma unroll
        for (int i = 0; i < 4; ++i) component(value, i) = keep[i] ? __fmul_rn(component(value, i), kept) : 0.0f;
        store4(four, value);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (static_cast<u64>(i) < left) four[i] = keep[i] ? __fmul_rn(four[i], kept) : 0.0f;
}

/// `kept` is 1 / (1 - rate), rounded once.
extern "C" __global__ void __launch_bounds__(THREADS) dropout(float rate, float kept, Stream stream, float *x, u64 count) {
    const bool vector = is_aligned(x, 16);
    for (u64 block = global_thread(); block < count / 4 + (count % 4 > 0); block += global_threads())
        drop_out(rate, kept, stream, x, block, count - 4 * block, vector);
}

/// Adds to `outside` how many elements were moved.
extern "C" __global__ void __launch_bounds__(THREADS) clamp(float low, float high, float *x, u64 *outside, u64 count) {
    unsigned moved = 0;
    map<1, 1>({x}, {x}, count, [&](const float(&in)[1], float(&out)[1]) {
        const bool below = in[0] < low, above = in[0] > high;
        out[0] = below ? low : above ? high : in[0];
        moved += below || above;
    });
    // A thread of a grid that is not too small sees fewer than 2^32 elements; the warp's sum may be more.
    const u64 sum = warp_sum(static_cast<u64>(moved));
    if (threadIdx.x % 32 == 0 && sum > 0) atomicAdd(outside, sum);
}
