// Numbers as the nearest entries of a codebook: codes of 4 bits, two in a byte with the first one low, or of 8.
//
// A code that is no entry is a rare thing: the check only says that there is one, in the word `bad`, and what comes after it
// leaves everything as it was. Which code it is the host finds.
#include "map.cuh"

/// How many of thresholds[count], which ascend, are below x.
__device__ __forceinline__ unsigned label(float x, const float *thresholds, unsigned count) {
    unsigned first = 0;
    while (count > 0) {
        const unsigned half = count / 2;
        const bool below = thresholds[first + half] < x;
        first = below ? first + half + 1 : first;
        count = below ? count - half - 1 : half;
    }
    return first;
}

extern "C" __global__ void __launch_bounds__(THREADS)
codebook_labels(const float *x, const float *thresholds, unsigned count, unsigned *labels, u64 n) {
    for (u64 i = global_thread(); i < n; i += global_threads()) labels[i] = label(x[i], thresholds, count);
}

extern "C" __global__ void __launch_bounds__(THREADS)
codebook_pack(const float *x, const float *thresholds, unsigned count, unsigned char *packed, u64 n) {
    for (u64 i = global_thread(); i < n; i += global_threads())
        packed[i] = static_cast<unsigned char>(label(x[i], thresholds, count));
}

/// A thread for each byte.
extern "C" __global__ void __launch_bounds__(THREADS)
codebook_pack_two(const float *x, const float *thresholds, unsigned count, unsigned char *packed, u64 n) {
    for (u64 i = global_thread(); i < n / 2 + n % 2; i += global_threads()) {
        const unsigned low = label(x[2 * i], thresholds, count);
        const unsigned high = 2 * i + 1 < n ? label(x[2 * i + 1], thresholds, count) : 0;
        packed[i] = static_cast<unsigned char>(low | high << 4);
    }
}

/// Sets `bad` where one of n codes is no entry, or what is past the last is not 0: a thread for each byte.
extern "C" __global__ void __launch_bounds__(THREADS)
codebook_check(const unsigned char *packed, u64 n, unsigned entries, unsigned bits, u64 *bad) {
    const u64 bytes = bits == 8 ? n : n / 2 + n % 2;
    for (u64 i = global_thread(); i < bytes; i += global_threads()) {
        const unsigned byte = packed[i];
        const bool sound = bits == 8 ? byte < entries : (byte & 15) < entries && byte >> 4 < (2 * i + 1 < n ? entries : 1);
        if (!sound) *bad = 1;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
codebook_unpack(const unsigned char *packed, const float *entries, unsigned bits, const u64 *bad, float *y, u64 n) {
    if (*bad != 0) return;
    for (u64 i = global_thread(); i < n; i += global_threads())
        y[i] = entries[bits == 8 ? packed[i] : packed[i / 2] >> 4 * (i % 2) & 15];
}
