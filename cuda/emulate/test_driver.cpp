// Tests of the emulated driver, each in a process of its own.
#include "testing.hpp"

using namespace testing;

extern "C" {
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(void **, int);
int cuDevicePrimaryCtxRelease_v2(int);
int cuCtxSetCurrent(void *);
int cuMemGetInfo_v2(size_t *, size_t *);
int cuMemAlloc_v2(char **, size_t);
int cuMemFree_v2(char *);
int cuMemAllocHost_v2(void **, size_t);
int cuMemFreeHost(void *);
int cuMemcpyHtoDAsync_v2(char *, const void *, size_t, void *);
int cuMemcpyDtoHAsync_v2(void *, const char *, size_t, void *);
int cuMemcpyDtoDAsync_v2(char *, const char *, size_t, void *);
int cuMemsetD8Async(char *, unsigned char, size_t, void *);
int cuModuleLoadDataEx(void **, const void *, unsigned, int *, void **);
int cuModuleUnload(void *);
int cuModuleGetFunction(void **, void *, const char *);
int cuFuncSetAttribute(void *, int, int);
int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
int cuStreamCreateWithPriority(void **, unsigned, int);
int cuStreamSynchronize(void *);
int cuStreamDestroy_v2(void *);
int cuEventCreate(void **, unsigned);
int cuEventRecord(void *, void *);
int cuEventQuery(void *);
int cuEventSynchronize(void *);
int cuGetErrorString(int, const char **);
}

namespace {

const char *const PTX = R"(// a comment with .entry in it
.version 7.0
.target sm_80
.address_size 64
.visible .entry test_double(
    .param .u64 test_double_param_0,
    .param .u64 test_double_param_1,
    .param .u32 test_double_param_2
)
{
    ret;
}
.extern .shared .align 16 .b8 dynamic_shared_memory[];
.visible .entry test_poison(
    .param .u64 test_poison_param_0
)
.maxntid 64, 1, 1
{
    .shared .align 4 .b8 values[128];
    .shared .align 4 .b8 others[64];
    st.shared.u32 [values], 1;
    ret;
}
.visible .entry test_struct(
    .param .align 8 .b8 test_struct_param_0[24],
    .param .u32 test_struct_param_1
)
{
    ret;
}
)";

/// A context, a stream and a module, and what they are used for again and again.
struct Device {
    void *context = nullptr, *stream = nullptr, *module = nullptr;

    Device() {
        cuInit(0);
        cuDevicePrimaryCtxRetain(&context, 0);
        cuCtxSetCurrent(context);
        cuStreamCreateWithPriority(&stream, 1, 0);
        cuModuleLoadDataEx(&module, PTX, 0, nullptr, nullptr);
    }

    void *function(const char *name) {
        void *found = nullptr;
        cuModuleGetFunction(&found, module, name);
        return found;
    }

    int doubled(const void *x, void *y, unsigned count, dim3 grid = 1, dim3 block = 64, unsigned shared = 0) {
        void *parameters[] = {&x, &y, &count};
        void *kernel = function("test_double");
        return cuLaunchKernel(kernel, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, stream, parameters, nullptr);
    }

    void release() {
        cuModuleUnload(module);
        cuStreamDestroy_v2(stream);
        cuDevicePrimaryCtxRelease_v2(0);
    }
};

int checks;
void is(long expected, long found, const char *what) {
    ++checks;
    if (expected == found) return;
    fprintf(stderr, "%s: expected %ld, found %ld\n", what, expected, found);
    _exit(1);
}

