// Kernels of the tests of the emulated driver.
#include "device.cuh"

extern "C" __global__ void test_double(const float *x, float *y, unsigned count) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) y[i] = 2.0f * x[i];
}

template <int N>
__device__ unsigned unwritten(unsigned value) {
    __shared__ unsigned values[N];
    const unsigned found = values[threadIdx.x % N];
    values[threadIdx.x % N] = value;
    return found;
}

/// What shared memory holds at the beginning of each block: static, in two sizes of a template, and dynamic.
extern "C" __global__ void __launch_bounds__(64) test_poison(unsigned *out) {
    DYNAMIC_SHARED(unsigned, dynamic);
    unsigned *const mine = out + 3 * blockIdx.x;
    mine[0] = unwritten<32>(1);
    mine[1] = unwritten<16>(2);
    mine[2] = dynamic[threadIdx.x];
    dynamic[threadIdx.x] = 3;
}

struct TestPointers {
    int before;
    const float *x;
    float *y;
};

extern "C" __global__ void test_struct(TestPointers pointers, unsigned count) {
    if (threadIdx.x < count) pointers.y[threadIdx.x] = pointers.x[threadIdx.x] + pointers.before;
}
