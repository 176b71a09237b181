// Squared ReLU (So et al., arXiv 2109.08668), plain and gated, and their gradients.
#include "map.cuh"

extern "C" __global__ void __launch_bounds__(THREADS) squared_relu(const float *x, float *y, u64 count) {
    map<1, 1>({x}, {y}, count, [](const float(&in)[1], float(&out)[1]) {
        const float positive = relu(in[0]);
        out[0] = __fmul_rn(positive, positive);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
squared_relu_backward(const float *x, const float *dy, float *dx, u64 count) {
    map<2, 1>({x, dy}, {dx}, count, [](const float(&in)[2], float(&out)[1]) {
        out[0] = __fmul_rn(in[1], __fmul_rn(2.0f, relu(in[0])));
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
gated_squared_relu(const float *gate, const float *up, float *y, u64 count) {
    map<2, 1>({gate, up}, {y}, count, [](const float(&in)[2], float(&out)[1]) {
        const float positive = relu(in[0]);
        out[0] = __fmul_rn(__fmul_rn(positive, positive), in[1]);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
gated_squared_relu_backward(const float *gate, const float *up, const float *dy, float *dgate, float *dup, u64 count) {
    map<3, 2>({gate, up, dy}, {dgate, dup}, count, [](const float(&in)[3], float(&out)[2]) {
        const float positive = relu(in[0]);
        out[0] = __fmul_rn(__fmul_rn(in[2], in[1]), __fmul_rn(2.0f, positive));
        out[1] = __fmul_rn(in[2], __fmul_rn(positive, positive));
    });
}
