// What stands between two products of a ternary layer: RMSNorm of x, of max(x, 0)^2 or of max(gate, 0)^2 * up, then codes of
// 8 bits; and the gradients through the latter two. Names end as in norm.cu.
#include "norm.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 3) rms_norm_quantize_512(Plain x, Norm norm, Codes codes) {
    norm_of_512(x, norm, codes);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) rms_norm_quantize_2048(Plain x, Norm norm, Codes codes) {
    norm_of_2048(x, norm, codes);
}

extern "C" __global__ void __launch_bounds__(1024) rms_norm_quantize_16384(Plain x, Norm norm, Codes codes) {
    DYNAMIC_SHARED(float, squares);
    norm_by_blocks(x, norm, codes, squares);
}

extern "C" __global__ void __launch_bounds__(1024) rms_norm_quantize_long(Plain x, Norm norm, Codes codes) {
    norm_of_long_rows(x, norm, codes);
}

extern "C" __global__ void __launch_bounds__(THREADS, 3)
squared_relu_norm_quantize_512(SquaredRelu x, Norm norm, Codes codes) {
    norm_of_512(x, norm, codes);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
squared_relu_norm_quantize_2048(SquaredRelu x, Norm norm, Codes codes) {
    norm_of_2048(x, norm, codes);
}

extern "C" __global__ void __launch_bounds__(1024) squared_relu_norm_quantize_16384(SquaredRelu x, Norm norm, Codes codes) {
    DYNAMIC_SHARED(float, squares);
    norm_by_blocks(x, norm, codes, squares);
}

extern "C" __global__ void __launch_bounds__(1024) squared_relu_norm_quantize_long(SquaredRelu x, Norm norm, Codes codes) {
    norm_of_long_rows(x, norm, codes);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
gated_squared_relu_norm_quantize_512(GatedSquaredRelu hidden, Norm norm, Codes codes) {
    norm_of_512(hidden, norm, codes);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
gated_squared_relu_norm_quantize_2048(GatedSquaredRelu hidden, Norm norm, Codes codes) {
    norm_of_2048(hidden, norm, codes);
}

extern "C" __global__ void __launch_bounds__(1024)
gated_squared_relu_norm_quantize_16384(GatedSquaredRelu hidden, Norm norm, Codes codes) {
    DYNAMIC_SHARED(float, squares);
    norm_by_blocks(hidden, norm, codes, squares);
}

extern "C" __global__ void __launch_bounds__(1024)
gated_squared_relu_norm_quantize_long(GatedSquaredRelu hidden, Norm norm, Codes codes) {
    norm_of_long_rows(hidden, norm, codes);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(512)
squared_relu_norm_backward_8192(SquaredReluGradient to, NormGradient norm) {
    DYNAMIC_SHARED(float, of_warps);
    norm_backward_held(to, norm, of_warps);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(1024)
squared_relu_norm_backward_means(SquaredReluGradient to, NormGradient norm, float *means) {
    norm_backward_means(to, norm, means);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(THREADS)
squared_relu_norm_backward_long(SquaredReluGradient to, NormGradient norm, const float *means, u64 tiles) {
    norm_backward_of_long_rows(to, norm, means, tiles);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(512)
gated_squared_relu_norm_backward_8192(GatedSquaredReluGradient to, NormGradient norm) {
    DYNAMIC_SHARED(float, of_warps);
    norm_backward_held(to, norm, of_warps);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(1024)
gated_squared_relu_norm_backward_means(GatedSquaredReluGradient to, NormGradient norm, float *means) {
    norm_backward_means(to, norm, means);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(THREADS)
gated_squared_relu_norm_backward_long(GatedSquaredReluGradient to, NormGradient norm, const float *means, u64 tiles) {
    norm_backward_of_long_rows(to, norm, means, tiles);
}
