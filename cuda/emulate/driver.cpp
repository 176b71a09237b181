// A libcuda.so.1 whose one device is the CPU: devices, contexts and errors. The functions are those of the CUDA
// driver's manual.
//
// SETUN_EMULATE_MEMORY=64M          how much memory the device has (1G)
// SETUN_EMULATE_ALIGNMENT=16        what allocations are aligned to (256, as a device's are); less finds more overruns
// SETUN_EMULATE_SEED=1              in which order blocks, warps and lanes come
// SETUN_EMULATE_EAGER=1             work is done when it is given to a stream, not when something waits for it
// SETUN_EMULATE_LEAKS=1             prints what was not freed when the context is released or the process ends, which then ends
//                                   with status 97
// SETUN_EMULATE_FAIL=name:code:n    the call `name` returns `code` from its n-th call on (1); with n! only the n-th
// SETUN_EMULATE_STATISTICS=1        prints how many kernels and threads were run, and what was copied, when the process ends
#include "driver.hpp"
#include <atomic>
#include <unistd.h>

using namespace emulate;

namespace emulate {

Driver &driver() {
    // Never destroyed: the process may end while other threads are still here.
    static Driver &driver = *new Driver;
    return driver;
}

namespace {

/// What this thread made current; NULL at first.
thread_local Context *current_one;

bool is_set(const char *name) {
    const char *text = getenv(name);
    return text && *text && strcmp(text, "0") != 0;
}

bool leaked = false;

/// Frees what the context still holds, and says so where asked.
void destroy_context() {
    drain();
    Context &context = driver().context;
    if (is_set("SETUN_EMULATE_LEAKS")) {
        auto report = [](size_t count, const char *what) {
            if (count > 0) fprintf(stderr, "emulation: not freed: %zu %s\n", count, what);
            return count > 0;
        };
        leaked |= report_memory() > 0;
        leaked |= report(context.modules.size(), "modules");
        leaked |= report(context.streams.size(), "streams");
        leaked |= report(context.events.size(), "events");
    }
    release_all();
    for (Module *module : context.modules) delete module;
    for (Stream *stream : context.streams) delete stream;
    context = Context();
}

__attribute__((destructor)) void at_exit() {
    if (initialized()) return;
    std::unique_lock<std::mutex> guard(driver().mutex, std::try_to_lock);
    if (!guard) return;
    if (is_set("SETUN_EMULATE_STATISTICS"))
        fprintf(stderr, "emulation: %lu launches, %lu threads, %lu switches, %lu bytes to the device, %lu from it\n",
                driver().launches, (unsigned long)threads_run, (unsigned long)switches, driver().uploaded, driver().downloaded);
    if (is_set("SETUN_EMULATE_LEAKS") && driver().context.retained > 0) {
        fprintf(stderr, "emulation: not freed: the context, retained %u times\n", driver().context.retained);
        leaked = true;
        destroy_context();
    }
    if (!leaked) return;
    fflush(nullptr);
    _exit(97);
}

}  // namespace

Code initialized() { return driver().process == getpid() ? SUCCESS : NOT_INITIALIZED; }

Code asked_failure(const char *name) {
    static const char *const asked = getenv("SETUN_EMULATE_FAIL");
    if (!asked) return SUCCESS;
    size_t length = strlen(name);
    if (strncmp(asked, name, length) != 0 || asked[length] != ':') return SUCCESS;
    char *rest;
    auto code = Code(strtol(asked + length + 1, &rest, 10));
    unsigned long first = 1;
    if (*rest == ':') first = strtoul(rest + 1, &rest, 10);
    static std::atomic<unsigned long> calls{0};
    unsigned long call = ++calls;
    if (*rest == '!' ? call != first : call < first) return SUCCESS;
    if (call == first) fprintf(stderr, "emulation: %s fails, as was asked\n", name);
    return code;
}

Code current_context() {
    if (!current_one) return INVALID_CONTEXT;
    return driver().context.retained > 0 ? SUCCESS : CONTEXT_IS_DESTROYED;
}

void enqueue(std::function<void()> work) {
    static const bool eager = is_set("SETUN_EMULATE_EAGER");
    driver().queue.push_back(std::move(work));
    if (eager) drain();
}

void drain() {
    auto &queue = driver().queue;
    while (!queue.empty()) {
        auto work = std::move(queue.front());
        queue.pop_front();
        work();
    }
}

}  // namespace emulate

