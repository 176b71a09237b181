// Runs the threads of a kernel on one CPU thread: a fiber per CUDA thread, one block at a time.
//
// A thread runs until it returns, or until it waits for others: at a barrier of its block, or in an operation of its warp.
// Threads that never wait are run one after the other on the same stack. What the hardware leaves undefined is found where
// it can be: a warp operation that not all the lanes named in its mask come to, a barrier that not all threads come to.
// Blocks, warps and lanes come in an order that a seed decides, so that code which needs another order than the one
// written down gives other results.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

/// What threadIdx and blockIdx are.
struct Index {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulate {

constexpr unsigned WARP = 32;
constexpr unsigned MAX_THREADS = 1024;
constexpr size_t MAX_SHARED = 227 * 1024;
/// What memory holds that nobody wrote: large as a float, as an integer and as an index. Shared memory holds one of these, from
/// block to block, since what hides one mistake shows another: -1 and NaN, and small numbers.
constexpr unsigned char POISON = 0x7F, SHARED_POISONS[] = {POISON, 0xFF, 0x3C};

struct Warp;
/// Does a warp operation for all lanes of the mask, when all of them have come.
using Perform = void (*)(Warp &warp, unsigned mask);

struct Thread {
    void *stack_pointer;
    void *stack;
    Warp *warp;
    unsigned lane;
    Index index;
    // The warp operation it waits in: what each lane brings, and what it takes away.
    Perform perform;
    unsigned mask;
    uint64_t in[10], out[4];
};

struct Warp {
    Thread *threads;
    unsigned number;
    // One bit a lane.
    unsigned exists, runnable, started, waiting, at_barrier, returned;
    /// Which lane is asked first.
    unsigned first;
};

/// A kernel, as it was compiled.
struct Kernel {
    const char *name;
    void (*invoke)(void **arguments);
    unsigned count;
    const unsigned *sizes;
    const bool *pointers;
    /// The static shared memory of its file.
    char *shared_begin, *shared_end;
};

enum class Barrier { Plain, Or };

/// The running thread; none between launches.
inline Thread *current = nullptr;
inline Index block_index;
inline dim3 block_size, grid_size;
inline char *dynamic_shared;

/// Runs all blocks of a kernel. `arguments` point to the values, as for cuLaunchKernel.
void launch(const Kernel &kernel, void **arguments, dim3 grid, dim3 block, unsigned shared);

/// Sets the order in which blocks, warps and lanes come from now on; without it, SETUN_EMULATE_SEED does.
void seed(uint64_t number);

/// Waits for all threads of the block; the result is what __syncthreads_or gives.
int barrier(Barrier kind, int predicate);

/// Waits for the lanes of the mask, of which the running one is, and has `perform` done for them all.
void collective(Perform perform, unsigned mask);

/// Prints what is wrong, where it is, and aborts.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/// Called when memory that is not there is touched: says what lies there.
inline void (*describe_address)(const void *address, char *words, size_t size) = nullptr;

/// How many times a fiber was left for another, and how many threads were run.
inline uint64_t switches = 0, threads_run = 0;

template <class... A>
struct Signature {
    static constexpr unsigned sizes[sizeof...(A) + 1] = {unsigned(sizeof(A))..., 0};
    template <class T>
    struct IsPointer {
        static constexpr bool value = false;
    };
    template <class T>
    struct IsPointer<T *> {
        static constexpr bool value = true;
    };
    static constexpr bool pointers[sizeof...(A) + 1] = {IsPointer<A>::value..., false};

    template <void (*function)(A...), size_t... I>
    static void call(void **arguments, std::index_sequence<I...>) {
        function(*static_cast<A *>(arguments[I])...);
    }
    template <void (*function)(A...)>
    static void invoke(void **arguments) {
        call<function>(arguments, std::index_sequence_for<A...>());
    }
};

template <auto function, class... A>
constexpr Kernel describe(void (*)(A...), const char *name, char *shared_begin, char *shared_end) {
    using S = Signature<A...>;
    return Kernel{name, S::template invoke<function>, sizeof...(A), S::sizes, S::pointers, shared_begin, shared_end};
}

}  // namespace emulate
