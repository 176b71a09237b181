// The emulated driver's modules and launches.
#include "driver.hpp"
#include <algorithm>

using namespace emulate;

namespace {

/// Options of the compiler in the driver, by their numbers in CUjit_option.
enum { ERROR_LOG = 5, ERROR_LOG_SIZE = 6 };

void write_log(const std::string &words, unsigned count, const int *options, void **values) {
    char *log = nullptr;
    void **length = nullptr;
    for (unsigned i = 0; i < count; ++i) {
        if (options[i] == ERROR_LOG) log = static_cast<char *>(values[i]);
        if (options[i] == ERROR_LOG_SIZE) length = &values[i];
    }
    if (!log || !length) return;
    size_t room = reinterpret_cast<size_t>(*length) & 0xFFFFFFFF;
    if (room > 0) snprintf(log, room, "%s", words.c_str());
    *length = reinterpret_cast<void *>(room > 0 ? std::min(words.size(), room - 1) : 0);
}

Function *find_function(const void *handle) {
    for (Module *module : driver().context.modules)
        for (Function &function : module->functions)
            if (&function == handle) return &function;
    return nullptr;
}

/// The value of a parameter, and in it the addresses of the memory instead of device addresses. False, with words, where a
/// pointer is none of the device's.
bool translate(const Function &function, unsigned number, std::vector<uint64_t> &value) {
    for (uint64_t &word : value) {
        auto address = reinterpret_cast<void *>(word);
        bool is_pointer = function.kernel->pointers[number];
        if (is_device_address(address)) {
            if (find_allocation(address, 0)) {
                word = reinterpret_cast<uint64_t>(memory_of(address));
                continue;
            }
            fprintf(stderr, "emulation: kernel %s: parameter %u, %p, points to device memory that was freed\n",
                    function.kernel->name, number, address);
            return false;
        }
        // A pointer to an empty tensor may be anything that points nowhere.
        if (!is_pointer || word < 4096 || is_pinned(address, 0)) continue;
        fprintf(stderr, "emulation: kernel %s: parameter %u, %p, is no pointer to device memory\n", function.kernel->name,
                number, address);
        return false;
    }
    return true;
}

}  // namespace

API cuModuleLoadDataEx(Module **module, const void *image, unsigned count, int *options, void **values) {
    ENTER();
    if (!module || !image) return INVALID_VALUE;
    auto loaded = std::make_unique<Module>();
    const std::string text = static_cast<const char *>(image);
    // In the words of a driver, which takes such a text for a binary.
    if (!is_ptx(text)) {
        write_log("error   : Binary format for key='0', ident='' is not recognized", count, options, values);
        return INVALID_IMAGE;
    }
    std::string wrong = read_ptx(text, *loaded);
    if (!wrong.empty()) wrong = "ptxas fatal   : " + wrong;
    write_log(wrong, count, options, values);
    if (!wrong.empty()) return INVALID_PTX;
    *module = loaded.release();
    driver().context.modules.insert(*module);
    return SUCCESS;
}

API cuModuleUnload(Module *module) {
    ENTER();
    if (driver().context.modules.count(module) == 0) return INVALID_HANDLE;
    drain();
    driver().context.modules.erase(module);
    delete module;
    return SUCCESS;
}

API cuModuleGetFunction(Function **function, Module *module, const char *name) {
    ENTER();
    if (driver().context.modules.count(module) == 0) return INVALID_HANDLE;
    for (Function &known : module->functions)
        if (strcmp(known.kernel->name, name) == 0) {
            *function = &known;
            return SUCCESS;
        }
    return NOT_FOUND;
}

API cuFuncSetAttribute(void *handle, int attribute, int value) {
    ENTER();
    Function *function = find_function(handle);
    if (!function) return INVALID_HANDLE;
    // MAX_DYNAMIC_SHARED_SIZE_BYTES
    if (attribute != 8 || value < 0 || size_t(value) + function->static_shared > MAX_SHARED) return INVALID_VALUE;
    function->max_dynamic_shared = size_t(value);
    return SUCCESS;
}

API cuLaunchKernel(void *handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared, void *stream, void **parameters, void **extra) {
    ENTER_STREAM(stream);
    Function *function = find_function(handle);
    if (!function) return INVALID_HANDLE;
    if (extra) return NOT_SUPPORTED;
    const Kernel &kernel = *function->kernel;
    if (kernel.count > 0 && !parameters) return INVALID_VALUE;
    bool grid_fits = grid_x - 1u < 2147483647u && grid_y - 1u < 65535u && grid_z - 1u < 65535u;
    bool block_fits = block_x - 1u < 1024u && block_y - 1u < 1024u && block_z - 1u < 64u;
    if (!grid_fits || !block_fits || size_t(block_x) * block_y * block_z > function->max_threads) return INVALID_VALUE;
    if (shared > function->max_dynamic_shared) return INVALID_VALUE;
    std::vector<std::vector<uint64_t>> values(kernel.count);
    for (unsigned i = 0; i < kernel.count; ++i) {
        values[i].assign((kernel.sizes[i] + 7) / 8, 0);
        memcpy(values[i].data(), parameters[i], kernel.sizes[i]);
        if (!translate(*function, i, values[i])) return ILLEGAL_ADDRESS;
    }
    dim3 grid(grid_x, grid_y, grid_z), block(block_x, block_y, block_z);
    ++driver().launches;
    enqueue([=, &kernel, values = std::move(values)]() mutable {
        std::vector<void *> arguments;
        for (auto &value : values) arguments.push_back(value.data());
        launch(kernel, arguments.data(), grid, block, shared);
    });
    return SUCCESS;
}
