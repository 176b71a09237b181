#include "table.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The highest column that a choice may name. */
enum { HIGHEST = 1 << 24 };

int columns_has(const columns *c, int64_t column)
{
    return c->chosen == NULL || (column < c->count && c->chosen[column]);
}

int64_t columns_of(const columns *c, int64_t width, const char *name)
{
    int64_t chosen = 0;
    if (c->count > width) {
        fprintf(stderr, "%s: it has %" PRId64 " columns, and --columns names number %" PRId64 "\n", name, width, c->count);
        return -1;
    }
    for (int64_t i = 0; i < width; i++)
        chosen += columns_has(c, i);
    return chosen;
}

/* Reads "4" or "1-4" and the comma behind it; NULL if there is something else. */
static const char *read_range(const char *at, long *first, long *last)
{
    char *end;
    if (!isdigit((unsigned char)*at))
        return NULL;
    *first = *last = strtol(at, &end, 10);
    if (*end == '-' && isdigit((unsigned char)end[1]))
        *last = strtol(end + 1, &end, 10);
    if (*first < 1 || *last < *first || *last > HIGHEST || (*end == ',' && end[1] == '\0'))
        return NULL;
    return *end == ',' ? end + 1 : *end == '\0' ? end : NULL;
}

int columns_read(columns *c, const char *text)
{
    const char *at = text;
    c->chosen = NULL, c->count = 0;
    if (text == NULL)
        return 0;
    do {
        long first = 0, last = 0;
        at = read_range(at, &first, &last);
        if (at != NULL && last > c->count) {
            char *more = realloc(c->chosen, (size_t)last);
            if (more == NULL) {
                fprintf(stderr, "--columns: there is no memory for it\n");
                return -1;
            }
            memset(more + c->count, 0, (size_t)(last - c->count));
            c->chosen = more, c->count = last;
        }
        if (at != NULL)
            memset(c->chosen + first - 1, 1, (size_t)(last - first + 1));
    } while (at != NULL && *at != '\0');
    if (at == NULL)
        fprintf(stderr, "--columns takes numbers of columns from 1 on, such as 1-4,7, not '%s'\n", text);
    return at == NULL ? -1 : 0;
}

typedef struct {
    const char *name;
    const columns *columns;
    char separator; /* ' ': spaces and tabs, as many as there are */
    int64_t line;   /* the one that is read, from 1 */
    int64_t lines;  /* those that are not blank, so far */
    int64_t width;  /* cells of a row; 0 before the first */
    float *x;
    int64_t n, d, room;
} table;

typedef struct {
    const char *begin, *end;
} cell;

static int is_padding(const table *t, char c)
{
    return c == ' ' || c == '\r' || (c == '\t' && t->separator != '\t');
}

/* Behind what stands in quotes, in which two quotes are one, or the end of the line. */
static const char *behind_quotes(const char *at, const char *end)
{
    for (at++; at < end; at++) {
        if (*at == '"' && at + 1 < end && at[1] == '"')
            at++;
        else if (*at == '"')
            return at + 1;
    }
    return end;
}

static int separates(const table *t, char c)
{
    return t->separator == ' ' ? is_padding(t, c) : c == t->separator;
}

/* The cell at *at, without the padding around it. *at becomes where the next one begins, or NULL where there is none. */
static cell next_cell(const table *t, const char **at, const char *end)
{
    cell c;
    while (*at < end && is_padding(t, **at))
        ++*at;
    c.begin = *at;
    if (*at < end && **at == '"')
        *at = behind_quotes(*at, end);
    while (*at < end && !separates(t, **at))
        ++*at;
    c.end = *at;
    while (c.end > c.begin && is_padding(t, c.end[-1]))
        c.end--;
    while (t->separator == ' ' && *at < end && is_padding(t, **at))
        ++*at;
    if (*at == end)
        *at = NULL;
    else if (t->separator != ' ')
        ++*at;
    return c;
}

/* Whether a cell holds a number, which may stand in quotes. */
static int number(cell c, double *value)
{
    char *end;
    if (c.end - c.begin >= 2 && *c.begin == '"' && c.end[-1] == '"')
        c.begin++, c.end--;
    if (c.begin == c.end || isspace((unsigned char)*c.begin))
        return 0;
    *value = strtod(c.begin, &end);
    return end == c.end;
}

static int wrong_cell(const table *t, int64_t column, cell c, const char *what)
{
    int shown = c.end - c.begin < 24 ? (int)(c.end - c.begin) : 24;
    if (shown == 0)
        fprintf(stderr, "%s: line %" PRId64 ", column %" PRId64 ": the cell is empty\n", t->name, t->line, column + 1);
    else
        fprintf(stderr, "%s: line %" PRId64 ", column %" PRId64 ": '%.*s' is no %s\n", t->name, t->line, column + 1, shown,
                c.begin, what);
    return -1;
}

