// Running sums of integers over warps and blocks: exact, so any order gives the same.
#pragma once
#include "device.cuh"

/// The sum of the values of this lane and those before it.
template <class T>
__device__ __forceinline__ T warp_sums(T value) {
#pragma unroll
    for (unsigned distance = 1; distance < 32; distance *= 2) {
        const T before = __shfl_up_sync(ALL_LANES, value, distance);
        if (lane_number() >= distance) value += before;
    }
    return value;
}

/// The sum of the values of the threads before this one; `total` becomes that of all. Called by all threads of a block of one
/// dimension and whole warps.
template <class T>
__device__ __forceinline__ T block_sums(T value, T &total) {
    __shared__ T of_warps[32];
    const T here = warp_sums(value);
    // What the call before this one left may still be read.
    __syncthreads();
    if (lane_number() == 31) of_warps[warp_number()] = here;
    __syncthreads();
    const unsigned warps = blockDim.x / 32;
    const T of_warp = lane_number() < warps ? of_warps[lane_number()] : T(0);
    const T up_to = warp_sums(of_warp);
    total = __shfl_sync(ALL_LANES, up_to, 31);
    return here - value + __shfl_sync(ALL_LANES, up_to - of_warp, warp_number());
}
