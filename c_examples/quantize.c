/* Packs the matrices of a file: cc -std=c99 -O2 -I../include quantize.c arguments.c -L../target/release -lsetun
   -Wl,-rpath,../target/release -lm -o quantize && ./quantize --in weights.safetensors --out packed.safetensors --verify */
#include "arguments.h"

#include <inttypes.h>
#include <math.h>
#include <setun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char about[] =
    "quantize: float matrices to ternary, -1, 0 and +1 with scales, packed at 2, 1.6 or about 1.55 bits a weight.\n\n"
    "  quantize                                  every scheme and packing on a Gaussian matrix of 1024 x 1024\n"
    "  quantize --in w.npy                       what it would cost: error, share of zeros, bits, ratio\n"
    "  quantize --in m.safetensors --out p.safetensors --packing mask-sign --scheme least-squares --verify\n\n"
    "Floats of any width in two dimensions are packed, but those with 'embed' in their name; all else is kept: floats at\n"
    "32 bits. Defaults in brackets.";

typedef struct {
    const char *in, *out;
    int32_t packing, scheme, rows, verify, all;
    int64_t group, seed;
    double threshold;
    setun_quantize_options how;
    double weights, bytes; /* of what was packed, so far */
} tool;

static int failed(setun_status status, const char *what)
{
    if (status != SETUN_OK)
        fprintf(stderr, "%s: %s: %s\n", what, setun_status_name(status), setun_last_error());
    return status != SETUN_OK;
}

static void print_report(const char *name, const char *size, const setun_quantize_report *r)
{
    printf("%-40s %13s  error %.4f  zeros %4.1f%%  entropy %.4f  %" PRId64 " scale%s  %.4f bits a weight  %.2fx\n", name, size,
           r->relative_rmse, 100 * r->zero_fraction, r->entropy, r->scale_count, r->scale_count == 1 ? "" : "s",
           r->bits_per_weight, r->ratio);
}

/* Packs a matrix, tells what that costs, and, unless `to` is NULL, adds it there. */
static int pack(tool *t, const char *name, const setun_tensor *w, const int64_t *dims, setun_file *to)
{
    setun_packed *packed = NULL;
    setun_quantize_report report = {sizeof report, 0, 0, 0, 0, 0, 0, 0};
    char size[48];
    int bad = failed(setun_packed_create(NULL, w, &t->how, &packed), name) ||
              failed(setun_packed_measure(packed, w, &report), name) ||
              (to != NULL && failed(setun_file_add_packed(to, name, packed), name));
    if (!bad) {
        snprintf(size, sizeof size, "%" PRId64 " x %" PRId64, dims[0], dims[1]);
        print_report(name, size, &report);
        t->weights += (double)dims[0] * (double)dims[1];
        t->bytes += (double)report.bytes;
    }
    setun_packed_free(packed);
    return bad;
}

/* Whether two packed matrices restore the same floats. */
static int same(const setun_packed *a, const setun_packed *b, const int64_t *dims, int *equal)
{
    const setun_packed *packed[2] = {a, b};
    setun_tensor *w[2] = {NULL, NULL};
    float *data[2] = {NULL, NULL};
    size_t bytes = (size_t)dims[0] * (size_t)dims[1] * sizeof(float);
    int bad = 0;
    for (int i = 0; i < 2 && !bad; i++) {
        data[i] = malloc(bytes + 1);
        bad = data[i] == NULL || failed(setun_tensor_wrap(data[i], SETUN_DTYPE_F32, dims, 2, &w[i]), "verify") ||
              failed(setun_packed_dequantize(packed[i], w[i]), "verify");
    }
    *equal = !bad && memcmp(data[0], data[1], bytes) == 0;
    for (int i = 0; i < 2; i++)
        setun_tensor_free(w[i]), free(data[i]);
    return bad;
}

/* Reads the file that was written, and compares every packed matrix with the one it was written from. */
static int verify(const tool *t, const setun_file *written)
{
    setun_file *file = NULL;
    int64_t count = 0, read = 0;
    int bad = failed(setun_file_open(t->out, &file), t->out) || failed(setun_file_count(written, &count), t->out);
    for (int64_t i = 0; i < count && !bad; i++) {
        char name[512];
        int equal = 0;
        int64_t j = 0;
        setun_packed *was = NULL, *is = NULL;
        setun_file_entry entry = {0};
        entry.struct_size = sizeof entry;
        bad = failed(setun_file_describe(written, i, &entry), t->out);
        if (bad || !entry.is_packed)
            continue;
        bad = failed(setun_file_name(written, i, name, sizeof name, NULL), t->out) ||
              failed(setun_file_find(file, name, &j), t->out) ||
              failed(setun_file_read_packed(file, j, NULL, &is), name) ||
              failed(setun_file_read_packed(written, i, NULL, &was), name) || same(was, is, entry.dims, &equal);
        if (!bad && !equal)
            fprintf(stderr, "%s: %s is not what was packed\n", t->out, name), bad = 1;
        read += !bad;
        setun_packed_free(was), setun_packed_free(is);
    }
    if (!bad)
        printf("verified: %" PRId64 " packed matrices of %s are what was packed\n", read, t->out);
    setun_file_free(file);
    return bad;
}

