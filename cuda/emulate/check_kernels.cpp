// Kernels with barriers against plain loops, for many orders of their warps. mutate.sh breaks the kernels and wants this to
// notice. It has no variables of its own outside of functions: its .bss is the shared memory of the kernels.
#include "numbers.hpp"

using namespace testing;

namespace {

#include "activation.cu"
#include "embedding.cu"
#include "reduce.cu"

void sum_of_squares(Numbers &numbers, size_t count, unsigned grid) {
    auto x = normal(numbers, count);
    double expected = 0.5, total = 0;
    for (size_t start = 0; start < count; start += 4096) {
        float lanes[32] = {};
        for (size_t i = start; i < std::min(count, start + 4096); ++i) lanes[i % 32] += x[i] * x[i];
        for (int width = 16; width > 0; width /= 2)
            for (int j = 0; j < width; ++j) lanes[j] += lanes[j + width];
        total += lanes[0];
    }
    expected += total;
    size_t blocks = (count + 4095) / 4096;
    Array<float> on_x(x), sums(blocks);
    Array<double> sum(std::vector<double>{0.5});
    LAUNCH(sum_squares_blocks, grid, 32 * (grid % 8 + 1), 0, on_x.data(), sums.data(), count);
    LAUNCH(add_block_sums, 1, 64, 0, sums.data(), sum.data(), blocks);
    same("sum_squares", {expected}, sum.values());
}

/// Numbers whose sum is rounded, unless they are of like size. It grows, and where half of them are negative becomes small again.
void sum_in_order_of(Numbers &numbers, size_t count, int range, bool falls) {
    auto x = normal(numbers, count);
    double expected = 0;
    for (size_t i = 0; i < count; ++i) {
        x[i] = std::ldexp(std::fabs(x[i]), int(numbers() % unsigned(2 * range + 1)) - range);
        if (falls && i >= count / 2) x[i] = -x[count - 1 - i] + std::ldexp(x[i], -23);
        expected += x[i];
    }
    Array<float> on_x(x);
    Array<double> sum(1);
    LAUNCH(add_block_sums, 1, 1024, 0, on_x.data(), sum.data(), count);
    same("sum in order", {expected}, sum.values());
}

void quantize(Numbers &numbers, size_t m, size_t k) {
    auto x = normal(numbers, m * k);
    for (size_t i = 0; i < m * k; ++i) x[i] *= float(1 + i / k % 5);
    std::vector<signed char> codes(m * k);
    std::vector<float> scales(m);
    for (size_t row = 0; row < m; ++row) {
        float a = 1e-5f;
        for (size_t i = 0; i < k; ++i) a = std::max(a, std::fabs(x[row * k + i]));
        for (size_t i = 0; i < k; ++i)
            codes[row * k + i] = (signed char)std::min(127.0f, std::max(-127.0f, rintf(x[row * k + i] * (127.0f / a))));
        scales[row] = a / 127.0f;
    }
    Array<float> on_x(x), on_scales(m);
    Array<signed char> on_codes(m * k);
    auto found = [&] {
        same("codes", codes, on_codes.values());
        same("scales", scales, on_scales.values());
    };
    LAUNCH(quantize_activations_wide, 2, 256, 0, on_x.data(), 1e-5f, on_codes.data(), on_scales.data(), m, k);
    found();
    if (k > 2048) return;
    LAUNCH(quantize_activations_2048, 2, 256, 0, on_x.data(), 1e-5f, on_codes.data(), on_scales.data(), m, k);
    found();
    if (k > 512) return;
    LAUNCH(quantize_activations_512, 2, 256, 0, on_x.data(), 1e-5f, on_codes.data(), on_scales.data(), m, k);
    found();
}

void embed(Numbers &numbers, size_t n, size_t v, size_t d, unsigned grid) {
    std::vector<unsigned> tokens(n);
    for (auto &token : tokens) token = unsigned(numbers() % v);
    auto table = normal(numbers, v * d), dy = normal(numbers, n * d), expected = table;
    for (size_t i = 0; i < n; ++i)
        for (size_t c = 0; c < d; ++c) expected[tokens[i] * d + c] += dy[i * d + c];
    Array<unsigned> on_tokens(tokens);
    Array<float> on_dy(dy), on_table(table);
    Array<u64> fault(std::vector<u64>{~0ull});
    LAUNCH(embedding_backward, grid, 256, 0, on_tokens.data(), on_dy.data(), on_table.data(), n, v, d, fault.data());
    same("embedding_backward", expected, on_table.values());
    same("fault", {~0ull}, fault.values());
}

}  // namespace

int main() {
    for (uint64_t seed = 0; seed < 6; ++seed) {
        Numbers numbers(seed);
        emulate::seed(seed);
        for (size_t count : {0, 1, 31, 63, 500, 4096, 4097, 50001}) sum_of_squares(numbers, count, 1 + unsigned(seed));
        for (size_t count : {3, 65, 2000})
            for (int range : {0, 8, 12, 40})
                for (bool falls : {false, true}) sum_in_order_of(numbers, count, range, falls);
        for (size_t k : {1, 37, 1024, 1030, 8192, 9001}) quantize(numbers, 7, k);
        embed(numbers, 1, 5, 3, 4);
        embed(numbers, 300, 3, 5, 2);
        embed(numbers, 2500, 2, 4, 1);
        embed(numbers, 1500, 40, 7, 8);
    }
    return testing::failures != 0;
}
