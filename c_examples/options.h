/* What the command line of train can say. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "arguments.h"

#include <setun.h>

typedef struct {
    /* what goes in and out */
    const char *text, *out, *start, *teacher, *resume_from, *export_path, *prompt;
    int32_t tokenizer;
    int64_t vocabulary;
    double validation;
    int64_t sample, codebook;
    int32_t packing; /* index of its name in the table */
    double temperature;
    /* the run; the fields that the library has are filled in directly */
    setun_model_options model;
    setun_train_options train;
    int32_t backend;
    int64_t threads;
    int32_t resume, any_backend, quiet, verbose;
    /* raw values, which options_read copies to where they belong */
    int64_t seed;
    int32_t f32, untied, float_gradients, no_adaptive_lr;
} options;

/* Fills in the library's defaults, then what argv says. */
arguments_result options_read(options *o, int argc, char **argv);

#endif
