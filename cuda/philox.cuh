// Random numbers without state: Philox4x32-10, as src/tensor/random.rs defines it.
#pragma once
#include "device.cuh"

/// One stream of numbers: everything but the element.
struct Stream {
    unsigned long long seed;
    unsigned purpose, step, tensor;
};

/// The four words of block `block`, that is of elements 4 * block .. 4 * block + 4.
__device__ __forceinline__ uint4 philox(const Stream &stream, unsigned long long block) {
    unsigned k0 = static_cast<unsigned>(stream.seed), k1 = static_cast<unsigned>(stream.seed >> 32);
    unsigned c0 = static_cast<unsigned>(block), c2 = stream.step, c3 = stream.tensor;
    unsigned c1 = stream.purpose << 24 | (static_cast<unsigned>(block >> 32) & 0x00FFFFFFu);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const u64 p0 = wide_product(c0, 0xD2511F53u), p1 = wide_product(c2, 0xCD9E8D57u);
        c0 = static_cast<unsigned>(p1 >> 32) ^ c1 ^ k0;
        c1 = static_cast<unsigned>(p1);
        c2 = static_cast<unsigned>(p0 >> 32) ^ c3 ^ k1;
        c3 = static_cast<unsigned>(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

/// Uniform in [0, 1): the top 24 bits of a word.
__device__ __forceinline__ float uniform(unsigned word) { return __fmul_rn(__uint2float_rn(word >> 8), 1.0f / 16777216.0f); }
