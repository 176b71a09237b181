// The numbers of CUDA C++: intrinsics on integers and floats. The roundings are those of IEEE 754, as on the device.
#pragma once

template <class T>
T __ldg(const T *address) { return *address; }

// --- integers --------------------------------------------------------------------------------------------------------

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }

/// sum plus the products of four signed bytes each.
inline int __dp4a(int a, int b, int sum) {
    unsigned total = unsigned(sum);
    for (int i = 0; i < 4; ++i) total += unsigned(int8_t(a >> 8 * i) * int8_t(b >> 8 * i));
    return int(total);
}

/// Four bytes of the eight in (y, x), by the low three bits of each nibble; the fourth bit spreads the byte's sign: prmt of PTX.
inline unsigned permuted_bytes(unsigned x, unsigned y, unsigned selector) {
    uint64_t bytes = uint64_t(y) << 32 | x;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) {
        unsigned nibble = selector >> 4 * i & 15;
        unsigned byte = unsigned(bytes >> 8 * (nibble & 7)) & 255;
        if (nibble & 8) byte = byte & 128 ? 255 : 0;
        result |= byte << 8 * i;
    }
    return result;
}

/// The same without the fourth bits, which the compiler takes away.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    return permuted_bytes(x, y, selector & 0x7777);
}

inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned(uint64_t(x) * y >> 32); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}

#define EMULATE_SMALLER_AND_LARGER(type)                                                                               \
    inline type min(type a, type b) { return b < a ? b : a; }                                                          \
    inline type max(type a, type b) { return a < b ? b : a; }
EMULATE_SMALLER_AND_LARGER(int)
EMULATE_SMALLER_AND_LARGER(unsigned)
EMULATE_SMALLER_AND_LARGER(unsigned long long)

// --- floats ----------------------------------------------------------------------------------------------------------

inline unsigned __float_as_uint(float x) { return emulate::from_bits<unsigned>(emulate::to_bits(x)); }
inline float __uint_as_float(unsigned x) { return emulate::from_bits<float>(emulate::to_bits(x)); }
inline double __longlong_as_double(long long x) { return emulate::from_bits<double>(emulate::to_bits(x)); }

inline long long __double_as_longlong(double x) { return emulate::from_bits<long long>(emulate::to_bits(x)); }

inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }

/// The sum rounded down: the one that is rounded to nearest, or the one below it where that is too large.
inline float __fadd_rd(float x, float y) {
    const float sum = x + y, of_y = sum - x, error = (x - (sum - of_y)) + (y - of_y);
    return error < 0.0f ? std::nextafter(sum, -HUGE_VALF) : sum;
}
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __drcp_rn(double x) { return 1.0 / x; }
inline double __dsqrt_rn(double x) { return sqrt(x); }

namespace emulate {
/// Conversions on the device keep to the nearest end of the type, and make 0 of NaN.
inline int saturated(double x) {
    using Limits = std::numeric_limits<int>;
    if (std::isnan(x)) return 0;
    return x <= Limits::min() ? Limits::min() : x >= Limits::max() ? Limits::max() : int(x);
}
}  // namespace emulate

inline int __float2int_rn(float x) { return emulate::saturated(rintf(x)); }
inline int __float2int_rz(float x) { return emulate::saturated(truncf(x)); }
inline float __double2float_rn(double x) { return float(x); }
inline float __double2float_rd(double x) { return float(x) > x ? std::nextafter(float(x), -HUGE_VALF) : float(x); }
inline float __double2float_ru(double x) { return -__double2float_rd(-x); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline double __ull2double_rn(unsigned long long x) { return double(x); }
