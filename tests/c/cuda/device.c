/*
 * What the library says of the CUDA driver that it finds, one answer a line; tests/c_programs/cuda.rs compares them. With the
 * argument "fork", what a forked child says. With "rest", whether the driver was left as it was.
 */
#define _DEFAULT_SOURCE
#include "../check.h"

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, setun_status status) {
    printf("%s: %s%s%s\n", what, setun_status_name(status), status == SETUN_OK ? "" : " ",
           status == SETUN_OK ? "" : setun_last_error());
}

static void ask(void) {
    char text[1000];
    int32_t count = -1, backend = -1;
    size_t bytes = 0, free = 0, total = 0;
    setun_context *context = NULL;
    setun_context_options options;
    setun_status status = setun_device_count(&count);
    say("count", status);
    printf("devices: %d\n", (int)count);
    status = setun_device_name(0, text, sizeof text, &bytes);
    say("name", status);
    if (status == SETUN_OK)
        printf("device: %s, %d bytes\n", text, (int)bytes);
    status = setun_device_memory(0, &free, &total);
    say("memory", status);
    if (status == SETUN_OK)
        printf("bytes: %.0f of %.0f\n", (double)free, (double)total);
    setun_context_options_init(&options, sizeof options);
    options.backend = SETUN_BACKEND_CUDA;
    status = setun_context_create(&options, &context);
    say("cuda", status);
    CHECK((context == NULL) == (status != SETUN_OK));
    if (status == SETUN_OK) {
        CHECK_OK(setun_context_backend(context, &backend));
        CHECK(backend == SETUN_BACKEND_CUDA);
        CHECK_OK(setun_context_explain(context, "add", 10, text, sizeof text, NULL));
        printf("runs: %s\n", text);
        setun_context_free(context);
        context = NULL;
    }

    /* The CPU works, whatever the driver does. */
    options.backend = SETUN_BACKEND_AUTO;
    CHECK_OK(setun_context_create(&options, &context));
    CHECK_OK(setun_context_backend(context, &backend));
    CHECK(backend == SETUN_BACKEND_PARALLEL);
    CHECK_OK(setun_context_explain(context, "add", 10, text, sizeof text, NULL));
    printf("explain: %s\n", strstr(text, ". cuda") + 2);
    setun_context_free(context);
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : "";
    if (strcmp(wanted, "fork") == 0) {
        int status = 0;
        int32_t count;
        (void)setun_device_count(&count);
        fflush(stdout);
        if (fork() == 0) {
            ask();
            fflush(stdout);
            _exit(0);
        }
        CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    } else if (strcmp(wanted, "rest") == 0) {
        static char mine;
        void *driver = dlopen("libcuda.so.1", RTLD_NOW);
        int (*set_current)(void *) = NULL;
        int (*at_rest)(void *) = NULL;
        CHECK(driver != NULL);
        *(void **)&set_current = dlsym(driver, "cuCtxSetCurrent");
        *(void **)&at_rest = dlsym(driver, "fake_cuda_is_at_rest");
        CHECK(set_current(&mine) == 0);
        ask();
        CHECK(at_rest(&mine));
    } else {
        ask();
    }
    return 0;
}
