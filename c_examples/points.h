/* Points of the cluster program: rows of numbers from a file, or parts of a text as vectors. */
#ifndef POINTS_H
#define POINTS_H

#include <setun.h>

typedef enum { FORMAT_AUTO, FORMAT_NPY, FORMAT_CSV, FORMAT_F32, FORMAT_TEXT } points_format;

typedef struct {
    const char *path;    /* "-": standard input; NULL: clouds of the program's own */
    int32_t format;      /* a points_format; AUTO goes by what is asked for below, and by the end of the name */
    const char *columns; /* such as "1-4,7"; NULL: all */
    int64_t width;       /* numbers of a row in a file of 32-bit floats; 0: it is none */
    int32_t text, lines; /* whether it is a text, whose lines are points; else windows of it are */
    int64_t window;      /* their bytes */
    int64_t dimensions;  /* of the vectors of a text */
    int64_t seed;        /* of their hashes */
} points_source;

typedef struct {
    float *x; /* [n, d] */
    int64_t n, d;
    /* Of a text, else NULL: point i is the bytes begins[i] to ends[i]. */
    char *text;
    size_t bytes;
    int64_t *begins, *ends;
} points;

/* Reads them; of a text where its parts are, with room for their vectors. No thread is started. Free them with
   points_free either way. Returns 0, or -1 after a message. */
int points_read(points *p, const points_source *source);

/* Of a text: makes the vectors of its parts. Returns what the library does. */
setun_status points_vectors(points *p, const points_source *source, const setun_context *context,
                            const setun_cancel *cancel);

/* Scales all rows to length 1, but those of zeros. */
void points_scale(points *p);

void points_free(points *p);

/* 0 for SETUN_OK; else -1, after telling the error on stderr. */
int check(setun_status status, const char *what);

#endif
