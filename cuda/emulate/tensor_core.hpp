// What tensor_core.cuh does by instructions of PTX: products of fragments, loads of matrices, copies that run beside the
// thread. The layouts are those of the PTX manual ("Matrix Fragments for mma.m16n8k32" and so on): with group = lane / 4
// and place = lane mod 4, lane (group, place) holds rows group and group + 8 of A and D, and column group of B.
#pragma once
#include <algorithm>
#include <vector>

namespace emulate {

inline float from_bf16(unsigned bits) { return from_bits<float>(uint64_t(bits & 0xFFFF) << 16); }

inline float from_f16(unsigned bits) {
    const unsigned exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float sign = bits & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 0) return sign * float(fraction) * 0x1p-24f;
    return sign * from_bits<float>(uint64_t(exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13);
}

/// Rounded to nearest, ties to even.
inline unsigned to_f16(float x) {
    const unsigned bits = unsigned(to_bits(x)), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (x != x) return 0x7FFF;
    if (std::fabs(x) >= 65520.0f) return sign | 0x7C00;
    if (std::fabs(x) < 0x1p-14f) return sign | unsigned(std::rint(std::fabs(x) * 0x1p24f));
    return sign | (((magnitude + 0xFFF + (magnitude >> 13 & 1)) >> 13) - (112 << 10));
}

/// Every lane's in[0..4] hold A, in[4..6] B, in[6..10] C; out[0..4] are D.
template <class Sum, class Product>
void perform_product(Warp &warp, unsigned mask, Product product) {
    if (mask != ~0u) fail("mma takes the whole warp");
    lanes(warp, mask, [&](unsigned lane, Thread &thread) {
        for (unsigned i = 0; i < 4; ++i) {
            unsigned row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
            thread.out[i] = to_bits(product(row, column, from_bits<Sum>(thread.in[6 + i])));
        }
    });
}

/// The fragments as matrices, a[16][DEPTH] and, turned, b[8][DEPTH], of elements of sizeof(T) bytes.
template <class T, unsigned DEPTH>
struct Fragments {
    static constexpr unsigned EACH = 4 / sizeof(T);
    T a[16][DEPTH], b[8][DEPTH];