static int entry_of(tool *t, const setun_file *from, int64_t index, setun_file *to)
{
    char name[512];
    setun_tensor *tensor = NULL;
    setun_file_entry entry = {0};
    entry.struct_size = sizeof entry;
    if (failed(setun_file_describe(from, index, &entry), t->in) ||
        failed(setun_file_name(from, index, name, sizeof name, NULL), t->in))
        return 1;
    int matrix = !entry.is_packed && entry.dtype == SETUN_DTYPE_F32 && entry.rank == 2 &&
                 (t->all || strstr(name, "embed") == NULL);
    if (!matrix && to == NULL)
        return 0;
    if (entry.is_packed) {
        fprintf(stderr, "%s: %s is packed already\n", t->in, name);
        return 1;
    }
    int bad = failed(setun_file_read(from, index, &tensor), name) ||
              (matrix ? pack(t, name, tensor, entry.dims, to) : failed(setun_file_add(to, name, tensor), name));
    setun_tensor_free(tensor);
    return bad;
}

static int convert(tool *t)
{
    setun_file *from = NULL, *to = NULL;
    int64_t count = 0;
    size_t size = 0;
    int bad = failed(setun_file_open(t->in, &from), t->in) || failed(setun_file_count(from, &count), t->in) ||
              (t->out != NULL && failed(setun_file_create(&to), "create"));
    for (int64_t i = 0; i < count && !bad; i++)
        bad = entry_of(t, from, i, to);
    if (!bad)
        printf("packed: %.0f weights in %.0f bytes, scales included: %.4f bits a weight, %.2fx smaller than 32-bit floats\n",
               t->weights, t->bytes, t->weights > 0 ? 8 * t->bytes / t->weights : 0,
               t->bytes > 0 ? 4 * t->weights / t->bytes : 0);
    if (!bad && t->out != NULL) {
        bad = failed(setun_file_save(to, t->out, &size), t->out);
        if (!bad)
            printf("written: %s, %zu bytes in all\n", t->out, size);
        bad = bad || (t->verify && verify(t, to));
    }
    setun_file_free(from), setun_file_free(to);
    return bad;
}

/* Every scheme in every packing, on a Gaussian matrix. */
static int show(tool *t)
{
    static const char *const schemes[] = {"absmean", "absmedian", "least squares"}, *const packings[] = {
        "2 bits", "5 a byte", "", "mask and sign"};
    int64_t dims[2] = {1024, 1024};
    size_t count = (size_t)(dims[0] * dims[1]);
    float *w = malloc(count * sizeof *w);
    setun_tensor *tensor = NULL;
    char name[64];
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; w != NULL && i < count; i++) { /* Box and Muller, on Marsaglia's xorshift */
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        double u = (double)(x >> 40) / 16777216., v = (double)(x & 0xFFFFFF) / 16777216.;
        w[i] = (float)(sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v));
    }
    int bad = w == NULL || failed(setun_tensor_wrap(w, SETUN_DTYPE_F32, dims, 2, &tensor), "wrap");
    for (int32_t scheme = 0; scheme < 3 && !bad; scheme++)
        for (int32_t packing = 0; packing < 4 && !bad; packing++) {
            t->how.scheme = scheme, t->how.packing = packing;
            snprintf(name, sizeof name, "Gaussian, %s, %s", schemes[scheme], packings[packing]);
            bad = packing != SETUN_PACKING_FULL && pack(t, name, tensor, dims, NULL);
        }
    setun_tensor_free(tensor);
    free(w);
    return bad;
}

int main(int argc, char **argv)
{
    static const int32_t packings[] = {SETUN_PACKING_TWO_BIT, SETUN_PACKING_FIVE_PER_BYTE, SETUN_PACKING_MASK_SIGN};
    tool t = {0};
    t.packing = 1;
    t.seed = -1;
    t.threshold = 0;
    const argument table[] = {
        {"in", ARGUMENT_TEXT, &t.in, NULL, "a .npy or .safetensors file"},
        {"out", ARGUMENT_TEXT, &t.out, NULL, "the .safetensors file to write"},
        {"packing", ARGUMENT_CHOICE, &t.packing, "two-bit|five|mask-sign", "how trits lie in bytes"},
        {"scheme", ARGUMENT_CHOICE, &t.scheme, "absmean|absmedian|least-squares|threshold", "how scales are found"},
        {"threshold", ARGUMENT_REAL, &t.threshold, NULL, "of the scheme threshold"},
        {"group", ARGUMENT_COUNT, &t.group, NULL, "columns that share a scale; 0: all of a matrix"},
        {"rows", ARGUMENT_FLAG, &t.rows, NULL, "one scale a row"},
        {"stochastic", ARGUMENT_COUNT, &t.seed, NULL, "round at random, by this seed"},
        {"all", ARGUMENT_FLAG, &t.all, NULL, "embeddings too"},
        {"verify", ARGUMENT_FLAG, &t.verify, NULL, "read the written file back and compare"},
    };
    arguments_result read = arguments_read(argc, argv, table, sizeof table / sizeof *table, about);
    if (read != ARGUMENTS_OK)
        return read == ARGUMENTS_WRONG ? 2 : 0;
    if (t.in == NULL && (t.out != NULL || t.verify))
        return fprintf(stderr, "--out and --verify need --in\n"), 2;
    if (t.verify && t.out == NULL)
        return fprintf(stderr, "--verify needs --out\n"), 2;
    setun_quantize_options_init(&t.how, sizeof t.how);
    t.how.packing = packings[t.packing];
    t.how.scheme = t.scheme;
    t.how.threshold = (float)t.threshold;
    t.how.group = t.rows ? SETUN_GROUP_ROW : t.group;
    t.how.rounding = t.seed >= 0 ? SETUN_ROUNDING_STOCHASTIC : SETUN_ROUNDING_NEAREST;
    t.how.seed = t.seed >= 0 ? (uint64_t)t.seed : 0;
    return t.in != NULL ? convert(&t) : show(&t);
}
