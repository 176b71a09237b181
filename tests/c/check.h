/* What every test program needs: a failed check names its line, the condition and the library's last error. */
#ifndef SETUN_CHECK_H
#define SETUN_CHECK_H

#include "setun.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition,                  \
                    setun_last_error());                                                                     \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

/* The call returns this status. */
#define CHECK_STATUS(call, expected)                                                                         \
    do {                                                                                                     \
        setun_status status_ = (call);                                                                       \
        if (status_ != (expected)) {                                                                         \
            fprintf(stderr, "%s:%d: %s is %s, expected %s (last error: %s)\n", __FILE__, __LINE__, #call,    \
                    setun_status_name(status_), setun_status_name(expected), setun_last_error());            \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define CHECK_OK(call) CHECK_STATUS(call, SETUN_OK)

/* The call fails with this status, and the last error holds this text. */
#define CHECK_FAILS(call, expected, text)                                                                    \
    do {                                                                                                     \
        CHECK_STATUS(call, expected);                                                                        \
        if (strstr(setun_last_error(), text) == NULL) {                                                      \
            fprintf(stderr, "%s:%d: %s: '%s' does not hold '%s'\n", __FILE__, __LINE__, #call,               \
                    setun_last_error(), text);                                                               \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#define CHECK_NEAR(value, expected, tolerance)                                                               \
    do {                                                                                                     \
        double value_ = (value), expected_ = (expected);                                                     \
        if (!(value_ - expected_ <= (tolerance) && expected_ - value_ <= (tolerance))) {                     \
            fprintf(stderr, "%s:%d: %s is %.9g, expected %.9g\n", __FILE__, __LINE__, #value, value_,        \
                    expected_);                                                                              \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

#endif
