// What all kernels share: sums of warps and blocks, ways through memory, and instructions of PTX beside what they mean.
//
// Where an operation promises its bits, the arithmetic is written as __fmul_rn, __fadd_rn and so on, which the compiler never
// contracts to a fused multiply-add.
#pragma once
#ifdef SETUN_EMULATE
#include "emulate.hpp"
#endif

typedef unsigned long long u64;

constexpr unsigned ALL_LANES = 0xFFFFFFFFu;
/// Threads of a block, where the launch is not free to choose.
constexpr int THREADS = 256;

/// `name` becomes a pointer to the shared memory whose size the launch gives; it is aligned to 16 bytes.
#ifdef SETUN_EMULATE
#define DYNAMIC_SHARED(type, name) type *const name = reinterpret_cast<type *>(::emulate::dynamic_shared)
#else
#define DYNAMIC_SHARED(type, name)                                                                                     \
    extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];                                             \
    type *const name = reinterpret_cast<type *>(dynamic_shared_memory)
#endif

// --- ways through memory ---------------------------------------------------------------------------------------------

/// Of an address: which of the four floats of its 16 bytes it is.
__device__ __forceinline__ unsigned place_in_vector(const void *address) {
    return static_cast<unsigned>(reinterpret_cast<u64>(address) / 4 % 4);
}

__device__ __forceinline__ bool is_aligned(const void *address, unsigned bytes) {
    return reinterpret_cast<u64>(address) % bytes == 0;
}

/// The number of this thread among all of the grid, which has one dimension, and how many there are.
__device__ __forceinline__ u64 global_thread() { return static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ u64 global_threads() { return static_cast<u64>(gridDim.x) * blockDim.x; }

__device__ __forceinline__ float4 load4(const float *address) { return *reinterpret_cast<const float4 *>(address); }
__device__ __forceinline__ void store4(float *address, float4 value) { *reinterpret_cast<float4 *>(address) = value; }

/// Asks for what is at an address of the device, to be near when it is read.
__device__ __forceinline__ void prefetch(const void *address) {
#ifdef SETUN_EMULATE
    (void)*static_cast<const volatile char *>(address);
#else
    asm volatile("prefetch.global.L2 [%0];" : : "l"(address));
#endif
}

/// x[row, column ...] of rows of so many columns, of which some may be beyond the last; zeros there.
__device__ __forceinline__ float4 read_four(const float *x, u64 row, u64 column, u64 columns, bool vector) {
    const float *const from = x + row * columns + column;
    if (vector) return load4(from);
    return make_float4(from[0], column + 1 < columns ? from[1] : 0.0f, column + 2 < columns ? from[2] : 0.0f,
                       column + 3 < columns ? from[3] : 0.0f);
}

__device__ __forceinline__ void write_four(float *x, u64 row, u64 column, u64 columns, bool vector, float4 four) {
    float *const to = x + row * columns + column;
    if (vector) {
        store4(to, four);
        return;
    }
    to[0] = four.x;
    if (column + 1 < columns) to[1] = four.y;
    if (column + 2 < columns) to[2] = four.z;
    if (column + 3 < columns) to[3] = four.w;
}

/// All 64 bits of x * y, which the compiler else makes a product of numbers of 64 bits, where one is a constant.
__device__ __forceinline__ u64 wide_product(unsigned x, unsigned y) {
#ifdef SETUN_EMULATE
    return static_cast<u64>(x) * y;
#else
    u64 product;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(x), "r"(y));
    return product;
#endif
}

/// x * y + z with one rounding, where that is what is meant: roundings.awk knows it by its comment.
__device__ __forceinline__ float fused(float x, float y, float z) {
#ifdef SETUN_EMULATE
    return __fmaf_rn(x, y, z);
#else
    float sum;
    asm("fma.rn.f32 %0, %1, %2, %3; // one rounding" : "=f"(sum) : "f"(x), "f"(y), "f"(z));
    return sum;
#endif
}

/// Four bytes of the eight in (y, x), of which the nibbles of `selector` tell; from 8 on, all bits of one are its sign, which
/// __byte_perm does not know.
__device__ __forceinline__ unsigned bytes_or_signs(unsigned x, unsigned y, unsigned selector) {
#ifdef SETUN_EMULATE
    return permuted_bytes(x, y, selector);
#else
    unsigned found;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(found) : "r"(x), "r"(y), "r"(selector));
    return found;
#endif
}

/// max(x, y), NaN where one of them is.
__device__ __forceinline__ float max_or_nan(float x, float y) {
#ifdef SETUN_EMULATE
    return x > y || x != x ? x : y;
#else
    float found;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(found) : "f"(x), "f"(y));
    return found;
#endif
}

// --- what several operations mean alike -------------------------------------------------------------------------------

/// max(x, 0), where NaN stays NaN.
__device__ __forceinline__ float relu(float x) { return x < 0.0f ? 0.0f : x; }

/// The pair (u, v) by the angle whose cosine and sine are c and s.
__device__ __forceinline__ float2 rotated(float u, float v, float c, float s) {
    return make_float2(__fsub_rn(__fmul_rn(u, c), __fmul_rn(v, s)), __fadd_rn(__fmul_rn(v, c), __fmul_rn(u, s)));
}

/// Notes an index that is outside of what it points into: the first one stays, as (its position, the index).
__device__ __forceinline__ void note_fault(u64 *fault, u64 position, unsigned index) {
    atomicMin(fault, min(position, 0xFFFFFFFFull) << 32 | index);
}

// --- warps -----------------------------------------------------------------------------------------------------------

__device__ __forceinline__ unsigned lane_number() { return threadIdx.x % 32; }
__device__ __forceinline__ unsigned warp_number() { return threadIdx.x / 32; }

/// The sum over the whole warp, in every lane. Of integers: the order is not that of any contract.
__device__ __forceinline__ u64 warp_sum(u64 value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

/// The same of floats, in a fixed order that gives every lane the same bits.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value = __fadd_rn(value, __shfl_xor_sync(ALL_LANES, value, distance));
    return value;
}

/// The largest of the warp's values, where one is a number: NaN is passed over.
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, distance));
    return value;
}

/// The sum over the block, in a fixed order, in every thread; all threads of a block of whole warps call it.
__device__ __forceinline__ float block_sum(float value) {
    __shared__ float of_warps[32];
    value = warp_sum(value);
    if (blockDim.x <= 32) return value;
    // The values of the call before this one may still be read.
    __syncthreads();
    if (lane_number() == 0) of_warps[warp_number()] = value;
    __syncthreads();
    return warp_sum(lane_number() < blockDim.x / 32 ? of_warps[lane_number()] : 0.0f);
}

/// The largest of the block's values, in every thread; all threads of the block call it.
__device__ __forceinline__ unsigned block_max(unsigned value) {
    __shared__ unsigned of_warps[32];
    value = __reduce_max_sync(ALL_LANES, value);
    if (blockDim.x <= 32) return value;
    // The values of the call before this one may still be read.
    __syncthreads();
    if (lane_number() == 0) of_warps[warp_number()] = value;
    __syncthreads();
    return __reduce_max_sync(ALL_LANES, lane_number() < blockDim.x / 32 ? of_warps[lane_number()] : 0u);
}
