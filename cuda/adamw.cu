// AdamW (Loshchilov & Hutter, arXiv 1711.05101): the update of one tensor, and its length in advance.
#include "canonical.cuh"
#include "map.cuh"

/// The scalars of an update; `rate1` and `rate2` are 1 - beta1 and 1 - beta2.
struct AdamW {
    float learning_rate, rate1, rate2, epsilon, weight_decay, correction1, correction2, gradient_scale;
};

/// What one element becomes: its m and v, and the direction in which its parameter goes.
struct Step {
    float m, v, direction;
};

/// g = gradient * gradient_scale; m += rate1 (g - m); v += rate2 (g^2 - v);
/// direction = m / correction1 / (sqrt(v / correction2) + epsilon) + weight_decay p.
__device__ __forceinline__ Step step_of(const AdamW &options, float gradient, float parameter, float m, float v) {
    const float g = __fmul_rn(gradient, options.gradient_scale);
    m = __fadd_rn(m, __fmul_rn(options.rate1, __fsub_rn(g, m)));
    v = __fadd_rn(v, __fmul_rn(options.rate2, __fsub_rn(__fmul_rn(g, g), v)));
    const float root = __fsqrt_rn(__fdiv_rn(v, options.correction2));
    const float direction = __fdiv_rn(__fdiv_rn(m, options.correction1), __fadd_rn(root, options.epsilon));
    return Step{m, v, __fadd_rn(direction, __fmul_rn(options.weight_decay, parameter))};
}

extern "C" __global__ void __launch_bounds__(THREADS)
adamw(AdamW options, const float *gradient, float *parameter, float *m, float *v, u64 count) {
    map<4, 3>({gradient, parameter, m, v}, {parameter, m, v}, count, [=](const float(&in)[4], float(&out)[3]) {
        const Step step = step_of(options, in[0], in[1], in[2], in[3]);
        out[0] = __fsub_rn(in[1], __fmul_rn(options.learning_rate, step.direction));
        out[1] = step.m;
        out[2] = step.v;
    });
}

/// The canonical sums of d^2 and of p^2 of every canonical block, with d the direction: sums[2, ceil(count / 4096)]. A block of
/// threads for each: a warp alone would keep too little of four arrays in flight, and its divisions would stand in the way.
extern "C" __global__ void __launch_bounds__(THREADS)
adamw_squares_blocks(AdamW options, const float *__restrict__ gradient, const float *__restrict__ parameter,
                     const float *__restrict__ m, const float *__restrict__ v, float *sums, u64 count) {
    constexpr int STEP = 8;
    __shared__ float directions[CANONICAL_BLOCK], parameters[CANONICAL_BLOCK];
    const u64 blocks = count / CANONICAL_BLOCK + (count % CANONICAL_BLOCK > 0);
    for (u64 block = blockIdx.x; block < blocks; block += gridDim.x) {
        const u64 start = block * CANONICAL_BLOCK;
        const unsigned here = static_cast<unsigned>(min(count - start, static_cast<u64>(CANONICAL_BLOCK)));
        for (unsigned base = 0; base < here; base += STEP * THREADS) {
            float in[4][STEP];
#pragma unroll
            for (int s = 0; s < STEP; ++s) {
                const unsigned i = base + s * THREADS + threadIdx.x;
                in[0][s] = i < here ? gradient[start + i] : 0.0f;
                in[1][s] = i < here ? parameter[start + i] : 0.0f;
                in[2][s] = i < here ? m[start + i] : 0.0f;
                in[3][s] = i < here ? v[start + i] : 0.0f;
            }
#pragma unroll
            for (int s = 0; s < STEP; ++s) {
                const unsigned i = base + s * THREADS + threadIdx.x;
                const float direction = step_of(options, in[0][s], in[1][s], in[2][s], in[3][s]).direction;
                directions[i] = __fmul_rn(direction, direction);
                parameters[i] = __fmul_rn(in[1][s], in[1][s]);
            }
        }
        __syncthreads();
        if (warp_number() < 2) {
            const float *const squares = warp_number() == 0 ? directions : parameters;
            const float sum = canonical_block(here, [=](unsigned i) { return squares[i]; });
            if (lane_number() == 0) sums[warp_number() * blocks + block] = sum;
        }
        __syncthreads();
    }
}

/// totals[2] += the block sums in index order. One block of threads.
extern "C" __global__ void __launch_bounds__(1024) adamw_squares(const float *sums, double *totals, u64 blocks) {
    for (int which = 0; which < 2; ++which) {
        const double sum = sum_in_order(sums + which * blocks, blocks);
        if (threadIdx.x == 0) totals[which] = __dadd_rn(totals[which], sum);
    }
}
