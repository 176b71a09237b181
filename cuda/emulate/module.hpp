// Reads PTX, as far as the emulation needs it: which kernels it has, with which parameters and limits.
#pragma once
#include "engine.hpp"
#include <string>
#include <vector>

namespace emulate {

/// A kernel of a module.
struct Function {
    const Kernel *kernel;
    unsigned max_threads;
    /// Bytes of shared memory: what the kernel declares, and how much a launch may add.
    size_t static_shared, max_dynamic_shared;
};

struct Module {
    std::vector<Function> functions;
};

constexpr size_t PLAIN_SHARED = 48 * 1024;

/// Whether a driver would take it for PTX, and not for a binary.
bool is_ptx(const std::string &text);

/// Why the text cannot be loaded; empty if it was.
std::string read_ptx(const std::string &text, Module &module);

}  // namespace emulate