int launches() {
    Device device;
    std::vector<float> x(100);
    for (size_t i = 0; i < x.size(); ++i) x[i] = float(i);
    char *on_x, *on_y;
    is(0, cuMemAlloc_v2(&on_x, 400), "an allocation");
    is(0, cuMemAlloc_v2(&on_y, 400), "an allocation");
    is(0, cuMemcpyHtoDAsync_v2(on_x, x.data(), 400, device.stream), "a copy up");
    is(0, device.doubled(on_x, on_y, 100, 2), "a launch");
    is(0, cuMemcpyDtoHAsync_v2(x.data(), on_y, 400, device.stream), "a copy down");
    for (size_t i = 0; i < x.size(); ++i) is(long(2 * i), long(x[i]), "a kernel's result");
    struct {
        int before;
        const char *x;
        char *y;
    } pointers = {5, on_x, on_y};
    unsigned count = 64;
    void *parameters[] = {&pointers, &count};
    void *kernel = device.function("test_struct");
    is(0, cuLaunchKernel(kernel, 1, 1, 1, 64, 1, 1, 0, nullptr, parameters, nullptr), "pointers in a struct");
    is(0, cuMemcpyDtoHAsync_v2(x.data(), on_y, 400, nullptr), "a copy down");
    for (size_t i = 0; i < 64; ++i) is(long(i + 5), long(x[i]), "a kernel with a struct");

    is(1, device.doubled(on_x, on_y, 100, 0), "no blocks");
    is(1, device.doubled(on_x, on_y, 100, dim3(1, 65536)), "a grid that is too large");
    is(0, device.doubled(on_x, on_y, 0, dim3(1, 65535)), "the largest grid");
    is(1, device.doubled(on_x, on_y, 100, 1, dim3(1025)), "a block that is too large");
    is(1, device.doubled(on_x, on_y, 100, 1, dim3(32, 33)), "a block that is too large");
    is(0, device.doubled(on_x, on_y, 0, 1, dim3(32, 32)), "the largest block");
    is(400, cuLaunchKernel(&device, 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr), "a function that is none");
    is(400, cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, &device, parameters, nullptr), "a stream that is none");
    is(700, device.doubled(x.data(), on_y, 100), "host memory");
    is(700, device.doubled(on_x + 401, on_y, 0), "past an allocation");
    is(0, device.doubled(on_x + 400, nullptr, 0), "the end of an allocation, and NULL");

    kernel = device.function("test_double");
    is(1, device.doubled(on_x, on_y, 0, 1, 64, 48 * 1024 + 1), "shared memory that was not allowed");
    is(1, cuFuncSetAttribute(kernel, 8, 227 * 1024 + 1), "more shared memory than there is");
    is(0, cuFuncSetAttribute(kernel, 8, 100 * 1024), "shared memory");
    is(0, device.doubled(on_x, on_y, 0, 1, 64, 100 * 1024), "shared memory that was allowed");

    cuMemFree_v2(on_x);
    is(700, device.doubled(on_x, on_y, 0), "memory that was freed");
    is(1, cuMemFree_v2(on_x), "memory that was freed twice");
    is(1, cuMemFree_v2(on_y + 4), "an address inside of an allocation");
    cuMemFree_v2(on_y);
    device.release();
    return 0;
}

int poison() {
    Device device;
    char *out;
    std::vector<unsigned> found(30);
    cuMemAlloc_v2(&out, 120);
    cuMemcpyDtoHAsync_v2(found.data(), out, 120, nullptr);
    is(0x7F7F7F7F, found[29], "device memory");
    void *parameters[] = {&out};
    void *kernel = device.function("test_poison");
    is(1, cuLaunchKernel(kernel, 1, 1, 1, 65, 1, 1, 4, nullptr, parameters, nullptr), "__launch_bounds__");
    is(1, cuLaunchKernel(kernel, 10, 1, 1, 1, 1, 1, 48 * 1024 - 191, nullptr, parameters, nullptr), "static shared memory");
    is(0, cuLaunchKernel(kernel, 10, 1, 1, 1, 1, 1, 48 * 1024 - 192, nullptr, parameters, nullptr), "a launch");
    cuMemcpyDtoHAsync_v2(found.data(), out, 120, nullptr);
    for (unsigned word : found) {
        bool known = false;
        for (unsigned byte : emulate::SHARED_POISONS) known |= word == byte * 0x01010101u;
        is(true, known, "shared memory");
    }
    cuMemFree_v2(out);
    return 0;
}

int order() {
    Device device;
    char *memory;
    void *pinned, *event;
    cuMemAlloc_v2(&memory, 64);
    cuMemAllocHost_v2(&pinned, 64);
    cuEventCreate(&event, 0);
    is(0, cuEventQuery(event), "an event that was not recorded");
    is(0, cuMemsetD8Async(memory, 7, 32, device.stream), "filling");
    is(0, cuMemcpyDtoDAsync_v2(memory + 32, memory, 32, device.stream), "a copy on the device");
    is(0, cuMemcpyDtoHAsync_v2(pinned, memory, 64, device.stream), "a copy");
    is(0, cuEventRecord(event, device.stream), "an event");
    is(0x7F7F7F7F, *static_cast<int *>(pinned), "what nothing waited for");
    is(600, cuEventQuery(event), "an event that is not over");
    is(0, cuEventSynchronize(event), "waiting");
    for (int i = 0; i < 64; ++i) is(7, static_cast<char *>(pinned)[i], "what was waited for");
    is(0, cuEventQuery(event), "an event that is over");
    return 0;
}

