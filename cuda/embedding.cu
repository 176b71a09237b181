// Rows of a table by index, and their gradient.
#include "device.cuh"

/// y[n, d] = table[v, d] at row tokens[n]: a warp for each row. A token that is not below v is noted in `fault`, and its row
/// stays as it is.
extern "C" __global__ void __launch_bounds__(THREADS)
embedding(const unsigned *tokens, const float *table, float *y, u64 n, u64 v, u64 d, u64 *fault) {
    const u64 warps = static_cast<u64>(gridDim.x) * (THREADS / 32);
    for (u64 row = static_cast<u64>(blockIdx.x) * (THREADS / 32) + warp_number(); row < n; row += warps) {
        const unsigned token = tokens[row];
        if (token >= v) {
            if (lane_number() == 0) note_fault(fault, row, token);
            continue;
        }
        const float *const from = table + token * d;
        float *const to = y + row * d;
        const u64 quads = is_aligned(from, 16) && is_aligned(to, 16) ? d / 4 : 0;
        for (u64 q = lane_number(); q < quads; q += 32) store4(to + 4 * q, load4(from + 4 * q));
        for (u64 i = 4 * quads + lane_number(); i < d; i += 32) to[i] = from[i];
    }
}

// The gradient sums the rows of each token in their order, and no two blocks share a token: block b of the 2^k blocks of the
// grid in x has the tokens whose lowest k bits are b. It goes through all tokens, gathers the places of its own, and when
// there are many, or no more, sorts them by token and place and adds up.
constexpr unsigned TILE = 4 * THREADS;
constexpr unsigned LIST = 2 * TILE;
/// A place is what of a token is above its lowest k bits, then the row of dy in 42 bits: more than any memory holds.
constexpr int ROW_BITS = 42;

/// Sorts list[0 .. count] in place, by all threads; there is room up to the next power of two.
__device__ inline void sort_places(u64 *list, unsigned count) {
    unsigned length = 1;
    while (length < count) length *= 2;
    for (unsigned i = count + threadIdx.x; i < length; i += THREADS) list[i] = ~0ull;
    __syncthreads();
    for (unsigned size = 2; size <= length; size *= 2) {
        for (unsigned stride = size / 2; stride > 0; stride /= 2) {
            for (unsigned pair = threadIdx.x; pair < length / 2; pair += THREADS) {
                const unsigned low = 2 * pair - (pair & (stride - 1)), high = low + stride;
                const u64 a = list[low], b = list[high];
                const bool ascending = (low & size) == 0;
                if ((a > b) == ascending) {
                    list[low] = b;
                    list[high] = a;
                }
            }
            __syncthreads();
        }
    }
}

__device__ __forceinline__ float2 plus(float2 a, float2 b) { return make_float2(__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y)); }
__device__ __forceinline__ float plus(float a, float b) { return __fadd_rn(a, b); }

/// Adds the rows of dy that a sorted list names into those of the table, each `width` vectors long. Of a step's places a warp
/// first finds at which another token begins; then nothing stands between the loads of their rows.
template <class Vector>
__device__ __forceinline__ void add_rows(const u64 *list, unsigned count, const Vector *dy, Vector *dtable, u64 width) {
    // So many rows are in flight together.
    constexpr unsigned STEP = sizeof(Vector) == 8 ? 32 : 16;
    constexpr u64 ROW = (1ull << ROW_BITS) - 1;
    auto row_of = [&](u64 place) { return dtable + ((place >> ROW_BITS) * gridDim.x + blockIdx.x) * width; };
    for (u64 base = blockIdx.y * THREADS; base < width; base += gridDim.y * THREADS) {
        // Of columns that are not there, the last one again, which is not stored.
        const bool present = base + threadIdx.x < width;
        const u64 column = present ? base + threadIdx.x : width - 1;
        Vector sum = Vector(), *to = nullptr;
        for (unsigned from = 0; from < count; from += STEP) {
            const unsigned k = from + lane_number(), here = min(count - from, STEP);
            const u64 place = list[min(k, count - 1)];
            const bool begin = k < count && (k == 0 || place >> ROW_BITS != list[k - 1] >> ROW_BITS);
            if (begin) prefetch(row_of(place) + min(base + warp_number() * 32, width - 1));
            const unsigned begins = __ballot_sync(ALL_LANES, begin);
            Vector values[STEP];
#pragma unroll
            for (unsigned s = 0; s < STEP; ++s)
                values[s] = s < here ? dy[(list[from + s] & ROW) * width + column] : Vector();
            // No load crosses the barrier: all are asked for before the first of them is waited for.
            __syncwarp();
#pragma unroll
            for (unsigned s = 0; s < STEP; ++s) {
                // The same for all lanes.
                if (begins >> s & 1) {
                    if (to != nullptr && present) *to = sum;
                    to = row_of(list[from + s]) + column;
                    sum = *to;
                }
                if (s < here) sum = plus(sum, values[s]);
            }
        }
        if (to != nullptr && present) *to = sum;
    }
}

/// dtable[v, d] += dy[n, d] at row tokens[n]. gridDim.x is a power of two; gridDim.y shares out the columns.
extern "C" __global__ void __launch_bounds__(THREADS)
embedding_backward(const unsigned *tokens, const float *dy, float *dtable, u64 n, u64 v, u64 d, u64 *fault) {
    __shared__ u64 list[LIST];
    __shared__ unsigned count;
    const unsigned bits = 31 - __clz(gridDim.x);
    const bool pairs = d % 2 == 0 && is_aligned(dy, 8) && is_aligned(dtable, 8), vector = is_aligned(tokens, 16);
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    auto load = [&](u64 first) {
        if (vector && first + 4 <= n) return *reinterpret_cast<const uint4 *>(tokens + first);
        return make_uint4(first < n ? tokens[first] : 0, first + 1 < n ? tokens[first + 1] : 0,
                          first + 2 < n ? tokens[first + 2] : 0, first + 3 < n ? tokens[first + 3] : 0);
    };
    uint4 next = load(4 * threadIdx.x);
    for (u64 base = 0; base < n; base += TILE) {
        const u64 first = base + 4 * threadIdx.x;
        const unsigned four[4] = {next.x, next.y, next.z, next.w};
        next = load(first + TILE);
        unsigned used = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const unsigned token = four[i];
            if (first + i >= n || (token & (gridDim.x - 1)) != blockIdx.x) continue;
            if (token >= v) {
                if (blockIdx.y == 0) note_fault(fault, first + i, token);
                continue;
            }
            const unsigned place = atomicAdd(&count, 1u);
            list[place] = static_cast<u64>(token >> bits) << ROW_BITS | (first + i);
            used = place + 1;
        }
        // Another tile may not have room.
        const bool full = __syncthreads_or(used > LIST - TILE);
        if (!full && base + TILE < n) continue;
        const unsigned found = count;
        // Which waits until every thread knows it.
        sort_places(list, found);
        if (pairs)
            add_rows(list, found, reinterpret_cast<const float2 *>(dy), reinterpret_cast<float2 *>(dtable), d / 2);
        else
            add_rows(list, found, dy, dtable, d);
        if (threadIdx.x == 0) count = 0;
        __syncthreads();
    }
}
