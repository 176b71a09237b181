// The memory of the emulated device.
//
// A device address is never a host address: it lies in a range of its own, in which nothing can be read or written, and
// kernels are given the address of the memory itself, which is at a fixed distance. So host code that follows a device
// pointer crashes, as it does with a device. Every allocation ends at a page that is not there, but for what its alignment
// leaves, and that is checked when it is freed. Addresses are not given again before all have been used.
#pragma once
#include <cstddef>

namespace emulate {

struct Allocation {
    char *device;
    size_t size;
    /// Its pages, as device addresses.
    char *begin, *end;
    unsigned long number;
};

/// NULL when the device has no memory left.
Allocation *allocate(size_t size);
/// Checks what lies around it, and takes its pages away.
void release(Allocation *allocation);
/// The allocation that holds `size` bytes from this address on, or NULL.
Allocation *find_allocation(const void *device, size_t size);
/// Where the memory is of which this is a device address.
char *memory_of(const void *device);
bool is_device_address(const void *address);

/// Host memory that the device may use.
void pin(void *host, size_t size);
/// False if it was not pinned.
bool unpin(void *host);
bool is_pinned(const void *host, size_t size);

size_t memory_limit();
size_t memory_used();
/// Prints a line for everything that is still allocated or pinned, and returns how many there are.
int report_memory();
/// Frees all of it.
void release_all();

}  // namespace emulate