API cuInit(unsigned flags) {
    FAIL_WHERE_ASKED();
    if (flags) return INVALID_VALUE;
    // A driver does not survive fork: the child's calls fail.
    if (driver().process == 0) driver().process = getpid();
    return initialized();
}

API cuDriverGetVersion(int *version) {
    FAIL_WHERE_ASKED();
    if (!version) return INVALID_VALUE;
    *version = 13000;
    return SUCCESS;
}

// --- devices ---------------------------------------------------------------------------------------------------------

API cuDeviceGetCount(int *count) {
    BEGIN();
    *count = 1;
    return SUCCESS;
}

API cuDeviceGet(int *device, int ordinal) {
    BEGIN();
    if (ordinal != 0) return INVALID_DEVICE;
    *device = 0;
    return SUCCESS;
}

API cuDeviceGetName(char *name, int length, int device) {
    BEGIN();
    if (device != 0) return INVALID_DEVICE;
    if (!name || length <= 0) return INVALID_VALUE;
    snprintf(name, size_t(length), "Setun emulation");
    return SUCCESS;
}

API cuDeviceTotalMem_v2(size_t *bytes, int device) {
    BEGIN();
    if (device != 0) return INVALID_DEVICE;
    std::lock_guard<std::mutex> guard(driver().mutex);
    *bytes = memory_limit();
    return SUCCESS;
}

API cuDeviceGetAttribute(int *value, int attribute, int device) {
    BEGIN();
    if (device != 0) return INVALID_DEVICE;
    switch (attribute) {
        case 16: *value = 4; return SUCCESS;  // MULTIPROCESSOR_COUNT
        case 75: *value = 9; return SUCCESS;  // COMPUTE_CAPABILITY_MAJOR
        case 76: *value = 0; return SUCCESS;  // COMPUTE_CAPABILITY_MINOR
        case 97: *value = int(MAX_SHARED); return SUCCESS;  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        default: return INVALID_VALUE;
    }
}

// --- contexts --------------------------------------------------------------------------------------------------------

API cuDevicePrimaryCtxRetain(Context **context, int device) {
    BEGIN();
    if (device != 0) return INVALID_DEVICE;
    std::lock_guard<std::mutex> guard(driver().mutex);
    ++driver().context.retained;
    *context = &driver().context;
    return SUCCESS;
}

API cuDevicePrimaryCtxRelease_v2(int device) {
    BEGIN();
    if (device != 0) return INVALID_DEVICE;
    std::lock_guard<std::mutex> guard(driver().mutex);
    if (driver().context.retained == 0) return INVALID_CONTEXT;
    if (driver().context.retained == 1) destroy_context();
    else --driver().context.retained;
    return SUCCESS;
}

API cuCtxGetCurrent(Context **context) {
    BEGIN();
    *context = current_one;
    return SUCCESS;
}

API cuCtxSetCurrent(Context *context) {
    BEGIN();
    if (context && context != &driver().context) return INVALID_CONTEXT;
    current_one = context;
    return SUCCESS;
}

// --- errors ----------------------------------------------------------------------------------------------------------

namespace {

const struct {
    Code code;
    const char *words;
} errors[] = {
    {SUCCESS, "no error"},
    {INVALID_VALUE, "invalid argument"},
    {OUT_OF_MEMORY, "out of memory"},
    {NOT_INITIALIZED, "initialization error"},
    {INVALID_DEVICE, "invalid device ordinal"},
    {INVALID_CONTEXT, "invalid device context"},
    {INVALID_IMAGE, "device kernel image is invalid"},
    {INVALID_PTX, "a PTX JIT compilation failed"},
    {INVALID_HANDLE, "invalid resource handle"},
    {NOT_FOUND, "named symbol not found"},
    {NOT_READY, "device not ready"},
    {ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
    {CONTEXT_IS_DESTROYED, "context is destroyed"},
    {NOT_SUPPORTED, "operation not supported"},
};

}  // namespace

API cuGetErrorString(int code, const char **words) {
    for (auto &error : errors)
        if (error.code == code) {
            *words = error.words;
            return SUCCESS;
        }
    *words = nullptr;
    return INVALID_VALUE;
}
