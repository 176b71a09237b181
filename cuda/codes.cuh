// Numbers as codes of 8 bits with a scale for the row: 127 stands for the row's largest magnitude.
#pragma once
#include "device.cuh"

/// max(|x|, a) on the bits of numbers that are not negative, where NaN is the largest of all.
__device__ __forceinline__ unsigned larger(unsigned a, float x) { return max(a, __float_as_uint(x) & 0x7FFFFFFFu); }

/// max(a, b), where NaN is the largest of all and -0 less than 0: one instruction, which takes magnitudes as they come.
__device__ __forceinline__ float largest_of(float a, float b) {
#ifdef SETUN_EMULATE
    if (a != a || b != b) return __uint_as_float(0x7FFFFFFFu);
    return a > b ? a : b > a ? b : __uint_as_float(__float_as_uint(a) & __float_as_uint(b));
#else
    float largest;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(largest) : "f"(a), "f"(b));
    return largest;
#endif
}

/// clip(round_half_even(x * factor), -127, 127); 0 for NaN, which the conversion makes 0.
__device__ __forceinline__ int code_of(float x, float factor) {
    return min(max(__float2int_rn(__fmul_rn(x, factor)), -127), 127);
}

/// The same in the lowest byte, where |x * factor| is at most 127 before it is rounded: at 1.5 * 2^23 the last place of a
/// float is worth 1, so the sum is rounded as a code is, and ends in its bits.
__device__ __forceinline__ unsigned code_bits(float x, float factor) {
    return __float_as_uint(__fadd_rn(__fmul_rn(x, factor), 12582912.0f));
}

/// Whether `code_bits` may be used in a row whose factor is 127 / absmax. Not where a number is not finite, nor where absmax is
/// so small that the factor is not.
__device__ __forceinline__ bool has_code_bits(float absmax, float factor) {
    return __float_as_uint(absmax) < 0x7F800000u && __float_as_uint(factor) < 0x7F800000u;
}
