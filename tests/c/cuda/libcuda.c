/*
 * A CUDA driver for tests: one device, whose calls succeed but for the one that the environment variable FAKE_CUDA_FAIL
 * names, which returns FAKE_CUDA_CODE. FAKE_CUDA_VERSION, FAKE_CUDA_COUNT and FAKE_CUDA_COMPUTE change what it reports. It
 * checks that a context is opened and closed in order. It has no memory and runs no kernels: cuda/emulate has a driver that does.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int initialized, retained, streams, buffers;
static void *current;
static char device_context;

static int number(const char *variable, int otherwise) {
    const char *value = getenv(variable);
    return value == NULL ? otherwise : atoi(value);
}

/* What a call returns: 0 unless it is the one that has to fail. */
static int code(const char *call) {
    const char *failing = getenv("FAKE_CUDA_FAIL");
    return failing != NULL && strcmp(failing, call) == 0 ? number("FAKE_CUDA_CODE", 1) : 0;
}

#define BEGIN                                                                                                \
    if (code(__func__) != 0)                                                                                 \
        return code(__func__);

int cuDriverGetVersion(int *version) {
    BEGIN
    *version = number("FAKE_CUDA_VERSION", 13000);
    return 0;
}

int cuInit(unsigned flags) {
    BEGIN
    initialized = flags == 0;
    return 0;
}

int cuDeviceGetCount(int *count) {
    BEGIN
    *count = number("FAKE_CUDA_COUNT", 1);
    return initialized ? 0 : 3;
}

int cuDeviceGet(int *device, int ordinal) {
    BEGIN
    *device = 40 + ordinal;
    return ordinal == 0 ? 0 : 101;
}

int cuDeviceGetName(char *name, int length, int device) {
    BEGIN
    snprintf(name, (size_t)length, "Fake GPU %d", device);
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    BEGIN
    *bytes = (size_t)8 << 30;
    return device == 40 ? 0 : 101;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    BEGIN
    *value = attribute == 75 ? number("FAKE_CUDA_COMPUTE", 9) : attribute == 76 ? 1 : -1;
    return device == 40 ? 0 : 101;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    BEGIN
    *context = &device_context;
    retained++;
    return device == 40 ? 0 : 101;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    retained--;
    return device == 40 ? 0 : 101;
}

int cuCtxGetCurrent(void **context) {
    BEGIN
    *context = current;
    return 0;
}

int cuCtxSetCurrent(void *context) {
    BEGIN
    current = context;
    return 0;
}

int cuMemGetInfo_v2(size_t *free, size_t *total) {
    BEGIN
    *free = (size_t)6 << 30;
    *total = (size_t)8 << 30;
    return current == &device_context && retained == 1 ? 0 : 201;
}

/* Whether a call is made as it has to be: on the device's context, while that is open. */
static int inside(void) { return current == &device_context && retained > 0 ? 0 : 201; }

int cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    BEGIN
    *stream = &streams;
    streams++;
    return flags == 1 && priority == 0 ? inside() : 1;
}

int cuStreamDestroy_v2(void *stream) {
    streams--;
    return stream == &streams ? inside() : 400;
}

int cuStreamSynchronize(void *stream) {
    BEGIN
    return stream == &streams ? inside() : 400;
}

int cuMemAllocHost_v2(void **memory, size_t bytes) {
    BEGIN
    *memory = malloc(bytes);
    buffers++;
    return inside();
}

int cuMemFreeHost(void *memory) {
    free(memory);
    buffers--;
    return inside();
}

int cuGetErrorString(int error, const char **text) {
    static char words[64];
    BEGIN
    snprintf(words, sizeof words, "the fake's words for %d", error);
    *text = words;
    return 0;
}

/* For the test: everything that was opened is closed, and the caller's context is the current one again. */
int fake_cuda_is_at_rest(void *expected) {
    return retained == 0 && streams == 0 && buffers == 0 && current == expected;
}
