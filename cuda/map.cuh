// One function of corresponding elements of a few arrays, in one pass over memory.
#pragma once
#include "device.cuh"

/// Vectors of four that a thread of `map` has in flight; a block of THREADS takes 4 * THREADS * MAP_VECTORS elements at a time.
constexpr int MAP_VECTORS = 2;

/// Pointers by value, so that they can be written in braces.
template <class T, int N>
struct Pointers {
    T *of[N];
};

__device__ __forceinline__ float &component(float4 &vector, int i) {
    return i == 0 ? vector.x : i == 1 ? vector.y : i == 2 ? vector.z : vector.w;
}

template <int I, int O, class F>
__device__ __forceinline__ void map_one(const Pointers<const float, I> &inputs, const Pointers<float, O> &outputs, u64 i, F f) {
    float in[I], out[O];
#pragma unroll
    for (int k = 0; k < I; ++k) in[k] = inputs.of[k][i];
    f(in, out);
#pragma unroll
    for (int k = 0; k < O; ++k) outputs.of[k][i] = out[k];
}

/// Calls f(in, out) with in[k] = inputs[k][i] and stores out[k] as outputs[k][i], for all i below count, in any order. An
/// output may be an input. Blocks have THREADS threads; any number of blocks will do.
template <int I, int O, class F>
__device__ __forceinline__ void map(Pointers<const float, I> inputs, Pointers<float, O> outputs, u64 count, F f) {
    const unsigned place = place_in_vector(outputs.of[0]);
    bool alike = true;
#pragma unroll
    for (int k = 0; k < I; ++k) alike = alike && place_in_vector(inputs.of[k]) == place;
#pragma unroll
    for (int k = 0; k < O; ++k) alike = alike && place_in_vector(outputs.of[k]) == place;
    if (!alike) {
        // No two of the arrays can both be read as vectors at the same elements.
        constexpr u64 TILE = static_cast<u64>(THREADS) * 4 * MAP_VECTORS;
        for (u64 base = blockIdx.x * TILE; base < count; base += gridDim.x * TILE) {
#pragma unroll
            for (int v = 0; v < 4 * MAP_VECTORS; ++v) {
                const u64 i = base + v * THREADS + threadIdx.x;
                if (i < count) map_one<I, O>(inputs, outputs, i, f);
            }
        }
        return;
    }
    const u64 head = min(count, static_cast<u64>((4 - place) % 4));
    const u64 quads = (count - head) / 4;
    constexpr u64 TILE = static_cast<u64>(THREADS) * MAP_VECTORS;
    for (u64 base = blockIdx.x * TILE; base < quads; base += gridDim.x * TILE) {
        float4 in[I][MAP_VECTORS];
#pragma unroll
        for (int v = 0; v < MAP_VECTORS; ++v) {
            const u64 i = base + v * THREADS + threadIdx.x;
            if (i < quads) {
#pragma unroll
                for (int k = 0; k < I; ++k) in[k][v] = load4(inputs.of[k] + head + 4 * i);
            }
        }
#pragma unroll
        for (int v = 0; v < MAP_VECTORS; ++v) {
            const u64 i = base + v * THREADS + threadIdx.x;
            if (i < quads) {
                float4 out[O];
#pragma unroll
                for (int c = 0; c < 4; ++c) {
                    float one_in[I], one_out[O];
#pragma unroll
                    for (int k = 0; k < I; ++k) one_in[k] = component(in[k][v], c);
                    f(one_in, one_out);
#pragma unroll
                    for (int k = 0; k < O; ++k) component(out[k], c) = one_out[k];
                }
#pragma unroll
                for (int k = 0; k < O; ++k) store4(outputs.of[k] + head + 4 * i, out[k]);
            }
        }
    }
    const u64 thread = global_thread(), tail = head + 4 * quads;
    if (thread < head) map_one<I, O>(inputs, outputs, thread, f);
    if (thread < count - tail) map_one<I, O>(inputs, outputs, tail + thread, f);
}
