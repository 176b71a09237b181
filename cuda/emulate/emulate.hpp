// CUDA C++ for g++: what a kernel may use, executed by engine.cpp. Kernels include it through device.cuh.
//
// One .cu file is compiled at a time, inside an unnamed namespace: so `__shared__` is `static`, also in templates, and all
// that a file shares lies in one section, which is poisoned before every block. A variable of `__device__` must therefore
// not be declared without a value.
#pragma once
#include "engine.hpp"
#include <cmath>
#include <limits>
#include <math.h>
#include <type_traits>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

#define threadIdx (::emulate::current->index)
#define blockIdx (::emulate::block_index)
#define blockDim (::emulate::block_size)
#define gridDim (::emulate::grid_size)

// --- vectors ---------------------------------------------------------------------------------------------------------

struct __align__(4) char4 {
    signed char x, y, z, w;
};
struct __align__(8) uint2 {
    unsigned x, y;
};
struct __align__(16) uint4 {
    unsigned x, y, z, w;
};
struct __align__(8) float2 {
    float x, y;
};
struct __align__(16) float4 {
    float x, y, z, w;
};
inline char4 make_char4(signed char x, signed char y, signed char z, signed char w) { return char4{x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return uint2{x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return uint4{x, y, z, w}; }
inline float2 make_float2(float x, float y) { return float2{x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }

// --- barriers and warps ----------------------------------------------------------------------------------------------

namespace emulate {

template <class T>
uint64_t to_bits(T value) {
    static_assert(std::is_arithmetic<T>::value && sizeof(T) <= 8, "shuffles take numbers of up to 64 bits");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

template <class T>
T from_bits(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/// Calls `each(lane, thread)` for the lanes of a mask.
template <class Each>
inline void lanes(Warp &warp, unsigned mask, Each each) {
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        unsigned lane = unsigned(__builtin_ctz(rest));
        each(lane, warp.threads[lane]);
    }
}

enum class Shuffle { Index, Up, Down, Xor };

/// in[0] is the value, in[1] the lane or the distance. A lane that is not in the mask gives poison.
template <Shuffle kind>
void perform_shuffle(Warp &warp, unsigned mask) {
    lanes(warp, mask, [&](unsigned lane, Thread &thread) {
        unsigned by = unsigned(thread.in[1]), from = lane;
        if (kind == Shuffle::Index) from = by % WARP;
        if (kind == Shuffle::Up && by <= lane) from = lane - by;
        if (kind == Shuffle::Down && by < WARP - lane) from = lane + by;
        if (kind == Shuffle::Xor && (lane ^ by) < WARP) from = lane ^ by;
        thread.out[0] = mask >> from & 1 ? warp.threads[from].in[0] : 0x7F7F7F7F7F7F7F7Full;
    });
}

template <Shuffle kind, class T>
T shuffle(unsigned mask, T value, unsigned by) {
    current->in[0] = to_bits(value);
    current->in[1] = by;
    collective(perform_shuffle<kind>, mask);
    return from_bits<T>(current->out[0]);
}

inline void perform_nothing(Warp &, unsigned) {}

inline void perform_ballot(Warp &warp, unsigned mask) {
    unsigned votes = 0;
    lanes(warp, mask, [&](unsigned lane, Thread &thread) { votes |= unsigned(thread.in[0] != 0) << lane; });
    lanes(warp, mask, [&](unsigned, Thread &thread) { thread.out[0] = votes; });
}

inline void perform_match(Warp &warp, unsigned mask) {
    lanes(warp, mask, [&](unsigned, Thread &thread) {
        unsigned same = 0;
        lanes(warp, mask, [&](unsigned lane, Thread &other) { same |= unsigned(other.in[0] == thread.in[0]) << lane; });
        thread.out[0] = same;
    });
}

template <class Combine>
void perform_reduce(Warp &warp, unsigned mask) {
    unsigned result = unsigned(warp.threads[__builtin_ctz(mask)].in[0]);
    lanes(warp, mask & (mask - 1), [&](unsigned, Thread &thread) { result = Combine()(result, unsigned(thread.in[0])); });
    lanes(warp, mask, [&](unsigned, Thread &thread) { thread.out[0] = result; });
}

template <class Combine, class T>
T reduce(unsigned mask, T value) {
    static_assert(std::is_same<T, unsigned>::value, "reductions take numbers without a sign");
    current->in[0] = value;
    collective(perform_reduce<Combine>, mask);
    return unsigned(current->out[0]);
}

struct Sum {
    unsigned operator()(unsigned a, unsigned b) const { return a + b; }
};
struct Smaller {
    unsigned operator()(unsigned a, unsigned b) const { return b < a ? b : a; }
};
struct Larger {
    unsigned operator()(unsigned a, unsigned b) const { return b > a ? b : a; }
};

}  // namespace emulate

inline void __syncthreads() { emulate::barrier(emulate::Barrier::Plain, 0); }
inline int __syncthreads_or(int predicate) { return emulate::barrier(emulate::Barrier::Or, predicate); }
inline void __syncwarp(unsigned mask = ~0u) { emulate::collective(emulate::perform_nothing, mask); }

template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
    return emulate::shuffle<emulate::Shuffle::Index>(mask, value, unsigned(lane));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by) {
    return emulate::shuffle<emulate::Shuffle::Up>(mask, value, by);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by) {
    return emulate::shuffle<emulate::Shuffle::Down>(mask, value, by);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int by) {
    return emulate::shuffle<emulate::Shuffle::Xor>(mask, value, unsigned(by));
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    emulate::current->in[0] = predicate != 0;
    emulate::collective(emulate::perform_ballot, mask);
    return unsigned(emulate::current->out[0]);
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
    emulate::current->in[0] = emulate::to_bits(value);
    emulate::collective(emulate::perform_match, mask);
    return unsigned(emulate::current->out[0]);
}

template <class T>
T __reduce_add_sync(unsigned mask, T value) { return emulate::reduce<emulate::Sum>(mask, value); }
template <class T>
T __reduce_min_sync(unsigned mask, T value) { return emulate::reduce<emulate::Smaller>(mask, value); }
template <class T>
T __reduce_max_sync(unsigned mask, T value) { return emulate::reduce<emulate::Larger>(mask, value); }

// --- atomics: threads run one at a time ------------------------------------------------------------------------------

namespace emulate {
template <class T>
struct Same {
    using Type = T;
};
template <class T, class F>
T exchange(T *address, F change) {
    T before = *address;
    *address = change(before);
    return before;
}
}  // namespace emulate

template <class T>
T atomicAdd(T *address, typename emulate::Same<T>::Type value) {
    static_assert(std::is_integral<T>::value, "sums of floats by atomics have no fixed order");
    return emulate::exchange(address, [&](T old) { return T(typename std::make_unsigned<T>::type(old) + value); });
}
template <class T>
T atomicMax(T *address, typename emulate::Same<T>::Type value) {
    return emulate::exchange(address, [&](T old) { return value > old ? value : old; });
}
template <class T>
T atomicMin(T *address, typename emulate::Same<T>::Type value) {
    return emulate::exchange(address, [&](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T *address, typename emulate::Same<T>::Type value) {
    return emulate::exchange(address, [&](T old) { return old | value; });
}

#include "arithmetic.hpp"
#include "tensor_core.hpp"

/// A kernel for the driver to find by its name.
#define SETUN_KERNEL(name, begin, end)                                                                                 \
    const emulate::Kernel kernel_##name = emulate::describe<&name>(&name, #name, begin, end);                          \
    __attribute__((section("setun_kernels"), used)) const emulate::Kernel *const found_##name = &kernel_##name;
