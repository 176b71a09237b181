/* Points of the cluster program: rows of numbers from a file, or parts of a text as vectors. */
#ifndef POINTS_H
#define POINTS_H

#include <setun.h>
#include <stdio.h>

typedef enum { FORMAT_AUTO, FORMAT_NPY, FORMAT_CSV, FORMAT_F32, FORMAT_TEXT, FORMAT_LINES } points_format;

typedef struct {
    const char *path; /* NULL: clouds of the program's own */
    int32_t format;   /* a points_format; AUTO goes by the name's end: .npy, .csv, .tsv, .txt, else 32-bit floats */
    int64_t columns;  /* of a file of 32-bit floats */
    int64_t window;   /* bytes of text that make a point */
    int64_t dimensions, seed; /* of the vectors of a text */
} points_source;

typedef struct {
    float *x; /* [n, d] */
    int64_t n, d;
    /* Of a text; else NULL: point i is the bytes begins[i] to ends[i]. */
    char *text;
    int64_t *begins, *ends;
} points;

/* Reads them; -1 after a message on stderr. Free them with points_free either way. */
int points_read(points *p, const points_source *source);
void points_free(points *p);

/* Writes numbers [rows, columns] to a file, a .npy if its name ends so, else one row a line with commas: of `integers`, or
   of `floats`. The file is whole or is not there; -1 after a message. */
int points_write(const char *path, const int32_t *integers, const float *floats, int64_t rows, int64_t columns);

/* Opens a file beside `path`, which takes its place when it is closed; `failed` throws it away. NULL, or -1, after a
   message. */
FILE *points_create(const char *path, char *beside, size_t room);
int points_close(FILE *file, const char *path, const char *beside, int failed);

/* Tells an error of the library; 0 for SETUN_OK. */
int points_failed(setun_status status, const char *what);

#endif
