#define _POSIX_C_SOURCE 200809L /* isatty, fileno */

#include "progress.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR = 24, PARTS = 20 };

void progress_init(progress *p, int quiet)
{
    memset(p, 0, sizeof *p);
    p->quiet = quiet;
    p->terminal = isatty(fileno(stdout));
    p->told = -1;
    p->validation_loss = NAN;
}

const char *progress_time(double seconds, char *text)
{
    long s = isfinite(seconds) && seconds > 0 && seconds < 1e9 ? (long)(seconds + .5) : 0;
    if (s < 60)
        snprintf(text, 24, "%ld s", s);
    else if (s < 3600)
        snprintf(text, 24, "%ld:%02ld", s / 60, s % 60);
    else
        snprintf(text, 24, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    return text;
}

static void print_line(const progress *p, const setun_metrics *m)
{
    char bar[BAR + 1], time[24];
    int filled = m->total_steps > 0 ? (int)(m->step * BAR / m->total_steps) : 0;
    memset(bar, '-', BAR);
    memset(bar, '=', (size_t)filled);
    bar[BAR] = '\0';
    printf("%sstep %6" PRId64 "/%" PRId64 " [%s] loss %.4f", p->terminal ? "\r" : "", m->step, m->total_steps, bar,
           m->loss);
    if (!isnan(p->validation_loss))
        printf("  validation %.4f", p->validation_loss);
    printf("  %.0f tokens/s  %s left%s", m->tokens_per_second, progress_time(m->remaining_seconds, time),
           p->terminal ? "\033[K" : "\n");
    fflush(stdout);
}

int32_t progress_step(const setun_metrics *metrics, void *user_data)
{
    progress *p = user_data;
    if (p->first_step == 0) {
        p->first_step = metrics->step;
        p->first_loss = metrics->loss;
    }
    p->last = *metrics;
    int measured = !isnan(metrics->validation_loss);
    if (measured)
        p->validation_loss = metrics->validation_loss;
    int64_t part = metrics->total_steps > 0 ? metrics->step * PARTS / metrics->total_steps : 0;
    int due = p->terminal ? metrics->elapsed_seconds - p->told_at >= .1 || part == PARTS : part > p->told;
    if (!p->quiet && (due || measured || p->told < 0)) {
        print_line(p, metrics);
        p->told = part;
        p->told_at = metrics->elapsed_seconds;
    }
    return 1;
}

void progress_break(progress *p)
{
    if (p->terminal && p->told >= 0) {
        putchar('\n');
        p->told = -1;
    }
    fflush(stdout);
}
