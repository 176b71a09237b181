// Tests of the emulation: it does what the device does, and finds what it promises to find. The driver: test_driver.cpp.
#include "testing.hpp"
#include <random>

using namespace testing;

void test_driver();

namespace {

std::mt19937 numbers(1);

// --- warps -----------------------------------------------------------------------------------------------------------

__global__ void all_shuffles(const unsigned *by, unsigned *out) {
    unsigned thread = threadIdx.x, value = thread * 1000;
    out[thread * 4] = __shfl_sync(~0u, value, int(by[thread]));
    out[thread * 4 + 1] = __shfl_up_sync(~0u, value, by[0]);
    out[thread * 4 + 2] = __shfl_down_sync(~0u, value, by[0]);
    out[thread * 4 + 3] = __shfl_xor_sync(~0u, value, int(by[0]));
}

void shuffles() {
    for (unsigned distance = 0; distance < 33; ++distance) {
        std::vector<unsigned> by(64);
        for (auto &b : by) b = numbers() % 32;
        by[0] = distance;
        Array<unsigned> from(by), out(256);
        LAUNCH(all_shuffles, 1, 64, 0, from.data(), out.data());
        auto found = out.values();
        for (unsigned thread = 0; thread < 64; ++thread) {
            // Where there is no such lane, the own value.
            unsigned base = thread / 32 * 32, lane = thread % 32;
            unsigned index = base + by[thread] % 32;
            unsigned up = lane >= distance ? thread - distance : thread;
            unsigned down = lane + distance < 32 ? thread + distance : thread;
            unsigned other = (lane ^ distance) < 32 ? base + (lane ^ distance) : thread;
            unsigned expected[] = {index * 1000, up * 1000, down * 1000, other * 1000};
            for (int kind = 0; kind < 4; ++kind)
                expect(found[thread * 4 + unsigned(kind)] == expected[kind],
                       "shuffle " + std::to_string(kind) + " by " + std::to_string(distance) + ", thread " +
                           std::to_string(thread));
        }
    }
}

__global__ void halves(double *out, unsigned *votes) {
    // The halves of a warp go different ways, and meet again.
    unsigned lane = threadIdx.x % 32;
    double value = lane;
    if (lane < 16) {
        for (int distance = 8; distance > 0; distance /= 2) value += __shfl_xor_sync(0x0000FFFFu, value, distance);
    } else {
        value = __shfl_sync(0xFFFF0000u, value, 31);
        votes[0] = __ballot_sync(0xFFFF0000u, lane % 2);
    }
    __syncwarp();
    out[threadIdx.x] = value + __shfl_down_sync(~0u, value, 16);
    votes[1] = __match_any_sync(~0u, threadIdx.x % 3 == 0);
    unsigned most = __reduce_max_sync(~0u, lane * 7 % 32), least = __reduce_min_sync(~0u, lane + 3);
    votes[2] = most + 100 * least + 10000 * __reduce_add_sync(~0u, lane);
}

void masks_and_votes() {
    Array<double> out(32);
    Array<unsigned> votes(3);
    LAUNCH(halves, 1, 32, 0, out.data(), votes.data());
    auto found = out.values();
    for (unsigned lane = 0; lane < 32; ++lane) expect(found[lane] == (lane < 16 ? 120 + 31 : 62), "halves of a warp");
    expect(votes.values()[0] == 0xAAAA0000u, "ballot");
    unsigned same = votes.values()[1];
    expect(same == 0x49249249u || same == ~0x49249249u, "match");
    expect(votes.values()[2] == 31 + 300 + 496 * 10000, "reductions");
}

__global__ void counts(int *out, unsigned *sum, unsigned long long *least) {
    int any = __syncthreads_or(threadIdx.x == 99), none = __syncthreads_or(threadIdx.x > 99);
    if (threadIdx.x == 77) out[0] = (any != 0) + 2 * (none != 0);
    atomicAdd(sum, threadIdx.x);
    atomicMin(least, 1000ull - threadIdx.x);
    atomicMax(reinterpret_cast<int *>(sum) + 1, int(threadIdx.x));
    atomicOr(sum + 2, threadIdx.x);
}

void barriers_and_atomics() {
    Array<int> out(1);
    Array<unsigned> sum(3);
    Array<unsigned long long> least(std::vector<unsigned long long>{~0ull});
    LAUNCH(counts, dim3(2, 2), dim3(100, 2), 0, out.data(), sum.data(), least.data());
    expect(out.values()[0] == 1, "any at barriers");
    // 4 blocks of 200 threads of which x is 0 .. 99, twice.
    expect(sum.values()[0] == 4 * 2 * 4950 && sum.values()[1] == 99 && sum.values()[2] == 127, "atomics");
    expect(least.values()[0] == 901, "atomicMin of 64 bits");
}

// --- tensor cores ----------------------------------------------------------------------------------------------------

__global__ void product_s8(const unsigned *a, const unsigned *b, int *c) {
    unsigned lane = threadIdx.x, left[4], right[2];
    int sum[4];
    for (int i = 0; i < 4; ++i) left[i] = a[lane * 4 + i];
    for (int i = 0; i < 2; ++i) right[i] = b[lane * 2 + i];
    for (int i = 0; i < 4; ++i) sum[i] = c[lane * 4 + i];
    emulate::mma(emulate::perform_mma_s8, sum, left, right, sum);
    for (int i = 0; i < 4; ++i) c[lane * 4 + i] = sum[i];
}

template <emulate::Perform perform>
void product_of_floats(const unsigned *a, const unsigned *b, float *c) {
    unsigned lane = threadIdx.x, left[4], right[2];
    float sum[4];
    for (int i = 0; i < 4; ++i) left[i] = a[lane * 4 + i];
    for (int i = 0; i < 2; ++i) right[i] = b[lane * 2 + i];
    for (int i = 0; i < 4; ++i) sum[i] = c[lane * 4 + i];
    emulate::mma(perform, sum, left, right, sum);
    for (int i = 0; i < 4; ++i) c[lane * 4 + i] = sum[i];
}
__global__ void product_bf16(const unsigned *a, const unsigned *b, float *c) {
    product_of_floats<emulate::perform_mma_bf16>(a, b, c);
}
__global__ void product_f16(const unsigned *a, const unsigned *b, float *c) {
    product_of_floats<emulate::perform_mma_f16>(a, b, c);
}

/// Where the PTX manual puts element i of a lane's fragment of A, by the number of elements in a register.
struct Place {
    unsigned row, column;
};
Place place_in_a(unsigned lane, unsigned i, unsigned per) {
    unsigned group = lane / 4, place = lane % 4, number = i / per;
    return Place{number % 2 == 0 ? group : group + 8, place * per + i % per + (number < 2 ? 0 : 4 * per)};
}
Place place_in_b(unsigned lane, unsigned i, unsigned per) {
    return Place{lane % 4 * per + i % per + (i < per ? 0 : 4 * per), lane / 4};
}
Place place_in_c(unsigned lane, unsigned i) { return Place{i < 2 ? lane / 4 : lane / 4 + 8, lane % 4 * 2 + i % 2}; }

/// A product of random matrices of small integers against the plain one; `encode` makes a register's part of a number.
template <class Sum, class Kernel>
void products(const char *name, unsigned per, unsigned (*encode)(int), Kernel kernel) {
    unsigned depth = 8 * per, bits = 32 / per;
    std::vector<int> a(16 * depth), b(depth * 8), c(128);
    for (auto *matrix : {&a, &b, &c})
        for (auto &x : *matrix) x = int(numbers() % 255) - 127;
    std::vector<unsigned> left(128), right(64);
    std::vector<Sum> sum(128);
    for (unsigned lane = 0; lane < 32; ++lane) {
        for (unsigned i = 0; i < 4 * per; ++i) {
            Place p = place_in_a(lane, i, per);
            left[lane * 4 + i / per] |= encode(a[p.row * depth + p.column]) << bits * (i % per) % 32;
        }
        for (unsigned i = 0; i < 2 * per; ++i) {
            Place p = place_in_b(lane, i, per);
            right[lane * 2 + i / per] |= encode(b[p.row * 8 + p.column]) << bits * (i % per) % 32;
        }
        for (unsigned i = 0; i < 4; ++i) sum[lane * 4 + i] = Sum(c[place_in_c(lane, i).row * 8 + place_in_c(lane, i).column]);
    }
    Array<unsigned> on_left(left), on_right(right);
    Array<Sum> total(sum);
    kernel(on_left.data(), on_right.data(), total.data());
    auto found = total.values();
    for (unsigned lane = 0; lane < 32; ++lane)
        for (unsigned i = 0; i < 4; ++i) {
            Place p = place_in_c(lane, i);
            int expected = c[p.row * 8 + p.column];
            for (unsigned k = 0; k < depth; ++k) expected += a[p.row * depth + k] * b[k * 8 + p.column];
            expect(found[lane * 4 + i] == Sum(expected), std::string(name) + ", lane " + std::to_string(lane));
        }
}

unsigned byte_of(int x) { return unsigned(x) & 255; }
unsigned bf16_of(int x) { return __float_as_uint(float(x)) >> 16; }
unsigned f16_of(int x) { return emulate::to_f16(float(x)); }

__global__ void rows_of_matrices(unsigned *out) {
    // Matrix j, row i, column k holds 100 j + 10 i + k.
    __shared__ __align__(16) uint16_t matrices[4][8][8];
    for (unsigned i = threadIdx.x; i < 256; i += 32)
        matrices[i / 64][i / 8 % 8][i % 8] = uint16_t(100 * (i / 64) + 10 * (i / 8 % 8) + i % 8);
    __syncwarp();
    unsigned plain[4], transposed[4];
    const void *row = matrices[threadIdx.x / 8][threadIdx.x % 8];
    emulate::load_matrices<false>(plain, row);
    emulate::load_matrices<true>(transposed, row);
    for (int j = 0; j < 4; ++j) {
        out[threadIdx.x * 8 + j] = plain[j];
        out[threadIdx.x * 8 + 4 + j] = transposed[j];
    }
}

void tensor_cores() {
    for (int repeat = 0; repeat < 3; ++repeat) {
        products<int>("mma of s8", 4, byte_of, [](auto a, auto b, auto c) { LAUNCH(product_s8, 1, 32, 0, a, b, c); });
        products<float>("mma of bf16", 2, bf16_of, [](auto a, auto b, auto c) { LAUNCH(product_bf16, 1, 32, 0, a, b, c); });
        products<float>("mma of f16", 2, f16_of, [](auto a, auto b, auto c) { LAUNCH(product_f16, 1, 32, 0, a, b, c); });
    }
    for (unsigned bits = 0; bits < 0x7C00; ++bits)
        expect(emulate::to_f16(emulate::from_f16(bits)) == bits, "f16 " + std::to_string(bits));
    expect(emulate::to_f16(-2049.0f) == 0xE800 && emulate::to_f16(2051.0f) == 0x6802, "ties of f16 go to even");
    expect(emulate::from_f16(0x0001) == 0x1p-24f && emulate::from_f16(0x7BFF) == 65504.0f, "the ends of f16");
    expect(emulate::to_f16(0x1.8p-24f) == 2 && emulate::to_f16(65520.0f) == 0x7C00, "f16 past its ends");
    Array<unsigned> out(256);
    LAUNCH(rows_of_matrices, 1, 32, 0, out.data());
    auto found = out.values();
    for (unsigned lane = 0; lane < 32; ++lane)
        for (unsigned j = 0; j < 4; ++j) {
            unsigned row = lane / 4, column = lane % 4 * 2, value = 100 * j + 10 * row + column;
            expect(found[lane * 8 + j] == (value | (value + 1) << 16), "ldmatrix");
            value = 100 * j + 10 * column + row;
            expect(found[lane * 8 + 4 + j] == (value | (value + 10) << 16), "ldmatrix, transposed");
        }
}

__global__ void copies(const float4 *from, float *out) {
    __shared__ float4 buffer[2][32];
    emulate::copy_async(&buffer[0][threadIdx.x], from + threadIdx.x, true);
    emulate::copy_async_commit();
    emulate::copy_async(&buffer[1][threadIdx.x], from + 32 + threadIdx.x, threadIdx.x % 2 == 0);
    emulate::copy_async_commit();
    emulate::copy_async_wait(1);
    out[threadIdx.x] = buffer[0][threadIdx.x].y;
    out[32 + threadIdx.x] = buffer[1][threadIdx.x].y;
    emulate::copy_async_wait(0);
    out[64 + threadIdx.x] = buffer[1][threadIdx.x].y + buffer[1][threadIdx.x].w;
}

void copies_beside_the_thread() {
    std::vector<float4> source(64);
    for (unsigned i = 0; i < 64; ++i) source[i] = make_float4(0, float(i), 0, 1000);
    Array<float4> from(source);
    Array<float> out(96);
    LAUNCH(copies, 1, 32, 0, from.data(), out.data());
    for (unsigned i = 0; i < 32; ++i) {
        expect(out.values()[i] == float(i), "cp.async that was waited for");
        expect(out.values()[32 + i] > 1e38f, "cp.async that was not waited for is poison");
        expect(out.values()[64 + i] == (i % 2 == 0 ? float(1032 + i) : 0), "cp.async with zeros");
    }
}

// --- what must be found ----------------------------------------------------------------------------------------------

__global__ void diverging(unsigned *out) {
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(~0u, threadIdx.x, 1);
}
__global__ void diverging_at_a_barrier(unsigned *out) {
    if (threadIdx.x == 3) __syncthreads();
    else out[threadIdx.x] = __shfl_xor_sync(~0u, threadIdx.x, 1);
    __syncthreads();
}
__global__ void early(unsigned *out) {
    if (threadIdx.x == 40) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}
template <bool waits>
__device__ void turn_around(unsigned start, unsigned *out) {
    __shared__ unsigned values[256];
    values[threadIdx.x] = start + threadIdx.x;
    if (waits) __syncthreads();
    out[threadIdx.x] = values[255 - threadIdx.x] - start;
}
__global__ void with_barrier(unsigned start, unsigned *out) { turn_around<true>(start, out); }
__global__ void without_barrier(unsigned start, unsigned *out) { turn_around<false>(start, out); }
__global__ void with_warp_barrier(unsigned start, unsigned *out, int waits) {
    __shared__ unsigned values[32];
    values[threadIdx.x] = start + threadIdx.x;
    if (waits) __syncwarp();
    out[threadIdx.x] = values[31 - threadIdx.x] - start;
}
__global__ void writes_at(float *out, long long index) { out[index] = 1; }
__global__ void reads_at(const float *in, long long index, float *out) { out[0] = in[index]; }
__global__ void reads_shared_at(int index, float *out) {
    auto shared = reinterpret_cast<float *>(emulate::dynamic_shared);
    out[0] = shared[index];
}
__global__ void reads_array_at(int index, float *out) {
    __shared__ float values[8];
    values[threadIdx.x % 8] = 1;
    out[0] = values[index];
}
__global__ void reads_vector(const float *in, float *out) { out[0] = reinterpret_cast<const float4 *>(in)->y; }
__global__ void recurses(int depth, volatile float *out) {
    volatile char space[16384];
    space[depth % 16384] = 1;
    for (int i = 0; i < 100; ++i) {
        volatile char more[1 << 18];
        more[i] = space[0];
        out[0] = more[i];
    }
}

void mistakes() {
    expect_failure("divergence", "divergence: ", [] {
        Array<unsigned> out(64);
        LAUNCH(diverging, 1, 32, 0, out.data());
    });
    expect_failure("divergence at a barrier", "divergence: not all lanes", [] {
        Array<unsigned> out(64);
        LAUNCH(diverging_at_a_barrier, 1, 32, 0, out.data());
    });
    expect_failure("a thread that returned", "63 of 64 wait at __syncthreads, 1 have returned", [] {
        Array<unsigned> out(64);
        LAUNCH(early, 1, 64, 0, out.data());
    });
    expect_failure("a warp that is not whole", "names the lanes fffff000, which there are not", [] {
        Array<unsigned> out(64);
        LAUNCH(diverging, 1, 12, 0, out.data());
    });
    expect_failure("an overrun", "kernel writes_at, block (0, 0, 0) of (1, 1, 1), thread (0, 0, 0) of (1, 1, 1): memory", [] {
        Array<float> out(1024);
        LAUNCH(writes_at, 1, 1, 0, out.data(), 1024);
    });
    expect_failure("an overrun's place", "byte 4096 of an allocation of 4096", [] {
        Array<float> out(1024);
        LAUNCH(writes_at, 1, 1, 0, out.data(), 1024);
    });
    expect_failure("an overrun that is read", "byte 4100 of an allocation of 4096", [] {
        Array<float> in(1024), out(1);
        LAUNCH(reads_at, 1, 1, 0, in.data(), 1025, out.data());
    });
    expect_failure("a small overrun, when it is freed", "byte 400 of an allocation of 400", [] {
        Array<float> out(100);
        LAUNCH(writes_at, 1, 1, 0, out.data(), 100);
    });
    expect_failure("an underrun, when it is freed", "4 bytes before an allocation of 400", [] {
        Array<float> out(100);
        LAUNCH(writes_at, 1, 1, 0, out.data(), -1);
    });
    expect_failure("memory that was freed", "device memory that was freed, or never allocated", [] {
        Array<float> out(1);
        auto gone = new Array<float>(100);
        float *in = gone->data();
        delete gone;
        LAUNCH(reads_at, 1, 1, 0, in, 0, out.data());
    });
    expect_failure("dynamic shared memory", "memory that is not the kernel's", [] {
        Array<float> out(1);
        LAUNCH(reads_shared_at, 1, 1, 64, 16, out.data());
    });
    expect_failure("an index", "an index outside its array", [] {
        Array<float> out(1);
        LAUNCH(reads_array_at, 1, 8, 0, 8, out.data());
    });
    expect_failure("a vector", "a vector that is not aligned", [] {
        Array<float> in(8), out(1);
        LAUNCH(reads_vector, 1, 1, 0, in.data() + 1, out.data());
    });
    expect_failure("a stack", "memory that is not the kernel's", [] {
        Array<float> out(1);
        LAUNCH(recurses, 1, 1, 0, 3, out.data());
    });
}

bool is_turned(Array<unsigned> &out) {
    auto found = out.values();
    for (size_t i = 0; i < found.size(); ++i)
        if (found[i] != found.size() - 1 - i) return false;
    return true;
}

void missing_barriers() {
    int unnoticed = 0;
    for (unsigned i = 0; i < 50; ++i) {
        emulate::seed(i);
        Array<unsigned> out(256), warp(32);
        LAUNCH(with_barrier, 1, 256, 0, 1000 * i, out.data());
        LAUNCH(with_warp_barrier, 1, 32, 0, 1000 * i, warp.data(), 1);
        expect(is_turned(out) && is_turned(warp), "barriers, seed " + std::to_string(i));
        LAUNCH(without_barrier, 1, 256, 0, 1000 * i, out.data());
        LAUNCH(with_warp_barrier, 1, 32, 0, 1000 * i + 500, warp.data(), 0);
        unnoticed += is_turned(out) + is_turned(warp);
    }
    expect(unnoticed == 0, "missing barriers that nobody noticed: " + std::to_string(unnoticed) + " of 100");
}

}  // namespace

int main() {
    // First: its children begin with a driver that nobody has used.
    test_driver();
    shuffles();
    masks_and_votes();
    barriers_and_atomics();
    tensor_cores();
    copies_beside_the_thread();
    missing_barriers();
    mistakes();
    printf(failures ? "%d failures\n" : "all right\n", failures);
    return failures != 0;
}
