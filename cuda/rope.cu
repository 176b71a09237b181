// Rotary position embedding (Su et al., arXiv 2104.09864), half rotation as in Llama and BitNet.
#include "device.cuh"

__device__ __forceinline__ void rotate(float &u, float &v, float c, float s) {
    const float2 pair = rotated(u, v, c, s);
    u = pair.x;
    v = pair.y;
}

/// Of x[b * length, heads, 2 * half], in place: a warp for each of the `tokens` = b * length.
extern "C" __global__ void __launch_bounds__(THREADS)
rope(const float *cosine, const float *sine, int inverse, float *x, u64 tokens, u64 length, u64 heads, u64 half) {
    const u64 warps = static_cast<u64>(gridDim.x) * (THREADS / 32);
    const float sign = inverse ? -1.0f : 1.0f;
    const bool vector = half % 4 == 0 && is_aligned(x, 16) && is_aligned(cosine, 16) && is_aligned(sine, 16);
    // Both in 32 bits where they can be: it is what a division by them costs.
    const unsigned width = static_cast<unsigned>(vector ? half / 4 : half);
    for (u64 token = static_cast<u64>(blockIdx.x) * (THREADS / 32) + warp_number(); token < tokens; token += warps) {
        const u64 position = token % length;
        const float *const c = cosine + position * half, *const s = sine + position * half;
        float *const from = x + token * heads * 2 * half;
        for (u64 j = lane_number(); j < heads * width; j += 32) {
            const u64 head = j >> 32 ? j / width : static_cast<unsigned>(j) / width;
            const unsigned i = static_cast<unsigned>(j - head * width);
            if (vector) {
                float *const low = from + head * 2 * half + 4 * i, *const high = low + half;
                float4 u = load4(low), v = load4(high);
                const float4 cosines = load4(c + 4 * i), sines = load4(s + 4 * i);
                rotate(u.x, v.x, cosines.x, __fmul_rn(sign, sines.x));
                rotate(u.y, v.y, cosines.y, __fmul_rn(sign, sines.y));
                rotate(u.z, v.z, cosines.z, __fmul_rn(sign, sines.z));
                rotate(u.w, v.w, cosines.w, __fmul_rn(sign, sines.w));
                store4(low, u);
                store4(high, v);
            } else {
                float *const low = from + head * 2 * half + i, *const high = low + half;
                float u = *low, v = *high;
                rotate(u, v, c[i], __fmul_rn(sign, s[i]));
                *low = u;
                *high = v;
            }
        }
    }
}
