// What check_kernels and check_products share: random numbers, and comparing with them.
#pragma once
#include "testing.hpp"
#include <algorithm>
#include <cmath>
#include <random>

namespace {

using Numbers = std::mt19937_64;

std::vector<float> normal(Numbers &numbers, size_t count) {
    std::normal_distribution<float> distribution;
    std::vector<float> values(count);
    for (auto &x : values) x = distribution(numbers);
    return values;
}

/// Equal bits, where NaN is NaN.
template <class T>
void same(const char *what, const std::vector<T> &expected, const std::vector<T> &found) {
    for (size_t i = 0; i < expected.size(); ++i) {
        bool equal = memcmp(&expected[i], &found[i], sizeof(T)) == 0 || (expected[i] != expected[i] && found[i] != found[i]);
        if (!equal) return testing::expect(false, std::string(what) + " at " + std::to_string(i));
    }
}

}  // namespace
