// What softmaxes share: exponentials are taken relative to the largest exponent, so that none is beyond what a float holds.
#pragma once
#include "device.cuh"

constexpr float INFINITE = __builtin_huge_valf();

/// What exponents are taken relative to, where `most` is the largest of them: with -infinity itself, exp(-infinity) would become
/// NaN.
__device__ __forceinline__ float base_of(float most) { return most == -INFINITE ? 0.0f : most; }

constexpr float LOG2_E = 1.44269504088896341f, LN_2 = 0.69314718055994531f;

/// 2^x within some 2^-22 of it; 0 below 2^-126.
__device__ __forceinline__ float exp2_near(float x) {
#ifdef SETUN_EMULATE
    return exp2f(x);
#else
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
#endif
}
