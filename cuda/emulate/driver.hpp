// What the files of the emulated driver share: its state, its codes, and the queue of work.
//
// Work of streams is done in the order in which it was given, when something waits for it; so what a program reads without
// waiting is not there yet. With SETUN_EMULATE_EAGER=1 it is done at once.
#pragma once
#include "memory.hpp"
#include "module.hpp"
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>

/// A function that the library exports.
#define API extern "C" __attribute__((visibility("default"))) int

namespace emulate {

enum Code {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_IMAGE = 200,
    INVALID_PTX = 218,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    CONTEXT_IS_DESTROYED = 709,
    NOT_SUPPORTED = 801,
};

struct Event {
    /// Whether all is done that was given before it was last recorded.
    bool done = true;
};

struct Stream {};

/// The one context there is: the primary context of the device.
struct Context {
    unsigned retained = 0;
    std::set<Module *> modules;
    std::set<Stream *> streams;
    std::set<std::shared_ptr<Event>> events;
};

struct Driver {
    std::mutex mutex;
    int process = 0;
    Context context;
    std::deque<std::function<void()>> queue;
    unsigned long launches = 0;
    /// Bytes that were copied to the device, and from it.
    unsigned long uploaded = 0, downloaded = 0;
};

Driver &driver();

/// SUCCESS if the driver is initialised in this process.
Code initialized();
/// SUCCESS if this thread has a current context.
Code current_context();
bool is_stream(const void *stream);

/// What SETUN_EMULATE_FAIL wants this call to return.
Code asked_failure(const char *name);

/// Gives the stream something to do.
void enqueue(std::function<void()> work);
/// Does all that was given.
void drain();

#define FAIL_WHERE_ASKED()                                                                                             \
    if (emulate::Code code = emulate::asked_failure(__func__)) return code
#define BEGIN()                                                                                                        \
    FAIL_WHERE_ASKED();                                                                                                \
    if (emulate::Code code = emulate::initialized()) return code
/// Takes the driver's lock for the rest of the function, and returns where there is no context.
#define ENTER()                                                                                                        \
    BEGIN();                                                                                                           \
    std::lock_guard<std::mutex> guard(emulate::driver().mutex);                                                        \
    if (emulate::Code code = emulate::current_context()) return code
#define ENTER_STREAM(stream)                                                                                           \
    ENTER();                                                                                                           \
    if (!emulate::is_stream(stream)) return emulate::INVALID_HANDLE

}  // namespace emulate
