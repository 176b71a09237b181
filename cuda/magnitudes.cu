// The schemes that rank magnitudes, `absmedian` and `least_squares`. Groups of up to 8 weights are sorted by a thread, those of up
// to 1024 in the registers of a warp. Longer ones are looked at several times: by a block of threads for each group, or, where
// groups are few and long, by the whole device for each.
#include "magnitudes.cuh"

constexpr int WARPS = THREADS / 32;

// --- groups in the registers of a thread -----------------------------------------------------------------------------

constexpr int TINY = 8;

/// The bits of the magnitudes of a group, and zeros.
__device__ __forceinline__ void load_tiny(const float *w, const Range &range, unsigned (&v)[TINY]) {
#pragma unroll
    for (int i = 0; i < TINY; ++i) v[i] = i < static_cast<int>(range.count) ? magnitude(w[range.start + i]) : 0;
    sort_thread(v);
}

extern "C" __global__ void __launch_bounds__(THREADS)
absmedian_8(const float *w, Groups groups, float *thresholds, float *scales) {
    for (u64 group = global_thread(); group < groups.rows * groups.per_row; group += global_threads()) {
        const Range range = weights_of(groups, group);
        unsigned v[TINY], median = 0;
        load_tiny(w, range, v);
        // In descending order the lower median of n is number floor(n / 2).
#pragma unroll
        for (int i = 0; i <= TINY / 2; ++i)
            if (i == static_cast<int>(range.count / 2)) median = v[i];
        set_scale(thresholds, scales, group, median_scale(median, v[0]));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
least_squares_8(const float *w, Groups groups, float *thresholds, float *scales) {
    for (u64 group = global_thread(); group < groups.rows * groups.per_row; group += global_threads()) {
        unsigned v[TINY];
        load_tiny(w, weights_of(groups, group), v);
        const int exponent = exponent_of(max(v[0], 1u));
        u64 sum = 0;
        // See `least_squares_warps`.
        Best best = {-1.0, 1, 0};
#pragma unroll
        for (int i = 0; i < TINY; ++i) {
            sum += integer_of(v[i], exponent);
            best = better(best, best_of(i + 1, sum));
        }
        set_scale(thresholds, scales, group, scale_of(best, v[0]));
    }
}

// --- groups in the registers of a warp -------------------------------------------------------------------------------

/// The bits of the magnitudes of a group of at most 32 * EACH weights, in any order, and zeros; the largest of them in `largest`.
template <int EACH>
__device__ __forceinline__ void load_group(const float *w, const Range &range, unsigned (&v)[EACH], unsigned &largest) {
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const unsigned at = lane_number() + 32 * i;
        v[i] = at < range.count ? magnitude(w[range.start + at]) : 0;
    }
    largest = 0;
#pragma unroll
    for (int i = 0; i < EACH; ++i) largest = max(largest, v[i]);
    largest = __reduce_max_sync(ALL_LANES, largest);
}

template <int EACH>
__device__ __forceinline__ void absmedian_warps(const float *w, const Groups &groups, float *thresholds, float *scales) {
    const u64 count = groups.rows * groups.per_row, warps = static_cast<u64>(gridDim.x) * WARPS;
    for (u64 group = static_cast<u64>(blockIdx.x) * WARPS + warp_number(); group < count; group += warps) {
        const Range range = weights_of(groups, group);
        unsigned v[EACH], largest, median = 0;
        load_group(w, range, v, largest);
        sort_warp(v);
        const unsigned rank = static_cast<unsigned>(range.count / 2);
#pragma unroll
        for (unsigned i = 0; i < EACH; ++i)
            if (rank % EACH == i) median = v[i];
        median = __shfl_sync(ALL_LANES, median, rank / EACH);
        if (lane_number() == 0) set_scale(thresholds, scales, group, median_scale(median, largest));
    }
}

template <int EACH>
__device__ __forceinline__ void least_squares_warps(const float *w, const Groups &groups, float *thresholds, float *scales) {
    const u64 count = groups.rows * groups.per_row, warps = static_cast<u64>(gridDim.x) * WARPS;
    for (u64 group = static_cast<u64>(blockIdx.x) * WARPS + warp_number(); group < count; group += warps) {
        const Range range = weights_of(groups, group);
        unsigned v[EACH], largest;
        load_group(w, range, v, largest);
        const int exponent = exponent_of(max(largest, 1u));
#pragma unroll
        for (int i = 0; i < EACH; ++i) v[i] = integer_of(v[i], exponent);
        sort_warp(v);
        u64 sum = 0;
#pragma unroll
        for (int i = 0; i < EACH; ++i) sum += v[i];
        sum = warp_sums(sum) - sum;
        // That m_k > m_(k+1) need not be asked: in a run of equal integers f is convex, and where its slope is 0 its curvature is
        // f / (2 k^2), so that inside of the run it is below the larger of the ends by more than roundings, for such k. Of
        // the zeros past the end, f is no better and k is larger.
        Best best = {-1.0, 1, 0};
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
            sum += v[i];
            best = better(best, best_of(lane_number() * EACH + i + 1, sum));
        }
        best = best_of_warp(best);
        if (lane_number() == 0) set_scale(thresholds, scales, group, scale_of(best, largest));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
absmedian_32(const float *w, Groups groups, float *thresholds, float *scales) {
    absmedian_warps<1>(w, groups, thresholds, scales);
}

extern "C" __global__ void __launch_bounds__(THREADS)
absmedian_128(const float *w, Groups groups, float *thresholds, float *scales) {
    absmedian_warps<4>(w, groups, thresholds, scales);
}

extern "C" __global__ void __launch_bounds__(THREADS)
absmedian_256(const float *w, Groups groups, float *thresholds, float *scales) {
    absmedian_warps<8>(w, groups, thresholds, scales);
}

extern "C" __global__ void __launch_bounds__(THREADS)
absmedian_512(const float *w, Groups groups, float *thresholds, float *scales) {
    absmedian_warps<16>(w, groups, thresholds, scales);
}

extern "C" __global__ void __launch_bounds__(THREADS)
absmedian_1024(const float *w, Groups groups, float *thresholds, float *scales) {
    absmedian_warps<32>(w, groups, thresholds, scales);
}

extern "C" __global__ void __launch_bounds__(THREADS)
least_squares_32(const float *w, Groups groups, float *thresholds, float *scales) {
    least_squares_warps<1>(w, groups, thresholds, scales);
}

extern "C" __global__ void __launch_bounds__(THREADS)
least_squares_128(const float *w, Groups groups, float *thresholds, float *scales) {
    least_squares_warps<4>(w, groups, thresholds, scales);
}

extern "C" __global__ void __launch_bounds__(THREADS)
least_squares_256(const float *w, Groups groups, float *thresholds, float *scales) {
    least_squares_warps<8>(w, groups, thresholds, scales);
}

extern "C" __global__ void __launch_bounds__(THREADS)
least_squares_512(const float *w, Groups groups, float *thresholds, float *scales) {
    least_squares_warps<16>(w, groups, thresholds, scales);
}

extern "C" __global__ void __launch_bounds__(THREADS)
least_squares_1024(const float *w, Groups groups, float *thresholds, float *scales) {
    least_squares_warps<32>(w, groups, thresholds, scales);
}

// --- the median of long groups ---------------------------------------------------------------------------------------

/// The median is found from its highest bits on: 11 of 31, then 10, then 10, by counting the magnitudes that begin with what is
/// known and have each of the next digits.
constexpr unsigned DIGITS = 2048;
constexpr unsigned SELECT_THREADS = 1024;

__device__ __forceinline__ unsigned digit_shift(int pass) { return 20 - 10 * pass; }

/// Whether the bits begin with what the passes before have found, which is 0 at first, and the digit of this pass.
__device__ __forceinline__ bool has_digit(unsigned bits, int pass, unsigned known, unsigned &digit) {
    digit = bits >> digit_shift(pass);
    if (pass == 0) return true;
    const bool begins = digit >> 10 == known;
    digit &= 1023;
    return begins;
}

/// What is known of the median after a pass: its first bits, and its number, in ascending order, among the magnitudes that have
/// them. And whether all are finite.
struct Selection {
    u64 rank;
    unsigned known, infinite;
};

/// Takes the digit of this pass, by a block of 1024 threads, each of which has the counts of the digits 2 t and 2 t + 1; all of
/// them get the selection.
__device__ inline Selection select_digit(Selection before, int pass, u64 first, u64 second) {
    __shared__ Selection after;
    u64 all;
    const u64 start = block_sums(first + second, all), rank = before.rank;
    const unsigned digit = 2 * threadIdx.x;
    if (pass == 0) before.infinite = __syncthreads_or(digit >= INFINITE >> 20 && first + second > 0);
    const unsigned known = before.known << 10;
    if (start <= rank && rank < start + first) after = {rank - start, known | digit, before.infinite};
    if (start + first <= rank && rank < start + first + second)
        after = {rank - start - first, known | (digit + 1), before.infinite};
    __syncthreads();
    const Selection found = after;
    __syncthreads();
    return found;
}

/// Before the first pass.
__device__ __forceinline__ Selection whole_selection(u64 count) { return {(count - 1) / 2, 0, 0}; }

__device__ __forceinline__ float scale_of(const Selection &selection) {
    return median_scale(selection.known, selection.infinite ? INFINITE : 0);
}

/// A block of threads for each group; there are fewer than 2^32 weights in one.
extern "C" __global__ void __launch_bounds__(SELECT_THREADS)
absmedian_groups(const float *w, Groups groups, float *thresholds, float *scales) {
    __shared__ unsigned counts[DIGITS];
    for (u64 group = blockIdx.x; group < groups.rows * groups.per_row; group += gridDim.x) {
        const Range range = weights_of(groups, group);
        Selection selection = whole_selection(range.count);
        for (int pass = 0; pass < 3; ++pass) {
            for (unsigned i = threadIdx.x; i < DIGITS; i += SELECT_THREADS) counts[i] = 0;
            __syncthreads();
            each_weight(w + range.start, range.count, [&](float weight) {
                unsigned digit;
                if (has_digit(magnitude(weight), pass, selection.known, digit)) atomicAdd(counts + digit, 1u);
            });
            __syncthreads();
            selection = select_digit(selection, pass, counts[2 * threadIdx.x], counts[2 * threadIdx.x + 1]);
        }
        if (threadIdx.x == 0) set_scale(thresholds, scales, group, scale_of(selection));
    }
}

/// Adds to counts[DIGITS]. Of one group, by the whole device.
extern "C" __global__ void __launch_bounds__(SELECT_THREADS)
absmedian_counts(const float *w, u64 count, int pass, const Selection *selection, u64 *counts) {
    __shared__ unsigned here[DIGITS];
    constexpr u64 PART = 1 << 16;
    for (unsigned i = threadIdx.x; i < DIGITS; i += SELECT_THREADS) here[i] = 0;
    __syncthreads();
    const unsigned known = selection->known;
    for (u64 start = blockIdx.x * PART; start < count; start += gridDim.x * PART)
        each_weight(w + start, min(count - start, PART), [&](float weight) {
            unsigned digit;
            if (has_digit(magnitude(weight), pass, known, digit)) atomicAdd(here + digit, 1u);
        });
    __syncthreads();
    for (unsigned i = threadIdx.x; i < DIGITS; i += SELECT_THREADS)
        if (here[i] > 0) atomicAdd(counts + i, static_cast<u64>(here[i]));
}

/// Takes the digit of a pass, and empties the counts for the next; after the last there is a scale. One block of threads.
extern "C" __global__ void __launch_bounds__(SELECT_THREADS)
absmedian_select(u64 count, int pass, u64 group, u64 *counts, Selection *selection, float *thresholds, float *scales) {
    const Selection before = pass == 0 ? whole_selection(count) : *selection;
    u64 *const own = counts + 2 * threadIdx.x;
    const Selection after = select_digit(before, pass, own[0], own[1]);
    own[0] = own[1] = 0;
    if (threadIdx.x != 0) return;
    *selection = after;
    if (pass == 2) set_scale(thresholds, scales, group, scale_of(after));
}

// --- the least squares of long groups, a block of threads each -------------------------------------------------------

/// Integers that are sorted at a time.
constexpr unsigned SORTED = 8192;

/// Gathers the integers from low to below high into found[SORTED], and returns how many there are, which may be more.
__device__ __forceinline__ unsigned gather(const float *w, u64 count, int exponent, unsigned low, unsigned high,
                                           unsigned *found) {
    __shared__ unsigned number;
    __syncthreads();
    if (threadIdx.x == 0) number = 0;
    __syncthreads();
    each_weight(w, count, [&](float weight) {
        const unsigned m = integer_of(magnitude(weight), exponent);
        if (low <= m && m < high) {
            const unsigned place = atomicAdd(&number, 1u);
            if (place < SORTED) found[place] = m;
        }
    });
    __syncthreads();
    return number;
}

/// The best of `best` and of all k among found[count], after `k` integers with the sum `sum`; each thread looks at its
/// part. `all` becomes the sum of what was found.
__device__ __forceinline__ Best best_of_found(Best best, unsigned *found, unsigned count, u64 k, u64 sum, u64 &all) {
    sort_shared(found, count);
    const unsigned each = (count + blockDim.x - 1) / blockDim.x;
    const unsigned start = min(count, each * threadIdx.x), end = min(count, start + each);
    u64 own = 0;
    for (unsigned i = start; i < end; ++i) own += found[i];
    const u64 before = block_sums(own, all);
    return best_in_order(best, k, sum + before, start, end, count, [=](u64 i) { return found[i]; });
}

/// A block of threads for each group; there are fewer than 2^32 weights in one.
extern "C" __global__ void __launch_bounds__(INTERVAL_THREADS)
least_squares_groups(const float *w, Groups groups, float *thresholds, float *scales) {
    // First the histogram, then what is to be sorted.
    __shared__ unsigned memory[SORTED];
    static_assert(3 * BINS <= SORTED, "the histogram has room");
    const Histogram histogram = {memory, memory + BINS, memory + 2 * BINS};
    for (u64 group = blockIdx.x; group < groups.rows * groups.per_row; group += gridDim.x) {
        const Range range = weights_of(groups, group);
        const float *const from = w + range.start;
        unsigned largest = 0;
        each_weight(from, range.count, [&](float weight) { largest = max(largest, magnitude(weight)); });
        largest = block_max(largest);
        if (largest == 0 || largest >= INFINITE) {
            if (threadIdx.x == 0) set_scale(thresholds, scales, group, scale_of(Best(), largest));
            continue;
        }
        const int exponent = exponent_of(largest);
        u64 counts[2] = {0, 0}, sums[2] = {0, 0};
        for (u64 start = 0; start < range.count; start += HISTOGRAM) {
            __syncthreads();
            histogram.clear();
            __syncthreads();
            each_weight(from + start, min(range.count - start, static_cast<u64>(HISTOGRAM)),
                        [&](float weight) { histogram.add(integer_of(magnitude(weight), exponent)); });
            __syncthreads();
            for (int i = 0; i < 2 && has_bins(); ++i) {
                counts[i] += histogram.counts[bin_of_thread(i)];
                sums[i] += histogram.sum(bin_of_thread(i));
            }
        }
        const Interval interval = interval_of(counts, sums);
        Best best = interval.best;
        u64 k = interval.k, sum = interval.sum;
        // From the largest on, as many integers at a time as can be sorted: most often all that there are.
        unsigned high = interval.high, span = high - interval.low;
        while (high > interval.low) {
            const unsigned low = high - min(span, high - interval.low);
            const unsigned found = gather(from, range.count, exponent, low, high, memory);
            u64 all = static_cast<u64>(found) * low;
            if (found <= SORTED) {
                best = best_of_found(best, memory, found, k, sum, all);
            } else if (high - low > 1) {
                span = (high - low) / 2;
                continue;
            } else {
                best = better(best, best_of(k + found, sum + all));
            }
            k += found;
            sum += all;
            high = low;
            span = min(2 * span, 0x40000000u);
        }
        best = best_of_block(best);
        if (threadIdx.x == 0) set_scale(thresholds, scales, group, scale_of(best, largest));
    }
}

// --- the least squares of one long group, by the whole device --------------------------------------------------------

/// What is known of the group, zeros at first.
struct Search {
    Interval interval;
    /// How many of the interval's integers have been gathered.
    u64 gathered;
    unsigned largest;
};

extern "C" __global__ void __launch_bounds__(THREADS) largest_magnitude(const float *w, u64 count, Search *search) {
    unsigned largest = 0;
    constexpr u64 PART = 8 * THREADS;
    for (u64 start = blockIdx.x * PART; start < count; start += gridDim.x * PART)
        each_weight(w + start, min(count - start, PART), [&](float weight) { largest = max(largest, magnitude(weight)); });
    largest = block_max(largest);
    if (threadIdx.x == 0) atomicMax(&search->largest, largest);
}

/// Whether there is anything to search.
__device__ __forceinline__ bool has_best(const Search *search) { return search->largest > 0 && search->largest < INFINITE; }

/// Adds to counts[BINS] and sums[BINS].
extern "C" __global__ void __launch_bounds__(INTERVAL_THREADS)
least_squares_histogram(const float *w, u64 count, const Search *search, u64 *counts, u64 *sums) {
    __shared__ unsigned memory[3 * BINS];
    const Histogram histogram = {memory, memory + BINS, memory + 2 * BINS};
    if (!has_best(search)) return;
    const int exponent = exponent_of(search->largest);
    for (u64 start = static_cast<u64>(blockIdx.x) * HISTOGRAM; start < count; start += static_cast<u64>(gridDim.x) * HISTOGRAM) {
        __syncthreads();
        histogram.clear();
        __syncthreads();
        each_weight(w + start, min(count - start, static_cast<u64>(HISTOGRAM)),
                    [&](float weight) { histogram.add(integer_of(magnitude(weight), exponent)); });
        __syncthreads();
        for (unsigned bin = threadIdx.x; bin < BINS; bin += blockDim.x)
            if (histogram.counts[bin] > 0) {
                atomicAdd(counts + bin, static_cast<u64>(histogram.counts[bin]));
                atomicAdd(sums + bin, histogram.sum(bin));
            }
    }
}

/// One block of threads.
extern "C" __global__ void __launch_bounds__(INTERVAL_THREADS)
least_squares_interval(const u64 *counts, const u64 *sums, Search *search) {
    if (!has_best(search)) return;
    u64 own_counts[2] = {0, 0}, own_sums[2] = {0, 0};
    for (int i = 0; i < 2 && has_bins(); ++i) {
        own_counts[i] = counts[bin_of_thread(i)];
        own_sums[i] = sums[bin_of_thread(i)];
    }
    const Interval interval = interval_of(own_counts, own_sums);
    if (threadIdx.x == 0) search->interval = interval;
}

/// keys[interval.count] become the integers of the interval, turned around for a sort in ascending order.
extern "C" __global__ void __launch_bounds__(THREADS)
least_squares_gather(const float *w, u64 count, Search *search, unsigned *keys) {
    constexpr int STEP = 8;
    constexpr u64 PART = STEP * THREADS;
    __shared__ u64 place;
    const unsigned low = search->interval.low, high = search->interval.high;
    if (low == high) return;
    const int exponent = exponent_of(search->largest);
    for (u64 start = blockIdx.x * PART; start < count; start += gridDim.x * PART) {
        unsigned integers[STEP], found = 0, all;
#pragma unroll
        for (int s = 0; s < STEP; ++s) {
            const u64 i = start + s * THREADS + threadIdx.x;
            integers[s] = i < count ? integer_of(magnitude(w[i]), exponent) : high;
            found += low <= integers[s] && integers[s] < high;
        }
        const unsigned before = block_sums(found, all);
        if (threadIdx.x == 0) place = all > 0 ? atomicAdd(&search->gathered, static_cast<u64>(all)) : 0;
        __syncthreads();
        u64 to = place + before;
#pragma unroll
        for (int s = 0; s < STEP; ++s)
            if (low <= integers[s] && integers[s] < high) keys[to++] = ~integers[s];
    }
}

/// Sorted integers that a block of threads looks at together.
constexpr unsigned TILE = 4096;

/// sums[ceil(gathered / TILE)].
extern "C" __global__ void __launch_bounds__(THREADS)
least_squares_sums(const unsigned *keys, const Search *search, u64 *sums) {
    const u64 count = search->gathered;
    for (u64 tile = blockIdx.x; tile * TILE < count; tile += gridDim.x) {
        u64 own = 0, all;
#pragma unroll 4
        for (u64 i = tile * TILE + threadIdx.x; i < min(count, (tile + 1) * TILE); i += THREADS) own += ~keys[i];
        block_sums(own, all);
        if (threadIdx.x == 0) sums[tile] = all;
    }
}

/// found[ceil(gathered / TILE)]: the best k of each tile; starts are the running sums of its sums.
extern "C" __global__ void __launch_bounds__(THREADS)
least_squares_tiles(const unsigned *keys, const Search *search, const u64 *starts, Best *found) {
    const u64 count = search->gathered, k = search->interval.k, sum = search->interval.sum;
    constexpr unsigned EACH = TILE / THREADS;
    for (u64 tile = blockIdx.x; tile * TILE < count; tile += gridDim.x) {
        const u64 start = min(count, tile * TILE + threadIdx.x * EACH), end = min(count, start + EACH);
        u64 own = 0, all;
        for (u64 i = start; i < end; ++i) own += ~keys[i];
        const u64 before = starts[tile] + block_sums(own, all);
        Best best = {-1.0, 1, 0};
        best = best_in_order(best, k, sum + before, start, end, count, [=](u64 i) { return ~keys[i]; });
        best = best_of_block(best);
        if (threadIdx.x == 0) found[tile] = best;
    }
}

/// One block of threads.
extern "C" __global__ void __launch_bounds__(INTERVAL_THREADS)
least_squares_scale(const Search *search, const Best *found, u64 group, float *thresholds, float *scales) {
    Best best = search->interval.best;
    for (u64 tile = threadIdx.x; tile * TILE < search->gathered; tile += blockDim.x) best = better(best, found[tile]);
    best = best_of_block(best);
    if (threadIdx.x == 0) set_scale(thresholds, scales, group, scale_of(best, search->largest));
}
