// A product on tensor cores, in tiles and of few rows, against plain loops, as check_kernels.cpp does for other kernels.
#include "numbers.hpp"

using namespace testing;

namespace {

#include "matmul_ternary.cu"

/// Random codes times random trits, by tiles and by few rows.
void multiply(Numbers &numbers, size_t m, size_t n, size_t k, bool tiles) {
    std::vector<signed char> codes(m * k), trits(n * k);
    for (auto &code : codes) code = (signed char)(int(numbers() % 255) - 127);
    for (auto &trit : trits) trit = (signed char)(int(numbers() % 3) - 1);
    std::vector<unsigned char> packed(n * k / 4);
    for (size_t i = 0; i < n * k; ++i) packed[i / 4] |= (unsigned char)((trits[i] + 1) << i % 4 * 2);
    auto scales = normal(numbers, m), weight_scale = normal(numbers, 1);
    std::vector<float> expected(m * n);
    for (size_t i = 0; i < m; ++i)
        for (size_t j = 0; j < n; ++j) {
            int sum = 0;
            for (size_t c = 0; c < k; ++c) sum += codes[i * k + c] * trits[j * k + c];
            expected[i * n + j] = float(sum) * (scales[i] * weight_scale[0]);
        }
    Array<signed char> on_codes(codes);
    Array<unsigned char> on_packed(packed);
    Array<float> on_scales(scales), on_weight_scale(weight_scale), y(m * n);
    TernaryProduct product = {on_codes.data(), on_scales.data(), on_packed.data(), on_weight_scale.data(), nullptr,
                              y.data(), m, n, unsigned(k), unsigned(k), 0};
    if (tiles) {
        const unsigned blocks = unsigned((m + 63) / 64 * ((n + 63) / 64));
        LAUNCH(matmul_ternary_small, blocks, 128, 4 * (64 * 128 + 64 * 32), product);
    } else {
        LAUNCH(matmul_ternary_8_narrow, unsigned((n + 15) / 16), 256, 0, product);
    }
    same(tiles ? "a product in tiles" : "a product of few rows", expected, y.values());
}

}  // namespace

int main() {
    for (uint64_t seed = 0; seed < 6; ++seed) {
        Numbers numbers(seed);
        emulate::seed(seed);
        multiply(numbers, 70, 75 + seed % 2, 64 * (1 + 2 * seed), true);
        multiply(numbers, 5, 37, 64 * (1 + 7 * seed), false);
    }
    return testing::failures != 0;
}
