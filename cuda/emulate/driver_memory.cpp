// The emulated driver's memory: allocations, copies, and filling.
#include "driver.hpp"

using namespace emulate;

namespace {

/// Whether the range is in one allocation; words where it is not. Nothing is in all of them.
bool holds(const void *device, size_t size) {
    if (size == 0 || find_allocation(device, size)) return true;
    fprintf(stderr, "emulation: a copy: %zu bytes from %p on are not in one allocation\n", size, device);
    return false;
}

/// Whether the host could read a range from here.
bool is_host(const void *host, size_t size) { return size == 0 || (host && !is_device_address(host)); }

}  // namespace

API cuMemGetInfo_v2(size_t *free, size_t *total) {
    ENTER();
    *total = memory_limit();
    *free = memory_limit() > memory_used() ? memory_limit() - memory_used() : 0;
    return SUCCESS;
}

API cuMemAlloc_v2(void **device, size_t size) {
    ENTER();
    if (!device || size == 0) return INVALID_VALUE;
    Allocation *made = allocate(size);
    if (!made) return OUT_OF_MEMORY;
    *device = made->device;
    return SUCCESS;
}

API cuMemFree_v2(void *device) {
    ENTER();
    if (!device) return SUCCESS;
    drain();
    Allocation *found = find_allocation(device, 0);
    if (!found || found->device != device) return INVALID_VALUE;
    release(found);
    return SUCCESS;
}

// --- host memory -----------------------------------------------------------------------------------------------------

API cuMemAllocHost_v2(void **host, size_t size) {
    ENTER();
    if (!host || size == 0) return INVALID_VALUE;
    void *memory = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    if (!memory) return OUT_OF_MEMORY;
    memset(memory, POISON, size);
    pin(memory, size);
    *host = memory;
    return SUCCESS;
}

API cuMemFreeHost(void *host) {
    ENTER();
    drain();
    if (!unpin(host)) return INVALID_VALUE;
    free(host);
    return SUCCESS;
}

// --- copies and filling ----------------------------------------------------------------------------------------------

API cuMemcpyHtoDAsync_v2(void *device, const void *host, size_t size, void *stream) {
    ENTER_STREAM(stream);
    if (!holds(device, size) || !is_host(host, size)) return INVALID_VALUE;
    if (size == 0) return SUCCESS;
    driver().uploaded += size;
    if (is_pinned(host, size)) {
        enqueue([=] { memcpy(memory_of(device), host, size); });
        return SUCCESS;
    }
    // What is not pinned is read before the call returns.
    auto bytes = static_cast<const char *>(host);
    enqueue([device, copy = std::vector<char>(bytes, bytes + size)] { memcpy(memory_of(device), copy.data(), copy.size()); });
    return SUCCESS;
}

API cuMemcpyDtoHAsync_v2(void *host, const void *device, size_t size, void *stream) {
    ENTER_STREAM(stream);
    if (!holds(device, size) || !is_host(host, size)) return INVALID_VALUE;
    if (size == 0) return SUCCESS;
    driver().downloaded += size;
    enqueue([=] { memcpy(host, memory_of(device), size); });
    // What is not pinned is written before the call returns.
    if (!is_pinned(host, size)) drain();
    return SUCCESS;
}

API cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t size, void *stream) {
    ENTER_STREAM(stream);
    if (!holds(to, size) || !holds(from, size)) return INVALID_VALUE;
    if (size > 0) enqueue([=] { memmove(memory_of(to), memory_of(from), size); });
    return SUCCESS;
}

API cuMemsetD8Async(void *device, unsigned char value, size_t count, void *stream) {
    ENTER_STREAM(stream);
    if (!holds(device, count)) return INVALID_VALUE;
    if (count > 0) enqueue([=] { memset(memory_of(device), value, count); });
    return SUCCESS;
}