int memory() {
    cuInit(0);
    void *context;
    char *first, *second;
    cuDevicePrimaryCtxRetain(&context, 0);
    is(201, cuMemAlloc_v2(&first, 1), "no context");
    cuCtxSetCurrent(context);
    size_t free, total;
    is(0, cuMemGetInfo_v2(&free, &total), "memory");
    is(1 << 20, long(total), "memory");
    is(1, cuMemAlloc_v2(&first, 0), "an allocation of nothing");
    is(2, cuMemAlloc_v2(&first, (1 << 20) + 1), "more memory than there is");
    is(0, cuMemAlloc_v2(&first, 700000), "an allocation");
    is(2, cuMemAlloc_v2(&second, 700000), "another");
    is(0, cuMemFree_v2(first), "an allocation");
    is(0, cuMemAlloc_v2(&second, 700000), "in its place");
    std::vector<char> host(700001);
    is(1, cuMemcpyDtoHAsync_v2(host.data(), second, 700001, nullptr), "a copy of more than there is");
    is(1, cuMemcpyHtoDAsync_v2(second + 1, host.data(), 700000, nullptr), "a copy of more than there is");
    is(1, cuMemcpyDtoHAsync_v2(second, second, 1, nullptr), "a copy down to the device");
    is(1, cuMemcpyDtoHAsync_v2(nullptr, second, 1, nullptr), "a copy to nowhere");
    is(0, cuMemcpyHtoDAsync_v2(second, host.data(), 0, nullptr), "a copy of nothing");
    is(1, cuMemFreeHost(host.data()), "host memory that was not the driver's");
    is(0, cuMemFree_v2(second), "an allocation");
    const char *words;
    is(0, cuGetErrorString(2, &words), "words");
    is(0, strcmp(words, "out of memory"), "words");
    return 0;
}

int modules() {
    Device device;
    void *module;
    char log[256];
    int options[] = {5, 6};
    auto load = [&](const std::string &text) {
        void *values[] = {log, reinterpret_cast<void *>(sizeof log)};
        memset(log, 0, sizeof log);
        return cuModuleLoadDataEx(&module, text.c_str(), 2, options, values);
    };
    auto changed = [](const std::string &from, const std::string &to) {
        std::string text = PTX;
        return text.replace(text.find(from), from.size(), to);
    };
    is(0, load(PTX), "a module");
    is(0, cuModuleUnload(module), "a module");
    is(400, cuModuleUnload(module), "a module that is gone");
    void *function;
    is(500, cuModuleGetFunction(&function, device.module, "nothing"), "a kernel that is not there");
    is(200, load("no ptx"), "no PTX");
    is(true, strstr(log, "is not recognized") != nullptr, "its words");
    is(218, load(changed(".target sm_80", "")), "no target");
    is(0, strncmp(log, "ptxas fatal   : no .target", 26), "its words");
    is(218, load(changed("entry test_double", "entry test_triple")), "an unknown kernel");
    is(true, strstr(log, "no kernel test_triple") != nullptr, "its words");
    is(218, load(changed("    .param .u64 test_double_param_0,\n", "")), "a parameter less");
    is(218, load(changed("u32 test_double_param_2", "u64 test_double_param_2")), "another parameter");
    is(218, load(changed("sm_80", "sm_100")), "a newer device");
    is(218, load(changed("7.0", "9.9")), "a newer version");
    is(218, load(changed("values[128]", "values[50000]")), "too much shared memory");
    return 0;
}

int leaks(bool frees) {
    Device device;
    char *memory;
    cuMemAlloc_v2(&memory, 123);
    if (frees) cuMemFree_v2(memory);
    device.release();
    return 0;
}

}  // namespace

void test_driver() {
    auto works = [](const char *what, const Ending &ending) {
        expect(ending.status == 0, std::string(what) + ": status " + std::to_string(ending.status) + ", " + ending.words);
    };
    works("launches", in_child({}, launches));
    works("launches at once", in_child({{"SETUN_EMULATE_EAGER", "1"}}, launches));
    works("poison", in_child({}, poison));
    works("order", in_child({}, order));
    works("memory", in_child({{"SETUN_EMULATE_MEMORY", "1M"}}, memory));
    works("modules", in_child({}, modules));
    works("nothing leaks", in_child({{"SETUN_EMULATE_LEAKS", "1"}}, [] { return leaks(true); }));
    Ending leak = in_child({{"SETUN_EMULATE_LEAKS", "1"}}, [] { return leaks(false); });
    expect(leak.status == 97 && leak.words == "emulation: not freed: allocation 1, of 123 bytes\n", "a leak: " + leak.words);
    leak = in_child({{"SETUN_EMULATE_LEAKS", "1"}}, [] {
        Device device;
        return 0;
    });
    expect(leak.status == 97 && leak.words == "emulation: not freed: the context, retained 1 times\n"
                                              "emulation: not freed: 1 modules\nemulation: not freed: 1 streams\n",
           "a leak at the end: " + leak.words);
    works("failures", in_child({{"SETUN_EMULATE_FAIL", "cuMemAlloc_v2:2:2!"}}, [] {
              Device device;
              char *memory;
              is(0, cuMemAlloc_v2(&memory, 1), "the first call");
              is(2, cuMemAlloc_v2(&memory, 1), "the second call");
              is(0, cuMemAlloc_v2(&memory, 1), "the third call");
              return 0;
          }));
    works("a forked child", in_child({}, [] {
              Device device;
              Ending ending = in_child({}, [] { return cuStreamSynchronize(nullptr); });
              is(3, ending.status, "a call in a forked child");
              return 0;
          }));
    Ending host = in_child({}, [] {
        Device device;
        char *memory;
        cuMemAlloc_v2(&memory, 1);
        return *memory;
    });
    expect(host.status == -1, "the host reads device memory");
}
