/* Version, build info, status names, last error, log hook, cancel tokens, contexts. */
#include "check.h"

static int heard;
static int32_t heard_level;
static char heard_text[512];

static void on_log(int32_t level, const char *message, void *user_data) {
    heard += *(int *)user_data;
    heard_level = level;
    strncpy(heard_text, message, sizeof heard_text - 1);
}

static void version_and_names(void) {
    char expected[64];
    CHECK(setun_version() == (SETUN_VERSION_MAJOR << 16 | SETUN_VERSION_MINOR << 8 | SETUN_VERSION_PATCH));
    sprintf(expected, "%d.%d.%d", SETUN_VERSION_MAJOR, SETUN_VERSION_MINOR, SETUN_VERSION_PATCH);
    CHECK(strcmp(setun_version_string(), expected) == 0);
    CHECK(strstr(setun_build_info(), expected) != NULL);
    CHECK(strstr(setun_build_info(), "baseline") != NULL);
    CHECK(strcmp(setun_status_name(SETUN_OK), "SETUN_OK") == 0);
    CHECK(strcmp(setun_status_name(SETUN_ERR_ABI), "SETUN_ERR_ABI") == 0);
    CHECK(strcmp(setun_status_name(SETUN_ERR_INTERNAL), "SETUN_ERR_INTERNAL") == 0);
    CHECK(strcmp(setun_status_name(-12), "unknown status") == 0);
}

static void last_error(void) {
    /* Before any failure it is empty, and after a failure a success does not clear it. */
    CHECK(setun_last_error() != NULL && setun_last_error()[0] == '\0');
    CHECK_FAILS(setun_cancel_create(NULL), SETUN_ERR_ARGUMENT, "cancel_create: out is NULL");
    CHECK_OK(setun_set_log(NULL, NULL, SETUN_LOG_ERROR));
    CHECK(strcmp(setun_last_error(), "cancel_create: out is NULL") == 0);
}

static void log_hook(void) {
    int weight = 1;
    setun_context *context = NULL;
    setun_context_options options;
    setun_context_options_init(&options, sizeof options);
    options.verbose = 1;
    options.backend = SETUN_BACKEND_SCALAR;
    CHECK_FAILS(setun_set_log(on_log, &weight, 4), SETUN_ERR_ARGUMENT, "level is 4");
    CHECK_OK(setun_set_log(on_log, &weight, SETUN_LOG_INFO));
    CHECK_OK(setun_context_create(&options, &context));
    CHECK(heard == 1 && heard_level == SETUN_LOG_INFO);
    CHECK(strstr(heard_text, "scalar") != NULL);
    setun_context_free(context);

    /* A level below the message's hears nothing; a misused free is a warning. */
    CHECK_OK(setun_set_log(on_log, &weight, SETUN_LOG_WARNING));
    CHECK_OK(setun_context_create(&options, &context));
    CHECK(heard == 1);
    setun_context_free(context);
    setun_context_free(context);
    CHECK(heard == 2 && heard_level == SETUN_LOG_WARNING);
    CHECK(strstr(heard_text, "context_free: the handle was freed already") != NULL);

    CHECK_OK(setun_set_log(NULL, NULL, SETUN_LOG_DEBUG));
    setun_context_free(context);
    CHECK(heard == 2);
}

static void cancel(void) {
    setun_cancel *token = NULL;
    CHECK_OK(setun_cancel_create(&token));
    CHECK(token != NULL);
    CHECK_OK(setun_cancel_request(token));
    CHECK_OK(setun_cancel_request(token));
    CHECK_OK(setun_cancel_reset(token));
    CHECK_FAILS(setun_cancel_request(NULL), SETUN_ERR_ARGUMENT, "token is NULL");
    setun_cancel_free(token);
    CHECK_FAILS(setun_cancel_request(token), SETUN_ERR_ARGUMENT, "token was freed already");
    setun_cancel_free(NULL);
}

static void context(void) {
    static const int32_t backends[3] = {SETUN_BACKEND_SCALAR, SETUN_BACKEND_SIMD, SETUN_BACKEND_PARALLEL};
    setun_context *made = NULL;
    setun_context_options options;
    int32_t backend = -1, threads = -1;
    const char *level = NULL;
    int i;
    for (i = 0; i < 3; i++) {
        setun_context_options_init(&options, sizeof options);
        options.backend = backends[i];
        options.threads = 2;
        CHECK_OK(setun_context_create(&options, &made));
        CHECK_OK(setun_context_backend(made, &backend));
        CHECK(backend == backends[i]);
        CHECK_OK(setun_context_threads(made, &threads));
        CHECK(threads == (backends[i] == SETUN_BACKEND_PARALLEL ? 2 : 1));
        CHECK_OK(setun_context_level(made, &level));
        CHECK(strstr("baseline x86-64-v3 x86-64-v4+vnni", level) != NULL && strlen(level) >= strlen("baseline"));
        setun_context_free(made);
    }
    /* The preferences decide what AUTO is. */
    setun_context_options_init(&options, sizeof options);
    options.prefer_parallel = 0;
    CHECK_OK(setun_context_create(&options, &made));
    CHECK_OK(setun_context_backend(made, &backend));
    CHECK(backend == SETUN_BACKEND_SIMD);
    setun_context_free(made);
    options.prefer_simd = 0;
    CHECK_OK(setun_context_create(&options, &made));
    CHECK_OK(setun_context_backend(made, &backend));
    CHECK(backend == SETUN_BACKEND_SCALAR);
    setun_context_free(made);
    /* NULL is the default context. */
    CHECK_OK(setun_context_backend(NULL, &backend));
    CHECK(backend == SETUN_BACKEND_PARALLEL);

    made = NULL;
    options.backend = 5;
    CHECK_FAILS(setun_context_create(&options, &made), SETUN_ERR_ARGUMENT, "backend is 5");
    options.backend = SETUN_BACKEND_AUTO;
    options.threads = -1;
    CHECK_FAILS(setun_context_create(&options, &made), SETUN_ERR_ARGUMENT, "threads is -1");
    options.threads = 5000;
    CHECK_FAILS(setun_context_create(&options, &made), SETUN_ERR_ARGUMENT, "threads is 5000");
    CHECK(made == NULL);
    CHECK_FAILS(setun_context_create(NULL, NULL), SETUN_ERR_ARGUMENT, "out is NULL");
    CHECK_FAILS(setun_context_threads(NULL, NULL), SETUN_ERR_ARGUMENT, "out is NULL");
}

int main(void) {
    version_and_names();
    last_error();
    log_hook();
    cancel();
    context();
    return 0;
}
