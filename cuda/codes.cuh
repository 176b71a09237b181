// Numbers as codes of 8 bits with a scale for the row: 127 stands for the row's largest magnitude.
#pragma once
#include "device.cuh"

/// max(|x|, a) on the bits of numbers that are not negative, where NaN is the largest of all.
__device__ __forceinline__ unsigned larger(unsigned a, float x) { return max(a, __float_as_uint(x) & 0x7FFFFFFFu); }

/// clip(round_half_even(x * factor), -127, 127); 0 for NaN, which the conversion makes 0.
__device__ __forceinline__ int code_of(float x, float factor) {
    return min(max(__float2int_rn(__fmul_rn(x, factor)), -127), 127);
}
