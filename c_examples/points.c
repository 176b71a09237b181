#include "points.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int points_failed(setun_status status, const char *what)
{
    if (status == SETUN_OK)
        return 0;
    fprintf(stderr, "%s: %s: %s\n", what, setun_status_name(status), setun_last_error());
    return -1;
}

static int told(const char *path, const char *what)
{
    fprintf(stderr, "%s: %s\n", path, what);
    return -1;
}

static int ends_with(const char *path, const char *end)
{
    size_t length = strlen(path), tail = strlen(end);
    return length >= tail && strcmp(path + length - tail, end) == 0;
}

/* The whole file, with a NUL at its end; NULL after a message. */
static char *whole(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    size_t room = 0, used = 0;
    while (file != NULL) {
        if (room - used < 2) {
            char *more = room > SIZE_MAX / 2 ? NULL : realloc(data, room = room == 0 ? 65536 : 2 * room);
            if (more == NULL) {
                free(data), fclose(file);
                told(path, "there is no memory for it");
                return NULL;
            }
            data = more;
        }
        size_t here = fread(data + used, 1, room - used - 1, file);
        used += here;
        if (here == 0)
            break;
    }
    if (file == NULL || ferror(file)) {
        fprintf(stderr, "%s cannot be read: %s\n", path, strerror(errno));
        free(data), data = NULL;
    } else {
        data[used] = '\0';
    }
    if (file != NULL)
        fclose(file);
    *bytes = used;
    return data;
}

static int read_npy(points *p, const char *path)
{
    setun_file *file = NULL;
    setun_tensor *tensor = NULL;
    setun_file_entry entry = {0};
    entry.struct_size = sizeof entry;
    int bad = points_failed(setun_file_open(path, &file), path) || points_failed(setun_file_describe(file, 0, &entry), path);
    if (!bad && (entry.is_packed || entry.rank < 1 || entry.rank > 2 || entry.dtype != SETUN_DTYPE_F32))
        bad = told(path, "expected an array of one or two dimensions, of floats");
    p->n = entry.dims[0], p->d = entry.rank == 2 ? entry.dims[1] : 1;
    if (!bad && p->n * p->d == 0)
        bad = told(path, "it has no numbers");
    size_t bytes = (size_t)(p->n * p->d) * sizeof *p->x;
    p->x = bad ? NULL : malloc(bytes);
    if (!bad && p->x == NULL)
        bad = told(path, "there is no memory for it");
    bad = bad || points_failed(setun_file_read(file, 0, &tensor), path) ||
          points_failed(setun_tensor_read(tensor, p->x, bytes), path);
    setun_tensor_free(tensor);
    setun_file_free(file);
    return bad;
}

static int read_f32(points *p, const char *path, int64_t columns)
{
    size_t bytes = 0;
    if (columns == 0)
        return told(path, "a file of 32-bit floats needs --columns");
    if (columns > INT64_MAX / 4)
        return told(path, "--columns is too large");
    p->x = (float *)whole(path, &bytes); /* realloc's memory is aligned for anything */
    if (p->x == NULL)
        return -1;
    if (bytes == 0 || bytes % (sizeof *p->x * (size_t)columns) != 0)
        return told(path, "its size is no multiple of a row of that many 32-bit floats");
    p->d = columns, p->n = (int64_t)(bytes / sizeof *p->x) / columns;
    return 0;
}

static const char *spaces(const char *at)
{
    return at + strspn(at, " \r");
}

/* A line's numbers go to `to`, unless it is NULL; how many there are, or -1 with the column of what is none. */
static int64_t numbers(const char *line, float *to, int64_t *column)
{
    int64_t count = 0;
    const char *at = spaces(line);
    while (*at != '\n' && *at != '\0') {
        char *end;
        double number = isspace((unsigned char)*at) ? 0 : strtod(at, &end);
        if (isspace((unsigned char)*at) || end == at)
            return *column = count + 1, -1;
        if (to != NULL)
            to[count] = (float)number;
        count++;
        const char *next = spaces(end);
        int separated = *next == ',' || *next == ';' || *next == '\t';
        if (!separated && next == end && *next != '\n' && *next != '\0')
            return *column = count, -1;
        at = separated ? spaces(next + 1) : next;
        if (separated && (*at == '\n' || *at == '\0'))
            return *column = count + 1, -1;
    }
    return count;
}

