#define _POSIX_C_SOURCE 200809L /* fileno */

#include "points.h"

#include "output.h"
#include "table.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int check(setun_status status, const char *what)
{
    if (status == SETUN_OK)
        return 0;
    fprintf(stderr, "%s: %s (%s)\n", what, setun_last_error(), setun_status_name(status));
    return -1;
}

static int told(const char *name, const char *what)
{
    fprintf(stderr, "%s: %s\n", name, what);
    return -1;
}

/* Room for `rows` rows of `width` elements of `size` bytes; NULL after a message. */
static void *room_for(const char *name, int64_t rows, int64_t width, size_t size)
{
    void *room = rows <= 0 || width <= 0 || (uint64_t)rows > SIZE_MAX / size / (uint64_t)width
                     ? NULL
                     : malloc((size_t)rows * (size_t)width * size);
    if (room == NULL)
        told(name, "there is no memory for it");
    return room;
}

static int is_stdin(const char *path)
{
    return strcmp(path, "-") == 0;
}

static const char *name_of(const points_source *source)
{
    return is_stdin(source->path) ? "standard input" : source->path;
}

/* Reads all of a file, and puts a NUL behind it; NULL after a message. */
static char *read_stream(FILE *file, const char *name, size_t *bytes)
{
    char *data = NULL;
    size_t room = 0, here = 1;
    *bytes = 0;
    while (here > 0) {
        if (room - *bytes < 2) {
            char *more = room > SIZE_MAX / 2 ? NULL : realloc(data, room == 0 ? 65536 : 2 * room);
            if (more == NULL) {
                told(name, "there is no memory for it");
                free(data);
                return NULL;
            }
            data = more;
            room = room == 0 ? 65536 : 2 * room;
        }
        here = fread(data + *bytes, 1, room - *bytes - 1, file);
        *bytes += here;
    }
    if (ferror(file)) {
        fprintf(stderr, "%s cannot be read: %s\n", name, strerror(errno));
        free(data);
        return NULL;
    }
    data[*bytes] = '\0';
    return data;
}

static char *whole(const points_source *source, size_t *bytes)
{
    if (is_stdin(source->path))
        return read_stream(stdin, name_of(source), bytes);
    FILE *file = fopen(source->path, "rb");
    if (file == NULL) {
        fprintf(stderr, "%s cannot be read: %s\n", source->path, strerror(errno));
        return NULL;
    }
    char *data = read_stream(file, source->path, bytes);
    fclose(file);
    return data;
}

/* Keeps the chosen columns of x [n, width], where it is. */
static int choose(points *p, const points_source *source, int64_t width)
{
    columns c;
    int64_t to = 0, chosen = columns_read(&c, source->columns) == 0 ? columns_of(&c, width, name_of(source)) : -1;
    for (int64_t i = 0; chosen > 0 && chosen < width && i < p->n * width; i++)
        if (columns_has(&c, i % width))
            p->x[to++] = p->x[i];
    free(c.chosen);
    p->d = chosen;
    return chosen > 0 ? 0 : -1;
}

/* Whether the array of a .npy file is one of points; else a message says what it is. */
static int is_table(const setun_file_entry *e, const char *name)
{
    static const char *const types[] = {"f4", "f2", "i1", "u1", "i4", "u4"};
    int floats = !e->is_packed && e->dtype == SETUN_DTYPE_F32;
    if (floats && (e->rank == 1 || e->rank == 2))
        return e->dims[0] > 0 && e->dims[1] > 0 ? 1 : (told(name, "it has no numbers"), 0);
    fprintf(stderr, "%s: an array of %s of shape (", name,
            floats                                             ? "floats"
            : e->dtype >= 0 && e->dtype <= SETUN_DTYPE_U32 ? types[e->dtype]
                                                               : "something else");
    for (int64_t i = 0; i < e->rank; i++)
        if (i < SETUN_MAX_RANK)
            fprintf(stderr, i + 1 < e->rank ? "%" PRId64 ", " : "%" PRId64, e->dims[i]);
    fprintf(stderr, "%s), expected floats in one or two dimensions\n", e->rank > SETUN_MAX_RANK ? "..." : "");
    return 0;
}

