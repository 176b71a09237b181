/* What a training run shows while it runs: on a terminal one line with a bar that is written over, in a file about
   twenty lines a run. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <setun.h>

typedef struct {
    int quiet;
    int terminal;           /* whether stdout is one */
    int64_t told;           /* twentieths of the run that were told; -1 before the first line */
    double told_at;         /* seconds */
    int64_t first_step;     /* of this process, and its loss: what the last loss is compared with */
    double first_loss;
    setun_metrics last;     /* of the last report */
    double validation_loss; /* the last one that was measured; NaN before the first */
} progress;

void progress_init(progress *p, int quiet);

/* A setun_progress_callback; `user_data` is the progress. */
int32_t progress_step(const setun_metrics *metrics, void *user_data);

/* Ends the line that is being written over, so that something else can be printed. */
void progress_break(progress *p);

/* Writes seconds as "42 s", "3:07" or "1:02:45" into `text`, which has room for 24 characters. */
const char *progress_time(double seconds, char *text);

#endif