/* Numbers with commas, semicolons, tabs or spaces between them, one point a line; the first line may name the columns. */
static int read_csv(points *p, const char *path)
{
    size_t bytes = 0;
    char *text = whole(path, &bytes);
    int64_t line = 0, room = 0, column = 0;
    int bad = text == NULL;
    for (char *at = text; !bad && *at != '\0'; line++) {
        int64_t count = numbers(at, NULL, &column);
        if (count > 0 && (p->n == 0 || count == p->d)) {
            p->d = count;
            if (p->n == room) {
                room = room == 0 ? 1024 : 2 * room;
                float *more = (uint64_t)room > SIZE_MAX / sizeof *p->x / (uint64_t)count
                                  ? NULL
                                  : realloc(p->x, (size_t)(room * count) * sizeof *p->x);
                if (more == NULL) {
                    bad = told(path, "there is no memory for it");
                    break;
                }
                p->x = more;
            }
            numbers(at, p->x + p->n++ * count, &column);
        } else if (count > 0) {
            fprintf(stderr, "%s: line %" PRId64 " has %" PRId64 " columns, those before it %" PRId64 "\n", path, line + 1,
                    count, p->d);
            bad = -1;
        } else if (count < 0 && line > 0) {
            fprintf(stderr, "%s: line %" PRId64 ", column %" PRId64 " is no number\n", path, line + 1, column);
            bad = -1;
        }
        at += strcspn(at, "\n");
        at += *at == '\n';
    }
    free(text);
    return bad ? -1 : p->n == 0 ? told(path, "it has no numbers") : 0;
}

/* Where the lines of a text begin and end, or how many there are. */
static int64_t lines(const points *p, size_t bytes, int64_t *begins, int64_t *ends)
{
    int64_t count = 0;
    for (size_t at = 0; at < bytes; at++) {
        size_t begin = at;
        while (at < bytes && p->text[at] != '\n')
            at++;
        if (at == begin)
            continue;
        if (begins != NULL)
            begins[count] = (int64_t)begin, ends[count] = (int64_t)at;
        count++;
    }
    return count;
}

static int read_text(points *p, const points_source *source, int by_line)
{
    size_t bytes = 0;
    setun_tfidf *tfidf = NULL;
    setun_tfidf_options options;
    const char *path = source->path;
    setun_tfidf_options_init(&options, sizeof options);
    options.dimensions = p->d = source->dimensions;
    options.seed = (uint64_t)source->seed;
    p->text = whole(path, &bytes);
    if (p->text == NULL || points_failed(setun_tfidf_create(&options, &tfidf), path))
        return -1;
    int64_t window = source->window;
    int bad = 0;
    if (by_line)
        p->n = lines(p, bytes, NULL, NULL);
    else
        bad = points_failed(setun_text_windows(p->text, bytes, window, window, NULL, NULL, 0, &p->n), path);
    if (!bad && p->n == 0)
        bad = told(path, "it has no words");
    if (!bad) {
        p->begins = malloc((size_t)p->n * sizeof *p->begins);
        p->ends = malloc((size_t)p->n * sizeof *p->ends);
        p->x = (uint64_t)p->n > SIZE_MAX / sizeof *p->x / (uint64_t)p->d ? NULL
                                                                          : malloc((size_t)(p->n * p->d) * sizeof *p->x);
        if (p->begins == NULL || p->ends == NULL || p->x == NULL)
            bad = told(path, "there is no memory for it");
    }
    if (!bad && by_line)
        lines(p, bytes, p->begins, p->ends);
    else if (!bad)
        bad = points_failed(setun_text_windows(p->text, bytes, window, window, p->begins, p->ends, p->n, &p->n), path);
    bad = bad || points_failed(setun_tfidf_fit(tfidf, p->text, bytes, p->begins, p->ends, p->n), path) ||
          points_failed(setun_tfidf_transform(tfidf, p->text, bytes, p->begins, p->ends, p->n, p->x), path);
    setun_tfidf_free(tfidf);
    return bad;
}

