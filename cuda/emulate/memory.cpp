#include "memory.hpp"
#include "engine.hpp"
#include <map>
#include <sys/mman.h>

namespace emulate {

namespace {

constexpr size_t PAGE = 4096;
constexpr size_t RANGE = size_t(64) << 30;

struct Memory {
    char *device = nullptr, *real = nullptr, *next = nullptr;
    size_t limit = 0, used = 0, alignment = 256;
    unsigned long count = 0;
    std::map<const char *, Allocation> allocations;
    std::map<const char *, size_t> pinned;
};

void describe(const void *address, char *words, size_t size);

/// A number with a suffix of K, M or G.
size_t setting(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    if (!text || !*text) return otherwise;
    char *end;
    size_t value = strtoull(text, &end, 10);
    return *end == 'G' ? value << 30 : *end == 'M' ? value << 20 : *end == 'K' ? value << 10 : value;
}

Memory &memory() {
    // Never destroyed: the process may end while other threads are still here.
    static Memory &memory = *new Memory;
    if (!memory.device) {
        memory.limit = setting("SETUN_EMULATE_MEMORY", size_t(1) << 30);
        memory.alignment = setting("SETUN_EMULATE_ALIGNMENT", 256);
        void *both = mmap(nullptr, 2 * RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (both == MAP_FAILED) fail("no addresses for the memory of the device");
        memory.device = memory.next = static_cast<char *>(both);
        memory.real = memory.device + RANGE;
        describe_address = describe;
    }
    return memory;
}

/// The allocation whose pages, or the page after them, hold a device address.
Allocation *near(const char *device) {
    auto &allocations = memory().allocations;
    auto after = allocations.upper_bound(device);
    if (after != allocations.end() && after->second.begin <= device) return &after->second;
    if (after == allocations.begin()) return nullptr;
    Allocation &found = std::prev(after)->second;
    return device < found.end + PAGE ? &found : nullptr;
}

void describe(const void *address, char *words, size_t size) {
    Memory &m = memory();
    auto place = static_cast<const char *>(address);
    if (is_device_address(address)) {
        snprintf(words, size, "a device pointer that was passed inside of memory, or used by the host");
        return;
    }
    if (place < m.real || place >= m.real + RANGE) return;
    const char *device = place - (m.real - m.device);
    Allocation *found = near(device);
    if (!found)
        snprintf(words, size, "device memory that was freed, or never allocated");
    else if (device >= found->device)
        snprintf(words, size, "byte %zu of an allocation of %zu", size_t(device - found->device), found->size);
    else
        snprintf(words, size, "%zu bytes before an allocation of %zu", size_t(found->device - device), found->size);
}

/// A gap of this many bytes in the range of device addresses, from `start` on.
char *gap(char *start, size_t size) {
    Memory &m = memory();
    for (auto place = m.allocations.lower_bound(start); place != m.allocations.end(); ++place) {
        if (place->second.begin >= start + size) break;
        start = place->second.end + PAGE;
    }
    return start + size <= m.device + RANGE ? start : nullptr;
}

void check_poison(const Allocation &a, const char *begin, const char *end) {
    for (const char *byte = memory_of(begin), *last = memory_of(end); byte < last; ++byte)
        if (*byte != char(POISON)) {
            char words[256];
            describe(byte, words, sizeof words);
            fail("written outside of allocation %lu: %s", a.number, words);
        }
}

}  // namespace

Allocation *allocate(size_t size) {
    Memory &m = memory();
    size_t pages = (size + PAGE - 1) / PAGE * PAGE;
    if (size > m.limit || m.used + pages > m.limit + PAGE - 1) return nullptr;
    char *begin = gap(m.next, pages + PAGE);
    if (!begin) begin = gap(m.device, pages + PAGE);
    if (!begin) return nullptr;
    constexpr int KIND = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    void *real = mmap(memory_of(begin), pages, PROT_READ | PROT_WRITE, KIND, -1, 0);
    if (real == MAP_FAILED) return nullptr;
    memset(real, POISON, pages);
    m.used += pages;
    m.next = begin + pages + PAGE;
    char *device = begin + (pages - size) / m.alignment * m.alignment;
    auto &place = m.allocations[device];
    place = Allocation{device, size, begin, begin + pages, ++m.count};
    return &place;
}

void release(Allocation *allocation) {
    Memory &m = memory();
    Allocation a = *allocation;
    check_poison(a, a.begin, a.device);
    check_poison(a, a.device + a.size, a.end);
    size_t pages = size_t(a.end - a.begin);
    mmap(memory_of(a.begin), pages, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    m.used -= pages;
    m.allocations.erase(a.device);
}

Allocation *find_allocation(const void *device, size_t size) {
    auto &allocations = memory().allocations;
    auto place = static_cast<const char *>(device);
    auto after = allocations.upper_bound(place);
    if (after == allocations.begin()) return nullptr;
    Allocation &found = std::prev(after)->second;
    size_t offset = size_t(place - found.device);
    return offset <= found.size && size <= found.size - offset ? &found : nullptr;
}

char *memory_of(const void *device) {
    return const_cast<char *>(static_cast<const char *>(device)) + (memory().real - memory().device);
}

bool is_device_address(const void *address) {
    auto place = static_cast<const char *>(address);
    return place >= memory().device && place < memory().device + RANGE;
}

void pin(void *host, size_t size) { memory().pinned[static_cast<char *>(host)] = size; }

bool unpin(void *host) { return memory().pinned.erase(static_cast<char *>(host)) > 0; }

bool is_pinned(const void *host, size_t size) {
    auto &pinned = memory().pinned;
    auto place = static_cast<const char *>(host);
    auto after = pinned.upper_bound(place);
    if (after == pinned.begin()) return false;
    auto found = std::prev(after);
    size_t offset = size_t(place - found->first);
    return offset <= found->second && size <= found->second - offset;
}

size_t memory_limit() { return memory().limit; }
size_t memory_used() { return memory().used; }

int report_memory() {
    Memory &m = memory();
    for (auto &entry : m.allocations)
        fprintf(stderr, "emulation: not freed: allocation %lu, of %zu bytes\n", entry.second.number, entry.second.size);
    for (auto &entry : m.pinned) fprintf(stderr, "emulation: not freed: %zu bytes of pinned host memory\n", entry.second);
    return int(m.allocations.size() + m.pinned.size());
}

void release_all() {
    auto &allocations = memory().allocations;
    while (!allocations.empty()) release(&allocations.begin()->second);
    memory().pinned.clear();
}

}  // namespace emulate
