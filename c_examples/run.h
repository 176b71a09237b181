/* A training run of the train program: what it holds, and what it leaves behind. */
#ifndef RUN_H
#define RUN_H

#include "options.h"
#include "progress.h"

#include <setun.h>

typedef struct {
    options options;
    progress progress;
    setun_cancel *cancel;
    setun_context *context;
    setun_tokenizer *tokenizer;
    setun_dataset *dataset;
    setun_model *model, *teacher;
    setun_trainer *trainer;
} run;

/* 0 for SETUN_OK; else -1, after telling the error on stderr. */
int check(setun_status status, const char *what);

/* After the last step: tells the losses, draws the curve, writes the model file, and lets that write a sample. Returns
   0, or -1 after a message. */
int results(run *r);

/* Draws the loss curve alone. Returns likewise. */
int results_curve(const run *r);

#endif
