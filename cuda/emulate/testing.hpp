// What tests of kernels share: memory that notices overruns, a launch written like a call, and children that may crash.
#pragma once
#include "emulate.hpp"
#include "memory.hpp"
#include <cerrno>
#include <functional>
#include <string>
#include <sys/wait.h>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <vector>

// The shared memory of the test's own kernels, where its .bss was renamed.
extern "C" __attribute__((weak, visibility("hidden"))) char __start_shared_test[], __stop_shared_test[];

namespace testing {

inline int failures = 0;

inline void expect(bool holds, const std::string &what) {
    if (holds) return;
    printf("FAILED: %s\n", what.c_str());
    ++failures;
}

/// An array in the memory of the emulated device, as kernels see it.
template <class T>
class Array {
public:
    explicit Array(const std::vector<T> &values) : count(values.size()), allocation(emulate::allocate(bytes() + (bytes() == 0))) {
        if (count > 0) memcpy(static_cast<void *>(data()), values.data(), bytes());
    }
    explicit Array(size_t count) : Array(std::vector<T>(count)) {}
    Array(const Array &) = delete;
    Array &operator=(const Array &) = delete;
    ~Array() { emulate::release(allocation); }

    T *data() { return reinterpret_cast<T *>(emulate::memory_of(allocation->device)); }
    std::vector<T> values() { return std::vector<T>(data(), data() + count); }

private:
    size_t bytes() const { return count * sizeof(T); }
    size_t count;
    emulate::Allocation *allocation;
};

template <auto function, class... A>
void launch(void (*)(A...), const char *name, dim3 grid, dim3 block, unsigned shared, std::common_type_t<A>... arguments) {
    // No static one: of a kernel in an unnamed namespace it would lie in .bss, where the shared memory is.
    const emulate::Kernel kernel =
        emulate::describe<function>(static_cast<void (*)(A...)>(function), name, __start_shared_test, __stop_shared_test);
    std::tuple<A...> values(arguments...);
    std::apply(
        [&](auto &...value) {
            void *pointers[] = {const_cast<void *>(static_cast<const void *>(&value))...};
            emulate::launch(kernel, pointers, grid, block, shared);
        },
        values);
}

/// LAUNCH(kernel, grid, block, bytes of shared memory, arguments...)
#define LAUNCH(kernel, grid, block, shared, ...) testing::launch<&kernel>(&kernel, #kernel, grid, block, shared, __VA_ARGS__)

struct Ending {
    /// What the process ended with; -1 after a signal.
    int status;
    std::string words;
};

/// Runs `work` in a process of its own, with these settings of the environment; its result is the status.
inline Ending in_child(const std::vector<std::pair<std::string, std::string>> &settings, const std::function<int()> &work) {
    fflush(nullptr);
    int ends[2];
    if (pipe(ends)) return Ending{-1, "no pipe"};
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        dup2(ends[1], 2);
        for (auto &setting : settings) setenv(setting.first.c_str(), setting.second.c_str(), 1);
        exit(work());
    }
    close(ends[1]);
    Ending ending{-1, ""};
    char buffer[4096];
    for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) != 0;) {
        if (got > 0) ending.words.append(buffer, size_t(got));
        else if (errno != EINTR) break;
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) ending.status = WEXITSTATUS(status);
    return ending;
}

/// The work must be stopped by the emulation, with these words.
inline void expect_failure(const std::string &what, const std::string &words, const std::function<void()> &work) {
    Ending ending = in_child({}, [&] {
        work();
        return 0;
    });
    bool found = ending.words.find(words) != std::string::npos;
    expect(ending.status == -1 && found, what + ": expected '" + words + "', got status " + std::to_string(ending.status) +
                                             " and '" + ending.words + "'");
}

}  // namespace testing
