// Numbers as the nearest entries of a codebook: codes of 4 bits, two in a byte with the first one low, or of 8.
//
// A code that is no entry is a rare thing: the check only says that there is one, in the word `bad`, and what comes after it
// leaves everything as it was. Which code it is the host finds.
#include "rows.cuh"

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

/// Thresholds of codes of at most 8 bits in shared memory, with infinities after them, which are below nothing.
constexpr unsigned MOST_ENTRIES = 256;

/// How many of so many thresholds are below each of four numbers; `top` is the largest power of two up to their number, or 0.
__device__ __forceinline__ uint4 four_labels(float4 x, const float *thresholds, unsigned top) {
    uint4 first = make_uint4(0, 0, 0, 0);
    for (unsigned step = top; step > 0; step /= 2) {
        first.x += thresholds[first.x + step - 1] < x.x ? step : 0;
        first.y += thresholds[first.y + step - 1] < x.y ? step : 0;
        first.z += thresholds[first.z + step - 1] < x.z ? step : 0;
        first.w += thresholds[first.w + step - 1] < x.w ? step : 0;
    }
    return first;
}

/// Calls store(i, labels of elements 4 i .. 4 i + 4) for all whole fours, where there are few thresholds and x is aligned; how
/// many elements that were.
template <class Store>
__device__ __forceinline__ u64 each_four_labels(const float *x, const float *thresholds, unsigned count, u64 n, bool aligned,
                                                Store store) {
    __shared__ float padded[MOST_ENTRIES];
    if (count >= MOST_ENTRIES || !aligned || !is_aligned(x, 16)) return 0;
    for (unsigned i = threadIdx.x; i < MOST_ENTRIES; i += blockDim.x)
        padded[i] = i < count ? thresholds[i] : __uint_as_float(0x7F800000u);
    __syncthreads();
    const unsigned top = count == 0 ? 0u : 1u << (31 - __clz(static_cast<int>(count)));
    each_entry<2>(
        Rows{1, n / 4, {}}, [&](Entry four) { return load4(x + 4 * four.at); },
        [&](Entry four, float4 numbers) { store(four.at, four_labels(numbers, padded, top)); });
    return n - n % 4;
}

extern "C" __global__ void __launch_bounds__(THREADS)
codebook_labels(const float *x, const float *thresholds, unsigned count, unsigned *labels, u64 n) {
    const u64 done = each_four_labels(x, thresholds, count, n, is_aligned(labels, 16),
                                      [&](u64 i, uint4 four) { reinterpret_cast<uint4 *>(labels)[i] = four; });
    for (u64 i = done + global_thread(); i < n; i += global_threads()) labels[i] = label(x[i], thresholds, count);
}

extern "C" __global__ void __launch_bounds__(THREADS)
codebook_pack(const float *x, const float *thresholds, unsigned count, unsigned char *packed, u64 n) {
    const u64 done = each_four_labels(x, thresholds, count, n, is_aligned(packed, 4), [&](u64 i, uint4 four) {
        reinterpret_cast<unsigned *>(packed)[i] = four.x | four.y << 8 | four.z << 16 | four.w << 24;
    });
    for (u64 i = done + global_thread(); i < n; i += global_threads())
        packed[i] = static_cast<unsigned char>(label(x[i], thresholds, count));
}

/// Two a byte; a thread has four, or two.
extern "C" __global__ void __launch_bounds__(THREADS)
codebook_pack_two(const float *x, const float *thresholds, unsigned count, unsigned char *packed, u64 n) {
    const u64 done = each_four_labels(x, thresholds, count, n, is_aligned(packed, 2), [&](u64 i, uint4 four) {
        reinterpret_cast<unsigned short *>(packed)[i] =
            static_cast<unsigned short>(four.x | four.y << 4 | four.z << 8 | four.w << 12);
    });
    for (u64 i = done / 2 + global_thread(); i < n / 2 + n % 2; i += global_threads()) {
        const unsigned low = label(x[2 * i], thresholds, count);
        const unsigned high = 2 * i + 1 < n ? label(x[2 * i + 1], thresholds, count) : 0;
        packed[i] = static_cast<unsigned char>(low | high << 4);
    }
}

/// Not 0 where one of four bytes, of codes of `bits` bits, is no entry of so many.
__device__ __forceinline__ unsigned no_entries(unsigned four, unsigned entries, unsigned bits) {
    if (bits == 4) {
        // A code and what is missing to 16 reach it; codes of 4 bits are at most 16.
        const unsigned missing = (16 - entries) * 0x01010101u;
        return (((four & 0x0F0F0F0Fu) + missing) | ((four >> 4 & 0x0F0F0F0Fu) + missing)) & 0x10101010u;
    }
    // The same with the seven lower bits: the highest decides alone up to 128 entries, and beyond them both do.
    const unsigned sums = (four & 0x7F7F7F7Fu) + (entries <= 128 ? 128 - entries : 256 - entries) * 0x01010101u;
    return (entries <= 128 ? four | sums : four & sums) & 0x80808080u;
}

/// Sets `bad` where one of n codes is no entry, or what is past the last is not 0.
extern "C" __global__ void __launch_bounds__(THREADS)
codebook_check(const unsigned char *packed, u64 n, unsigned entries, unsigned bits, u64 *bad) {
    const u64 bytes = bits == 8 ? n : n / 2 + n % 2, vectors = is_aligned(packed, 16) ? bytes / 16 : 0;
    unsigned found = 0;
    each_entry(
        Rows{1, vectors, {}}, [&](Entry vector) { return reinterpret_cast<const uint4 *>(packed)[vector.at]; },
        [&](Entry, uint4 four) {
            found |= no_entries(four.x, entries, bits) | no_entries(four.y, entries, bits) | no_entries(four.z, entries, bits) |
                     no_entries(four.w, entries, bits);
        });
    for (u64 i = 16 * vectors + global_thread(); i < bytes; i += global_threads())
        found |= no_entries(packed[i], entries, bits);
    if (global_thread() == 0 && bits == 4 && n % 2 != 0) found |= packed[bytes - 1] >> 4;
    if (found != 0) *bad = 1;
}

extern "C" __global__ void __launch_bounds__(THREADS)
codebook_unpack(const unsigned char *packed, const float *entries, unsigned bits, const u64 *bad, float *y, u64 n) {
    if (*bad != 0) return;
    u64 done = 0;
    if (is_aligned(y, 16) && is_aligned(packed, 4)) {
        const auto four = [&](unsigned x, unsigned z, unsigned u, unsigned w) {
            return make_float4(entries[x], entries[z], entries[u], entries[w]);
        };
        done = n - n % 4;
        each_entry(
            Rows{1, n / 4, {}},
            [&](Entry four) -> unsigned {
                return bits == 8 ? reinterpret_cast<const unsigned *>(packed)[four.at]
                                 : reinterpret_cast<const unsigned short *>(packed)[four.at];
            },
            [&](Entry at, unsigned codes) {
                const unsigned mask = (1u << bits) - 1;
                store4(y + 4 * at.at,
                       four(codes & mask, codes >> bits & mask, codes >> 2 * bits & mask, codes >> 3 * bits & mask));
            });
    }
    for (u64 i = done + global_thread(); i < n; i += global_threads())
        y[i] = entries[bits == 8 ? packed[i] : packed[i / 2] >> 4 * (i % 2) & 15];
}