static int read_array(points *p, const points_source *source, const char *path)
{
    const char *name = name_of(source);
    setun_file *file = NULL;
    setun_tensor *tensor = NULL;
    setun_file_entry entry = {0};
    entry.struct_size = sizeof entry;
    int failed = check(setun_file_open(path, &file), name) != 0 ||
                 check(setun_file_describe(file, 0, &entry), name) != 0 || !is_table(&entry, name);
    int64_t width = entry.rank == 2 ? entry.dims[1] : 1;
    p->n = entry.dims[0];
    if (!failed)
        p->x = room_for(name, p->n, width, sizeof *p->x);
    failed = failed || p->x == NULL || check(setun_file_read(file, 0, &tensor), name) != 0 ||
             check(setun_tensor_read(tensor, p->x, (size_t)p->n * (size_t)width * sizeof *p->x), name) != 0;
    setun_tensor_free(tensor);
    setun_file_free(file);
    return failed ? -1 : choose(p, source, width);
}

/* The library reads files that have a name: what comes from standard input goes to one without. */
static int read_npy(points *p, const points_source *source)
{
    char buffer[8192], path[32];
    size_t here = 0;
    int failed;
    if (!is_stdin(source->path))
        return read_array(p, source, source->path);
    FILE *copy = tmpfile();
    if (copy == NULL)
        return told(name_of(source), "there is no room for a copy");
    while ((here = fread(buffer, 1, sizeof buffer, stdin)) > 0 && fwrite(buffer, 1, here, copy) == here)
        ;
    failed = here > 0 || ferror(stdin) || fflush(copy) != 0;
    snprintf(path, sizeof path, "/dev/fd/%d", fileno(copy));
    failed = failed ? told(name_of(source), "it cannot be copied") : read_array(p, source, path);
    fclose(copy);
    return failed;
}

static int read_f32(points *p, const points_source *source)
{
    size_t bytes = 0;
    if (source->width == 0 || source->width > INT32_MAX)
        return told(name_of(source), "a file of 32-bit floats needs its --width, the numbers of a row");
    size_t row = sizeof *p->x * (size_t)source->width;
    p->x = (float *)whole(source, &bytes); /* memory of realloc is aligned for anything */
    if (p->x == NULL)
        return -1;
    if (bytes == 0 || bytes % row != 0) {
        fprintf(stderr, "%s: %zu bytes are not rows of %" PRId64 " 32-bit floats\n", name_of(source), bytes, source->width);
        return -1;
    }
    p->n = (int64_t)(bytes / row);
    return choose(p, source, source->width);
}

static int read_csv(points *p, const points_source *source)
{
    size_t bytes = 0;
    columns c;
    char *text = columns_read(&c, source->columns) == 0 ? whole(source, &bytes) : NULL;
    int failed = text == NULL ? -1 : table_read(name_of(source), text, bytes, &c, &p->x, &p->n, &p->d);
    free(text);
    free(c.chosen);
    return failed;
}

/* The lines of a text that are not empty: writes where they begin and end, and says how many there are. */
static int64_t find_lines(const points *p, int64_t *begins, int64_t *ends)
{
    int64_t count = 0;
    const char *end = p->text + p->bytes;
    for (const char *at = p->text; at < end; at++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop != NULL ? stop : end;
        if (stop > at && !(stop == at + 1 && *at == '\r')) {
            if (begins != NULL)
                begins[count] = at - p->text, ends[count] = stop - p->text;
            count++;
        }
        at = stop;
    }
    return count;
}

static int find_windows(points *p, const points_source *source, int64_t *begins, int64_t *ends)
{
    return check(setun_text_windows(p->text, p->bytes, source->window, source->window, begins, ends,
                                    begins != NULL ? p->n : 0, &p->n),
                 name_of(source));
}

