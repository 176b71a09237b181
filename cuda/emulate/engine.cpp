#include "engine.hpp"
#include <csignal>
#include <cstdarg>
#include <sys/mman.h>
#include <unistd.h>
#if !defined(__x86_64__) || defined(EMULATE_PORTABLE)
#define PORTABLE
#include <ucontext.h>
#endif

namespace emulate {

namespace {

constexpr size_t PAGE = 4096;
constexpr size_t STACK = 128 * 1024;

struct Block {
    unsigned threads, warps, arrived, returned;
    Barrier kind;
    /// Whether a predicate holds that came to this barrier, and that of the last one.
    bool any, result;
};

Thread threads[MAX_THREADS];
Warp warps[MAX_THREADS / WARP];
Block block;
const Kernel *running;
void **running_arguments;

/// Stacks that no thread is on.
void *free_stacks[MAX_THREADS];
unsigned free_stack_count;
char *dynamic_end;

/// xorshift64*: which block, warp and lane comes first.
uint64_t random_state = 0;

uint32_t random_number() {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return uint32_t(random_state * 0x2545F4914F6CDD1Dull >> 32);
}

uint32_t below(uint32_t bound) { return uint32_t(uint64_t(random_number()) * bound >> 32); }

void *map(size_t size, int protection) {
    void *memory = mmap(nullptr, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for the emulation");
    return memory;
}

void run_threads();

// --- the switch from one stack to another ----------------------------------------------------------------------------

void *scheduler;

#ifndef PORTABLE

// Saves what a called function has to keep, leaves the stack, and takes the same up on the other one.
extern "C" void emulate_switch(void **left, void *taken);
asm(R"(
.text
.globl emulate_switch
.hidden emulate_switch
.type emulate_switch, @function
emulate_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    subq $8, %rsp
    stmxcsr (%rsp)
    fnstcw 4(%rsp)
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    ldmxcsr (%rsp)
    fldcw 4(%rsp)
    addq $8, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulate_switch, .-emulate_switch
)");

/// A stack pointer that emulate_switch can take, where `run_threads` begins.
void *fresh(void *stack) {
    auto top = reinterpret_cast<uint64_t *>(static_cast<char *>(stack) + STACK);
    struct {
        uint32_t mxcsr;
        uint16_t x87, none;
    } control = {};
    asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(control.mxcsr), "=m"(control.x87));
    // A function begins with the stack pointer 8 past a multiple of 16, at its return address: there is none.
    top[-1] = 0;
    top[-2] = reinterpret_cast<uint64_t>(&run_threads);
    memset(top - 8, 0, 6 * sizeof *top);
    memcpy(top - 9, &control, sizeof control);
    return top - 9;
}

#else

// One for each thread, and the scheduler's.
ucontext_t contexts[MAX_THREADS + 1];

void emulate_switch(void **left, void *taken) {
    size_t offset = size_t(reinterpret_cast<char *>(left) - reinterpret_cast<char *>(threads));
    *left = &contexts[left == &scheduler ? MAX_THREADS : offset / sizeof(Thread)];
    swapcontext(static_cast<ucontext_t *>(*left), static_cast<ucontext_t *>(taken));
}

void *fresh(void *stack) {
    ucontext_t *context = &contexts[current - threads];
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = STACK;
    context->uc_link = nullptr;
    makecontext(context, run_threads, 0);
    return context;
}

#endif

// --- who runs next ---------------------------------------------------------------------------------------------------

/// The next lane of the warp that can run.
Thread *take(Warp &warp) {
    if (warp.runnable == 0) return nullptr;
    unsigned turned = warp.runnable >> warp.first | warp.runnable << (-warp.first & 31);
    return &warp.threads[(unsigned(__builtin_ctz(turned)) + warp.first) & 31];
}

/// Makes `next` the running thread and gives where it stands, on a stack of its own if it has not begun.
void *resume(Thread *next) {
    current = next;
    unsigned bit = 1u << next->lane;
    if (next->warp->started & bit) return next->stack_pointer;
    next->warp->started |= bit;
    next->stack = free_stacks[--free_stack_count];
    return fresh(next->stack);
}

/// Leaves the running thread, which waits, for another lane of its warp, or for the scheduler.
void leave() {
    Thread *me = current;
    ++switches;
    Thread *next = take(*me->warp);
    void *there = next ? resume(next) : scheduler;
    emulate_switch(&me->stack_pointer, there);
}

/// What runs on a stack: threads, one after the other, until one that has begun elsewhere is to go on.
void run_threads() {
    for (;;) {
        running->invoke(running_arguments);
        Thread *me = current;
        Warp &warp = *me->warp;
        unsigned bit = 1u << me->lane;
        warp.runnable &= ~bit;
        warp.returned |= bit;
        ++block.returned;
        Thread *next = take(warp);
        if (next && !(warp.started & 1u << next->lane)) {
            warp.started |= 1u << next->lane;
            next->stack = me->stack;
            current = next;
            continue;
        }
        ++switches;
        void *there = next ? resume(next) : scheduler;
        free_stacks[free_stack_count++] = me->stack;
        emulate_switch(&me->stack_pointer, there);
    }
}

[[noreturn]] void fail_stuck() {
    char words[512];
    size_t length = 0;
    for (unsigned w = 0; w < block.warps && length < sizeof words - 128; ++w) {
        Warp &warp = warps[w];
        if (warp.waiting) {
            const Thread &first = warp.threads[__builtin_ctz(warp.waiting)];
            current = &warp.threads[__builtin_ctz(warp.waiting)];
            length += size_t(snprintf(words + length, sizeof words - length,
                                      "\n  warp %u: lanes %08x wait in a warp operation (lane %u names %08x), lanes %08x at a "
                                      "barrier, lanes %08x have returned",
                                      w, warp.waiting, first.lane, first.mask, warp.at_barrier, warp.returned));
        }
    }
    if (length > 0) fail("divergence: not all lanes that a mask names came to the operation%s", words);
    for (unsigned w = 0; w < block.warps; ++w)
        if (warps[w].at_barrier) current = &warps[w].threads[__builtin_ctz(warps[w].at_barrier)];
    fail("a barrier that not all threads come to: %u of %u wait at __syncthreads, %u have returned", block.arrived,
         block.threads, block.returned);
}

void enter(Warp &warp) {
    warp.first = random_number() & 31;
    Thread *next = take(warp);
    ++switches;
    void *there = resume(next);
    emulate_switch(&scheduler, there);
    current = nullptr;
}

void run_block() {
    block.arrived = block.returned = 0;
    block.any = false;
    for (unsigned w = 0; w < block.warps; ++w) {
        Warp &warp = warps[w];
        warp.runnable = warp.exists;
        warp.started = warp.waiting = warp.at_barrier = warp.returned = 0;
    }
    for (;;) {
        unsigned order[MAX_THREADS / WARP];
        for (unsigned w = 0; w < block.warps; ++w) order[w] = w;
        for (unsigned w = block.warps; w > 1; --w) {
            unsigned other = below(w);
            unsigned moved = order[w - 1];
            order[w - 1] = order[other];
            order[other] = moved;
        }
        for (unsigned w = 0; w < block.warps; ++w)
            if (warps[order[w]].runnable) enter(warps[order[w]]);
        if (block.returned == block.threads) return;
        if (block.arrived != block.threads) fail_stuck();
        block.result = block.any;
        block.arrived = 0;
        block.any = false;
        for (unsigned w = 0; w < block.warps; ++w) {
            warps[w].runnable = warps[w].at_barrier;
            warps[w].at_barrier = 0;
        }
    }
}

// --- accidents -------------------------------------------------------------------------------------------------------

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
struct sigaction before[5];
/// Whether a kernel runs on this thread of the process.
thread_local bool here = false;

void on_signal(int number, siginfo_t *info, void *) {
    char words[256] = "nothing is there";
    if (!here || current == nullptr) {
        // Another thread's of the process, or the emulation's own: it is met again, by who was to know of it before.
        for (int i = 0; i < 5; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
        return;
    }
    if (number == SIGILL || number == SIGTRAP)
        fail("a vector that is not aligned, or an index outside its array");
    if (number == SIGFPE) fail("a division of integers by 0");
    if (describe_address) describe_address(info->si_addr, words, sizeof words);
    fail("memory that is not the kernel's, at %p: %s", info->si_addr, words);
}

void watch(bool begin) {
    here = begin;
    if (!begin) {
        for (int i = 0; i < 5; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
        return;
    }
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 5; ++i) sigaction(SIGNALS[i], &action, &before[i]);
}

void prepare() {
    if (dynamic_end) return;
    // Each stack has a page under it that is not there, and so has the end of the dynamic shared memory.
    for (unsigned i = 0; i < MAX_THREADS; ++i) {
        char *stack = static_cast<char *>(map(STACK + PAGE, PROT_NONE));
        if (mprotect(stack + PAGE, STACK, PROT_READ | PROT_WRITE)) fail("no memory for the emulation");
        free_stacks[free_stack_count++] = stack + PAGE;
    }
    size_t shared = (MAX_SHARED + PAGE - 1) / PAGE * PAGE;
    dynamic_end = static_cast<char *>(map(shared + PAGE, PROT_NONE)) + shared;
    if (mprotect(dynamic_end - shared, shared, PROT_READ | PROT_WRITE)) fail("no memory for the emulation");
    // The signals need a stack of their own: a fiber's may be what has run out.
    stack_t alternative = {};
    alternative.ss_size = 64 * 1024;
    alternative.ss_sp = map(alternative.ss_size, PROT_READ | PROT_WRITE);
    stack_t present;
    if (sigaltstack(nullptr, &present) == 0 && (present.ss_flags & SS_DISABLE)) sigaltstack(&alternative, nullptr);
}

uint64_t greatest_divisor(uint64_t a, uint64_t b) { return b == 0 ? a : greatest_divisor(b, a % b); }

}  // namespace

void fail(const char *format, ...) {
    // A kernel may have written over what is printed here.
    for (int number : SIGNALS) signal(number, SIG_DFL);
    char words[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(words, sizeof words, format, list);
    va_end(list);
    fflush(stdout);
    fprintf(stderr, "emulation: ");
    if (running) {
        fprintf(stderr, "kernel %s, block (%u, %u, %u) of (%u, %u, %u), ", running->name, block_index.x, block_index.y,
                block_index.z, grid_size.x, grid_size.y, grid_size.z);
        if (current)
            fprintf(stderr, "thread (%u, %u, %u) of (%u, %u, %u): ", current->index.x, current->index.y, current->index.z,
                    block_size.x, block_size.y, block_size.z);
    }
    fprintf(stderr, "%s\n", words);
    abort();
}

void seed(uint64_t number) {
    random_state = (number + 1) * 0x9E3779B97F4A7C15ull | 1;
    for (int i = 0; i < 8; ++i) random_number();
}

int barrier(Barrier kind, int predicate) {
    Thread *me = current;
    Warp &warp = *me->warp;
    if (block.arrived == 0) block.kind = kind;
    if (block.kind != kind) fail("threads of a block wait at barriers of two kinds");
    unsigned bit = 1u << me->lane;
    ++block.arrived;
    block.any |= predicate != 0;
    warp.runnable &= ~bit;
    warp.at_barrier |= bit;
    leave();
    return block.result;
}

void collective(Perform perform, unsigned mask) {
    Thread *me = current;
    Warp &warp = *me->warp;
    unsigned bit = 1u << me->lane;
    if (!(mask & bit)) fail("lane %u is in a warp operation whose mask %08x does not name it", me->lane, mask);
    if (mask & ~warp.exists) fail("a warp operation names the lanes %08x, which there are not", mask & ~warp.exists);
    if (mask & warp.returned)
        fail("divergence: a warp operation names the lanes %08x, which have returned", mask & warp.returned);
    me->perform = perform;
    me->mask = mask;
    warp.waiting |= bit;
    warp.runnable &= ~bit;
    if ((warp.waiting & mask) == mask) {
        bool together = true;
        for (unsigned rest = mask; rest; rest &= rest - 1) {
            const Thread &other = warp.threads[__builtin_ctz(rest)];
            together &= other.perform == perform && other.mask == mask;
        }
        if (together) {
            perform(warp, mask);
            warp.waiting &= ~mask;
            warp.runnable |= mask;
            return;
        }
    }
    leave();
}

void launch(const Kernel &kernel, void **arguments, dim3 grid, dim3 size, unsigned shared) {
    prepare();
    if (random_state == 0) {
        const char *number = getenv("SETUN_EMULATE_SEED");
        seed(number ? strtoull(number, nullptr, 10) : 1);
    }
    running = &kernel;
    running_arguments = arguments;
    grid_size = grid;
    block_size = size;
    block.threads = size.x * size.y * size.z;
    block.warps = (block.threads + WARP - 1) / WARP;
    for (unsigned w = 0; w < block.warps; ++w) {
        unsigned lanes = block.threads - w * WARP < WARP ? block.threads - w * WARP : WARP;
        warps[w].threads = &threads[w * WARP];
        warps[w].number = w;
        warps[w].exists = lanes == WARP ? ~0u : (1u << lanes) - 1;
    }
    for (unsigned i = 0; i < block.threads; ++i) {
        threads[i].warp = &warps[i / WARP];
        threads[i].lane = i % WARP;
        threads[i].index = Index{i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    }
    dynamic_shared = dynamic_end - (size_t(shared) + 15) / 16 * 16;
    watch(true);
    // Blocks come in the order of i * step + start modulo their number, which step has no divisor in common with.
    uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
    uint64_t start = blocks > 1 ? random_number() % blocks : 0;
    uint64_t step = blocks > 1 ? random_number() % blocks | 1 : 1;
    while (greatest_divisor(step, blocks) != 1) ++step;
    uint64_t number = start;
    for (uint64_t i = 0; i < blocks; ++i) {
        block_index = Index{unsigned(number % grid.x), unsigned(number / grid.x % grid.y),
                            unsigned(number / (uint64_t(grid.x) * grid.y))};
        unsigned char poison = SHARED_POISONS[below(sizeof SHARED_POISONS)];
        memset(dynamic_shared, poison, size_t(dynamic_end - dynamic_shared));
        if (kernel.shared_begin) memset(kernel.shared_begin, poison, size_t(kernel.shared_end - kernel.shared_begin));
        run_block();
        number += step;
        number %= blocks;
    }
    threads_run += blocks * block.threads;
    watch(false);
    running = nullptr;
}

}  // namespace emulate
