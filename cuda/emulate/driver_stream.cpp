// The emulated driver's streams and events.
#include "driver.hpp"

using namespace emulate;

namespace emulate {

bool is_stream(const void *stream) {
    // NULL stands for one that need not be created.
    return !stream || driver().context.streams.count(static_cast<Stream *>(const_cast<void *>(stream))) > 0;
}

}  // namespace emulate

// --- streams ---------------------------------------------------------------------------------------------------------

/// Priorities are hints.
API cuStreamCreateWithPriority(Stream **stream, unsigned flags, int) {
    ENTER();
    if (flags > 1) return INVALID_VALUE;
    *stream = new Stream;
    driver().context.streams.insert(*stream);
    return SUCCESS;
}

API cuStreamDestroy_v2(Stream *stream) {
    ENTER();
    if (driver().context.streams.erase(stream) == 0) return INVALID_HANDLE;
    delete stream;
    return SUCCESS;
}

API cuStreamSynchronize(void *stream) {
    ENTER_STREAM(stream);
    drain();
    return SUCCESS;
}

// --- events ----------------------------------------------------------------------------------------------------------

namespace {

std::shared_ptr<Event> find_event(const Event *event) {
    for (auto &known : driver().context.events)
        if (known.get() == event) return known;
    return nullptr;
}

}  // namespace

API cuEventCreate(Event **event, unsigned) {
    ENTER();
    auto made = std::make_shared<Event>();
    driver().context.events.insert(made);
    *event = made.get();
    return SUCCESS;
}

API cuEventDestroy_v2(Event *event) {
    ENTER();
    auto found = find_event(event);
    if (!found) return INVALID_HANDLE;
    driver().context.events.erase(found);
    return SUCCESS;
}

API cuEventRecord(Event *event, void *stream) {
    ENTER_STREAM(stream);
    auto found = find_event(event);
    if (!found) return INVALID_HANDLE;
    found->done = false;
    enqueue([found] { found->done = true; });
    return SUCCESS;
}

API cuEventSynchronize(Event *event) {
    ENTER();
    if (!find_event(event)) return INVALID_HANDLE;
    drain();
    return SUCCESS;
}

/// Whoever asks whether the work is done is told once that it is not, and will find it done the next time.
API cuEventQuery(Event *event) {
    ENTER();
    auto found = find_event(event);
    if (!found) return INVALID_HANDLE;
    bool done = found->done;
    drain();
    return done ? SUCCESS : NOT_READY;
}