static int read_text(points *p, const points_source *source)
{
    const char *name = name_of(source);
    if (source->columns != NULL)
        return told(name, "--columns are those of numbers, a text has none");
    p->text = whole(source, &p->bytes);
    if (p->text == NULL || (!source->lines && find_windows(p, source, NULL, NULL) != 0))
        return -1;
    if (source->lines)
        p->n = find_lines(p, NULL, NULL);
    if (p->n == 0)
        return told(name, "it has no words");
    p->begins = room_for(name, p->n, 1, sizeof *p->begins);
    p->ends = room_for(name, p->n, 1, sizeof *p->ends);
    p->d = source->dimensions;
    p->x = room_for(name, p->n, p->d, sizeof *p->x);
    if (p->begins == NULL || p->ends == NULL || p->x == NULL)
        return -1;
    if (source->lines)
        find_lines(p, p->begins, p->ends);
    return source->lines ? 0 : find_windows(p, source, p->begins, p->ends);
}

setun_status points_vectors(points *p, const points_source *source, const setun_context *context,
                            const setun_cancel *cancel)
{
    setun_tfidf *tfidf = NULL;
    setun_tfidf_options options;
    setun_tfidf_options_init(&options, sizeof options);
    options.dimensions = source->dimensions;
    options.seed = (uint64_t)source->seed;
    options.context = context;
    options.cancel = cancel;
    setun_status status = setun_tfidf_create(&options, &tfidf);
    if (status == SETUN_OK)
        status = setun_tfidf_fit(tfidf, p->text, p->bytes, p->begins, p->ends, p->n);
    if (status == SETUN_OK)
        status = setun_tfidf_transform(tfidf, p->text, p->bytes, p->begins, p->ends, p->n, p->x);
    setun_tfidf_free(tfidf);
    return status;
}

/* Eight clouds: sums of twelve uniform numbers are nearly Gaussian. */
static int clouds(points *p)
{
    p->n = 5000, p->d = 16;
    p->x = room_for("the program's own points", p->n, p->d, sizeof *p->x);
    for (int64_t i = 0; p->x != NULL && i < p->n * p->d; i++) {
        p->x[i] = (float)((i / p->d % 8 * 7 + i % p->d * 5) % 11);
        for (int draw = 0; draw < 12; draw++)
            p->x[i] += (float)rand() / (float)RAND_MAX - .5f;
    }
    return p->x != NULL ? 0 : -1;
}

static int32_t format_of(const points_source *source)
{
    static const struct {
        const char *end;
        int32_t format;
    } ends[] = {{".npy", FORMAT_NPY}, {".csv", FORMAT_CSV}, {".tsv", FORMAT_CSV}, {".txt", FORMAT_TEXT}};
    if (source->format != FORMAT_AUTO)
        return source->format;
    if (source->text || source->lines)
        return FORMAT_TEXT;
    if (source->width > 0)
        return FORMAT_F32;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (output_ends(source->path, ends[i].end))
            return ends[i].format;
    return FORMAT_AUTO;
}

int points_read(points *p, const points_source *source)
{
    memset(p, 0, sizeof *p);
    if (source->path == NULL)
        return clouds(p);
    switch (format_of(source)) {
    case FORMAT_NPY: return read_npy(p, source);
    case FORMAT_CSV: return read_csv(p, source);
    case FORMAT_F32: return read_f32(p, source);
    case FORMAT_TEXT: return read_text(p, source);
    default: return told(name_of(source), "its name does not say what it holds: --format does, or --width of 32-bit floats");
    }
}

void points_scale(points *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        float *row = p->x + i * p->d;
        double square = 0;
        for (int64_t j = 0; j < p->d; j++)
            square += (double)row[j] * row[j];
        for (int64_t j = 0; j < p->d && square > 0; j++)
            row[j] = (float)(row[j] / sqrt(square));
    }
}

void points_free(points *p)
{
    free(p->x), free(p->text), free(p->begins), free(p->ends);
    memset(p, 0, sizeof *p);
}