    explicit Fragments(Warp &warp) {
        for (unsigned lane = 0; lane < WARP; ++lane)
            for (unsigned half = 0; half < 2; ++half) {
                const Thread &thread = warp.threads[lane];
                unsigned k = half * DEPTH / 2 + lane % 4 * EACH;
                memcpy(&a[lane / 4][k], &thread.in[2 * half], 4);
                memcpy(&a[lane / 4 + 8][k], &thread.in[2 * half + 1], 4);
                memcpy(&b[lane / 4][k], &thread.in[4 + half], 4);
            }
    }
};

/// Element (row, k) of A and (k, column) of B, int8, 16 x 32 and 32 x 8.
inline void perform_mma_s8(Warp &warp, unsigned mask) {
    const Fragments<int8_t, 32> of(warp);
    perform_product<int>(warp, mask, [&](unsigned row, unsigned column, int start) {
        int sum = 0;
        for (unsigned k = 0; k < 32; ++k) sum += of.a[row][k] * of.b[column][k];
        return int(unsigned(start) + unsigned(sum));
    });
}

/// Towards zero, as the hardware has its sums.
inline float truncated(double sum) {
    float rounded = float(sum);
    return std::fabs(double(rounded)) > std::fabs(sum) ? std::nextafter(rounded, 0.0f) : rounded;
}

/// bf16, 16 x 16 and 16 x 8. The products are exact, and their sum is truncated once, at the end; the hardware may lose more on
/// the way.
inline void perform_mma_bf16(Warp &warp, unsigned mask) {
    const Fragments<uint16_t, 16> of(warp);
    perform_product<float>(warp, mask, [&](unsigned row, unsigned column, float start) {
        double sum = start;
        for (unsigned k = 0; k < 16; ++k) sum += double(from_bf16(of.a[row][k])) * double(from_bf16(of.b[column][k]));
        return truncated(sum);
    });
}

/// f16, 16 x 16 and 16 x 8. The products are exact; each, and what the sum starts from, loses what lies below 2^-23 of the unit
/// of the largest, and the sum is truncated.
inline void perform_mma_f16(Warp &warp, unsigned mask) {
    const Fragments<uint16_t, 16> of(warp);
    float a[16][16], b[8][16];
    for (unsigned k = 0; k < 16; ++k) {
        for (unsigned row = 0; row < 16; ++row) a[row][k] = from_f16(of.a[row][k]);
        for (unsigned column = 0; column < 8; ++column) b[column][k] = from_f16(of.b[column][k]);
    }
    perform_product<float>(warp, mask, [&](unsigned row, unsigned column, float start) {
        float terms[17], largest = std::fabs(start), all = start;
        terms[16] = start;
        for (unsigned k = 0; k < 16; ++k) {
            terms[k] = a[row][k] * b[column][k];
            all += terms[k];
            largest = std::max(largest, std::fabs(terms[k]));
        }
        if (largest == 0 || !std::isfinite(all)) return all;
        const double unit = std::ldexp(1.0, std::ilogb(largest) - 23), inverse = 1 / unit;
        int64_t sum = 0;
        for (float term : terms) sum += int64_t(double(term) * inverse);
        return truncated(double(sum) * unit);
    });
}

template <class Sum>
void mma(Perform perform, Sum (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], const Sum (&c)[4]) {
    for (int i = 0; i < 4; ++i) current->in[i] = a[i];
    for (int i = 0; i < 2; ++i) current->in[4 + i] = b[i];
    for (int i = 0; i < 4; ++i) current->in[6 + i] = to_bits(c[i]);
    collective(perform, ~0u);
    for (int i = 0; i < 4; ++i) d[i] = from_bits<Sum>(current->out[i]);
}

/// ldmatrix.x4: lane 8 j + i brings the address of row i of matrix j, eight elements of 16 bits, and takes of every matrix
/// elements 2 (lane mod 4) and the next of row lane / 4; `transposed`, of column lane / 4.
template <bool transposed>
void perform_load_matrices(Warp &warp, unsigned mask) {
    if (mask != ~0u) fail("ldmatrix takes the whole warp");
    lanes(warp, mask, [&](unsigned, Thread &thread) {
        if (thread.in[0] % 16) fail("ldmatrix: the address of a row is no multiple of 16");
    });
    lanes(warp, mask, [&](unsigned lane, Thread &thread) {
        for (unsigned j = 0; j < 4; ++j) {
            uint16_t pair[2];
            for (unsigned i = 0; i < 2; ++i) {
                unsigned row = transposed ? lane % 4 * 2 + i : lane / 4, column = transposed ? lane / 4 : lane % 4 * 2 + i;
                auto matrix = reinterpret_cast<const uint16_t *>(warp.threads[8 * j + row].in[0]);
                pair[i] = matrix[column];
            }
            thread.out[j] = uint64_t(pair[1]) << 16 | pair[0];
        }
    });
}

template <bool transposed>
void load_matrices(unsigned (&d)[4], const void *row) {
    current->in[0] = reinterpret_cast<uint64_t>(row);
    collective(perform_load_matrices<transposed>, ~0u);
    for (int i = 0; i < 4; ++i) d[i] = unsigned(current->out[i]);
}

/// Copies that cp.async began: they are done when they are waited for, so that what is read before is poison.
struct Copy {
    void *to;
    const void *from;
    bool inside;
};
struct Copies {
    std::vector<Copy> open;
    std::vector<std::vector<Copy>> groups;
};
inline Copies copies[MAX_THREADS];

inline Copies &own_copies() { return copies[current->warp->number * WARP + current->lane]; }

/// 16 bytes; zeros where not `inside`.
inline void copy_async(void *to, const void *from, bool inside) {
    if (reinterpret_cast<uint64_t>(to) % 16) fail("cp.async: the shared address is not aligned");
    if (inside && reinterpret_cast<uint64_t>(from) % 16) fail("cp.async: the global address is not aligned");
    memset(to, POISON, 16);
    own_copies().open.push_back(Copy{to, from, inside});
}

inline void copy_async_commit() {
    own_copies().groups.push_back(std::move(own_copies().open));
    own_copies().open.clear();
}

/// Waits until at most `pending` of the groups last committed are not done.
inline void copy_async_wait(unsigned pending) {
    auto &groups = own_copies().groups;
    while (groups.size() > pending) {
        for (const Copy &copy : groups.front()) {
            if (copy.inside) memcpy(copy.to, copy.from, 16);
            else memset(copy.to, 0, 16);
        }
        groups.erase(groups.begin());
    }
}

}  // namespace emulate
