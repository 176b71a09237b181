// Products on tensor cores, in tiles and of few rows, against plain loops, as check_kernels.cpp does for other kernels.
#include "numbers.hpp"

using namespace testing;

namespace {

#include "matmul.cu"
#include "matmul_ternary.cu"

enum class Way { TILES, FEW_ROWS, ONE_ROW };

/// Random codes times random trits.
void multiply(Numbers &numbers, size_t m, size_t n, size_t k, Way way) {
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
    if (way == Way::TILES) {
        const unsigned blocks = unsigned((m + 63) / 64 * ((n + 63) / 64));
        LAUNCH(matmul_ternary_small, blocks, 128, 4 * (64 * 128 + 64 * 32), product);
    } else if (way == Way::FEW_ROWS) {
        LAUNCH(matmul_ternary_8_narrow, unsigned((n + 15) / 16), 256, 0, product);
    } else {
        LAUNCH(matmul_ternary_1, unsigned((n + 31) / 32), 256, unsigned((k + 2047) / 2048 * 2048), product);
    }
    const char *const names[] = {"a product in tiles", "a product of few rows", "a product of one row"};
    same(names[int(way)], expected, y.values());
}

/// Trits turned, rows of so many words.
void turn(Numbers &numbers, size_t rows, size_t columns) {
    const size_t from_row = (columns + 15) / 16, to_row = (rows + 63) / 64 * 4;
    auto codes = [](const std::vector<unsigned> &words, size_t row, size_t i, size_t j) {
        return words[i * row + j / 16] >> j % 16 * 2 & 3;
    };
    std::vector<unsigned> words(rows * from_row);
    for (auto &word : words) word = unsigned(numbers());
    Array<unsigned> from(words), to(columns * to_row);
    LAUNCH(matmul_ternary_turn, 2, 256, 0, from.data(), u64(from_row), to.data(), u64(to_row), u64(rows), u64(columns));
    const auto found = to.values();
    for (size_t i = 0; i < columns; ++i)
        for (size_t j = 0; j < 16 * to_row; ++j)
            testing::expect(codes(found, to_row, i, j) == (j < rows ? codes(words, from_row, j, i) : 1), "turned trits");
}

/// Floats that are whole numbers, whose products and sums are exact.
void multiply_floats(Numbers &numbers, size_t m, size_t n, size_t k) {
    std::vector<float> a(m * k), b(n * k), expected(m * n);
    for (auto &x : a) x = float(int(numbers() % 31) - 15);
    for (auto &x : b) x = float(int(numbers() % 31) - 15);
    for (size_t i = 0; i < m; ++i)
        for (size_t j = 0; j < n; ++j)
            for (size_t l = 0; l < k; ++l) expected[i * n + j] += a[i * k + l] * b[j * k + l];
    Array<float> on_a(a), on_b(b), c(m * n);
    const long long row = (long long)k;
    FloatProduct product = {on_a.data(), on_b.data(), c.data(), m, n, k, row, 1, 1, row, (k + 31) / 32 * 32, 0};
    LAUNCH(matmul_rows_rows_small, unsigned((m + 63) / 64 * ((n + 63) / 64)), 128, 2 * 6 * 64 * 64, product);
    same("a product of floats", expected, c.values());
}

}  // namespace

int main() {
    for (uint64_t seed = 0; seed < 6; ++seed) {
        Numbers numbers(seed);
        emulate::seed(seed);
        multiply(numbers, 70, 75 + seed % 2, 64 * (1 + 2 * seed), Way::TILES);
        multiply(numbers, 5, 37, 64 * (1 + 7 * seed), Way::FEW_ROWS);
        multiply(numbers, 1, 37, 64 * (1 + 37 * seed), Way::ONE_ROW);
        turn(numbers, 1 + 30 * seed, 130 - 25 * seed);
        multiply_floats(numbers, 70, 75 + seed % 2, 10 + 9 * seed);
    }
    return testing::failures != 0;
}
