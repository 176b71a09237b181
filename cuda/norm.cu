// RMSNorm (Zhang & Sennrich, arXiv 1910.07467) and its gradient. The number at the end of a kernel's name is the longest row
// that it takes.
#include "norm.cuh"

/// Within a tolerance: the definition sums in f64.
extern "C" __global__ void __launch_bounds__(THREADS, 3) rms_norm_512(Plain x, Norm norm, Floats y) {
    norm_of_512(x, norm, y);
}

/// Within a tolerance: the definition sums in f64.
extern "C" __global__ void __launch_bounds__(THREADS, 2) rms_norm_2048(Plain x, Norm norm, Floats y) {
    norm_of_2048(x, norm, y);
}

/// Within a tolerance: the definition sums in f64.
extern "C" __global__ void __launch_bounds__(1024) rms_norm_16384(Plain x, Norm norm, Floats y) {
    DYNAMIC_SHARED(float, squares);
    norm_by_blocks(x, norm, y, squares);
}

/// Within a tolerance: the definition sums in f64.
extern "C" __global__ void __launch_bounds__(1024) rms_norm_long(Plain x, Norm norm, Floats y) {
    norm_of_long_rows(x, norm, y);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(512) rms_norm_backward_8192(PlainGradient to, NormGradient norm) {
    DYNAMIC_SHARED(float, of_warps);
    norm_backward_held(to, norm, of_warps);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(1024)
rms_norm_backward_means(PlainGradient to, NormGradient norm, float *means) {
    norm_backward_means(to, norm, means);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(THREADS)
rms_norm_backward_long(PlainGradient to, NormGradient norm, const float *means, u64 tiles) {
    norm_backward_of_long_rows(to, norm, means, tiles);
}

/// dgain[d] += the sums of the chunks, sums[chunks, d]: 32 columns a block of 32 warps, each of which adds a run of chunks in
/// order; then the runs are added in order. Within a tolerance.
extern "C" __global__ void __launch_bounds__(1024) add_chunks(const float *sums, float *dgain, u64 d, u64 chunks) {
    __shared__ float runs[32][32];
    const u64 i = static_cast<u64>(blockIdx.x) * 32 + lane_number();
    const u64 run = (chunks + 31) / 32, start = warp_number() * run, end = min(chunks, start + run);
    float sum = 0.0f;
    u64 chunk = start;
    // The barrier keeps the loads of a step together.
    constexpr int STEP = 16;
    for (; chunk + STEP <= end; chunk += STEP) {
        float values[STEP] = {};
#pragma unroll
        for (int s = 0; s < STEP; ++s)
            if (i < d) values[s] = sums[(chunk + s) * d + i];
        __syncwarp();
#pragma unroll
        for (int s = 0; s < STEP; ++s) sum += values[s];
    }
    if (i < d)
        for (; chunk < end; ++chunk) sum += sums[chunk * d + i];
    runs[warp_number()][lane_number()] = sum;
    __syncthreads();
    if (warp_number() > 0 || i >= d) return;
    for (int warp = 1; warp < 32; ++warp) sum += runs[warp][lane_number()];
    dgain[i] += sum;
}