/* Room for one more row. */
static int reserve(table *t)
{
    if (t->n < t->room)
        return 0;
    int64_t room = t->room == 0 ? 256 : 2 * t->room;
    float *more = (uint64_t)room > SIZE_MAX / sizeof *more / (uint64_t)t->d
                      ? NULL
                      : realloc(t->x, (size_t)room * (size_t)t->d * sizeof *more);
    if (more == NULL) {
        fprintf(stderr, "%s: there is no memory for its numbers\n", t->name);
        return -1;
    }
    t->x = more, t->room = room;
    return 0;
}

/* Counts the cells of a line; also its words and numbers, in the columns that are chosen. */
static int64_t count(const table *t, const char *at, const char *end, int64_t *words, int64_t *numbers)
{
    int64_t cells = 0;
    double value;
    *words = *numbers = 0;
    while (at != NULL) {
        cell c = next_cell(t, &at, end);
        if (columns_has(t->columns, cells++) && c.begin < c.end)
            ++*(number(c, &value) ? numbers : words);
    }
    return cells;
}

static int read_row(table *t, const char *at, const char *end)
{
    int64_t d = 0, words, numbers;
    if (t->width == 0) {
        int64_t width = count(t, at, end, &words, &numbers);
        if (t->lines == 1 && numbers == 0 && words > 0)
            return 0; /* the names of the columns */
        t->width = width;
        t->d = columns_of(t->columns, width, t->name);
        if (t->d < 0)
            return -1;
    }
    if (reserve(t) != 0)
        return -1;
    float *row = t->x + t->n * t->d;
    int64_t column = 0;
    for (; at != NULL; column++) {
        double value = 0;
        cell c = next_cell(t, &at, end);
        if (column >= t->width || !columns_has(t->columns, column))
            continue;
        if (!number(c, &value))
            return wrong_cell(t, column, c, "number");
        row[d++] = (float)value;
        if (!isfinite(row[d - 1]))
            return wrong_cell(t, column, c, "finite number of 32 bits");
    }
    if (column != t->width) {
        fprintf(stderr, "%s: line %" PRId64 " has %" PRId64 " columns, those before it %" PRId64 "\n", t->name, t->line, column,
                t->width);
        return -1;
    }
    t->n++;
    return 0;
}

/* What separates the cells of a line: of commas, semicolons and tabs what is there most often, or spaces. */
static char separator_of(const char *at, const char *end)
{
    static const char separators[] = ";,\t";
    int64_t found[3] = {0}, most = 0;
    char separator = ' ';
    while (at < end) {
        const char *one = *at != '\0' ? strchr(separators, *at) : NULL;
        if (one != NULL)
            found[one - separators]++;
        at = *at == '"' ? behind_quotes(at, end) : at + 1;
    }
    for (int i = 0; i < 3; i++)
        if (found[i] > most)
            most = found[i], separator = separators[i];
    return separator;
}

static const char *end_of_line(const char *at, const char *end)
{
    const char *found = memchr(at, '\n', (size_t)(end - at));
    return found != NULL ? found : end;
}

static int is_blank(const table *t, const char *at, const char *end)
{
    while (at < end && is_padding(t, *at))
        at++;
    return at == end;
}

int table_read(const char *name, const char *text, size_t bytes, const columns *c, float **x, int64_t *n, int64_t *d)
{
    const char *end = text + bytes;
    const char *at = bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? text + 3 : text; /* a byte order mark */
    table t = {name, c, ' ', 0, 0, 0, NULL, 0, 0, 0};
    int failed = 0;
    /* The second line tells, which has no names; the first one where nothing separates anything in that. */
    const char *first = end_of_line(at, end), *second = first < end ? end_of_line(first + 1, end) : first;
    if (second > first + 1 && !is_blank(&t, first + 1, second))
        t.separator = separator_of(first + 1, second);
    if (t.separator == ' ')
        t.separator = separator_of(at, first);
    while (!failed && at < end) {
        const char *stop = end_of_line(at, end);
        t.line++;
        if (!is_blank(&t, at, stop)) {
            t.lines++;
            failed = read_row(&t, at, stop);
        }
        at = stop < end ? stop + 1 : end;
    }
    if (!failed && t.n == 0) {
        fprintf(stderr, "%s: it has no numbers\n", name);
        failed = -1;
    }
    *x = t.x, *n = t.n, *d = t.d; /* the caller frees x either way */
    return failed;
}
