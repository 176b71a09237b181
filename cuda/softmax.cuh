// What softmaxes share: exponentials are taken relative to the largest exponent, so that none is beyond what a float holds.
#pragma once
#include "device.cuh"

constexpr float INFINITE = __builtin_huge_valf();

/// What exponents are taken relative to, where `most` is the largest of them: with -infinity itself, exp(-infinity) would become
/// NaN.
__device__ __forceinline__ float base_of(float most) { return most == -INFINITE ? 0.0f : most; }
