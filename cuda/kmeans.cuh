// What the search for the nearest centroid is about, and the bounds by which it is exact.
//
// As in src/backend/simd/spans/kmeans.rs: with the centre m, x' = x - m and c' = c - m,
//
//     |x - c|^2 = |x'|^2 + 2 S(c),        S(c) = |c'|^2 / 2 - x' . c'
//
// Scores S come from the tensor cores in tolerance, as lower bounds; a row whose second score lies above the upper bound of its
// first has but one nearest centroid, and the others, few, are decided in f64 (`kmeans_exact`).
//
// A float is the sum of two f16, each rounded from what the one before leaves: high and low, of which three products matter,
//
//     high low + low high + high high.
//
// f16 has a short range. So rows and centroids are multiplied by a power of two, `scale`, by which the largest number of the
// centroids comes to 2^10 or more, below 2^11; all that follows is in that unit. A row with a number above 32 times as much has
// infinities, its scores are NaN, and f64 decides. With u = 2^-24, what a score is off by, in terms of |x'| |c'|:
//
//    10 u   x' and c', each rounded to f32, u, and split: 2^-11 of what is 2^-11 of it, 4 u
//     4 u   what is left out, low low: 2^-11 2^-11
//    38 u   sums of 16 columns by the tensor cores: of 17 terms each may lose what lies below 2^-23 of the largest, and the sum
//           as much (Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021): 18 * 2 u; sums of low parts are small
//  d/16 u   these sums added up as f32 is
//
// Taken as if the tensor cores' sums had two bits less, 152 u, and with 70 u for the norms, the heads and the bounds themselves,
// which need half of that: r = (d / 16 + 236) u, a = r / (1 - r) (1 + 2 r). And the tensor cores may take an f16 below 2^-14 for 0: a
// number may be off by 2^-13, and with e = 2^-12 the score is off by no more than
//
//     E(c) = a (|c'|^2 / 2 + |x'| |c'|) + sqrt(d) e (|x'| + |c'|) + 4 d e^2.
//
// As on the CPU, (d / 4 + 16) 2^-53 |x'|^2 is added to the upper bound: so far distances in f64 may be off.
#pragma once
#include "float_tiles.cuh"

/// Centroids of a tile. Those past the last are infinitely far away.
constexpr int TILE = 128;
/// Columns of a stage, of which a row of f16 takes 64 bytes; a side of it has a plane of the high and one of the low parts.
constexpr int DEPTH = 32, PLANE = TILE * DEPTH * 2, SIDE = 2 * PLANE;
/// One side of a stage is laid out as those of products of floats are.
using Side = FloatSide<TILE, true, 256>;
static_assert(Side::PLANE == PLANE && Side::DEPTH == DEPTH, "the same stages");

/// In what unit scores are, and how many rows f64 has to decide.
struct Frame {
    double scale, inverse_square;
    u64 doubtful;
};

/// Of a row, among some of the centroids: the two least scores, whose the least is, and |x'|^2.
struct __align__(16) Found {
    float first, second;
    unsigned label;
    float squares;
};

struct Search {
    const float *x;
    /// Rows to look at, ascending, or NULL: all.
    const unsigned *rows;
    /// Of whole stages of numbers: zeros, where rows are not centred.
    const float *centre;
    Frame *frame;
    /// Where rows are narrow, -c'[k, width] as f32; else stages [tiles][stages] of high and low parts.
    const void *packed;
    /// [tiles]: where scores begin, |c'|^2 / 2 less the part of E(c) that does not depend on the row; and what |x'| is multiplied
    /// by in E(c).
    const float (*heads)[2][TILE];
    /// [slices of the tiles][count].
    Found *found;
    u64 n, count, d, k, tiles_of_slice;
    /// Makes an upper bound of a norm; numbers that are so small that they vanish add up to less than the second.
    float rounding, smallest;
};

/// The row of x that comes as number i of those to look at. One outside of x was noted as a fault.
__device__ __forceinline__ u64 row_number(const Search &p, u64 i) {
    return p.rows ? min(static_cast<u64>(p.rows[i]), p.n - 1) : i;
}

/// At least |x'|.
__device__ __forceinline__ float norm_of(const Search &p, float squares) {
    return __fmul_rn(__fsqrt_rn(__fadd_rn(squares, p.smallest)), p.rounding);
}

/// The two least scores so far, and whose the least is. Of a row all scores are NaN or -infinity, or none is.
struct Least {
    float first = __uint_as_float(0x7F800000u), second = __uint_as_float(0x7F800000u);
    unsigned label = 0;

    __device__ __forceinline__ void take(float score, unsigned number) {
        second = fminf(second, fmaxf(score, first));
        label = score < first ? number : label;
        first = fminf(first, score);
    }

    __device__ __forceinline__ void join(float other, float other_second, unsigned other_label) {
        second = fminf(fminf(second, other_second), fmaxf(first, other));
        label = other < first ? other_label : label;
        first = fminf(first, other);
    }
};

/// A pair of floats as f16: their high and their low parts.
struct Halves {
    unsigned high, low;
};

__device__ __forceinline__ Halves split_halves(float x, float y) {
    const unsigned high = pack_f16(x, y);
    const float2 rounded = unpack_f16(high);
    return {high, pack_f16(__fsub_rn(x, rounded.x), __fsub_rn(y, rounded.y))};
}

/// Squared distances by the definition, in f64. In a group of eight lanes, each has one lane of the sums: (x - c)^2, rounded
/// twice, of its columns of some rows and centroids, added up; then all of them have the fold of the eight. Which of two numbers
/// is added to which makes no difference.
template <int ROWS, int CENTROIDS>
__device__ __forceinline__ void exact_distances(const float *const (&rows)[ROWS], const double *const (&centroids)[CENTROIDS],
                                                u64 d, double (&sums)[ROWS][CENTROIDS]) {
#pragma unroll 2
    for (u64 j = lane_number() % 8; j < d; j += 8) {
        double c[CENTROIDS];
#pragma unroll
        for (int i = 0; i < CENTROIDS; ++i) c[i] = centroids[i][j];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const double x = rows[r][j];
#pragma unroll
            for (int i = 0; i < CENTROIDS; ++i) {
                const double difference = __dadd_rn(x, -c[i]);
                sums[r][i] = __dadd_rn(sums[r][i], __dmul_rn(difference, difference));
            }
        }
    }
#pragma unroll
    for (int away = 4; away > 0; away /= 2)
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int i = 0; i < CENTROIDS; ++i)
                sums[r][i] = __dadd_rn(sums[r][i], __shfl_xor_sync(ALL_LANES, sums[r][i], away));
}
