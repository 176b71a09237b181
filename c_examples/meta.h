/* Meta-training of the network for the learning rate: short runs, evolution strategies over them, and their results. */
#ifndef META_H
#define META_H

#include <setun.h>
#include <stddef.h>
#include <stdint.h>

enum { META_WEIGHTS = 133 };

/* --- random numbers: the same for the same names, in any order and on any thread ------------------------------------ */

typedef struct {
    uint64_t state;
} meta_random;

/* The stream that up to four numbers name. */
meta_random meta_stream(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);
double meta_uniform(meta_random *random); /* 0 to less than 1 */
double meta_normal(meta_random *random);
double meta_log_uniform(meta_random *random, double from, double to);
/* A name for bytes, by which results know what they are results of (FNV-1a). */
uint64_t meta_name(const void *bytes, size_t count);

/* --- a task: a small network of the program's own, with two ternary matrices, trained for some steps ----------------- */

typedef enum {
    META_TEACHER,    /* regression on the outputs of a random network, with noise */
    META_CHARACTERS, /* the next of 32 symbols after four, in a text or in a Markov chain */
    META_FAMILIES,
} meta_family;

typedef struct {
    int32_t family; /* a meta_family */
    int64_t width;  /* of the hidden layers */
    int64_t steps;
    double rate; /* the radius that the network multiplies, at its highest: rms(step) over rms(weights) */
    uint64_t seed;
} meta_task;

typedef struct {
    double first;  /* loss on batches that were never trained on, before the first step */
    double last;   /* and after the last; not finite where the run broke */
    double factor; /* geometric mean of the factors */
} meta_outcome;

/* The symbols of a text, for META_CHARACTERS; without, each task has a Markov chain of its own. 0 and a message on stderr
   when it cannot be read or is shorter than 4096 symbols. */
int meta_read_text(const char *path);
uint64_t meta_text_name(void); /* 0 without a text */
void meta_free_text(void);

/* Runs a task with the network of `weights`, or, for NULL, with the schedule alone. The same arguments give the same bits.
   Returns 0 after a message on stderr when a call fails. */
int meta_run(const meta_task *task, const double *weights, const setun_context *context, meta_outcome *outcome);

/* --- work on several threads ------------------------------------------------------------------------------------------ */

/* Calls work(data, i) for every i below count; 0 when one returned 0, after which no further one begins. */
int meta_parallel(int64_t threads, int64_t count, int (*work)(void *data, int64_t i), void *data);

/* --- results: a file of one JSON object a line, which is only ever appended to ------------------------------------------ */

typedef struct {
    int64_t generation; /* how many are done */
    double weights[META_WEIGHTS], m[META_WEIGHTS], v[META_WEIGHTS];
} meta_progress;

/* The last generation of a configuration and seed in the file; unchanged when there is none. */
void meta_read_progress(const char *path, const char *key, int64_t seed, meta_progress *progress);
int meta_append_progress(const char *path, const char *key, int64_t seed, const meta_progress *progress, double change,
                         double loss);
/* The outcome of a run that is in the file already; 0 when it is not. */
int meta_read_run(const char *path, const char *key, meta_outcome *outcome);
int meta_append_run(const char *path, const char *key, const meta_outcome *outcome);

/* --- the gate --------------------------------------------------------------------------------------------------------- */

typedef struct {
    int64_t widths[2]; /* outside of those that were trained on */
    int64_t steps, seeds, threads;
    double lowest_rate, highest_rate;
    const char *results; /* NULL: runs are not kept */
} meta_gate;

/* The network of `weights` against the schedule alone, every run in a table. 0 after a message when something fails. */
int meta_evaluate(const meta_gate *gate, const double *weights, const setun_context *context);

#endif