/* Eight clouds: sums of twelve uniform numbers are nearly Gaussian. */
static int clouds(points *p)
{
    p->n = 5000, p->d = 16;
    p->x = calloc((size_t)(p->n * p->d), sizeof *p->x);
    for (int64_t i = 0; p->x != NULL && i < p->n * p->d; i++) {
        for (int draw = 0; draw < 12; draw++)
            p->x[i] += (float)rand() / (float)RAND_MAX - .5f;
        p->x[i] += (float)((i / p->d % 8 * 7 + i % p->d * 5) % 11);
    }
    return p->x != NULL ? 0 : told("the program's own points", "there is no memory for them");
}

int points_read(points *p, const points_source *source)
{
    const char *path = source->path;
    int32_t format = source->format;
    memset(p, 0, sizeof *p);
    if (path == NULL)
        return clouds(p);
    if (format == FORMAT_AUTO)
        format = ends_with(path, ".npy")                              ? FORMAT_NPY
                 : ends_with(path, ".csv") || ends_with(path, ".tsv") ? FORMAT_CSV
                 : ends_with(path, ".txt")                            ? FORMAT_TEXT
                                                                      : FORMAT_F32;
    switch (format) {
    case FORMAT_NPY: return read_npy(p, path);
    case FORMAT_CSV: return read_csv(p, path);
    case FORMAT_F32: return read_f32(p, path, source->columns);
    default: return read_text(p, source, format == FORMAT_LINES);
    }
}

void points_free(points *p)
{
    free(p->x), free(p->text), free(p->begins), free(p->ends);
    memset(p, 0, sizeof *p);
}

FILE *points_create(const char *path, char *beside, size_t room)
{
    int length = snprintf(beside, room, "%s.part", path);
    FILE *file = length > 0 && (size_t)length < room ? fopen(beside, "wb") : NULL;
    if (file == NULL)
        fprintf(stderr, "%s cannot be written: %s\n", path, strerror(errno));
    return file;
}

int points_close(FILE *file, const char *path, const char *beside, int failed)
{
    failed |= ferror(file);
    if (fclose(file) != 0 || failed || rename(beside, path) != 0) {
        fprintf(stderr, "%s cannot be written: %s\n", path, strerror(errno));
        remove(beside);
        return -1;
    }
    return 0;
}

int points_write(const char *path, const int32_t *integers, const float *floats, int64_t rows, int64_t columns)
{
    char beside[4096], header[118];
    FILE *file = points_create(path, beside, sizeof beside);
    if (file == NULL)
        return -1;
    size_t count = (size_t)(rows * columns);
    if (ends_with(path, ".npy")) {
        /* The format of NumPy, version 1.0: what comes before the numbers takes a multiple of 64 bytes, 128. */
        char shape[64];
        snprintf(shape, sizeof shape, columns == 1 && integers != NULL ? "(%" PRId64 ",)" : "(%" PRId64 ", %" PRId64 ")",
                 rows, columns);
        int used = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                            integers != NULL ? "<i4" : "<f4", shape);
        memset(header + used, ' ', sizeof header - (size_t)used - 1);
        header[sizeof header - 1] = '\n';
        fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, file);
        fwrite(header, 1, sizeof header, file);
        fwrite(integers != NULL ? (const void *)integers : floats, 4, count, file);
    } else {
        for (size_t i = 0; i < count; i++) {
            const char *end = (int64_t)(i + 1) % columns == 0 ? "\n" : ",";
            if (integers != NULL)
                fprintf(file, "%" PRId32 "%s", integers[i], end);
            else
                fprintf(file, "%.9g%s", floats[i], end);
        }
    }
    return points_close(file, path, beside, 0);
}
