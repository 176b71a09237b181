/*
 * setun.h: train, compress and run 1.58-bit (ternary) language models.
 *
 * Setun turns text into small language models whose linear layers have the weights -1, 0 and +1 only,
 * packs them at 2 or 1.6 bits a weight, and runs them. Everything is here, in twenty-one sections: LIBRARY,
 * CONTEXT, TENSOR, QUANTIZE, PACK, MATMUL, GRADIENT, FILE, CLUSTER, CODEBOOK, TEXT VECTORS, LR NET, STEP, OPTIMIZER, PROBLEM, TEXT,
 * MODEL, BACKWARD, TRAIN, GENERATE, BENCHMARK. Each begins with the simplest use. The whole way from a text to a file, and from the file to a text:
 *
 *     setun_model *model = NULL;
 *     setun_tokenizer *tokenizer = NULL;
 *     if (setun_train("corpus.txt", NULL, &model, &tokenizer) != SETUN_OK) puts(setun_last_error());
 *     setun_generate(model, tokenizer, "Once", NULL, print_piece, NULL, NULL);
 *     setun_tokenizer_free(tokenizer);
 *     setun_model_free(model);
 *
 * Link with -lsetun. C99 and C++; no other headers are needed.
 *
 * What holds for every function:
 *
 * Status. A function that can fail returns a setun_status, SETUN_OK or a negative error;
 *   setun_last_error() tells more. "Returns" in a comment names the errors, without their SETUN_ERR_, that
 *   are this function's own; beside them, every function may return ARGUMENT for a NULL, a negative size,
 *   an enum value that does not exist or a handle that is not alive; STATE for a handle that is in use
 *   elsewhere; and INTERNAL for a bug in Setun.
 * Results. Out parameters come last, and are written on success only, unless the comment says otherwise.
 * Handles. A pointer to an opaque type is made by a create, load, open, train or similar call and ended by
 *   its free call, which accepts NULL. It is a number, not an address: using one that was freed, or one of
 *   another type, is an error and not a crash. Freeing a handle while another thread uses it is safe: the
 *   object lives until that call returns.
 * Threads. A call that takes a handle as const may run on several threads at once. A call that takes it
 *   without const needs it alone: a second caller gets SETUN_ERR_STATE at once, and never a race.
 *   Different handles are independent.
 * Fork. In a forked child everything works that was idle at the fork, contexts too: they start threads of
 *   their own. What another thread was using answers SETUN_ERR_STATE there for good, where it is needed alone,
 *   and so does what is on a GPU.
 * Options. Option structs begin with struct_size. Their init function is told the sizeof, and fills in it
 *   and the defaults; a NULL pointer means all defaults. Later versions append fields. Every call knows the
 *   size, so a program compiled against an older header keeps working with a newer library.
 * Types. Sizes and counts are int64_t, so that a negative one is noticed; numbers of bytes are size_t;
 *   enum values are passed as int32_t; true is non-zero. Strings and paths are UTF-8 and end with a NUL.
 *   Matrices are row-major; [n, k] is n rows of k. Arrays are aligned for their elements. An output may
 *   overlap neither an input nor another output: ARGUMENT.
 * Context. NULL for a context is the default context of the process.
 *
 * This file is generated from the sources; do not edit it.
 */

#ifndef SETUN_H
#define SETUN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * LIBRARY: version, errors, log, cancellation
 *
 * Every call that can fail returns a `setun_status`; after a failure, `setun_last_error` says in one
 * sentence what was wrong, with both values: "matmul: x has 512 columns, weight has 768". The library
 * prints nothing; it talks through the log hook. A cancel token stops a long call from any other thread.
 *
 *     static void on_log(int32_t level, const char *message, void *user_data) { fputs(message, stderr); }
 *
 *     setun_set_log(on_log, NULL, SETUN_LOG_INFO);
 *     setun_status status = setun_context_create(NULL, &context);
 *     if (status != SETUN_OK) fprintf(stderr, "%s: %s\n", setun_status_name(status), setun_last_error());
 *     printf("%s\n", setun_build_info());
 */

/** The version of this header; `setun_version` says that of the library. */
#define SETUN_VERSION_MAJOR 0

#define SETUN_VERSION_MINOR 1

#define SETUN_VERSION_PATCH 0

/** What a call returns. The numbers never change their meaning. */
typedef enum {
    /** The call did what it says. */
    SETUN_OK = 0,
    /**
     * An argument is NULL, negative, out of range, not UTF-8, not finite, or not a live handle of the
     * right type.
     */
    SETUN_ERR_ARGUMENT = -1,
    /** Sizes do not fit each other. */
    SETUN_ERR_SHAPE = -2,
    /** A tensor has another element type than the call takes. */
    SETUN_ERR_DTYPE = -3,
    /** The device is missing, failed, or does not hold the memory. */
    SETUN_ERR_DEVICE = -4,
    /** Out of memory; nothing was changed. */
    SETUN_ERR_MEMORY = -5,
    /** The operating system refused to read or write a file. */
    SETUN_ERR_IO = -6,
    /** A file, a text or packed bytes are damaged or not of the expected format. */
    SETUN_ERR_FORMAT = -7,
    /** This build or machine, or this kind of model, cannot do it. */
    SETUN_ERR_UNSUPPORTED = -8,
    /** Not now: the handle is in use by another call, or in a state that the call cannot start from. */
    SETUN_ERR_STATE = -9,
    /** A cancel token stopped the call. */
    SETUN_ERR_CANCELLED = -10,
    /** A struct_size is wrong, or a newer struct asks for what this library does not know. */
    SETUN_ERR_ABI = -11,
    /** A bug in Setun. The handles that the call was using answer SETUN_ERR_STATE from now on. */
    SETUN_ERR_INTERNAL = -99,
} setun_status;

/** How much the log hook hears: messages of the given level and of those before it. */
typedef enum {
    SETUN_LOG_ERROR = 0,
    SETUN_LOG_WARNING = 1,
    SETUN_LOG_INFO = 2,
    SETUN_LOG_DEBUG = 3,
} setun_log_level;

/** A flag that any thread may raise to stop a long call. */
typedef struct setun_cancel setun_cancel;

/**
 * Receives log messages: `level` is a `setun_log_level`, `message` is one line without line end, valid
 * during the call. It may be called from any thread, and from several at once.
 */
typedef void (*setun_log_callback)(int32_t level, const char *message, void *user_data);

/** The version of the library that is running: major << 16 | minor << 8 | patch. */
uint32_t setun_version(void);

/** The same as text, "0.1.0". Static: never freed. */
const char *setun_version_string(void);

/**
 * One line for a bug report: version, target, compiler, and the CPU levels that this build contains and
 * this machine can run. Never NULL; static, never freed.
 */
const char *setun_build_info(void);

/**
 * The name of a status, "SETUN_ERR_SHAPE"; "unknown status" for a number that is none. Static: never
 * freed.
 */
const char *setun_status_name(int32_t status);

/**
 * The last failure of a call on this thread, as a sentence; "" when there was none. Never NULL. A success
 * does not clear it. Valid until the next failure on the same thread; do not free it.
 */
const char *setun_last_error(void);

/**
 * Sends log messages up to `level` to `callback`; NULL removes the hook, which is the initial state:
 * silence.
 *
 * `user_data` is handed to every call of the callback and must stay valid until the hook is replaced and
 * the calls that were already running on other threads have returned. The callback may call any function
 * of this library, this one too. Returns ARGUMENT when `level` is not a `setun_log_level`.
 */
setun_status setun_set_log(setun_log_callback callback, void *user_data, int32_t level);

/** Creates a cancel token, not raised. Free it with `setun_cancel_free`. */
setun_status setun_cancel_create(setun_cancel **out);

/**
 * Raises the token: the calls that were given it stop at their next check, a fraction of a second away,
 * and return SETUN_ERR_CANCELLED. (Of byte-pair encoding, the counting of words is stopped, the merges
 * that follow are not; a context of the `scalar` backend is slow between two checks too.) Any thread may
 * call this, also while such a call runs (but no signal handler: hand over to a thread).
 */
setun_status setun_cancel_request(const setun_cancel *token);

/** Lowers the token, to use it again. */
setun_status setun_cancel_reset(const setun_cancel *token);

/**
 * Frees the token; NULL is fine. A running call that was given it goes on, and can no longer be stopped by
 * it.
 */
void setun_cancel_free(setun_cancel *token);

/*
 * CONTEXT: where it runs
 *
 * A context chooses a backend once: `scalar` (the readable reference), `simd` (vector code, one thread) or
 * `parallel` (the same vector code on a thread pool; bit for bit the same results, for every number of
 * threads). NULL, wherever a context is asked for, is the default context of the process: the best
 * backend, as many threads as the process may use. A context may be used by several threads at once, and
 * freed while objects made with it live on.
 *
 * On `parallel`, a call too small to be worth waking threads runs on the calling thread, as on `simd`. How
 * small that is, is measured on this machine while the program runs: what a hand-off to the pool takes, and
 * how fast each operation is. Of a larger call the calling thread does its part: whoever calls has a stack of
 * 256 KiB or more. Calls that come at once from several threads share the pool's, and do not wait for it. `setun_context_explain` says what would run a call and why,
 * `setun_context_statistics` what has run. The size of a call is the number of elements of its largest
 * tensor; for products, attention and the search for nearest centroids, the number of multiplications.
 *
 * `cuda` is an NVIDIA GPU of compute capability 8.0 or later. Its driver, libcuda.so.1, is looked for when it is
 * first asked about, and nothing needs it; `setun_device_count` and its kin say which GPUs there are. A context
 * made for it keeps models and their training there, and has the GPU make every call: what a call on memory of the
 * host reads is copied there, what it writes is copied back, and the call returns when that is done. The default
 * context lets a GPU take single calls: see `min_size_for_cuda`. All contexts of a process share a GPU and what they
 * keep of its memory.
 *
 *     setun_context_options options;
 *     setun_context_options_init(&options, sizeof options);
 *     options.threads = 2;
 *     setun_context *context = NULL;
 *     if (setun_context_create(&options, &context) != SETUN_OK) return fail(setun_last_error());
 *     setun_context_free(context);
 */

/** The rows of the dispatch table. */
typedef enum {
    /** The best that the `prefer_` options allow. */
    SETUN_BACKEND_AUTO = 0,
    /** The reference: one thread, plain loops; what the others are tested against. */
    SETUN_BACKEND_SCALAR = 1,
    /** Vector code on the calling thread. */
    SETUN_BACKEND_SIMD = 2,
    /** The same vector code on a thread pool. */
    SETUN_BACKEND_PARALLEL = 3,
    /** An NVIDIA GPU. Where there is none, asking for it returns SETUN_ERR_DEVICE with the reason. */
    SETUN_BACKEND_CUDA = 4,
} setun_backend;

/** What the sizes of an operation's calls count. */
typedef enum {
    /** Elements of the largest tensor. */
    SETUN_MULTIPLIES_NOTHING = 0,
    /** Multiplications of 32-bit floats, each with an addition. */
    SETUN_MULTIPLIES_F32 = 1,
    /** Multiplications of 8-bit integers, or of these with trits, each with an addition. */
    SETUN_MULTIPLIES_INT8 = 2,
} setun_multiplies;

/** The backend, CPU level and threads that calls run on. */
typedef struct setun_context setun_context;

/** How to make a context. Fill it with `setun_context_options_init`. */
typedef struct {
    size_t struct_size;
    /** A `setun_backend`. Default SETUN_BACKEND_AUTO. */
    int32_t backend;
    /** The GPU that `cuda` runs on, below `setun_device_count`; AUTO does without one that does not exist. Default 0. */
    int32_t device;
    /** Non-zero: AUTO lets a GPU take calls, where there is one: see `min_size_for_cuda`. Default 1. */
    int32_t prefer_cuda;
    /** Non-zero: AUTO takes `parallel`. Default 1. */
    int32_t prefer_parallel;
    /** Non-zero: AUTO takes `simd` where `parallel` is not wanted. Default 1. */
    int32_t prefer_simd;
    /**
     * Threads that compute a call, the calling thread among them; 0 = as many as the process may use, at most
     * 4096. Default 0.
     */
    int32_t threads;
    /**
     * Non-zero: tell the log hook, at level INFO, what was chosen, now and at the first call of each
     * operation on each backend. Default 0.
     */
    int32_t verbose;
    /** Non-zero: time every call, for `setun_context_statistics`. Default 0. */
    int32_t benchmark_mode;
    /**
     * The size from which on AUTO has the GPU make a call; 0 = always, -1 = where this machine measured it to be
     * faster, copies included, and only operations that give the same bits on every backend. A call that fails
     * there is made again on the CPU, with a warning to the log hook. Default -1.
     */
    int64_t min_size_for_cuda;
    /**
     * The size from which on `parallel` hands a call to its threads; 0 = always, -1 = the crossover that
     * this machine measured. The results are the same bits. Default -1.
     */
    int64_t min_size_for_parallel;
} setun_context_options;

/**
 * What has run of one operation in a context, on the backends that did the work. The arrays are indexed by
 * `setun_backend`; at SETUN_BACKEND_AUTO stands the sum over all backends. Set `struct_size` before the call.
 */
typedef struct {
    size_t struct_size;
    /** The operation's name. Static: never freed. */
    const char *operation;
    int64_t calls[5];
    /**
     * The sizes of these calls, added: elements, or multiplications of products, attention and the
     * search for nearest centroids.
     */
    int64_t elements[5];
    /** What they took, in seconds; 0 unless the context has `benchmark_mode`. */
    double seconds[5];
    /** The bytes of all their tensors, each counted once a call. */
    int64_t bytes[5];
    /** A `setun_multiplies`: what `elements` counts. */
    int64_t multiplies;
} setun_statistics;

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_context_options_init(setun_context_options *options, size_t size);

/**
 * Makes a context and its thread pool. NULL options = the defaults. Free it with `setun_context_free`.
 *
 * The CPU level is the best that this build contains and this machine has; the environment variable
 * SETUN_CPU_LEVEL (a name that setun_context_level gives) lowers it. Of a GPU's memory a process keeps what it used,
 * for the next call; SETUN_CUDA_MEMORY is the most that it takes, in bytes, and SETUN_CUDA_CACHE=0 has it give all
 * back at once. Both are read when the GPU is opened.
 *
 * Returns ARGUMENT (a backend, device or number of threads that does not exist), UNSUPPORTED (a backend or level that
 * this build or machine lacks), MEMORY (the threads cannot be started), ABI; for SETUN_BACKEND_CUDA also DEVICE (no
 * driver, no device, or a driver that fails, in its own words), MEMORY (of the GPU), UNSUPPORTED (an older GPU),
 * ARGUMENT (a SETUN_CUDA_MEMORY that is no number) and STATE (the process was forked after the driver was loaded).
 * Calls on such a context may return DEVICE and MEMORY, and STATE in a forked child.
 */
setun_status setun_context_create(const setun_context_options *options, setun_context **out);

/**
 * Says which backend was chosen: a `setun_backend`, never AUTO. Where a GPU may take single calls, it is the one that
 * makes the others. NULL = the default context.
 */
setun_status setun_context_backend(const setun_context *context, int32_t *out);

/** Says how many threads run a call on the CPU: 1 but for `parallel`. NULL = the default context. */
setun_status setun_context_threads(const setun_context *context, int32_t *out);

/**
 * Says which CPU level the vector code was compiled for: "baseline", "x86-64-v3", "x86-64-v4" or
 * "x86-64-v4+vnni". NULL = the default context. The string is static: never freed.
 */
setun_status setun_context_level(const setun_context *context, const char **out);

/**
 * Says in a sentence or two what would run a call of an operation, and why: backend, CPU level, threads, the
 * crossover and what it was measured from, and why a GPU or none. For people: the wording may change.
 *
 * `operation` is a name of `setun_operation_name`; NULL asks about the context as a whole. `call_size` is the
 * size of the call (see the head of this section); -1 asks where the crossover lies. At most `capacity` bytes
 * are written to `text`, always with a NUL at the end: a longer text is cut. `bytes`, unless it is NULL,
 * becomes the size of the whole text with its NUL (`text` NULL with capacity 0 only counts; 1000 is enough
 * today). NULL context = the default context. What is not known yet is found out: a hand-off to the threads
 * is measured (a millisecond), the driver of GPUs is loaded. Returns ARGUMENT for an operation that does not
 * exist, naming those like it.
 */
setun_status setun_context_explain(const setun_context *context,
                                   const char *operation,
                                   int64_t call_size,
                                   char *text,
                                   size_t capacity,
                                   size_t *bytes);

/** How many operations there are. */
int64_t setun_operation_count(void);

/** The name of operation number `index`, from 0; NULL past the last. Static: never freed. */
const char *setun_operation_name(int64_t index);

/**
 * What has run of operation number `index` since the context was made or its statistics were reset, on
 * behalf of every thread and object that uses the context. Calls that are running may be counted or not.
 *
 * `out->struct_size` says how much of the struct to write. NULL context = the default context. Returns
 * ARGUMENT (an index not below `setun_operation_count`), ABI.
 */
setun_status setun_context_statistics(const setun_context *context, int64_t index, setun_statistics *out);

/** Sets the statistics of all operations to 0. NULL context = the default context. */
setun_status setun_context_reset_statistics(const setun_context *context);

/** Frees the context; NULL is fine. Models and packed tensors that were made with it keep working. */
void setun_context_free(setun_context *context);

/**
 * Counts the NVIDIA GPUs that the CUDA driver shows. A machine without the driver or without a GPU has 0:
 * that is no error, and `setun_context_explain` says which.
 *
 * The first question loads the driver, if there is one, and the process keeps the answer. Returns DEVICE (a
 * driver that is too old or fails, in its own words), STATE (the process was forked after the driver was
 * loaded).
 */
setun_status setun_device_count(int32_t *out);

/**
 * The name of a GPU, "NVIDIA H100 80GB HBM3". `device` is below `setun_device_count`.
 *
 * At most `capacity` bytes are written to `text`, always with a NUL at the end; `bytes`, unless it is NULL,
 * becomes the size of the whole name with its NUL (`text` NULL with capacity 0 only counts; 256 is enough).
 * Returns ARGUMENT (a device that does not exist), DEVICE (no driver, no device, or a driver that fails, in
 * its own words), STATE (the process was forked after the driver was loaded).
 */
setun_status setun_device_name(int32_t device, char *text, size_t capacity, size_t *bytes);

/**
 * The memory of a GPU in bytes: how much is free now, and how much there is. Either may be NULL.
 *
 * What is free is known only on an open device: this opens it for the call (part of a second), and leaves
 * the calling thread's CUDA context what it was. Returns as `setun_device_name`, or MEMORY (too little is free on the GPU
 * to open it).
 */
setun_status setun_device_memory(int32_t device, size_t *free, size_t *total);

/*
 * TENSOR: arrays that handles work on
 *
 * A tensor is a contiguous, row-major array on the host: an element type, up to four sizes and the memory
 * behind. It owns that memory (`setun_tensor_create`, zeroed) or borrows yours (`setun_tensor_wrap`). The
 * calls on plain pointers do not need one.
 *
 *     int64_t dims[2] = {2, 3};
 *     float data[6] = {1, 2, 3, 4, 5, 6};
 *     setun_tensor *tensor = NULL;
 *     setun_tensor_create(SETUN_DTYPE_F32, dims, 2, &tensor);
 *     setun_tensor_write(tensor, data, sizeof data);
 *     setun_tensor_free(tensor);
 */

/** The most dimensions that a tensor has. */
#define SETUN_MAX_RANK 4

/** Element types. */
typedef enum {
    /** IEEE 754 binary32, 4 bytes. */
    SETUN_DTYPE_F32 = 0,
    /** IEEE 754 binary16, 2 bytes. */
    SETUN_DTYPE_F16 = 1,
    /** Signed, 1 byte. */
    SETUN_DTYPE_I8 = 2,
    /** Unsigned, 1 byte. */
    SETUN_DTYPE_U8 = 3,
    /** Signed, 4 bytes. */
    SETUN_DTYPE_I32 = 4,
    /** Unsigned, 4 bytes. */
    SETUN_DTYPE_U32 = 5,
} setun_dtype;

/** An array with a type and a shape. */
typedef struct setun_tensor setun_tensor;

/**
 * Makes a tensor of zeros. `dims` holds `rank` sizes, outermost first; rank 0 is one number and takes NULL
 * `dims`; sizes may be 0. `dtype` is a `setun_dtype`. Free it with `setun_tensor_free`. Returns ARGUMENT,
 * SHAPE (more elements than the machine can address), MEMORY.
 */
setun_status setun_tensor_create(int32_t dtype, const int64_t *dims, int32_t rank, setun_tensor **out);

/**
 * Makes a tensor over memory of yours: nothing is copied, and freeing the tensor leaves the memory alone.
 *
 * `data` must be aligned for its type, hold the whole shape, outlive the tensor, and be touched by nobody
 * else while a call writes the tensor. NULL only when a size is 0. Returns ARGUMENT (NULL, misaligned, `out`
 * inside of `data`), SHAPE, MEMORY.
 */
setun_status setun_tensor_wrap(void *data, int32_t dtype, const int64_t *dims, int32_t rank, setun_tensor **out);

/** Says the element type, a `setun_dtype`. */
setun_status setun_tensor_dtype(const setun_tensor *tensor, int32_t *out);

/**
 * Says the shape: writes the sizes, outermost first, into `dims`, which has room for SETUN_MAX_RANK; those
 * past the rank become 1.
 */
setun_status setun_tensor_dims(const setun_tensor *tensor, int64_t *dims, int32_t *rank);

/** Says how many bytes the elements take. */
setun_status setun_tensor_nbytes(const setun_tensor *tensor, size_t *out);

/**
 * Copies `nbytes` bytes, which must be all of the tensor's, from `data` into the tensor. Returns SHAPE
 * when the sizes differ, ARGUMENT when `data` overlaps a wrapped tensor's memory, STATE when another call
 * uses the tensor.
 */
setun_status setun_tensor_write(setun_tensor *tensor, const void *data, size_t nbytes);

/**
 * Copies the tensor's bytes, `nbytes`, which must be all of them, into `data`. Returns SHAPE, ARGUMENT and
 * STATE as `setun_tensor_write` does.
 */
setun_status setun_tensor_read(const setun_tensor *tensor, void *data, size_t nbytes);

/** Frees the tensor; NULL is fine. Memory that it wraps is left alone. */
void setun_tensor_free(setun_tensor *tensor);

/*
 * QUANTIZE: float weights to ternary, and back
 *
 * Weights become trits, -1, 0 or +1, and scales: W ~ scale * t. Matrices are row-major, [rows, columns] =
 * [n, k]: one row per output, as in a linear layer. A scale belongs to the whole matrix, to a row, or to a
 * group of columns of a row: `group` in the options. Scales are [1], or [rows, ceil(columns / group)]: as
 * many as `setun_scale_count` says. How they and the thresholds above which a weight is +-1 are found is
 * the scheme; how the trits lie in bytes is the packing (next section). The calls of these four sections
 * take plain pointers; outputs may not overlap inputs, and stay untouched when a call fails.
 *
 *     float w[2 * 4] = {.9f, -.8f, .1f, 0, -.7f, .6f, 0, .1f}, back[2 * 4], scale;
 *     size_t bytes;
 *     setun_pack_size(2, 4, SETUN_PACKING_TWO_BIT, &bytes);
 *     uint8_t *packed = malloc(bytes);
 *     setun_quantize(w, 2, 4, NULL, packed, &bytes, &scale, 1);
 *     setun_dequantize(packed, bytes, 2, 4, &scale, 1, NULL, back);
 */

/** For `group`: one scale a row. */
#define SETUN_GROUP_ROW -1

/** How a weight between two trits is decided. */
typedef enum {
    /** By the threshold. */
    SETUN_ROUNDING_NEAREST = 0,
    /**
     * At random, +-1 with the probability |w| / s: the mean of s * t over the seeds is w, for |w| up to s.
     * The scheme's threshold is not used.
     */
    SETUN_ROUNDING_STOCHASTIC = 1,
} setun_rounding;

/**
 * How the scale s and the threshold h of a group of weights are found; a weight above h is +1, one below -h is
 * -1, others are 0. Every scheme gives the same bits on every backend and processor.
 */
typedef enum {
    /** s = the mean magnitude, at least 1e-5; h = s / 2 (BitNet b1.58, arXiv 2402.17764). */
    SETUN_SCHEME_ABSMEAN = 0,
    /**
     * s = the median magnitude, of an even number the lower of the two in the middle (as torch.median), at
     * least 1e-5; h = s / 2.
     */
    SETUN_SCHEME_ABSMEDIAN = 1,
    /**
     * The s and the trits with the least squared error of all, found exactly; h = s / 2. Of normal weights
     * the error is 0.436 of their norm, by absmean 0.513.
     */
    SETUN_SCHEME_LEAST_SQUARES = 2,
    /**
     * h = `threshold` of the options; s = the mean of the magnitudes above it, which is the best for these
     * trits; 0 if there are none.
     */
    SETUN_SCHEME_THRESHOLD = 3,
} setun_scheme;

/** How to quantize and where. Fill it with `setun_quantize_options_init`. */
typedef struct {
    size_t struct_size;
    /** A `setun_scheme`. Default SETUN_SCHEME_ABSMEAN. */
    int32_t scheme;
    /** A `setun_packing`, but SETUN_PACKING_FULL. Default SETUN_PACKING_TWO_BIT. */
    int32_t packing;
    /** Where it runs; NULL = the default context. Default NULL. */
    const setun_context *context;
    /**
     * Columns of a row that share a scale; the last group of a row may be shorter. 0 = the whole matrix;
     * SETUN_GROUP_ROW = the row. Default 0.
     */
    int64_t group;
    /** Of SETUN_SCHEME_THRESHOLD, but always finite, and 0 or more. Default 0. */
    float threshold;
    /** A `setun_rounding`. Default SETUN_ROUNDING_NEAREST. */
    int32_t rounding;
    /** Of SETUN_ROUNDING_STOCHASTIC: the same seed gives the same trits, on every backend. Default 0. */
    uint64_t seed;
} setun_quantize_options;

/** What quantizing cost. Set `struct_size` to sizeof(setun_quantize_report) first. */
typedef struct {
    size_t struct_size;
    /** sqrt(sum of (w - s * t)^2 / sum of w^2), in f64: 0 = restored exactly, 1 = no better than zeros. */
    double relative_rmse;
    /** The share of the trits that are 0. */
    double zero_fraction;
    /**
     * Of the trits as independent symbols, in bits a trit, at most log2(3) = 1.585: no packing that knows no more
     * of them than how often each comes can take less on average.
     */
    double entropy;
    int64_t scale_count;
    /** All that a reader needs: the packed trits, and 4 for each scale. */
    size_t bytes;
    /** 8 * bytes / weights. */
    double bits_per_weight;
    /** The bytes of the weights as 32-bit floats / bytes. */
    double ratio;
} setun_quantize_report;

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_quantize_options_init(setun_quantize_options *options, size_t size);

/**
 * Says how many scales [rows, columns] weights have in groups of `group` columns (see the options): 1, rows,
 * or rows * ceil(columns / group). Returns ARGUMENT (negative sizes, a group below -1), SHAPE (too large).
 */
setun_status setun_scale_count(int64_t rows, int64_t columns, int64_t group, int64_t *out);

/**
 * Quantizes `weights` [rows, columns]: the trits into `packed`, of which `packed_size` says the room before
 * and the bytes used after (`setun_pack_size` says how many are enough), and their scales [scale_count].
 * NULL options = absmean, two bits, one scale, to the nearest, default context. The bits of the trits and of
 * the scales are the same on every backend.
 *
 * Returns ARGUMENT (a NaN or an infinity, naming the first; a threshold that is negative or not finite; a mean
 * magnitude beyond float; overlap; misaligned), SHAPE (packed_size or scale_count does not fit), MEMORY.
 */
setun_status setun_quantize(const float *weights,
                            int64_t rows,
                            int64_t columns,
                            const setun_quantize_options *options,
                            uint8_t *packed,
                            size_t *packed_size,
                            float *scales,
                            int64_t scale_count);

/**
 * Measures what `setun_quantize` made of `weights` [rows, columns]: the error, the entropy and all bytes, into
 * `report`, whose struct_size is set. Of the options, packing, group and context count. Returns FORMAT (bytes
 * that are no trits, naming the first), ARGUMENT (a weight or a scale that is not finite, naming the first;
 * overlap; misaligned), SHAPE (packed_size or scale_count does not fit), ABI, MEMORY.
 */
setun_status setun_quantize_measure(const float *weights,
                                    int64_t rows,
                                    int64_t columns,
                                    const uint8_t *packed,
                                    size_t packed_size,
                                    const float *scales,
                                    int64_t scale_count,
                                    const setun_quantize_options *options,
                                    setun_quantize_report *report);

/**
 * The inverse: weights [rows, columns] = scale * t. Of the options, packing, group and context count.
 * Returns FORMAT (bytes that are no trits, naming the first), ARGUMENT (a scale that is not finite; overlap;
 * misaligned), SHAPE (packed_size or scale_count does not fit), MEMORY.
 */
setun_status setun_dequantize(const uint8_t *packed,
                              size_t packed_size,
                              int64_t rows,
                              int64_t columns,
                              const float *scales,
                              int64_t scale_count,
                              const setun_quantize_options *options,
                              float *weights);

/*
 * PACK: trits in bytes
 *
 * Rows of [n, k] begin at a byte of their own; positions past the last column hold t = 0, so that a matrix
 * has one packed form. What is not one is refused, and never decoded to nonsense.
 *
 *     two bits:  byte = (t0 + 1) + (t1 + 1) * 4 + (t2 + 1) * 16 + (t3 + 1) * 64          ceil(k / 4) bytes a row
 *     five:      byte = (t0 + 1) + (t1 + 1) * 3 + ... + (t4 + 1) * 81                    ceil(k / 5) bytes a row
 *     mask and sign: [offset: uint32 x blocks] [mask: n rows of ceil(k / 8) bytes] [signs], where a block is
 *         max(1, ceil(2048 / k)) rows (the last may have fewer), so that it can be read by itself;
 *         mask:   bit i of a row, lowest first, is 1 where t [i] is not 0
 *         signs:  for each block, from a byte of its own, a bit for each t that is not 0, in order: 1 = -1; the
 *                 bits that are left over in its last byte are 0
 *         offset: of the block's signs, from where the signs begin, little endian
 *
 * Where a call writes packed bytes, its size argument says the room before and the bytes used after.
 *
 *     int8_t t[2 * 4] = {1, -1, 0, 0, -1, 1, 0, 0};
 *     uint8_t packed[2];
 *     size_t bytes = sizeof packed;
 *     setun_pack(t, 2, 4, NULL, packed, &bytes);
 *     setun_unpack(packed, bytes, 2, 4, NULL, t);
 */

/**
 * The ternary block types of GGUF files, by GGML's numbers. Both hold blocks of 256 weights with one 16-bit
 * float as scale.
 */
typedef enum {
    /** Five trits a byte, 54 bytes a block: 1.6875 bits a weight. */
    SETUN_GGUF_TYPE_TQ1_0 = 34,
    /** Four trits a byte, 66 bytes a block: 2.0625 bits a weight. */
    SETUN_GGUF_TYPE_TQ2_0 = 35,
} setun_gguf_type;

/** How weights are stored. */
typedef enum {
    /** Four trits a byte, 2 bits a weight: the form that products run on. */
    SETUN_PACKING_TWO_BIT = 0,
    /** Five trits a byte, 1.6 bits a weight: the form for files. */
    SETUN_PACKING_FIVE_PER_BYTE = 1,
    /** Not packed: 32-bit floats. Only for `setun_model_save`. */
    SETUN_PACKING_FULL = 2,
    /**
     * A bit for each weight, and a sign for each that is not zero: 2 - z bits a weight where z is the share of
     * zeros, 1.55 of Gaussian weights and least squares. For files; products unpack it first.
     */
    SETUN_PACKING_MASK_SIGN = 3,
} setun_packing;

/**
 * Says how many bytes [rows, columns] trits take; with mask and sign the most that they can, when none is
 * zero. `packing` is a `setun_packing`. Returns ARGUMENT (negative sizes, no such packing), SHAPE (more than the
 * machine can address, or columns above 2^24, past which products would not be exact).
 */
setun_status setun_pack_size(int64_t rows, int64_t columns, int32_t packing, size_t *out);

/**
 * Packs `trits` [rows, columns], one int8 each, -1, 0 or +1, into `packed`; `packed_size` is the room before
 * and the bytes used after. Returns ARGUMENT (another value, naming the first; overlap), SHAPE (too little
 * room), MEMORY.
 */
setun_status setun_pack(const int8_t *trits,
                        int64_t rows,
                        int64_t columns,
                        const setun_quantize_options *options,
                        uint8_t *packed,
                        size_t *packed_size);

/**
 * The inverse: `trits` [rows, columns], one int8 each. Returns FORMAT (bytes that are no trits, naming the
 * first), ARGUMENT, SHAPE.
 */
setun_status setun_unpack(const uint8_t *packed,
                          size_t packed_size,
                          int64_t rows,
                          int64_t columns,
                          const setun_quantize_options *options,
                          int8_t *trits);

/**
 * Counts the trits of [rows, columns]: `counts` has room for three, of -1, 0 and +1. Returns FORMAT,
 * ARGUMENT, SHAPE.
 */
setun_status setun_trit_histogram(const uint8_t *packed,
                                  size_t packed_size,
                                  int64_t rows,
                                  int64_t columns,
                                  const setun_quantize_options *options,
                                  int64_t *counts);

/**
 * Packed trits [rows, columns] in `packing`, a `setun_packing`, into that of the options: `out`, of which
 * `out_size` is the room before and the bytes used after. Returns FORMAT (bytes that are no trits, naming the
 * first, or the block whose mask and signs disagree), ARGUMENT, SHAPE (packed_size does not fit; too little
 * room), MEMORY.
 */
setun_status setun_repack(const uint8_t *packed,
                          size_t packed_size,
                          int64_t rows,
                          int64_t columns,
                          int32_t packing,
                          const setun_quantize_options *options,
                          uint8_t *out,
                          size_t *out_size);

/**
 * Says how many bytes `count` weights, a multiple of 256, take as blocks of the `setun_gguf_type` `type`.
 * Returns ARGUMENT (no such type), SHAPE (another count, or more than the machine can address).
 */
setun_status setun_gguf_size(int32_t type, int64_t count, size_t *bytes);

/**
 * Quantizes `weights`, `count` of them, a multiple of 256, into GGUF blocks of the `setun_gguf_type` `type`,
 * `blocks_size` bytes as setun_gguf_size says: the same bytes as GGML's own writer (gguf-py, quants.py). The
 * scale of a block is its largest magnitude, stored as the nearest 16-bit float; a weight is +-1 from half of
 * that on, else 0.
 *
 * That is a rough rule for weights that are not ternary yet: quantize them with setun_quantize, or take those
 * of a trained model, and hand over what setun_dequantize gives. Then every trit survives exactly, and the
 * scales but for their rounding to 16 bits; every 256 weights share a scale, so a group is a multiple of 256
 * columns, or the matrix. A row of a GGUF tensor is whole blocks: columns are a multiple of 256 too.
 *
 * Returns ARGUMENT (a weight that is not finite or whose magnitude no finite 16-bit float is nearest to, 65520
 * and above, naming the first; overlap), SHAPE (count or blocks_size). Where it fails, nothing is written.
 */
setun_status setun_gguf_encode(int32_t type, const float *weights, int64_t count, uint8_t *blocks, size_t blocks_size);

/**
 * The inverse: `weights`, `count` of them, a multiple of 256, from GGUF blocks. Returns FORMAT (bytes that no
 * writer makes: the code 3, a byte that is no five trits, a scale that is not finite; naming the first), ARGUMENT
 * (overlap), SHAPE. Where it fails, nothing is written.
 */
setun_status setun_gguf_decode(int32_t type, const uint8_t *blocks, size_t blocks_size, int64_t count, float *weights);

/*
 * MATMUL: products with ternary weights
 *
 * A linear layer: y = x W^T with W ~ scale * t, in every packing, with a scale for the matrix, each row or
 * each group of columns. The activations x are quantized to 8 bits, one scale a row, and the products summed
 * as integers: exact for every k up to 2^24. y is the same bits on every backend, for any number of threads,
 * and of a row whatever the other rows are; the gradient is float arithmetic. A `setun_packed` keeps a matrix ready instead of checking
 * it at every call.
 *
 *     float x[4] = {1, 2, 3, 4}, y[2];
 *     setun_matmul(x, 1, packed, bytes, 2, 4, &scale, 1, NULL, y);
 *     setun_packed *weight;
 *     setun_packed_create(NULL, w, NULL, &weight);
 *     setun_packed_matmul(weight, x_tensor, y_tensor);
 *     setun_packed_free(weight);
 */

/** A packed weight matrix, checked once. */
typedef struct setun_packed setun_packed;

/**
 * Quantizes activations x [m, k] to 8 bits, row by row: a = max(max |x|, 1e-5), codes [m, k] = round(x *
 * 127 / a), half to even, scales [m] = a / 127, so that x ~ scale * code. Returns ARGUMENT (a NaN or an
 * infinity, naming the first; overlap; misaligned).
 */
setun_status setun_quantize_activations(const float *x,
                                        int64_t m,
                                        int64_t k,
                                        const setun_quantize_options *options,
                                        int8_t *codes,
                                        float *scales);

/**
 * A linear layer: y [m, n] = x [m, k] * (scale * t [n, k]) transposed, from `packed`, whose n rows have k
 * columns, and `scales`, whose count is that of setun_scale_count. The packing and the group are those of
 * `options`. x is quantized to 8 bits per row as `setun_quantize_activations` does, and the products are
 * summed as integers; where a row has several groups, their sums, each times its scale, add up in order as
 * 32-bit floats. No memory is allocated once a thread has made a call as large.
 *
 * Returns ARGUMENT (NaN or infinity in x or scales; overlap; misaligned), SHAPE (packed_size or scale_count
 * does not fit, k above 2^24), FORMAT (bytes that are no trits), MEMORY.
 */
setun_status setun_matmul(const float *x,
                          int64_t m,
                          const uint8_t *packed,
                          size_t packed_size,
                          int64_t n,
                          int64_t k,
                          const float *scales,
                          int64_t scale_count,
                          const setun_quantize_options *options,
                          float *y);

/**
 * The gradient of `setun_matmul` to its input, straight through the quantization of x: dx [m, k] = dy
 * [m, n] * (scale * t [n, k]). Float arithmetic; backends agree to rounding. Returns what `setun_matmul`
 * does.
 */
setun_status setun_matmul_backward(const float *dy,
                                   int64_t m,
                                   const uint8_t *packed,
                                   size_t packed_size,
                                   int64_t n,
                                   int64_t k,
                                   const float *scales,
                                   int64_t scale_count,
                                   const setun_quantize_options *options,
                                   float *dx);

/**
 * Quantizes the tensor w [n, k] f32 into a matrix that products can use again and again; w itself is not
 * kept. The products run on `context`; NULL = the options' context, and then the default one. Free it with
 * `setun_packed_free`.
 *
 * Products run on the packed bytes as they are: SETUN_PACKING_FIVE_PER_BYTE keeps 1.6 bits a weight in memory
 * and SETUN_PACKING_MASK_SIGN what it takes, for products that are somewhat slower than those of two bits.
 * Returns ARGUMENT (NaN or infinity, naming the first), DTYPE, SHAPE, STATE, MEMORY.
 */
setun_status setun_packed_create(const setun_context *context,
                                 const setun_tensor *w,
                                 const setun_quantize_options *options,
                                 setun_packed **out);

/**
 * The product of `setun_matmul` on tensors: y [.., n] f32 = x [.., k] f32 * packed [n, k] transposed; the
 * sizes before the last are the same in x and y. Returns ARGUMENT (NaN or infinity in x; y overlaps x),
 * DTYPE, SHAPE, STATE (y in use, or y is x), MEMORY.
 */
setun_status setun_packed_matmul(const setun_packed *packed, const setun_tensor *x, setun_tensor *y);

/** Writes w [n, k] f32 = scale * t. Returns DTYPE, SHAPE, STATE. */
setun_status setun_packed_dequantize(const setun_packed *packed, setun_tensor *w);

/** Writes the scales [count], as many as `setun_scale_count` says. Returns SHAPE (another count). */
setun_status setun_packed_scales(const setun_packed *packed, float *scales, int64_t count);

/**
 * Measures what packing w [n, k] f32 cost, as `setun_quantize_measure` does, into `report`, whose struct_size is
 * set. Returns ARGUMENT (NaN or infinity in w), DTYPE, SHAPE, STATE, MEMORY.
 */
setun_status setun_packed_measure(const setun_packed *packed, const setun_tensor *w, setun_quantize_report *report);

/** Says how many bytes the packed trits take, without the scales. */
setun_status setun_packed_nbytes(const setun_packed *packed, size_t *out);

/** Frees the matrix; NULL is fine. */
void setun_packed_free(setun_packed *packed);

/*
 * GRADIENT: gradients in few bits
 *
 * What machines that train together exchange, or what a trainer keeps of a gradient: 8-bit codes, rounded at
 * random so that nothing is lost on average, or trits, whose error is kept and added to the next gradient.
 * Both have one scale for every block of elements. Of the options, the context counts.
 *
 *     float g[512], error[512] = {0}, back[512], scales[2];
 *     int8_t codes[512];
 *     setun_quantize_gradients(g, 512, 256, seed, step, 0, NULL, codes, scales);
 *     setun_dequantize_gradients(codes, scales, 512, 256, NULL, back);
 *     uint8_t packed[128];
 *     size_t bytes = sizeof packed;
 *     setun_ternarize_gradients(g, 512, 256, NULL, error, packed, &bytes, scales);
 *     setun_deternarize_gradients(packed, bytes, scales, 512, 256, NULL, back);
 */

/**
 * Quantizes a gradient g [n] to 8 bits by blocks: for every `block` elements, a positive multiple of 32 (the
 * trainer's is 256), scale = max |g| / 127 of the block, and code = g / scale, rounded up or down at random so
 * that the mean of scale * code is g: codes [n] int8 from -127 to 127, scales [ceil(n / block)]. (Blocks:
 * arXiv 2110.02861; stochastic rounding: QSGD, arXiv 1610.02132.)
 *
 * The randomness is a function of (seed, step, tensor, index) alone, and the codes are the same on every
 * backend: give each tensor and step numbers of its own. The scale is at least 2^-126, also of zeros, and
 * such that 127 * scale is finite. NULL options = the default context. Returns ARGUMENT (a NaN or an
 * infinity, naming the first; block; n; overlap; misaligned).
 */
setun_status setun_quantize_gradients(const float *g,
                                      int64_t n,
                                      int64_t block,
                                      uint64_t seed,
                                      uint32_t step,
                                      uint32_t tensor,
                                      const setun_quantize_options *options,
                                      int8_t *codes,
                                      float *scales);

/**
 * The inverse but for the rounding: g [n] = scale * code, from scales [ceil(n / block)]. Returns ARGUMENT (a
 * scale that is NaN or infinite, naming the first; block; n; overlap; misaligned).
 */
setun_status setun_dequantize_gradients(const int8_t *codes,
                                        const float *scales,
                                        int64_t n,
                                        int64_t block,
                                        const setun_quantize_options *options,
                                        float *g);

/**
 * Quantizes a gradient with what the last one left over, x = g [n] + error [n], to trits by blocks: for every
 * `block` elements, a positive multiple of 32, h = 0.7 * mean |x| (Ternary Weight Networks, arXiv 1605.04711),
 * t = +-1 beyond h, scale = the mean of |x| beyond h, which is the best for these trits. `error` becomes x -
 * scale * t: what is sent over the steps, and what is still owed, is the sum of the gradients (error feedback,
 * arXiv 1901.09847; ternary gradients, arXiv 1705.07878). Begin with an error of zeros.
 *
 * `packed` are the trits, four a byte: byte j = sum over i of (t [4 j + i] + 1) * 4^i, positions past the last
 * hold t = 0. `packed_size` is the room before, at least ceil(n / 4), and the bytes used after; `scales`
 * [ceil(n / block)]. The same bits on every backend. Returns ARGUMENT (a NaN or an infinity in g or error,
 * naming the first; sums beyond f32; block; n; overlap; misaligned), SHAPE (packed_size), MEMORY.
 */
setun_status setun_ternarize_gradients(const float *g,
                                       int64_t n,
                                       int64_t block,
                                       const setun_quantize_options *options,
                                       float *error,
                                       uint8_t *packed,
                                       size_t *packed_size,
                                       float *scales);

/**
 * The inverse but for the error: g [n] = scale * t, from `packed`, ceil(n / 4) bytes, and scales [ceil(n /
 * block)]. Returns ARGUMENT (a scale that is NaN or infinite, naming the first; block; n; overlap; misaligned),
 * FORMAT (bytes that are no trits, naming the first), SHAPE (packed_size).
 */
setun_status setun_deternarize_gradients(const uint8_t *packed,
                                         size_t packed_size,
                                         const float *scales,
                                         int64_t n,
                                         int64_t block,
                                         const setun_quantize_options *options,
                                         float *g);

/*
 * FILE: packed matrices and tensors in files
 *
 * Reads the arrays of .npy files (NumPy) and of .safetensors files (Hugging Face), and writes packed
 * matrices and tensors into .safetensors files. A packed matrix x is stored as x, its packed bytes (u8), and
 * x_scale, its scales (f32); the metadata entry setun.packed says rows, columns, packing and group. Entries
 * have an index, in the order of their names, or, of a file that is being made, in which they were added.
 *
 *     setun_file *from, *to;
 *     setun_file_open("weights.safetensors", &from);
 *     setun_file_create(&to);
 *     setun_file_read(from, 0, &tensor);
 *     setun_packed_create(NULL, tensor, NULL, &packed);
 *     setun_file_add_packed(to, "w", packed);
 *     setun_file_save(to, "packed.safetensors", &bytes);
 */

/** The entries of a file, or of one to be. */
typedef struct setun_file setun_file;

/** One entry. Set `struct_size` before it is filled. */
typedef struct {
    size_t struct_size;
    /** Whether it is a packed matrix; else it is a tensor. */
    int32_t is_packed;
    /**
     * Of a tensor: the `setun_dtype` that it is read as (floats of any width as SETUN_DTYPE_F32), or -1 for
     * a type that Setun does not read. Of a packed matrix: SETUN_DTYPE_U8.
     */
    int32_t dtype;
    /** The dimensions; tensors of more than SETUN_MAX_RANK cannot be read. */
    int64_t rank;
    /**
     * The first SETUN_MAX_RANK sizes, outermost first, those past the rank 1; of a packed matrix its rows and
     * columns.
     */
    int64_t dims[4];
    /**
     * Of a packed matrix: its `setun_packing`, its group (as in the quantize options) and its scales. Of a
     * tensor 0.
     */
    int64_t packing;
    int64_t group;
    int64_t scale_count;
} setun_file_entry;

/** Begins a file without entries, in memory. Free it with `setun_file_free`. Returns MEMORY. */
setun_status setun_file_create(setun_file **out);

/**
 * Opens a .npy or a .safetensors file: what it is, its first bytes tell. The array of a .npy file has the name
 * of the file without .npy. Contents are read later, one entry at a time, so the file must stay as it is.
 * Free it with `setun_file_free`. Returns IO, FORMAT (neither of the two kinds; damaged; truncated), UNSUPPORTED
 * (a .npy file of other elements than little-endian f2, f4, f8, i1, u1, i4 and u4), MEMORY.
 */
setun_status setun_file_open(const char *path, setun_file **out);

/** Says how many entries there are. */
setun_status setun_file_count(const setun_file *file, int64_t *out);

/**
 * Writes the name of an entry into `text`, as much of it as fits into `capacity` bytes with a NUL at the end.
 * `bytes`, unless NULL, becomes what the whole name takes with its NUL; NULL `text` with capacity 0 asks for
 * that alone. Returns ARGUMENT (no such entry).
 */
setun_status setun_file_name(const setun_file *file, int64_t index, char *text, size_t capacity, size_t *bytes);

/** Says the index of the entry of this name. Returns ARGUMENT (there is none). */
setun_status setun_file_find(const setun_file *file, const char *name, int64_t *out);

/** Says what an entry is. Returns ARGUMENT (no such entry). */
setun_status setun_file_describe(const setun_file *file, int64_t index, setun_file_entry *out);

/**
 * Reads an entry that is a tensor: floats of any width as f32, integers as they are. Free it with
 * `setun_tensor_free`. Returns ARGUMENT (no such entry; it is packed), UNSUPPORTED (a type that Setun does not
 * read), FORMAT (an f64 that is beyond f32), SHAPE (more than SETUN_MAX_RANK dimensions), IO, MEMORY.
 */
setun_status setun_file_read(const setun_file *file, int64_t index, setun_tensor **out);

/**
 * Reads an entry that is a packed matrix, whose products run on `context`; NULL = the default one. Free it with
 * `setun_packed_free`. Returns ARGUMENT (no such entry; it is a tensor), FORMAT (bytes that are no trits,
 * scales that are not finite), IO, MEMORY.
 */
setun_status setun_file_read_packed(const setun_file *file, int64_t index, const setun_context *context, setun_packed **out);

/** Adds a copy of a tensor under a name. Returns ARGUMENT (the name is empty or taken), DTYPE (f16), MEMORY. */
setun_status setun_file_add(setun_file *file, const char *name, const setun_tensor *tensor);

/**
 * Adds a copy of a packed matrix under a name; its scales take the name with _scale after it. Returns ARGUMENT
 * (the name is empty or taken), MEMORY.
 */
setun_status setun_file_add_packed(setun_file *file, const char *name, const setun_packed *packed);

/**
 * Writes all entries into a .safetensors file, whatever its name ends with; a file that is there is replaced
 * whole or not at all. `bytes`, unless NULL, becomes its size. Tensors of a file that was opened are written as
 * `setun_file_read` gives them: floats of any width as f32. Returns IO, and of such tensors UNSUPPORTED (a type
 * that Setun does not read), FORMAT (an f64 that is beyond f32), SHAPE (more than SETUN_MAX_RANK dimensions),
 * ARGUMENT (the name "__metadata__"), MEMORY.
 */
setun_status setun_file_save(const setun_file *file, const char *path, size_t *bytes);

/** Frees what is in memory; NULL is fine. */
void setun_file_free(setun_file *file);

/*
 * CLUSTER: exact k-means
 *
 * Lloyd's k-means on n points that are rows of x [n, d] f32, run to its fixed point: each point belongs to
 * the nearest of k centroids, and each centroid is the mean of its points. Centroids are f64 until they are
 * given out, and so is what decides labels: they are those of Lloyd's algorithm in f64. Scores come from f32
 * matrix products with proven bounds of their rounding, and near ties are decided again in f64; where most of
 * the points lies in a few dimensions, or most points stay where they are, bounds spare most of that work and
 * change nothing. Sums have one fixed order: labels, centroids and inertia are the same bits on every backend,
 * CPU level and number of threads. The start is greedy k-means++ (Arthur and Vassilvitskii, SODA 2007), or
 * k-means||. Points may have weights: a weight of 2 counts as a point that is there twice. An empty cluster is
 * given the point that is farthest from its centroid. Clusters may be directions (spherical), or have a limited
 * size (`capacity`). Labels are int32_t, 0 to k - 1. The inertia and distances are f32 sums of
 * squares; distances below 1e-45 are 0 there. Memory beside the data: O(n + k d): some 24 bytes a point, sums
 * of up to 32 parts of the points, which take up to half of what the data takes, and as much at most for the
 * projection of a long run; 4 bytes for each candidate and point while k-means++ starts; a copy of the data where
 * spherical clusters meet rows that are not of length 1; some 600 bytes a point where a capacity is given, and up to 24 k
 * where so many points crowd together that clusters far away have to take them.
 *
 *     float x[4 * 2] = {0, 0, 0, 1, 9, 9, 9, 8}, centroids[2 * 2];
 *     int32_t labels[4];
 *     double inertia;
 *     if (setun_cluster(x, 4, 2, 2, NULL, labels, centroids, &inertia) != SETUN_OK) puts(setun_last_error());
 *     printf("%d %d %d %d, inertia %g\n", labels[0], labels[1], labels[2], labels[3], inertia);
 */

/** Where the first centroids come from. */
typedef enum {
    /**
     * Greedy k-means++: each next one the best of `candidates` points, drawn by weight and squared distance from
     * those there are.
     */
    SETUN_KMEANS_START_PLUS_PLUS = 0,
    /** Distinct rows of x, drawn by weight. */
    SETUN_KMEANS_START_RANDOM = 1,
    /** Those that the caller gave, or the last fit left: a warm start. `n_init` is then 1. */
    SETUN_KMEANS_START_GIVEN = 2,
    /**
     * k-means||: k points and more, drawn in five rounds over all points, and clustered themselves (Bahmani et
     * al., VLDB 2012). For large k, where k-means++ would read the points k times.
     */
    SETUN_KMEANS_START_SCALABLE = 3,
} setun_kmeans_start;

/** A k-means: its options, and its centroids once there are some. */
typedef struct setun_kmeans setun_kmeans;

/** Where a k-means stands. */
typedef struct {
    size_t struct_size;
    /** Which of the `n_init` runs, from 0; after a fit, the best one, which is what the rest is about. */
    int64_t run;
    /** Iterations: assignments that followed an update of the centroids. */
    int64_t iterations;
    /**
     * The sum of weight * squared distance from the centroid of the point's cluster, as those are rounded to f32, in
     * f64 in index order.
     */
    double inertia;
    /** Points whose cluster changed in the last iteration; 0 = a fixed point. */
    int64_t moved;
    /**
     * Clusters without a point of positive weight. With inertia 0: the points have fewer distinct places than
     * clusters.
     */
    int64_t empty;
    /** Empty clusters that were given a point, in all iterations. */
    int64_t repaired;
    /** 1: at a fixed point or within the tolerance; 0: not, `max_iterations` came first. */
    int32_t converged;
    /** 1: the progress callback ended it. */
    int32_t stopped;
} setun_kmeans_report;

/**
 * Called after every iteration, on the calling thread. Return 0 to stop with what there is, anything else to
 * go on. `report` is valid during the call.
 */
typedef int32_t (*setun_kmeans_callback)(const setun_kmeans_report *report, void *user_data);

/** How to cluster and where. Fill it with `setun_kmeans_options_init`. */
typedef struct {
    size_t struct_size;
    /** A `setun_kmeans_start`. Default SETUN_KMEANS_START_PLUS_PLUS. */
    int32_t start;
    /** Runs from different starts, of which the one of least inertia is kept. Default 1. */
    int64_t n_init;
    /** Of one run; 0 only assigns points to the start. Default 300. */
    int64_t max_iterations;
    /**
     * A run ends when an iteration lowers the inertia by no more than this part of it; 0 = at the fixed point
     * only. Default 0.
     */
    double tolerance;
    /** Of the start. Default 0. */
    uint64_t seed;
    /** For `setun_cluster` alone: [n], 0 or more each and not all 0; NULL = 1 each. Default NULL. */
    const float *weights;
    /** For `setun_cluster` with SETUN_KMEANS_START_GIVEN, not read otherwise: [k, d]. Default NULL. */
    const float *initial_centroids;
    /** Hears of the progress; NULL = nobody. Default NULL. */
    setun_kmeans_callback progress;
    /** Handed to `progress`. Default NULL. */
    void *user_data;
    /** Stops it from another thread; NULL = no token. Default NULL. */
    const setun_cancel *cancel;
    /** Where it runs; NULL = the default context. Default NULL. */
    const setun_context *context;
    /**
     * Points that k-means++ draws for each centroid, of which it takes the one that leaves the least inertia, up
     * to 1024; 1 = plain k-means++; 0 = 2 + ln k, rounded down. Default 0.
     */
    int64_t candidates;
    /**
     * Points that a cluster has at most, counted without their weights; k times that has to be n or more. Each
     * iteration then finds an assignment of least inertia within that limit. 0 = any number. Default 0.
     */
    int64_t capacity;
    /**
     * 1 = spherical: rows count as directions, scaled to length 1 (rows of 0 belong to a cluster and weigh
     * nothing), and so are the centroids; squared distances are 2 - 2 cos. Default 0.
     */
    int32_t spherical;
    int32_t reserved;
} setun_kmeans_options;

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_kmeans_options_init(setun_kmeans_options *options, size_t size);

/**
 * Clusters the points x [n, d] into k clusters. Each output may be NULL: `labels` [n], the cluster of each
 * point; `centroids` [k, d]; `inertia`, the sum of weight * squared distance. NULL options = the defaults.
 * Outputs may not overlap inputs, and stay untouched when the call fails.
 *
 * A progress callback that returns 0 ends it early with OK. Returns ARGUMENT (k or d is 0; k above n; a NaN,
 * an infinity, or a number so large that squared distances would overflow, naming its row and column; weights
 * that are negative, not finite or all 0; `capacity` times k below n; spherical, and no row that has a weight
 * has a direction; an option out of its range; overlap; misaligned), SHAPE (more than the machine can address),
 * CANCELLED, ABI, MEMORY.
 */
setun_status setun_cluster(const float *x,
                           int64_t n,
                           int64_t d,
                           int64_t k,
                           const setun_kmeans_options *options,
                           int32_t *labels,
                           float *centroids,
                           double *inertia);

/**
 * Makes a k-means of k clusters. NULL options = the defaults; they are copied, the callback's user data must
 * stay valid. Free it with `setun_kmeans_free`. Returns ARGUMENT, ABI.
 */
setun_status setun_kmeans_create(int64_t k, const setun_kmeans_options *options, setun_kmeans **out);

/**
 * Fits the centroids to the points x [n, d] with `weights` [n], or NULL = 1 each, and writes `labels` [n]
 * unless NULL. The data is not kept. A fit from SETUN_KMEANS_START_GIVEN begins at the centroids there are.
 *
 * On failure the k-means is what it was. Returns what `setun_cluster` does; also STATE (start is GIVEN and
 * there are no centroids), SHAPE (x has other columns than those).
 */
setun_status setun_kmeans_fit(setun_kmeans *kmeans, const float *x, int64_t n, int64_t d, const float *weights, int32_t *labels);

/**
 * Takes the points x [n, d] with `weights` [n], or NULL = 1 each, as a batch of a stream, and writes `labels`
 * [n] unless NULL: the nearest centroids, as they were before. Then each centroid becomes the mean of all
 * points that it was given so far, by batches or by a fit before them; set centroids count as nothing. The
 * first batch of all starts the centroids, by `start` (MacQueen, 1967; Sculley, WWW 2010). `progress` is not
 * called; the report's `iterations` count the batches since the last fit, its inertia is that of the last one, before the change.
 *
 * On failure the k-means is what it was. Returns what `setun_kmeans_fit` does; k above n is an error for the
 * first batch only, a `capacity` for all.
 */
setun_status setun_kmeans_partial_fit(setun_kmeans *kmeans,
                                      const float *x,
                                      int64_t n,
                                      int64_t d,
                                      const float *weights,
                                      int32_t *labels);

/**
 * Takes `centroids` [k, d], for a warm start or to assign points to. They are copied; the report of an
 * earlier fit is gone. Spherical ones are scaled to length 1. Returns ARGUMENT (a NaN, an infinity or a number
 * too large, naming row and column; spherical, and one is 0), MEMORY.
 */
setun_status setun_kmeans_set_centroids(setun_kmeans *kmeans, const float *centroids, int64_t d);

/**
 * Assigns points x [n, d] to the nearest centroids (ties: the lowest index). Each output may be NULL:
 * `labels` [n], and `distances` [n], squared.
 *
 * Returns STATE (there are no centroids yet), SHAPE (x has other columns than those), ARGUMENT (d is 0; a
 * NaN, an infinity or a number too large, naming row and column; overlap; misaligned), MEMORY.
 */
setun_status setun_kmeans_assign(const setun_kmeans *kmeans,
                                 const float *x,
                                 int64_t n,
                                 int64_t d,
                                 int32_t *labels,
                                 float *distances);

/**
 * Finds the m nearest centroids of each point x [n, d], nearest first (ties: lower indices first). Each output may
 * be NULL: `labels` [n, m], and `distances` [n, m], squared. Capacities are not looked at.
 *
 * Returns what `setun_kmeans_assign` does; also ARGUMENT (m is 0 or above k).
 */
setun_status setun_kmeans_nearest(const setun_kmeans *kmeans,
                                  const float *x,
                                  int64_t n,
                                  int64_t d,
                                  int64_t m,
                                  int32_t *labels,
                                  float *distances);

/**
 * Routes each point x [n, d] to its m nearest centroids, nearest first, with weights that add up to 1: each in
 * proportion to distance^-sharpness, of the distance itself, not its square. With a sharpness of 0 they are the
 * same; the larger it is, the more counts the nearest one. A centroid at distance 0 takes all. Each output may be
 * NULL: `labels` [n, m], and `weights` [n, m].
 *
 * Returns what `setun_kmeans_nearest` does; also ARGUMENT (sharpness is negative or not finite).
 */
setun_status setun_kmeans_route(const setun_kmeans *kmeans,
                                const float *x,
                                int64_t n,
                                int64_t d,
                                int64_t m,
                                double sharpness,
                                int32_t *labels,
                                float *weights);

/** Says k and d, the shape of the centroids; each output may be NULL. d is 0 while there are none. */
setun_status setun_kmeans_shape(const setun_kmeans *kmeans, int64_t *k, int64_t *d);

/**
 * Copies the centroids [k, d] to `centroids`, which has room for `count` numbers, k * d. They are rounded to f32: a
 * k-means that is given them may tell nearly equal distances apart otherwise than the one that was fitted, unless
 * they are set there as well. Returns STATE (there
 * are none yet), SHAPE (another count).
 */
setun_status setun_kmeans_centroids(const setun_kmeans *kmeans, float *centroids, int64_t count);

/** Says the inertia of the last fit: the sum of weight * squared distance. Returns STATE (there was none). */
setun_status setun_kmeans_inertia(const setun_kmeans *kmeans, double *out);

/** Says how the last fit ended; set the `struct_size` of `out` first. Returns STATE (there was none), ABI. */
setun_status setun_kmeans_last_report(const setun_kmeans *kmeans, setun_kmeans_report *out);

/** Frees the k-means; NULL is fine. */
void setun_kmeans_free(setun_kmeans *kmeans);

/*
 * CODEBOOK: numbers as entries of a small table
 *
 * One-dimensional k-means: the k numbers that n numbers are best written by, with the least sum of weight times
 * squared error; weights are, say, the Fisher information of parameters (Kim et al., "SqueezeLLM", arXiv
 * 2306.07629). Then a number takes 4 bits for k up to 16, 8 for k up to 256.
 *
 * Where no more than 131072 numbers are different (16 k of them, up to 1048576, for more than 8192 entries) the
 * entries are the best there are, but for the rounding of sums in f64; where more are, the best among clusters
 * that end in as many places, from which Lloyd's iteration goes on until no label changes (Grønlund et al., arXiv
 * 1701.07204). A result is the same bits on every backend, CPU level and number of threads, and does not
 * depend on chance. With fewer different numbers than entries, each has its own, the inertia is 0, and the
 * last entries repeat the highest.
 *
 *     float x[6] = {-1, -1.5f, 0.1f, 0, 2, 2.1f}, entries[4];
 *     uint8_t packed[3];
 *     setun_codebook_fit(x, 6, 4, NULL, entries, NULL, NULL);
 *     setun_codebook_pack(NULL, x, 6, entries, 4, packed, sizeof packed);
 *     setun_codebook_unpack(NULL, packed, sizeof packed, 6, entries, 4, x);
 */

/** What the entries of a codebook may be. */
typedef enum {
    /** Any numbers. */
    SETUN_CODEBOOK_CONSTRAINT_NONE = 0,
    /**
     * -a, 0 and a for some a >= 0; k is 3. Without weights that is SETUN_SCHEME_LEAST_SQUARES: labels less 1 are
     * its trits, and a is its scale, but for the last bit.
     */
    SETUN_CODEBOOK_CONSTRAINT_TERNARY = 1,
} setun_codebook_constraint;

/** How to make a codebook, and where. Fill it with `setun_codebook_options_init`. */
typedef struct {
    size_t struct_size;
    /** A `setun_codebook_constraint`. Default SETUN_CODEBOOK_CONSTRAINT_NONE. */
    int32_t constraint;
    /** Of Lloyd's iteration, after a start that leaves it little to do. Default 1000000. */
    int64_t max_iterations;
    /**
     * For `setun_codebook_fit`: [n], 0 or more each and not all 0; a weight of 2 counts as a number that is there
     * twice. NULL = 1 each. Default NULL.
     */
    const float *weights;
    /** Stops a fit from another thread; NULL = no token. Default NULL. */
    const setun_cancel *cancel;
    /** Where it runs; NULL = the default context. Default NULL. */
    const setun_context *context;
} setun_codebook_options;

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_codebook_options_init(setun_codebook_options *options, size_t size);

/**
 * Finds k entries, 1 to 65536, for the numbers x [n]. Each output may be NULL: `entries` [k], ascending;
 * `labels` [n], 0 to k - 1, of which entry each number is nearest to, the lower of two as near; `inertia`, the sum
 * of weight times squared distance from it. Labels and inertia are those of entries in f64, before they are
 * rounded to `entries`; of -a, 0, a, labels follow the threshold of the least-squares scheme, in f32. Outputs may not overlap inputs, and stay untouched when the call fails.
 *
 * Memory beside the data: 4 bytes a number, 8 with weights, and up to 40 MB, for more than 8192 entries 150 MB.
 *
 * Returns ARGUMENT (k is 0, above n or above 65536, or not 3 for the ternary constraint; a NaN, an infinity, or
 * a magnitude above 2e18, naming its index; weights that are negative, not finite or all 0; overlap;
 * misaligned), SHAPE (n is 2^32 or more), CANCELLED, ABI, MEMORY.
 */
setun_status setun_codebook_fit(const float *x,
                                int64_t n,
                                int64_t k,
                                const setun_codebook_options *options,
                                float *entries,
                                int32_t *labels,
                                double *inertia);

/**
 * Says how many bytes n codes of k entries take: ceil(n / 2) for k up to 16, n for k up to 256. Returns ARGUMENT
 * (n is negative or more than memory can hold, k not 1 to 256).
 */
setun_status setun_codebook_size(int64_t n, int64_t k, size_t *bytes);

/**
 * Writes the numbers x [n] as codes of the nearest of `entries` [k], which ascend: of equally near ones the
 * lowest. `packed` has `packed_size` bytes, as setun_codebook_size says: for k up to 16 two codes a byte, the
 * first in its low half, 0 past the last; else a byte each. NULL context = the default one.
 *
 * Returns ARGUMENT (k is not 1 to 256; a number or entry that is not finite, or entries that do not ascend, naming
 * the first; overlap), SHAPE (packed_size), MEMORY. Where it fails, nothing is written.
 */
setun_status setun_codebook_pack(const setun_context *context,
                                 const float *x,
                                 int64_t n,
                                 const float *entries,
                                 int64_t k,
                                 uint8_t *packed,
                                 size_t packed_size);

/**
 * The inverse: y [n], the entries of the codes. Returns FORMAT (a code of k or above, naming its position; what
 * is not 0 past the last), ARGUMENT and SHAPE as setun_codebook_pack, MEMORY. Where it fails, nothing is written.
 */
setun_status setun_codebook_unpack(const setun_context *context,
                                   const uint8_t *packed,
                                   size_t packed_size,
                                   int64_t n,
                                   const float *entries,
                                   int64_t k,
                                   float *y);

/*
 * TEXT VECTORS: documents and windows of a text as points for clustering and routing
 *
 * A vectorizer turns documents into the rows of x [n, dimensions] f32, as `setun_kmeans_fit` and
 * `setun_kmeans_assign` take them: hashed TF-IDF vectors of length 1, of which those are close that share rare
 * words. With a vectorizer and centroids a text finds its cluster, and the model that was trained on it
 * (cluster-Branch-Train-Merge, arXiv 2303.14177).
 *
 * Words are maximal runs of letters and digits of any script; other characters separate them, and so do bytes
 * that are no UTF-8, which are no error. (Scripts without spaces have words as long as their sentences.) A
 * term is a word or a pair of neighbours; its hash, XXH3-64 with the seed, chooses one of the dimensions and a
 * sign (feature hashing: Weinberger et al., arXiv 0902.2206). A row is (1 + ln count) * idf, divided by its
 * length, where idf = ln((1 + N) / (1 + df)) + 1: df of the N documents that were learned from have a term in
 * that dimension. The same documents and options give the same bits on every machine and number of threads: so
 * processes that share nothing but the options and `idf` compute the same vectors.
 *
 * Document i is the bytes begins[i] to ends[i] of one text: documents may overlap, and for documents side by
 * side, offsets [n + 1], `begins` is offsets and `ends` offsets + 1.
 *
 *     int64_t begins[1000], ends[1000], n;    float x[1000 * 1024];
 *     setun_tfidf *tfidf = NULL;
 *     if (setun_text_windows(text, bytes, 2048, 2048, begins, ends, 1000, &n) != SETUN_OK ||
 *         setun_tfidf_create(NULL, &tfidf) != SETUN_OK || setun_tfidf_fit(tfidf, text, bytes, begins, ends, n) != SETUN_OK ||
 *         setun_tfidf_transform(tfidf, text, bytes, begins, ends, n, x) != SETUN_OK ||
 *         setun_cluster(x, n, 1024, 8, NULL, labels, centroids, NULL) != SETUN_OK) puts(setun_last_error());
 */

/** A vectorizer: its options, and how much each dimension weighs once that is known. */
typedef struct setun_tfidf setun_tfidf;

/** What terms are and where they are counted. Fill it with `setun_tfidf_options_init`. */
typedef struct {
    size_t struct_size;
    /** Columns of the vectors, 1 to 2^20. Fewer make more terms meet. Default 1024. */
    int64_t dimensions;
    /** 1: words; 2: words, and pairs of neighbours. Default 2. */
    int32_t ngrams;
    /** Non-zero: capital letters count as small ones. Default 1. */
    int32_t lowercase;
    /** Non-zero: a count c weighs 1 + ln c, else c. Default 1. */
    int32_t sublinear;
    /** Of the hashes: vectors of different seeds have nothing to do with each other. Default 0. */
    uint64_t seed;
    /** Stops a fit or a transformation from another thread; NULL = no token. Default NULL. */
    const setun_cancel *cancel;
    /** Whose threads it runs on; NULL = the default context. Default NULL. */
    const setun_context *context;
} setun_tfidf_options;

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_tfidf_options_init(setun_tfidf_options *options, size_t size);

/**
 * Makes a vectorizer. NULL options = the defaults; they are copied. Free it with `setun_tfidf_free`. Returns
 * ARGUMENT (`dimensions` or `ngrams` out of range), ABI.
 */
setun_status setun_tfidf_create(const setun_tfidf_options *options, setun_tfidf **out);

/**
 * Learns how many of n documents have each dimension; what was learned or set before is forgotten. The text
 * is not kept. Document i is `text[begins[i]]` to before `text[ends[i]]`, of a text of `bytes` bytes; one
 * without a word counts as a document.
 *
 * On failure the vectorizer is what it was. Returns ARGUMENT (n is 0; a document that is not a part of the
 * text, naming it), CANCELLED, MEMORY.
 */
setun_status setun_tfidf_fit(setun_tfidf *tfidf,
                             const char *text,
                             size_t bytes,
                             const int64_t *begins,
                             const int64_t *ends,
                             int64_t n);

/**
 * Learns from n more documents: all of a stream in parts give what one `setun_tfidf_fit` of all gives. A set
 * `idf` counts as no documents and is forgotten. Otherwise as `setun_tfidf_fit`.
 */
setun_status setun_tfidf_partial_fit(setun_tfidf *tfidf,
                                     const char *text,
                                     size_t bytes,
                                     const int64_t *begins,
                                     const int64_t *ends,
                                     int64_t n);

/**
 * Writes the vectors x [n, dimensions] of n documents, given as to `setun_tfidf_fit`. Rows have length 1; that
 * of a document without a word is zeros, and so may be one whose terms meet with opposite signs.
 *
 * Returns STATE (nothing was learned or set yet), ARGUMENT (a document that is not a part of the text, naming
 * it; overlap; misaligned), CANCELLED (then some rows of x may be written).
 */
setun_status setun_tfidf_transform(const setun_tfidf *tfidf,
                                   const char *text,
                                   size_t bytes,
                                   const int64_t *begins,
                                   const int64_t *ends,
                                   int64_t n,
                                   float *x);

/** Says how many columns the vectors have. */
setun_status setun_tfidf_dimensions(const setun_tfidf *tfidf, int64_t *out);

/**
 * Copies the weight of each dimension to `idf`, which has room for `count` numbers, as many as there are
 * dimensions. Returns STATE (nothing was learned or set yet), SHAPE (another count).
 */
setun_status setun_tfidf_idf(const setun_tfidf *tfidf, float *idf, int64_t count);

/**
 * Takes `idf` [count] from a vectorizer of the same options: then both give the same vectors. It is copied.
 * Returns ARGUMENT (a number that is neither 0 nor from 1e-6 to 1e6, naming it), SHAPE (`count` is not the
 * number of dimensions), MEMORY.
 */
setun_status setun_tfidf_set_idf(setun_tfidf *tfidf, const float *idf, int64_t count);

/** Frees the vectorizer; NULL is fine. */
void setun_tfidf_free(setun_tfidf *tfidf);

/**
 * Cuts a text of `bytes` bytes into windows of about `window` bytes that start about every `stride` bytes:
 * writes `begins` and `ends`, which have room for `capacity` numbers each, and how many windows there are to
 * `count`. Begins and ends are moved on to where the next word begins, so that no word and no UTF-8 character
 * is cut. Where words are longer than the stride there are fewer windows, and longer ones. With stride =
 * window they lie side by side, with a smaller stride they overlap: everything is in one. The first window to
 * reach the end of the text is the last.
 *
 * `begins` and `ends` NULL with capacity 0 only count. When the room is too small: ARGUMENT, `count` says how
 * much is needed and the others stay untouched. Returns ARGUMENT also for a window or stride of 0.
 */
setun_status setun_text_windows(const char *text,
                                size_t bytes,
                                int64_t window,
                                int64_t stride,
                                int64_t *begins,
                                int64_t *ends,
                                int64_t capacity,
                                int64_t *count);

/*
 * LR NET: a small network that adapts the learning rate
 *
 * 133 weights that look at what a step did to a parameter and say what to multiply its next learning rate by,
 * or its radius: your schedule stays the rule, and the network's factor is within 1 / c to c of it, c at most 4,
 * and moves by at most a third a step (its logarithm by 0.3). Until the last layer has weights, every factor is
 * exactly 1. It works with `setun_optimizer`, and with any other optimizer.
 *
 * Nine numbers without a unit go in: five of the parameter, whether it is ternary and whether it is a vector, and
 * two of the losses so far, which the network follows itself. A NaN or an infinity among them makes the factor 1
 * and leaves no trace. Factors are the same bits on every machine.
 *
 *     setun_lr_net *net = NULL;
 *     setun_lr_net_observation seen = {sizeof seen, SETUN_PARAMETER_KIND_MATRIX};
 *     double factor = 1;
 *     setun_lr_net_create(NULL, &net);
 *     setun_lr_net_observe_loss(net, loss);                  once a step
 *     seen.relative_step = step_rms / weight_rms;            and so on, for each parameter
 *     setun_lr_net_factor(net, 0, &seen, &factor);           multiply the learning rate by it
 *
 * The weights are trained by evolution strategies over many short runs: c_examples/meta_train.c. The last layer
 * can also learn during a run, by the hypergradient of Baydin et al. (arXiv 1703.04782): `setun_lr_net_learn`.
 */

/** A network and what it keeps of each parameter. */
typedef struct setun_lr_net setun_lr_net;

/** How to adapt. Fill it with `setun_lr_net_options_init`. */
typedef struct {
    size_t struct_size;
    /** c: factors are from 1 / c to c. 1 to 4. Default 4. */
    double largest_factor;
    /**
     * How far `setun_lr_net_learn` moves a weight of the last layer at most; 0 = it does not learn. 0 to 1.
     * Default 0.
     */
    double online_rate;
} setun_lr_net_options;

/**
 * What the last step did to a parameter, and what its gradient says. Set `struct_size`; what is 0 is not known
 * yet, as before the first step.
 */
typedef struct {
    size_t struct_size;
    /** A `setun_parameter_kind`; SETUN_PARAMETER_KIND_AUTO is a matrix. Default SETUN_PARAMETER_KIND_AUTO. */
    int32_t kind;
    /**
     * rms(step) / rms(weights) of the last step (in a `setun_optimizer` the ratio of its report). Seen by its
     * logarithm, from 1e-6 to 1.
     */
    double relative_step;
    /** The share of trits that the last step changed; 0 where there are none. Seen by its logarithm, from 1e-6. */
    double flip_rate;
    /** The cosine of the gradient and of m, the running mean of the gradients before it. */
    double cosine;
    /**
     * mean(m^2) / mean(v), v being the running mean of squares, both of the gradients before this one and with
     * Adam's corrections: .05 for noise alone with a beta1 of .9, 1 for gradients that stay the same. Seen by its
     * logarithm, from 1e-2 to 1.
     */
    double signal;
    /** The share of the run that is over: t / T, 0 to 1. */
    double progress;
} setun_lr_net_observation;

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_lr_net_options_init(setun_lr_net_options *options, size_t size);

/**
 * Makes a network with the weights that the library comes with: those of this version have a last layer of zeros, and
 * every factor is 1. NULL options = the defaults. Free it with `setun_lr_net_free`. Returns ARGUMENT (an option out of
 * its range), ABI.
 */
setun_status setun_lr_net_create(const setun_lr_net_options *options, setun_lr_net **out);

/**
 * Tells the loss of a step, before the factors of that step are asked for. After one that is not finite factors
 * are 1 until the next loss. Returns ARGUMENT (a handle that is none), STATE (busy).
 */
setun_status setun_lr_net_observe_loss(setun_lr_net *net, double loss);

/**
 * Writes what to multiply the learning rate of the parameter `index` by in its next step, and remembers it: call
 * it once a step for each parameter. Parameters are numbered from 0 to 65535 as you like, or all steps of a run are
 * those of parameter 0. A NaN or an infinity in the observation, or a negative number where there can be none, is
 * no error: the factor is 1.
 *
 * Returns ARGUMENT (index, kind), ABI, MEMORY: 100 bytes for each parameter up to `index`.
 */
setun_status setun_lr_net_factor(setun_lr_net *net, int64_t index, const setun_lr_net_observation *observation, double *factor);

/**
 * Writes the nine `features` [9] that the network sees of an observation after the losses so far, each from -1 to
 * 1: relative step, flip rate, cosine, signal, trend of the loss, its height above the least, progress, ternary,
 * vector. All are NAN where the factor would be 1 for a number that is none. Nothing is remembered. Returns
 * ARGUMENT (kind), ABI.
 */
setun_status setun_lr_net_features(const setun_lr_net *net, const setun_lr_net_observation *observation, double *features);

/**
 * Tells what became of the last step of the parameter `index`, with the gradient g after it: `hypergradient` is
 * -(g . s) / (|g| |s|), s being what the step added to the weights. Above 0, g still points down along s: the step
 * was too short, and factors grow, by the last layer's 13 weights, which move by online_rate times it. What is
 * beyond -1 and 1 counts as -1 and 1.
 *
 * Nothing happens with an online_rate of 0, before the first factor of that parameter, and for a NaN or an
 * infinity. Returns ARGUMENT (index).
 */
setun_status setun_lr_net_learn(setun_lr_net *net, int64_t index, double hypergradient);

/**
 * Copies the weights, `count` = 133: of the hidden layer [12, 9] and its bias [12], of the last layer [12] and its
 * bias. Returns ARGUMENT (another count).
 */
setun_status setun_lr_net_weights(const setun_lr_net *net, double *weights, int64_t count);

/**
 * Sets the weights, in the order of `setun_lr_net_weights`; what is kept of parameters stays. Returns ARGUMENT
 * (another count; a weight that is not from -16 to 16, naming it: then nothing has changed).
 */
setun_status setun_lr_net_set_weights(setun_lr_net *net, const double *weights, int64_t count);

/**
 * Writes weights, largest_factor, and what is kept of losses and parameters to the file `path` (safetensors, with
 * "format": "setun-lr-net" in its metadata), or replaces it, whole or not at all. Returns IO, MEMORY.
 */
setun_status setun_lr_net_save(const setun_lr_net *net, const char *path);

/**
 * Continues from a file of `setun_lr_net_save`, with its largest_factor and this network's online_rate: the factors
 * that follow are bit for bit those of the network that was saved. For trained weights alone, `setun_lr_net_reset`
 * after it. On failure nothing has changed. Returns IO, FORMAT (damaged, or no network; says what), MEMORY.
 */
setun_status setun_lr_net_load(setun_lr_net *net, const char *path);

/**
 * Forgets losses and parameters, for another run. The weights stay, with what the last layer has learned. Returns
 * ARGUMENT (a handle that is none), STATE (busy).
 */
setun_status setun_lr_net_reset(setun_lr_net *net);

/** Frees the network; NULL is fine. */
void setun_lr_net_free(setun_lr_net *net);

/*
 * STEP: updates of your parameters, inside a trust region and a box
 *
 * For networks of your own: Setun takes the parameters and the gradients, you keep both. The gradients are
 * clipped by their norm; then, for each parameter w by itself:
 *
 *     d = direction of the method + weight_decay * w
 *     L = radius * max(rms(w), floor)                 how far a step may go, as a share of the weights
 *     a = min(learning_rate, L / rms(d))              as a cap; L / rms(d) as an exact radius
 *     w = clamp(w - a * d, lower, upper)
 *
 * The direction is AdamW's (arXiv 1711.05101), m_hat / (sqrt(v_hat) + epsilon); Muon's; or momentum. The states
 * are floats or codes of 8 bits, and with compact ones so are ternary parameters themselves. With a flip
 * budget a is lower where more trits of a ternary parameter would change.
 *
 * A radius relative to the weights is that of LARS and LAMB (arXiv 1708.03888, 1904.00962). As a cap it
 * leaves a good learning rate alone, bit for bit, and bounds one that is too high. Exactly it takes the
 * learning rate's place: without one of yours it goes by method, horizon and width, and nothing is left
 * to tune; a schedule should bring it down. Nothing is written
 * before every new value is known to be finite: a step with a NaN or an infinity in a gradient, or that
 * would put one into a parameter or a state, is refused with SETUN_ERR_STATE, and has changed no byte.
 * After such an update the radius is a quarter (with the mode off: the learning rate), and grows back by
 * 5% a step; a bad gradient leaves it as it is.
 *
 * SETUN_ERR_STATE says several things to a loop. Set the outcome of the report to -1 before each step, and look at it:
 *
 *     BAD_GRADIENT, BAD_PARAMETER   refused: no step of these numbers will do
 *     BAD_UPDATE                    refused: the same gradients may do next time, with a quarter of the radius
 *     SKIPPED                       the guard stops: it has skipped or undone more than half of the last 64 steps
 *     still -1                      nothing was looked at: there are no parameters, or the handle is busy
 *
 * Busy is a handle while another thread is in a call on it, one that only reads too: a thread that watches by
 * `setun_optimizer_report` (or any other call on a const optimizer) can make the step of another return STATE. Call
 * the step again then, or let the thread that steps hand its reports on.
 *
 * `setun_step` needs no handle, and is AdamW's on floats. All else is a `setun_optimizer`'s, of the next section.
 *
 *     float w[2] = {1, 2}, gradient[2], moments[4] = {0};
 *     for (int64_t step = 1; step <= 100; step++) {
 *         for (int i = 0; i < 2; i++) gradient[i] = 2 * w[i];
 *         if (setun_step(w, gradient, 2, moments, step, NULL, NULL) != SETUN_OK) puts(setun_last_error());
 *     }
 */

/** Which rms of the weights the radius is a share of. */
typedef enum {
    /** That before the step. */
    SETUN_RADIUS_BASE_CURRENT = 0,
    /** That before the first step: it does not grow with weights that grow. */
    SETUN_RADIUS_BASE_INITIAL = 1,
} setun_radius_base;

/** What the radius does. */
typedef enum {
    /** Nothing: plain AdamW. */
    SETUN_RADIUS_MODE_OFF = 0,
    /** A step that is longer is shrunk to it. */
    SETUN_RADIUS_MODE_CAP = 1,
    /**
     * Every step is scaled to it; the learning rate has no effect, its schedule has. Weights can grow by it in every
     * step: let it fall by a schedule, or set a box. However small the direction is, it is scaled to the whole radius:
     * of a gradient that is 0, weight decay alone, so that a head that no batch uses shrinks by the radius in every step.
     * With a weight_decay of 0 of its own it stays as it is. (One that was used before goes on along what its states
     * remember until that is 0.)
     */
    SETUN_RADIUS_MODE_EXACT = 2,
} setun_radius_mode;

/** In which numbers an optimizer keeps its states. */
typedef enum {
    /** 32-bit floats: 8 bytes an element for AdamW, 4 for the others. */
    SETUN_STATE_PRECISION_F32 = 0,
    /**
     * Codes of 8 bits with a scale for each 256 (arXiv 2110.02861): 2.03 bytes an element for AdamW, 1.02 for
     * the others.
     */
    SETUN_STATE_PRECISION_INT8 = 1,
    /**
     * The same codes for m; v by rows and columns (arXiv 1804.04235); and of a ternary parameter the weights
     * themselves as such codes, rounded at random: 2.03 bytes an element in all, weights included, and for
     * AdamW 8 a row and a column. Those are the optimizer's own: see `setun_optimizer_add_compact`.
     */
    SETUN_STATE_PRECISION_COMPACT = 2,
} setun_state_precision;

/** The direction of a step. */
typedef enum {
    /** AdamW (arXiv 1711.05101). */
    SETUN_STEP_METHOD_ADAMW = 0,
    /**
     * Muon (Jordan et al., 2024): of a matrix, its momentum made orthogonal by five Newton-Schulz iterations,
     * scaled to an rms of muon_rms. What is no matrix goes as AdamW does, and so should embeddings and
     * heads: give those the method in their own options.
     */
    SETUN_STEP_METHOD_MUON = 1,
    /** Stochastic gradient descent: m = momentum * m + g, and along it, or, with nesterov, g + momentum * m. */
    SETUN_STEP_METHOD_MOMENTUM = 2,
} setun_step_method;

/** Whether a step was taken. */
typedef enum {
    SETUN_STEP_OUTCOME_TAKEN = 0,
    /** Refused: a gradient held a NaN or an infinity, or their norm was above 9.2e18, what f32 can square. */
    SETUN_STEP_OUTCOME_BAD_GRADIENT = 1,
    /** Refused: a parameter did, before the step. */
    SETUN_STEP_OUTCOME_BAD_PARAMETER = 2,
    /** Refused: a parameter or a state would have; the radius shrinks. */
    SETUN_STEP_OUTCOME_BAD_UPDATE = 3,
    /** Not taken: the guard found that its batch is no batch to learn from. */
    SETUN_STEP_OUTCOME_SKIPPED = 4,
} setun_step_outcome;

/** How to step. Fill it with `setun_optimizer_options_init`. */
typedef struct {
    size_t struct_size;
    /** 0 or more. Default 1e-3. */
    double learning_rate;
    /** 0 to less than 1. Default 0.9. */
    double beta1;
    /** 0 to less than 1. Default 0.99. */
    double beta2;
    /** More than 0, at most 1. Default 1e-8. */
    double epsilon;
    /** Of matrices; 0 or more. Default 0.1. */
    double weight_decay;
    /**
     * The largest norm of all gradients together, to which larger ones are scaled down; 0 = no limit.
     * Default 1.
     */
    double clip;
    /**
     * The longest step of what is no vector: its rms, as a share of the rms of the weights. NAN = that of the mode: 0.05
     * as a cap; where it is exact 0.0078 (T / 1000)^-0.45 (d / 128)^-0.25, of Muon 0.0125 (T / 1000)^-0.55 (d / 128)^-0.25,
     * with T total_steps (1000 of none) and d the smaller dimension of the matrix, which was measured on small
     * language models. Of a parameter of two dimensions, [1, n] too, d is the smaller one, 1 there. Of all others, of rank
     * 1, 3 and 4, and in `setun_step` and `setun_optimizer_radius`, d counts as 128: its power is left out. Else 0 or
     * more. Default NAN.
     */
    double radius;
    /** The least rms of weights that the radius is a share of; 0 or more. Default 1e-3. */
    double radius_floor;
    /** The same for vectors, which often begin at 0; 0 or more. Default 0.1. */
    double vector_floor;
    /**
     * No element becomes less (of codes: before they are rounded). At most upper, and at most 9.2e18. Default
     * -INFINITY.
     */
    double lower;
    /** No element becomes more. At least -9.2e18. Default INFINITY. */
    double upper;
    /** A `setun_radius_mode`. Default SETUN_RADIUS_MODE_CAP. */
    int32_t radius_mode;
    /** Where it runs; NULL = the default context. Default NULL. */
    const setun_context *context;
    /** A `setun_step_method`. Default SETUN_STEP_METHOD_ADAMW. */
    int32_t method;
    /**
     * A `setun_state_precision`. What is no matrix, or has less than 4096 elements, keeps floats, unless it is
     * of codes itself. Default SETUN_STATE_PRECISION_F32.
     */
    int32_t states;
    /** A `setun_radius_base`. Default SETUN_RADIUS_BASE_CURRENT. */
    int32_t radius_base;
    /** A `setun_schedule` of learning rate and radius. Default SETUN_SCHEDULE_CONSTANT. */
    int32_t schedule;
    /**
     * The last step of the schedule, where it ends at minimum_lr_ratio; needed unless it is constant.
     * Default 0.
     */
    int64_t total_steps;
    /** Steps in which learning rate and radius rise from 0. Default 0. */
    int64_t warmup_steps;
    /** The lowest learning rate, as a share of the highest: 0 to 1. Default 0.1. */
    double minimum_lr_ratio;
    /** Of Muon and momentum: 0 to less than 1. Default 0.95. */
    double momentum;
    /**
     * The rms of Muon's direction, which the learning rate multiplies: more than 0, at most 1000. (As much as AdamW's:
     * 0.2, arXiv 2502.16982.) Default 1.
     */
    double muon_rms;
    /**
     * The largest share of the trits of a ternary parameter, by the absmean scheme with its threshold at half of the mean, that change in a step: 0 to 1;
     * 1 = no limit. Both before and after it they are trits by the threshold from before the step. Weights that are
     * quantized anew after it have a threshold of their own, that of their new mean, by which more of them may have
     * changed than the budget has (up to 2.2 times as many were seen), or fewer. (Of codes, those beside the threshold change sides by their
     * rounding too; and a step is held to a 2^17th at most.) Default 1.
     */
    double flip_budget;
    /** The radius of vectors, 0 or more; NAN = the same. Default NAN. */
    double vector_radius;
    /** Of the numbers that codes are rounded by. Default 0. */
    uint64_t seed;
    /** Nesterov's form of Muon and momentum, unless 0. Default 1. */
    int32_t nesterov;
    /** Leave it 0; it is not looked at. */
    int32_t reserved;
    /** Steps between two checks of `setun_optimizer_step_guarded`; 0 = none. Default 16. */
    int64_t guard_interval;
    /**
     * How many standard deviations above the last ones a loss or a gradient norm is a spike; more than 0. None is a
     * spike before 20 batches were taken under the guard. Default 6.
     */
    double guard_spike;
    /** How many standard errors worse a step may make its batch; more than 0. Default 2. */
    double guard_tolerance;
} setun_optimizer_options;

/** What a step did. Set `struct_size` before it is filled. */
typedef struct {
    size_t struct_size;
    /** A `setun_step_outcome`. Where it is not TAKEN, step_rms, weight_rms, ratio, held and clamped are 0. */
    int32_t outcome;
    /** Steps taken so far; refused ones do not count. */
    int64_t step;
    /** What was asked for; of one parameter: what it took, which the radius may have lowered, and a network changed. */
    double learning_rate;
    /** The Euclidean norm of the gradients, before clipping. */
    double gradient_norm;
    /** What clipping multiplied the gradients by. */
    double gradient_scale;
    /** Root mean square of the step over all elements, before the box. */
    double step_rms;
    /** Root mean square of the weights before the step. */
    double weight_rms;
    /** The largest step_rms / max(weight_rms, floor) of a parameter: what the radius bounds. */
    double ratio;
    /**
     * The common radius of this step, after what refusals have left of it; INFINITY with the mode off. Also in the report
     * of one parameter, whatever that has of its own: a radius, that of vectors, or by NAN that of its dimensions.
     */
    double radius;
    /** Parameters whose step the radius made another than the learning rate asked for. */
    int64_t held;
    /** Elements that the box held. */
    int64_t clamped;
    /** Steps refused so far for a bad gradient. */
    int64_t refused_gradients;
    /** For a bad parameter. */
    int64_t refused_parameters;
    /** For a bad update. */
    int64_t refused_updates;
    /**
     * Trits that changed in this step, by the threshold from before it (see flip_budget), and how many there are where that
     * is known: of ternary parameters, while flip_budget is below 1, or with a network.
     */
    int64_t flips;
    int64_t trits;
    /** Of one parameter, what the flip budget left of its step; 1 where it did not hold it. NAN in a report of all. */
    double flip_share;
    /**
     * Of one parameter, the cosine of its gradient and its first moment before the step, and the mean of m^2 over
     * that of v; NAN where there is none, and in a report of all.
     */
    double cosine;
    double signal;
    /** What refusals and undone steps have left of the radius: 1 where none is missing. */
    double radius_factor;
    /** Batches that the guard has skipped so far, and steps that it has undone. */
    int64_t skipped;
    int64_t undone;
    /** 1: the step can be undone. Evaluate its batch again, and tell `setun_optimizer_judge`. */
    int32_t check_due;
    /** 0. */
    int32_t reserved;
} setun_step_report;

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_optimizer_options_init(setun_optimizer_options *options, size_t size);

/**
 * One step of `parameters` [n] along `gradient` [n], as a matrix's: with weight_decay and radius_floor.
 *
 * `moments` [2, n] is what AdamW remembers, yours to keep: 0 before the first step, then what the last call left.
 * `step` counts from 1, by one for each step taken. The radius is the options' (of NAN in the exact mode, that of d
 * = 128, whatever n is); it does not shrink. NULL options = the defaults. `report`, unless NULL, is filled also when
 * the step is refused.
 *
 * Returns ARGUMENT (overlap; misaligned; moments that no such number of steps can leave, naming the element; another
 * method, states, radius_base or flip_budget than the defaults, naming it), STATE (refused, naming the element where
 * there is one: nothing was written but the report), ABI, MEMORY.
 */
setun_status setun_step(float *parameters,
                        const float *gradient,
                        int64_t n,
                        float *moments,
                        int64_t step,
                        const setun_optimizer_options *options,
                        setun_step_report *report);

/*
 * OPTIMIZER: many parameters as one, in floats or codes, by methods of your choice
 *
 * A `setun_optimizer` steps any number of parameters together: clipped by the norm of all their gradients, refused or
 * taken as one, each with options of its own. It keeps their states, in floats or in codes of 8 bits, and is a
 * checkpoint. `setun_optimizer_step_guarded` skips batches that are none to learn from, and undoes a step that made
 * its own batch worse.
 *
 *     setun_optimizer *optimizer = NULL;
 *     const int64_t dims[2] = {rows, columns};
 *     setun_optimizer_create(NULL, &optimizer);
 *     setun_optimizer_add(optimizer, "w", w, dims, 2, NULL);
 *     const float *gradients[1] = {gradient};
 *     if (setun_optimizer_step(optimizer, gradients, 1, NULL) != SETUN_OK) puts(setun_last_error());
 *     setun_optimizer_free(optimizer);
 */

/** What a parameter is to the network. */
typedef enum {
    /** A matrix if it has two dimensions or more, else a vector. */
    SETUN_PARAMETER_KIND_AUTO = 0,
    /** The floats behind weights that are used as ternary ones; they step like a matrix. */
    SETUN_PARAMETER_KIND_TERNARY = 1,
    /** Has weight_decay and radius_floor. */
    SETUN_PARAMETER_KIND_MATRIX = 2,
    /** Gains and biases: no weight decay, and vector_floor. */
    SETUN_PARAMETER_KIND_VECTOR = 3,
} setun_parameter_kind;

/** Parameters of several together, steps of many as one. */
typedef struct setun_optimizer setun_optimizer;

/**
 * What one parameter has of its own. Fill it with `setun_parameter_options_init`; NAN = what the
 * optimizer's options say.
 */
typedef struct {
    size_t struct_size;
    /** A `setun_parameter_kind`. Default SETUN_PARAMETER_KIND_AUTO. */
    int32_t kind;
    /** Default NAN. */
    double weight_decay;
    /** Default NAN. */
    double radius_floor;
    /** Default NAN. */
    double lower;
    /** Default NAN. */
    double upper;
    /** Its own radius. Default NAN. */
    double radius;
    /** Its own `setun_step_method`; -1 = the optimizer's. Default -1. */
    int32_t method;
    /** Leave it 0; it is not looked at. */
    int32_t reserved;
} setun_parameter_options;

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_parameter_options_init(setun_parameter_options *options, size_t size);

/**
 * Makes an optimizer without parameters; `setun_optimizer_add` them. NULL options = the defaults. Free it
 * with `setun_optimizer_free`. Returns ARGUMENT (an option out of its range), ABI, MEMORY.
 */
setun_status setun_optimizer_create(const setun_optimizer_options *options, setun_optimizer **out);

/**
 * Adds the parameter `name`, the floats at `data` of the shape `dims` [rank], before the first step. NULL
 * options = a matrix or a vector by its rank, and the optimizer's options.
 *
 * Nothing is copied: `data` must stay valid until the optimizer is freed, or at least unused by calls on
 * it. Between those calls you may read and write it. `data` is NULL only when a size is 0. What the states
 * take, `setun_state_precision` says. Returns ARGUMENT (a name that is empty or taken; data that overlaps another
 * parameter; misaligned; an option out of its range), SHAPE, STATE (after the first step), ABI, MEMORY.
 */
setun_status setun_optimizer_add(setun_optimizer *optimizer,
                                 const char *name,
                                 float *data,
                                 const int64_t *dims,
                                 int32_t rank,
                                 const setun_parameter_options *options);

/**
 * Adds the ternary parameter `name` of the shape `dims` [rank] to an optimizer with compact states: as codes
 * of 8 bits, which are the optimizer's own. They begin as those of the floats at `initial`, which are read
 * once; read them with `setun_optimizer_read`. The kind is TERNARY, whatever the options say. Returns as
 * `setun_optimizer_add`, ARGUMENT where the states are not compact, or initial holds a NaN or an infinity, and
 * SHAPE unless there are two dimensions, and elements.
 */
setun_status setun_optimizer_add_compact(setun_optimizer *optimizer,
                                         const char *name,
                                         const float *initial,
                                         const int64_t *dims,
                                         int32_t rank,
                                         const setun_parameter_options *options);

/**
 * Writes the parameter `index`, in the order they were added from 0, to `out`, `count` floats: those of codes
 * as what they stand for. Returns ARGUMENT (no such parameter; misaligned), SHAPE (another count), MEMORY (a copy of
 * the parameter).
 */
setun_status setun_optimizer_read(const setun_optimizer *optimizer, int64_t index, float *out, int64_t count);

/**
 * One step of all parameters. `gradients` holds `count` pointers, one for each parameter in the order they
 * were added, each to as many floats as its parameter has. `report`, unless NULL, is filled also when the
 * step is refused.
 *
 * Returns ARGUMENT (another count; NULL, misaligned; a gradient that overlaps a parameter), STATE (refused, naming
 * parameter and element: no parameter and no state has changed; or no parameters; or busy), ABI, MEMORY (nothing has
 * changed; only where the products of Muon, or a device, find none in the midst of a step, parameters before that
 * one have stepped).
 */
setun_status setun_optimizer_step(setun_optimizer *optimizer,
                                  const float *const *gradients,
                                  int64_t count,
                                  setun_step_report *report);

/**
 * The same, under a guard. `loss` is the mean loss of the batch that the gradients are of. A batch whose loss
 * or gradient norm is no number, or a spike above the last ones, is skipped: the status is OK, the outcome in
 * `report` SKIPPED, and nothing has changed. After eight spikes in a row the next is taken: then it is the run that is
 * at another level, not its batches. Spikes are seen once 20 batches were taken (and 20 more after a new level),
 * what is no number from the first batch on.
 *
 * Every guard_interval steps `check_due` in the report is 1: then all is kept as it was before the step (in as
 * much memory as parameters and states take) until `setun_optimizer_judge`, which undoes the step or lets it
 * stay; without it, the next step lets it stay. Returns as `setun_optimizer_step`, and STATE where the batch would be
 * skipped and with it more than half of the last 64 were, or undone: the guard stops, and `report`, filled then too, has
 * the outcome SKIPPED. After a failure the guard has not seen the batch: it may come again.
 *
 * Out of a stop leads any batch that is not skipped: it is taken as ever, and one of the 64 less. So lower learning
 * rate or radius, or leave such batches out. `setun_optimizer_step` steps along any that is finite, and the guard
 * remembers nothing of it. A larger guard_spike takes another optimizer, which may load a file of this one.
 */
setun_status setun_optimizer_step_guarded(setun_optimizer *optimizer,
                                          const float *const *gradients,
                                          int64_t count,
                                          double loss,
                                          setun_step_report *report);

/**
 * Decides about the last step, of which `check_due` was 1: with the losses `before` and `after` it of the n
 * parts of its batch, n at least 1. Where their mean has risen by more than guard_tolerance standard errors of
 * that rise (or of one part: at all), or is no number, the step is undone bit for bit, the radius is a quarter
 * (with the mode off: the learning rate) and grows back by 5% a step, and `undone`, unless NULL, becomes 1,
 * else 0. Returns STATE (no step waits for it; or, once the step is undone, more than half of the last 64 batches
 * were skipped or undone: then `undone` is not written, and steps go on as after a stop of
 * `setun_optimizer_step_guarded`), ARGUMENT.
 */
setun_status setun_optimizer_judge(setun_optimizer *optimizer,
                                   const float *before,
                                   const float *after,
                                   int64_t n,
                                   int32_t *undone);

/**
 * Gives the optimizer a copy of the network `net`: from now on its factors multiply learning rate and radius of
 * each parameter. NULL takes it away. Losses reach it by `setun_optimizer_step_guarded`; without them it sees none.
 * `setun_optimizer_judge` takes back what it has learned in a step that is undone, but not this. Returns ARGUMENT
 * (a handle that is none), STATE (busy).
 */
setun_status setun_optimizer_set_lr_net(setun_optimizer *optimizer, const setun_lr_net *net);

/**
 * Hands out a copy of the optimizer's network, with what it has learned; free it with `setun_lr_net_free`. Returns
 * STATE (there is none), MEMORY.
 */
setun_status setun_optimizer_lr_net(const setun_optimizer *optimizer, setun_lr_net **out);

/**
 * Says what the last step did to the parameter `index`, in the order they were added from 0, or, for -1, to
 * all of them. Set the `struct_size` of `out` first. Returns ARGUMENT (no such parameter).
 */
setun_status setun_optimizer_report(const setun_optimizer *optimizer, int64_t index, setun_step_report *out);

/**
 * Says the common radius of the next step, before the schedule: the options' or the last that was set (of NAN, that
 * of AdamW with d = 128, see `setun_optimizer_options`), and of it what refused updates and undone steps have left.
 * Returns ARGUMENT (out is NULL).
 */
setun_status setun_optimizer_radius(const setun_optimizer *optimizer, double *out);

/**
 * Sets the radius, 0 or more, for a schedule of yours, or NAN for that of the mode: of all parameters but those with
 * a radius of their own, and of vectors while vector_radius is NAN. A file that is loaded sets it too. What refused
 * updates have taken of it stays taken, until it has grown back. Returns ARGUMENT (negative, or beyond f32), STATE
 * (busy).
 */
setun_status setun_optimizer_set_radius(setun_optimizer *optimizer, double radius);

/**
 * Sets the learning rate, 0 or more, for a schedule of yours; a file that is loaded sets it too. Returns ARGUMENT
 * (negative, a NaN, or beyond f32), STATE (busy).
 */
setun_status setun_optimizer_set_learning_rate(setun_optimizer *optimizer, double learning_rate);

/**
 * Says how many bytes the states take, beside your parameters and gradients, and what the optimizer keeps of
 * weights of its own. Returns ARGUMENT (out is NULL).
 */
setun_status setun_optimizer_state_bytes(const setun_optimizer *optimizer, size_t *out);

/**
 * Writes the parameters, their states, the count of steps, the learning rate, the radius, what the guard remembers,
 * the rms of each parameter before its first step, what the last step did to it, and the network, if there is one, to
 * the file `path` (safetensors: parameter.<name>, m.<name>, v.<name>, and with _scale at the end of the first word the
 * scales of codes; initial_rms, previous; lr_net.*), or replaces it, whole or not at all. A step that waits for
 * `setun_optimizer_judge` is saved as one that stays: judge first. Returns STATE (a parameter holds a NaN or an
 * infinity: nothing is written), IO, MEMORY.
 */
setun_status setun_optimizer_save(const setun_optimizer *optimizer, const char *path);

/**
 * Continues from a file of `setun_optimizer_save`: writes your parameters too. The optimizer must have
 * parameters of the same names and shapes, with states of the same kind, and a network where the file has one, whose
 * weights and states it takes over; the options of create and add, and the network's online_rate, are not in the file.
 * But the learning rate and the radius are: set them after it, if they shall be others.
 *
 * With the same options, on the same backend and CPU level, the steps that follow are bit for bit those of an
 * optimizer that never stopped. On failure nothing has changed. Returns IO, FORMAT (damaged, or with other
 * parameters, another method or states, a network or none, naming which), MEMORY.
 */
setun_status setun_optimizer_load(setun_optimizer *optimizer, const char *path);

/** Frees the optimizer and its states; NULL is fine. Your parameters stay, as far as they have come. */
void setun_optimizer_free(setun_optimizer *optimizer);

/*
 * PROBLEM: the least value of a function of yours, inside of constraints
 *
 * You give f of n doubles and its gradient, and products of its Hessian with a vector if you have them; the
 * constraints are bounds, a ball and linear equalities and inequalities. The method is a trust region: each step
 * goes to where a quadratic model of f is least within a radius and within the constraints, found by projected
 * gradients and, on the face of the constraints that hold, in Krylov spaces, in which the subproblem is solved
 * exactly (Moré and Sorensen, SIAM J. Sci. Stat. Comput. 4, 1983; Lin and Moré, SIAM J. Optim. 9, 1999; Gould and
 * others, SIAM J. Optim. 9, 1999). Nearest feasible points are Goldfarb and Idnani's (Mathematical Programming 27,
 * 1983). Up to 100 products are kept until a step is taken, and not asked for again: a step that is refused costs
 * none. Without products the Hessian is learned from the gradients by symmetric rank-one updates (limited memory),
 * which asks for no more evaluations; where that is slow or stops short, it goes on with differences of gradients.
 *
 * The first point evaluated is the feasible one that is nearest to the start. From there on f and its gradient are
 * only asked for within the bounds, to the last bit, and where products are given, and finite, within the other
 * constraints too, to rounding. f and its gradient may be NaN or infinite after the start: that step is then
 * refused, and the radius shrinks; where that goes on, the solve ends with OK and the termination STEP, so look at
 * that and at projected_gradient. In place of a product that is not finite goes a difference of gradients. f never
 * rises, but for rounding. The result is a local minimum, and the same bits on every machine of a kind. One thread.
 * Memory: 16 n bytes for each of up to 100 products (all n with SETUN_SUBPROBLEM_EXACT) or, learned, of up to 90, as
 * much again while a step is made, and 8 n for each row.
 *
 *     double x[2] = {-1.2, 1}, lower[2] = {-2, -2}, upper[2] = {0.5, 2};
 *     setun_problem *problem = NULL;
 *     setun_status status = setun_problem_create(2, rosenbrock, its_gradient, NULL, NULL, &problem);
 *     if (status == SETUN_OK) status = setun_problem_bounds(problem, lower, upper);
 *     if (status == SETUN_OK) status = setun_problem_solve(problem, x, NULL, NULL);
 *     printf("%s%g %g\n", status == SETUN_OK ? "" : setun_last_error(), x[0], x[1]);
 */

/** How a step is found. */
typedef enum {
    /**
     * As STEIHAUG, but for up to 64 variables the model's gradient is reduced to a hundredth at least: the fewest
     * evaluations as a rule.
     */
    SETUN_SUBPROBLEM_AUTO = 0,
    /**
     * In Krylov spaces, with as many products as it takes to reduce the model's gradient to a tenth or, as it
     * becomes small, to its square root (Steihaug, SIAM J. Numer. Anal. 20, 1983). For many variables.
     */
    SETUN_SUBPROBLEM_STEIHAUG = 1,
    /**
     * With all of the Hessian, n products for each step that is taken; the hard case included. It also leaves
     * points where the gradient is 0 and the Hessian shows a way down, with n more products to see that.
     */
    SETUN_SUBPROBLEM_EXACT = 2,
} setun_subproblem;

/** Why a solve ended. */
typedef enum {
    /** The projected gradient is within `gradient_tolerance`. */
    SETUN_TERMINATION_GRADIENT = 0,
    /**
     * The radius is within `step_tolerance` of x: no step lowered f enough, however short. Where f or its gradient is a
     * NaN or an infinity wherever the solve wants to go, it ends so too, at the last point where both were finite;
     * `projected_gradient` is large then.
     */
    SETUN_TERMINATION_STEP = 1,
    /** The decrease that the model predicts is within `function_tolerance` of f, or below what f can tell apart. */
    SETUN_TERMINATION_FUNCTION = 2,
    SETUN_TERMINATION_MAX_ITERATIONS = 3,
    SETUN_TERMINATION_MAX_EVALUATIONS = 4,
    /** A callback returned 0. */
    SETUN_TERMINATION_STOPPED = 5,
} setun_termination;

/** A function of n variables and its constraints. */
typedef struct setun_problem setun_problem;

/** Where a solve stands or ended. */
typedef struct {
    size_t struct_size;
    /** f at x. */
    double f;
    /** |P(x - gradient) - x|, where P is the nearest feasible point; without constraints the norm of the gradient. */
    double projected_gradient;
    /** How far x is outside of the constraint that it violates most, of rows scaled to length 1. */
    double violation;
    double radius;
    /** Trial points. */
    int64_t iterations;
    /** Evaluations of f. */
    int64_t objectives;
    /** Of the gradient. */
    int64_t gradients;
    /** Of the Hessian times a vector. */
    int64_t products;
    /** A `setun_termination`; says nothing before the end. */
    int32_t termination;
    int32_t reserved;
} setun_problem_report;

/**
 * Called after every iteration, on the calling thread. Return 0 to stop with what there is, anything else to go
 * on. `report` is valid during the call.
 */
typedef int32_t (*setun_problem_callback)(const setun_problem_report *report, void *user_data);

/** How to solve. Fill it with `setun_problem_options_init`. */
typedef struct {
    size_t struct_size;
    /** Of the first step; 0 = max(1, |x|) of the start. Default 0. */
    double initial_radius;
    /** Default INFINITY. */
    double maximum_radius;
    /** 0 or more. Default 1e-8. */
    double gradient_tolerance;
    /** Of the radius, as a share of |x|. Default 1e-15. */
    double step_tolerance;
    /** Of the predicted decrease, as a share of |f|. Default 1e-15. */
    double function_tolerance;
    /** How far the nearest feasible point may be outside, by rounding. Default 1e-8. */
    double feasibility_tolerance;
    /** 0 = f and its gradient at the feasible point nearest to x, and no step. Default 1000. */
    int64_t max_iterations;
    /** Of f, looked at before each iteration; 0 = no limit. Default 0. */
    int64_t max_evaluations;
    /** Hears of the progress; NULL = nobody. Default NULL. */
    setun_problem_callback progress;
    /** Handed to `progress`. Default NULL. */
    void *user_data;
    /** Stops it from another thread; NULL = no token. Default NULL. */
    const setun_cancel *cancel;
    /** A `setun_subproblem`. Default SETUN_SUBPROBLEM_AUTO. */
    int32_t subproblem;
    /** Leave it 0; it is not looked at. */
    int32_t reserved;
} setun_problem_options;

/**
 * Writes f at x [n] to `f`. Returns 0 to stop the solve, anything else to go on. The arrays are valid during the
 * call.
 */
typedef int32_t (*setun_objective_callback)(int64_t n, const double *x, double *f, void *user_data);

/** Writes the gradient of f at x [n] to `gradient` [n]. Returns as the objective does. */
typedef int32_t (*setun_gradient_callback)(int64_t n, const double *x, double *gradient, void *user_data);

/**
 * Writes the Hessian of f at x [n] times v [n] to `product` [n]. x is the best point so far, at which the gradient was
 * asked for before (not always last). Returns as the objective does.
 */
typedef int32_t (*setun_product_callback)(int64_t n, const double *x, const double *v, double *product, void *user_data);

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_problem_options_init(setun_problem_options *options, size_t size);

/**
 * Makes a problem of n variables without constraints. `product` may be NULL. `user_data` is handed to the three
 * and must stay valid until the problem is freed. Free it with `setun_problem_free`. Returns ARGUMENT (n is 0; no
 * objective or gradient), MEMORY.
 */
setun_status setun_problem_create(int64_t n,
                                  setun_objective_callback objective,
                                  setun_gradient_callback gradient,
                                  setun_product_callback product,
                                  void *user_data,
                                  setun_problem **out);

/**
 * Sets lower <= x <= upper, [n] each, in place of earlier bounds; -INFINITY and INFINITY = none, NULL = none on
 * that side. Equal ones fix a variable. Returns ARGUMENT (a NaN; a lower one above its upper one, naming which),
 * MEMORY.
 */
setun_status setun_problem_bounds(setun_problem *problem, const double *lower, const double *upper);

/**
 * Sets |x - centre| <= radius, centre [n], in place of an earlier ball. Returns ARGUMENT (a radius that is not
 * above 0; not finite), MEMORY.
 */
setun_status setun_problem_ball(setun_problem *problem, const double *centre, double radius);

/**
 * Adds a x = b, a [m, n] and b [m]. A row that follows from those before it is left out. On failure none is added.
 * Returns ARGUMENT (a row that contradicts those before it, naming it; not finite), MEMORY.
 */
setun_status setun_problem_equalities(setun_problem *problem, const double *a, const double *b, int64_t m);

/**
 * Adds lower <= a x <= upper, a [m, n], lower and upper [m]; -INFINITY and INFINITY = none, NULL = none on that
 * side. Equal ones make an equality. On failure none is added. Returns ARGUMENT (a NaN; a lower one above its upper
 * one), MEMORY.
 */
setun_status setun_problem_inequalities(setun_problem *problem,
                                        const double *a,
                                        const double *lower,
                                        const double *upper,
                                        int64_t m);

/**
 * Minimises f from x [n], which becomes the best point found. NULL options = the defaults; `report`, unless NULL,
 * says how it ended. Ending at a limit is no failure; nor is a callback that returns 0: the solve ends with the
 * best point so far, and the termination STOPPED. A callback may use other handles; this one answers STATE.
 *
 * On failure x is what it was. Returns ARGUMENT (x or an option is not finite or out of its range; f or its
 * gradient is not finite at the start; the constraints have no common point, naming one that cannot be met),
 * CANCELLED (the token; or a callback stopped it before f and its gradient were known at one point), ABI, MEMORY.
 */
setun_status setun_problem_solve(setun_problem *problem,
                                 double *x,
                                 const setun_problem_options *options,
                                 setun_problem_report *report);

/** Frees the problem; NULL is fine. */
void setun_problem_free(setun_problem *problem);

/**
 * The trust-region subproblem, exactly: the step s [n] with the least gradient's + s'(hessian)s/2 in |s| <= radius,
 * for `gradient` [n] and `hessian` [n, n], of which the symmetric part counts. `multiplier` is the lambda of
 * (hessian + lambda I) s = -gradient, 0 inside of the region; `value` is the least value. Each output may be NULL.
 *
 * By Moré and Sorensen's method (SIAM J. Sci. Stat. Comput. 4, 1983), the hard case included, where s and -s, or
 * more, may be equally good. Returns ARGUMENT (n is 0; not finite; radius not above 0; overlap), MEMORY.
 */
setun_status setun_trust_region_subproblem(const double *gradient,
                                           const double *hessian,
                                           int64_t n,
                                           double radius,
                                           double *step,
                                           double *multiplier,
                                           double *value);

/*
 * TEXT: tokenizers and data sets
 *
 * A tokenizer turns text into token numbers and back; a data set holds the tokens of a text, cut once into
 * a training and a validation part. Three kinds: `byte` (256 tokens, any text), `character` (one token for
 * each character that the training text has) and `bpe` (byte-level byte-pair encoding; its file is a
 * Hugging Face tokenizer.json, and any such file loads). All calls that read a path take one UTF-8 file,
 * or a folder: then its files in the order of their paths, without hidden files, links, and files that are
 * not text. Both kinds of handle may be used by several threads at once.
 *
 *     setun_tokenizer *tokenizer = NULL;
 *     setun_dataset *dataset = NULL;
 *     setun_tokenizer_train(SETUN_TOKENIZER_CHARACTER, "corpus.txt", 0, &tokenizer);
 *     setun_dataset_open("corpus.txt", tokenizer, 0.1, &dataset);
 *     setun_tokenizer_save(tokenizer, "tokenizer.json");
 *     setun_tokenizer_encode(tokenizer, "to be", 5, tokens, 16, &count);
 */

/** The parts of a data set. */
typedef enum {
    /** The first tokens of the text. */
    SETUN_SPLIT_TRAIN = 0,
    /** The last ones, which training never sees. */
    SETUN_SPLIT_VALIDATION = 1,
} setun_split;

/** How text becomes tokens. */
typedef enum {
    /** One token a byte, 256 in all. */
    SETUN_TOKENIZER_BYTE = 0,
    /** One token a character, those of the training text, in the order of their code points. */
    SETUN_TOKENIZER_CHARACTER = 1,
    /** Byte-level byte-pair encoding. */
    SETUN_TOKENIZER_BPE = 2,
} setun_tokenizer_kind;

/** The tokens of a text. */
typedef struct setun_dataset setun_dataset;

/** Text to tokens and back. */
typedef struct setun_tokenizer setun_tokenizer;

/**
 * Makes a tokenizer for the text at `path`, a file or a folder. Free it with `setun_tokenizer_free`.
 *
 * `kind` is a `setun_tokenizer_kind`: BYTE reads no text (`path` may be NULL), BPE learns `vocabulary`
 * tokens, at least 256 and fewer when the text has no more pairs to merge; the other kinds ignore
 * `vocabulary`. The same text gives the same tokenizer. Returns ARGUMENT, IO, FORMAT (not UTF-8, no text
 * at all), MEMORY.
 */
setun_status setun_tokenizer_train(int32_t kind, const char *path, int64_t vocabulary, setun_tokenizer **out);

/**
 * Reads a tokenizer from a file that `setun_tokenizer_save` wrote, from a Hugging Face tokenizer.json, or
 * from a model file that was saved with its tokenizer. Free it with `setun_tokenizer_free`. Returns
 * ARGUMENT, IO, FORMAT, MEMORY.
 */
setun_status setun_tokenizer_load(const char *path, setun_tokenizer **out);

/**
 * Writes the tokenizer to a JSON file; a file that is there is replaced whole or not at all. Returns
 * ARGUMENT, IO.
 */
setun_status setun_tokenizer_save(const setun_tokenizer *tokenizer, const char *path);

/** Says how many tokens there are; token numbers are below it. */
setun_status setun_tokenizer_vocabulary(const setun_tokenizer *tokenizer, int64_t *out);

/**
 * Encodes `text`, `bytes` bytes of UTF-8 (any bytes with a BYTE tokenizer; a NUL is a character like
 * others), into `tokens`, which has room for `capacity`, and writes how many there are to `count`.
 *
 * `tokens` NULL with capacity 0 only counts. When the room is too small: ARGUMENT, `count` says how much
 * is needed and `tokens` stays untouched. Returns also FORMAT (a character that a CHARACTER tokenizer does
 * not know, with its byte offset), MEMORY.
 */
setun_status setun_tokenizer_encode(const setun_tokenizer *tokenizer,
                                    const char *text,
                                    size_t bytes,
                                    uint32_t *tokens,
                                    int64_t capacity,
                                    int64_t *count);

/**
 * Decodes `count` tokens into `text`, which has room for `capacity` bytes, and writes the number of bytes
 * to `bytes`. No NUL is added, and the bytes may end inside a UTF-8 character: tokens may be parts of one.
 *
 * `text` NULL with capacity 0 only counts. When the room is too small: ARGUMENT, `bytes` says how much is
 * needed and `text` stays untouched. Returns also ARGUMENT for a token that is not below the vocabulary,
 * naming it, MEMORY.
 */
setun_status setun_tokenizer_decode(const setun_tokenizer *tokenizer,
                                    const uint32_t *tokens,
                                    int64_t count,
                                    char *text,
                                    size_t capacity,
                                    size_t *bytes);

/** Frees the tokenizer; NULL is fine. */
void setun_tokenizer_free(setun_tokenizer *tokenizer);

/**
 * Reads and encodes the text at `path`, a file or a folder; the last `validation_fraction` of the tokens
 * (0 to below 1) are the validation part. The tokenizer is not kept. Free it with `setun_dataset_free`.
 * Returns ARGUMENT, IO, FORMAT, MEMORY.
 */
setun_status setun_dataset_open(const char *path,
                                const setun_tokenizer *tokenizer,
                                double validation_fraction,
                                setun_dataset **out);

/**
 * Makes a data set of `count` tokens of yours, which are copied; every one is below `vocabulary`. Free it
 * with `setun_dataset_free`. Returns ARGUMENT (a token too large, naming it), MEMORY.
 */
setun_status setun_dataset_from_tokens(const uint32_t *tokens,
                                       int64_t count,
                                       int64_t vocabulary,
                                       double validation_fraction,
                                       setun_dataset **out);

/** Says how many tokens a part has. `split` is a `setun_split`. */
setun_status setun_dataset_tokens(const setun_dataset *dataset, int32_t split, int64_t *out);

/**
 * Writes the windows that a training step without clusters would draw: `tokens` and `targets` [batch, length], where
 * targets are the tokens one place further. The starts are random numbers of (seed, step): the same call
 * gives the same batch. Returns ARGUMENT, SHAPE (the part has no more than `length` tokens; says how many
 * there are).
 */
setun_status setun_dataset_batch(const setun_dataset *dataset,
                                 int32_t split,
                                 uint64_t seed,
                                 uint64_t step,
                                 int64_t batch,
                                 int64_t length,
                                 uint32_t *tokens,
                                 uint32_t *targets);

/** Frees the data set; NULL is fine. A trainer that uses it keeps it alive. */
void setun_dataset_free(setun_dataset *dataset);

/*
 * MODEL: the transformer
 *
 * BitNet b1.58 (arXiv 2402.17764): RMSNorm before and inside every block, rotary positions, causal
 * attention with grouped key and value heads, squared-ReLU feed-forward; every linear layer ternary in its
 * product, with 32-bit masters for training; `quantize_weights` 0 gives the same network in plain floats.
 * Files are safetensors with the tensor names of Hugging Face BitNet; a packed file holds the trits and
 * scales. A model loaded from it answers as the trained one did, bit for bit when `rest` is F32, but for the
 * rounding of embeddings and norms when it is F16, the default; it cannot be trained further.
 * A `const` model may be used by several threads at once.
 *
 *     setun_model_options options;
 *     setun_model_options_init(&options, sizeof options);
 *     options.vocabulary = 65;
 *     setun_model *model = NULL;
 *     setun_model_create(NULL, &options, &model);
 *     setun_model_save(model, "model.safetensors", NULL, NULL);
 */

/** A transformer and its parameters. */
typedef struct setun_model setun_model;

/**
 * The geometry of a model. Fill it with `setun_model_options_init`: 4 layers of width 128, about 0.8
 * million parameters.
 */
typedef struct {
    size_t struct_size;
    /** Token numbers are below it. Default 256, the bytes; `setun_train` takes the tokenizer's. */
    int64_t vocabulary;
    /** The longest text, in tokens, that attention sees. Default 64. */
    int64_t context_length;
    /** The size of a token's vector; a multiple of 2 * heads. Default 128. */
    int64_t width;
    /** Default 4. */
    int64_t layers;
    /** Attention heads. Default 4. */
    int64_t heads;
    /** Key and value heads, of which `heads` is a multiple; 0 = heads. Default 0. */
    int64_t kv_heads;
    /** The inner size of the feed-forward; 0 = 4 * width. Default 0. */
    int64_t hidden;
    /** Non-zero: the feed-forward is relu(gate)^2 * up, as in BitNet 2B; 0: relu(up)^2. Default 0. */
    int32_t ffn_gated;
    /** The base of the rotary frequencies. Default 10000. */
    double rope_theta;
    /** Added to the mean square inside RMSNorm. Default 1e-5. */
    double norm_epsilon;
    /** The share of block outputs that training drops, 0 to below 1. Default 0. */
    double dropout;
    /** Non-zero: the output layer is the embedding. Default 1. */
    int32_t tied_embedding;
    /**
     * Non-zero: linear layers run on ternary weights and 8-bit activations; 0: on 32-bit floats. Default
     * 1.
     */
    int32_t quantize_weights;
    /** Of the initial weights. Default 0. */
    uint64_t seed;
    /**
     * A ternary weight is 0 up to this share of the mean magnitude of its matrix, 0 to less than 1. 0.5 is that of BitNet b1.58
     * (arXiv 2402.17764): about a third of trits are 0. At 0.75 it is 42 to 50%, which MASK_SIGN writes in 1.5 to 1.6 bits
     * a weight. A part of the model: files keep it. Default 0.5.
     */
    double weight_threshold;
} setun_model_options;

/** How to write a model file. Fill it with `setun_save_options_init`. */
typedef struct {
    size_t struct_size;
    /**
     * A `setun_packing`, of the linear layers: FULL keeps the 32-bit masters, so that training can go on;
     * MASK_SIGN is the smallest where more than two in five weights are zero.
     * Default SETUN_PACKING_FIVE_PER_BYTE.
     */
    int32_t packing;
    /**
     * SETUN_DTYPE_F16 or SETUN_DTYPE_F32, of everything else: embeddings and norms. Default
     * SETUN_DTYPE_F16; FULL writes F32.
     */
    int32_t rest;
    /** Stored in the file, where `setun_tokenizer_load` finds it; NULL = none. Default NULL. */
    const setun_tokenizer *tokenizer;
    /**
     * 1 to 256: each matrix that is not packed, so embedding and head, and in the f32 twin all, is written by a
     * codebook of its own of so many entries (fewer where it has fewer elements), as `setun_codebook_fit` finds them: up to 16
     * entries take 4 bits an element, more take 8. 0: as `rest` says. FULL takes only 0. Default 0.
     */
    int64_t codebook;
} setun_save_options;

/** What `setun_model_save` wrote. Set `struct_size` to sizeof(setun_file_report) first. */
typedef struct {
    size_t struct_size;
    /** All parameters of the model. */
    int64_t parameters;
    /** Those in linear layers. */
    int64_t linear_parameters;
    /** The bytes that the linear layers take in the file, with their scales. */
    int64_t linear_bytes;
    /** The bytes of the whole file. */
    int64_t file_bytes;
} setun_file_report;

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_model_options_init(setun_model_options *options, size_t size);

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_save_options_init(setun_save_options *options, size_t size);

/**
 * Makes a model with random weights, which depend on the options alone. It runs on `context`; NULL = the
 * default one. NULL options = the defaults. Free it with `setun_model_free`. Returns ARGUMENT (sizes that
 * do not fit each other, naming them), ABI, MEMORY.
 */
setun_status setun_model_create(const setun_context *context, const setun_model_options *options, setun_model **out);

/**
 * Reads a model from a file that `setun_model_save` wrote. It runs on `context`; NULL = the default one.
 * Free it with `setun_model_free`. A damaged file never gives a model, by the checksum in it: FORMAT says what is wrong. Returns
 * also ARGUMENT, IO, MEMORY.
 */
setun_status setun_model_load(const setun_context *context, const char *path, setun_model **out);

/**
 * Copies a model into one that can be trained, on the same context: to fine-tune what was loaded packed, to make a model ternary
 * that was trained in floats (`quantize_weights` non-zero), or the other way round (0). Weights that are floats are copied; packed
 * ones become floats that are quantized to the same trits and, but for rounding, scales, or for a model in floats scale * t.
 * Free it with `setun_model_free`. Returns ARGUMENT, STATE, MEMORY.
 */
setun_status setun_model_copy(const setun_model *model,
                              int32_t quantize_weights,
                              setun_model **out);

/**
 * Writes the model to a safetensors file; a file that is there is replaced whole or not at all. NULL
 * options = the defaults: 1.6 bits a ternary weight. `report`, unless NULL, learns the sizes. A model
 * without ternary weights has no trits to pack: its linear layers are written like the rest.
 *
 * Returns ARGUMENT, IO, SHAPE (the tokenizer has more tokens than the model), STATE (a weight is not finite,
 * or another call is training the model), UNSUPPORTED (FULL of a model loaded from a packed file), FORMAT (a value too large for f16), ABI, MEMORY.
 */
setun_status setun_model_save(const setun_model *model,
                              const char *path,
                              const setun_save_options *options,
                              setun_file_report *report);

/**
 * Says the geometry: fills `out`, whose `struct_size` is set (by `setun_model_options_init`). kv_heads and
 * hidden are never 0; seed is, because a model does not remember it. Returns ARGUMENT, STATE, ABI.
 */
setun_status setun_model_describe(const setun_model *model, setun_model_options *out);

/** Says how many parameters the model has. */
setun_status setun_model_parameters(const setun_model *model, int64_t *out);

/** Says how many tensors the parameters are. */
setun_status setun_model_tensor_count(const setun_model *model, int64_t *out);

/**
 * Copies parameter tensor `index` into a new f32 tensor, for you to free with `setun_tensor_free`, and
 * says its Hugging Face name, "model.layers.0.mlp.up_proj.weight", which is valid until the model is
 * freed. Either out pointer may be NULL. The order depends on the geometry alone. The float master is
 * copied where there is one, else scale * t. Returns ARGUMENT (no such index), STATE, MEMORY.
 */
setun_status setun_model_tensor(const setun_model *model, int64_t index, const char **name, setun_tensor **out);

/**
 * Writes the logits [batch, length, vocabulary] f32 that follow each of `tokens` [batch, length]; length
 * is at most the context length. Returns ARGUMENT (a token not below the vocabulary, naming it; overlap),
 * SHAPE (length too large), STATE, MEMORY.
 */
setun_status setun_model_forward(const setun_model *model, const uint32_t *tokens, int64_t batch, int64_t length, float *logits);

/**
 * Says the mean cross-entropy, in nats a token, of `targets` [batch, length] after `tokens`
 * [batch, length]. Returns what `setun_model_forward` does.
 */
setun_status setun_model_loss(const setun_model *model,
                              const uint32_t *tokens,
                              const uint32_t *targets,
                              int64_t batch,
                              int64_t length,
                              double *loss);

/** Frees the model; NULL is fine. A trainer or sampler that uses it keeps it alive. */
void setun_model_free(setun_model *model);

/*
 * BACKWARD: gradients of a model, for training loops of your own
 *
 * A `setun_trainer` steps a model with AdamW, Muon or momentum. For any other rule, or any other loop, Setun computes the
 * gradients and you keep the weights: read them once, and write them back after each step. All arrays are
 * in the order of `setun_model_tensor`; the pointers to the gradients are what `setun_optimizer_step` takes.
 *
 *     for (i = 0; i < count; i++) setun_model_tensor_read(model, i, weights[i], sizes[i]);
 *     for (step = 0; step < steps; step++) {
 *         setun_dataset_batch(dataset, SETUN_SPLIT_TRAIN, seed, step, batch, length, tokens, targets);
 *         setun_model_backward(model, tokens, targets, batch, length, NULL, &loss, gradients, count);
 *         your_step(weights, gradients);
 *         for (i = 0; i < count; i++) setun_model_tensor_write(model, i, weights[i], sizes[i]);
 *     }
 */

/** How gradients are computed. Fill it with `setun_backward_options_init`. */
typedef struct {
    size_t struct_size;
    /** Of dropout and of gradients that are rounded at random. Default 0. */
    uint64_t seed;
    /**
     * Their random numbers are a function of (seed, step): give each batch of a run another step, below 2^32,
     * as you do to `setun_dataset_batch`. A trainer's first is 0. Default 0.
     */
    uint64_t step;
    /**
     * A `setun_gradient_products`: how a ternary layer computes the gradient to its input, as in
     * `setun_train_options`. Default SETUN_GRADIENT_PRODUCTS_INT8.
     */
    int32_t input_gradient;
    /**
     * A `setun_gradient_products`: how a ternary layer computes the gradient to its weights. Default
     * SETUN_GRADIENT_PRODUCTS_INT8.
     */
    int32_t weight_gradient;
    /**
     * 0 or 1: less memory for more work, and the same numbers to the bit, as in `setun_train_options`.
     * Default 0.
     */
    int32_t activation_checkpointing;
    /** 0. */
    int32_t reserved;
} setun_backward_options;

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_backward_options_init(setun_backward_options *options, size_t size);

/**
 * Says what parameter tensor `index` is without copying it: its Hugging Face name, valid until the model is
 * freed; its `setun_parameter_kind`, TERNARY for a linear layer that is used as trits, MATRIX for one of
 * floats, an embedding and a head, VECTOR for a norm's gain; and its sizes, outermost first, into `dims`,
 * which has room for SETUN_MAX_RANK; those past the rank become 1. Each output may be NULL. Returns ARGUMENT
 * (no such index).
 */
setun_status setun_model_tensor_describe(const setun_model *model,
                                         int64_t index,
                                         const char **name,
                                         int32_t *kind,
                                         int64_t *dims,
                                         int32_t *rank);

/**
 * Copies parameter tensor `index` into `values`, which has room for `count` floats: the float master where
 * there is one, else scale * t. Returns ARGUMENT (no such index), SHAPE (count is another than the
 * tensor's), STATE, MEMORY.
 */
setun_status setun_model_tensor_read(const setun_model *model, int64_t index, float *values, int64_t count);

/**
 * Overwrites parameter tensor `index`, and makes the trits anew that its values stand for. `values` holds
 * `count` finite floats, which are copied. On failure nothing has changed. A sampler that is in the middle
 * of a text keeps what it has computed of it.
 *
 * Returns ARGUMENT (no such index; a NaN or an infinity, naming its place), SHAPE (count is another than
 * the tensor's), UNSUPPORTED (a model loaded from a packed file has no float masters), STATE (another call
 * uses the model).
 */
setun_status setun_model_tensor_write(setun_model *model, int64_t index, const float *values, int64_t count);

/**
 * Says the mean cross-entropy, in nats a token, of `targets` [batch, length] after `tokens` [batch, length],
 * and its gradient: what a trainer with the same products, seed and step would compute for this batch, bit
 * for bit, before it clips. The gradient goes straight through the quantization (arXiv 1308.3432).
 *
 * `gradients` holds `count` pointers, one for each parameter tensor and in their order, to as many floats as
 * it has. Dropout is on where the model has it. NULL options = the defaults. A loss or gradient that is not
 * finite is no error here; `setun_optimizer_step` refuses it. The memory of a call stays with the model for
 * the next one of the same batch, length and options, which allocates none; a batch of more than 4096
 * tokens passes through the model in slices.
 *
 * Returns ARGUMENT (a token not below the vocabulary, naming it; count is another than the model's; overlap),
 * SHAPE (length too large), UNSUPPORTED (a model loaded from a packed file has no float masters), STATE
 * (another call uses the model), ABI, MEMORY. Nothing is written then.
 */
setun_status setun_model_backward(setun_model *model,
                                  const uint32_t *tokens,
                                  const uint32_t *targets,
                                  int64_t batch,
                                  int64_t length,
                                  const setun_backward_options *options,
                                  double *loss,
                                  float *const *gradients,
                                  int64_t count);

/*
 * TRAIN: text in, ternary language model out
 *
 * `setun_train` does it all: reads a text, trains a tokenizer and a model, and hands both back. A
 * `setun_trainer` gives the steps one by one, on a model and data of yours. AdamW (arXiv 1711.05101), Muon or
 * momentum on 32-bit masters, or on 8-bit codes of them; gradients straight through the quantization.
 * Checkpoints are folders, written beside and renamed, each file with a checksum; a run that is resumed on
 * the same backend continues bit for bit as if it had never stopped. A step whose loss or gradient is not
 * finite is refused, and changes nothing (but for `gradient_release`); under the guard it is skipped, and the run
 * goes on.
 *
 *     setun_train_options options;
 *     setun_train_options_init(&options, sizeof options);
 *     options.max_epochs = 2;
 *     options.progress = print_loss;
 *     setun_model *model = NULL;
 *     if (setun_train("corpus.txt", &options, &model, NULL) != SETUN_OK) puts(setun_last_error());
 */

/** In which numbers a gradient of a ternary layer is computed. */
typedef enum {
    /** 32-bit floats. */
    SETUN_GRADIENT_PRODUCTS_F32 = 0,
    /** 8-bit codes of the gradient of the layer's output, and exact sums of integers. */
    SETUN_GRADIENT_PRODUCTS_INT8 = 1,
} setun_gradient_products;

/** What gradients pass through before the update. */
typedef enum {
    /** Nothing. */
    SETUN_GRADIENT_QUANTIZATION_NONE = 0,
    /** 8-bit codes, rounded at random, as `setun_quantize_gradients` makes them. */
    SETUN_GRADIENT_QUANTIZATION_INT8 = 1,
    /** Trits, whose error is added to the next gradient, as `setun_ternarize_gradients` makes them. */
    SETUN_GRADIENT_QUANTIZATION_TERNARY = 2,
} setun_gradient_quantization;

/** How the learning rate goes after the warm-up. */
typedef enum {
    /** Down to minimum_lr_ratio along half a cosine. */
    SETUN_SCHEDULE_COSINE = 0,
    /** Not at all. */
    SETUN_SCHEDULE_CONSTANT = 1,
    /** Down to minimum_lr_ratio along a line. */
    SETUN_SCHEDULE_LINEAR = 2,
    /**
     * Not at all, and in the last fifth of what follows the warm-up down to minimum_lr_ratio along a line
     * (arXiv 2404.06395).
     */
    SETUN_SCHEDULE_STABLE = 3,
} setun_schedule;

/** A training run. */
typedef struct setun_trainer setun_trainer;

/** What is known after a step. */
typedef struct {
    size_t struct_size;
    /** Steps done. */
    int64_t step;
    /** Steps of the whole run. */
    int64_t total_steps;
    /** Passes over the training tokens so far. */
    double epoch;
    /** Mean training loss of the step, nats a token. */
    double loss;
    /** The one that the step was taken with. */
    double learning_rate;
    /** The Euclidean norm of the gradient, before clipping. */
    double gradient_norm;
    /** Mean loss over the validation part, nats a token; NaN when it was not measured at this step. */
    double validation_loss;
    /** Training speed. */
    double tokens_per_second;
    double elapsed_seconds;
    /** At the present speed. */
    double remaining_seconds;
    /**
     * What `use_adaptive_lr` multiplied the learning rate of the schedule by, which `learning_rate` contains;
     * 1 when it is off.
     */
    double learning_rate_factor;
    /**
     * The share of the trits of all matrices that the step changed, by the thresholds from before it; NaN without
     * ternary weights.
     */
    double flip_rate;
    /** The largest rms(step) over rms(weights) of a parameter; NaN where the batch was skipped, as flip_rate then. */
    double step_ratio;
    /** What the guard has left of radius or learning rate: 1 where none is missing. */
    double radius_factor;
    /** Batches that the guard has skipped so far, and steps that it has undone. */
    int64_t skipped_batches;
    int64_t undone_steps;
} setun_metrics;

/**
 * Called on the training thread after every step. Return 0 to stop, anything else to go on. `metrics` is
 * valid during the call. It may use the model through `const` calls (save, loss), and not the trainer.
 */
typedef int32_t (*setun_progress_callback)(const setun_metrics *metrics, void *user_data);

/** How to train. Fill it with `setun_train_options_init`. */
typedef struct {
    size_t struct_size;
    /** Windows of text a batch. Default 32. */
    int64_t batch_size;
    /**
     * Passes over the training tokens, which give the number of steps: windows are drawn at random.
     * `max_steps` has precedence. Default 10.
     */
    int64_t max_epochs;
    /**
     * Clusters of the training text, by k-means on hashed TF-IDF vectors of its windows, over which every
     * batch is spread; 0 or 1 = windows are drawn evenly, as they are where there are fewer than 8 windows a
     * cluster. Default 10.
     */
    int64_t n_clusters;
    /** The highest learning rate. Default 1e-3. */
    double learning_rate;
    /**
     * Non-zero: train ternary weights; 0: plain floats. A trainer's must agree with its model's;
     * `setun_train` trains plain floats when either is 0. Default 1.
     */
    int32_t quantize_weights;
    /**
     * A `setun_gradient_quantization`: what the summed gradient of every matrix passes through before the
     * update, in blocks of 256. The memory is that of float gradients, and one byte more for each element of
     * the largest matrix, or, with trits, eight for each element of every matrix. Default
     * SETUN_GRADIENT_QUANTIZATION_INT8.
     */
    int32_t quantize_gradients;
    /**
     * Non-zero: the peak of the learning rate is kept in a band that the weights the run starts from decide:
     * where one step of AdamW moves them by 0.4% to 1.5% of their size, one of Muon by 1.2% to 4.4%. Inside the band
     * the run is bit for bit that of the plain schedule; outside, the schedule is scaled to the nearer edge, by 32
     * at most. For 4 layers x 128 the band is 0.8e-3 to 3e-3 with AdamW, 0.54e-3 to 2e-3 with Muon; momentum has
     * none. Default 1.
     */
    int32_t use_adaptive_lr;
    /**
     * Where checkpoints and metrics.jsonl go, a folder of this run's own, which is made; NULL = nowhere.
     * Default NULL.
     */
    const char *checkpoint_dir;
    /** Steps of the run; 0 = as many as `max_epochs` takes. Default 0. */
    int64_t max_steps;
    /** Batches whose gradients are added before a step. Default 1. */
    int64_t accumulation;
    /** Tokens a window; 0 = the model's context length. Default 0. */
    int64_t context_length;
    /** A `setun_schedule`. Default SETUN_SCHEDULE_COSINE. */
    int32_t schedule;
    /** Steps in which the learning rate rises from 0. Default 100. */
    int64_t warmup_steps;
    /**
     * The lowest learning rate, as a share of the highest; NAN = by the method, 0.01 of SETUN_STEP_METHOD_MUON, 0.1 of the
     * others. Default NAN.
     */
    double minimum_lr_ratio;
    /** Of matrices; gains have none. Default 0.1. */
    double weight_decay;
    /** AdamW. Default 0.9. */
    double beta1;
    /** AdamW. Default 0.99. */
    double beta2;
    /** AdamW. Default 1e-8. */
    double epsilon;
    /** The largest gradient norm, to which larger ones are scaled down; 0 = no limit. Default 1. */
    double clip;
    /** Of the batches, of dropout, and of gradients and codes that are rounded at random; with a NULL `model`, of the initial weights too. Default 0. */
    uint64_t seed;
    /** Steps between two lines in metrics.jsonl and in the log; 0 = only evaluations. Default 10. */
    int64_t log_interval;
    /** Steps between validations; 0 = only at the end. Default 0. */
    int64_t evaluation_interval;
    /** Windows in a validation; 0 = the whole part. Default 0. */
    int64_t evaluation_windows;
    /** Steps between checkpoints; 0 = only at the end. Default 0. */
    int64_t checkpoint_interval;
    /** How many checkpoints stay; older ones are removed; 0 = all stay. Default 3. */
    int64_t keep_checkpoints;
    /** Hears of the progress; NULL = nobody. Default NULL. */
    setun_progress_callback progress;
    /** Handed to `progress`. Default NULL. */
    void *user_data;
    /** Stops the run from another thread; NULL = no token. Default NULL. */
    const setun_cancel *cancel;
    /**
     * For `setun_train`: the geometry; its vocabulary is the tokenizer's. NULL = the defaults. Default
     * NULL.
     */
    const setun_model_options *model;
    /** For `setun_train`: a `setun_tokenizer_kind`. Default SETUN_TOKENIZER_BYTE. */
    int32_t tokenizer;
    /** For `setun_train`: the tokens that a BPE tokenizer learns. Default 1024. */
    int64_t vocabulary;
    /** For `setun_train`: the share of the text kept for validation, 0 to below 1. Default 0.1. */
    double validation_fraction;
    /** For `setun_train`: where it runs; NULL = the default context. Default NULL. */
    const setun_context *context;
    /**
     * How often a cluster is drawn: ~ size^(1 - cluster_balance). 0 = in proportion to its size, so that every
     * window is as likely as without clusters; 1 = as often as any other. Default 0.
     */
    double cluster_balance;
    /**
     * A `setun_gradient_products`: how a ternary layer computes the gradient to its input. INT8 takes a scale
     * for each token, and the nearest code of -127 to 127. Default SETUN_GRADIENT_PRODUCTS_INT8.
     */
    int32_t input_gradient;
    /**
     * A `setun_gradient_products`: how a ternary layer computes the gradient to its weights. INT8 takes a
     * scale for each output and 256 tokens, and codes of -32 to 32, rounded at random so that their mean is
     * the gradient. Default SETUN_GRADIENT_PRODUCTS_INT8.
     */
    int32_t weight_gradient;
    /**
     * 0 or 1: of each layer only the inputs of its two blocks are kept for the backward pass, which computes the
     * rest anew (activation checkpointing, arXiv 1604.06174): less memory, about a fifth more work, the same
     * numbers to the bit. May change when a run is resumed. Default 0.
     */
    int32_t activation_checkpointing;
    /** A `setun_step_method`; embedding and head go as AdamW does under MUON. Default SETUN_STEP_METHOD_ADAMW. */
    int32_t method;
    /**
     * A `setun_state_precision`: COMPACT keeps the floats of ternary layers as codes of 8 bits too, from the
     * creation of the trainer on, until another one keeps floats. Default SETUN_STATE_PRECISION_F32.
     */
    int32_t states;
    /** A `setun_radius_mode`, with `radius`. Default SETUN_RADIUS_MODE_OFF. */
    int32_t radius_mode;
    /** A `setun_radius_base`. Default SETUN_RADIUS_BASE_CURRENT. */
    int32_t radius_base;
    /**
     * Non-zero: batches whose loss or gradient is no number or a spike are skipped, and every guard_interval
     * steps the batch of the step is evaluated again, and a step that made it worse is undone, from
     * a copy of parameters and states. The run ends with STATE where the guard acts in more than half of 64
     * steps. Default 0.
     */
    int32_t guard;
    /** Of Muon and momentum. Default 0.95. */
    double momentum;
    /** The rms of Muon's direction, which the learning rate multiplies. Default 1. */
    double muon_rms;
    /**
     * rms(step) over rms(weights) of each matrix, at most or exactly, at the peak of the schedule; NAN = that of the mode, as in
     * `setun_optimizer_options`, with T the steps of the run. Default NAN.
     */
    double radius;
    /**
     * The largest share of the trits of a matrix that change in a step, by the model's threshold from before it, as in
     * `setun_optimizer_options`; 1 = no limit. Default 1.
     */
    double flip_budget;
    /** The radius of gains; NAN = the same. Default NAN. */
    double vector_radius;
    /** Steps between two that the guard checks; 0 = it looks at batches only. Default 16. */
    int64_t guard_interval;
    /**
     * A network, copied, whose factors multiply learning rate and radius of each parameter; NULL = none. Default
     * NULL.
     */
    const setun_lr_net *lr_net;
    /**
     * A model to learn from beside the text (distillation, arXiv 1503.02531): of the same vocabulary, on the same device, with at
     * least the context of the run; packed ones will do. It is shared, and may not be changed while the trainer exists: a resumed run
     * asks for the same weights. A step takes its forward pass too. NULL = none. Default NULL.
     */
    const setun_model *teacher;
    /**
     * The weight of the teacher's probabilities, above 0 and at most 1; the text has the rest. The losses that are reported
     * are those of the text. Default 0.7.
     */
    double distillation;
    /**
     * 0 or 1: each matrix takes its step as soon as the backward pass has its gradient, which is given up before the next one is
     * there (as in LOMO, arXiv 2306.09782): there is room for those of a part of a layer, beside those of
     * embedding, output layer and gains. The batch passes through the
     * model at once, however long it is. The numbers are those of a run without where that takes the batch at once too
     * (up to 4096 tokens, more on a device); it may not change when a run is resumed. ARGUMENT with clip other than 0,
     * accumulation other than 1, a guard, an lr_net, or ternary quantize_gradients, which need all gradients at once. A
     * token is seen until the first matrix steps. A step that is refused after that (a gradient that is no number while
     * the loss is one; weights or an update beyond f32) or fails (memory) has changed some layers: the trainer then refuses
     * with STATE to step, to evaluate and to save until it resumes from a checkpoint, so set checkpoint_interval; the
     * model is of no use until then. Default 0.
     */
    int32_t gradient_release;
    /** 0. */
    int32_t reserved;
} setun_train_options;

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_train_options_init(setun_train_options *options, size_t size);

/**
 * Trains a model on the text at the path `text`, a UTF-8 file or a folder of them. NULL options = the
 * defaults.
 *
 * Hands back the model and, unless `tokenizer` is NULL, the tokenizer; free both. A progress callback that
 * returns 0 ends the run early with OK: the model is as far as it got. With `checkpoint_dir`, the run is
 * saved at its end, also when it was stopped or cancelled, and every checkpoint holds the tokenizer.
 *
 * Returns ARGUMENT, SHAPE (the text is too short for one window; says how many tokens are needed), IO,
 * FORMAT, CANCELLED (nothing is handed back: what is in checkpoint_dir is continued with
 * `setun_trainer_resume`), STATE (the loss or gradient is not finite any more: the last
 * good state is saved in checkpoint_dir, but with gradient_release; or checkpoint_dir holds another run), ABI, MEMORY.
 */
setun_status setun_train(const char *text, const setun_train_options *options, setun_model **model, setun_tokenizer **tokenizer);

/**
 * Prepares to train `model` on `dataset`. The tokenizer, unless NULL, goes into the checkpoints. NULL
 * options = the defaults.
 *
 * The trainer keeps model and data set alive. Free it with `setun_trainer_free`. Strings and structs of
 * the options are copied; the callback's user data must stay valid. Returns ARGUMENT, SHAPE (a vocabulary
 * that does not fit, or too few tokens for one window), UNSUPPORTED (a model loaded from a packed file has
 * no float masters), STATE (another call is training it), CANCELLED (while windows of the text were
 * clustered), ABI, MEMORY.
 */
setun_status setun_trainer_create(setun_model *model,
                                  const setun_dataset *dataset,
                                  const setun_tokenizer *tokenizer,
                                  const setun_train_options *options,
                                  setun_trainer **out);

/**
 * Does one step and nothing else: no evaluation, checkpoint, line of metrics.jsonl or callback, which are
 * `setun_trainer_run`'s. `out`, unless NULL, learns the metrics; set its `struct_size` first.
 *
 * Returns STATE (the run is over; or the loss or gradient is not finite, then the step is refused and
 * nothing changed, but as gradient_release says; or checkpoint_dir holds another run; or another call uses the model; or an earlier step with
 * gradient_release, or a resume, failed in its midst), CANCELLED.
 */
setun_status setun_trainer_step(setun_trainer *trainer,
                                setun_metrics *out);

/**
 * Does all the remaining steps, with validations, checkpoints and progress calls. `finished`, unless NULL,
 * becomes 1 when the run reached its end and 0 when the progress callback stopped it; both are OK, and
 * saved when there is a `checkpoint_dir`. Returns also CANCELLED (saved likewise), STATE (as `setun_trainer_step`), IO.
 *
 * A raised token is seen inside of a step or a validation, before each of its matrix products: the step is
 * given up, and changes nothing; the validation is done first when the run goes on, in this trainer or in
 * one that resumes. So a run ends with the same bits and reports wherever it was stopped. With gradient_release a step
 * whose first layers have taken it is done first.
 */
setun_status setun_trainer_run(setun_trainer *trainer, int32_t *finished);

/**
 * Measures the mean loss over the validation part, nats a token. Returns STATE (the part is too short for
 * one window; or a step with gradient_release, or a resume, failed in its midst).
 */
setun_status setun_trainer_evaluate(setun_trainer *trainer, double *loss);

/**
 * Writes a checkpoint into `checkpoint_dir`. Returns STATE (there is no checkpoint_dir; or a step with gradient_release,
 * or a resume, failed in its midst), IO.
 */
setun_status setun_trainer_save(setun_trainer *trainer);

/**
 * Continues from `checkpoint`: one checkpoint's folder, or a `checkpoint_dir`, of which the newest is
 * taken.
 *
 * The trainer must be made with the same model geometry, data set and options. A checkpoint of another
 * backend (simd and parallel count as one) or CPU level is refused unless `allow_other_backend` is non-zero: the run would
 * not end with the same bits. On failure nothing has changed, unless files fail (IO) or memory ends (MEMORY)
 * after all were verified, while tensors are read: then the trainer says STATE until a resume succeeds. Returns ARGUMENT (a checkpoint of another run;
 * says what differs), IO, FORMAT (damaged, naming the file and the newest good checkpoint before it),
 * MEMORY.
 */
setun_status setun_trainer_resume(setun_trainer *trainer,
                                  const char *checkpoint,
                                  int32_t allow_other_backend);

/**
 * Says the metrics of the last step; set the `struct_size` of `out` first. Returns STATE while another
 * call uses the trainer.
 */
setun_status setun_trainer_metrics(const setun_trainer *trainer, setun_metrics *out);

/**
 * Says the training loss of each cluster of the text, nats a token: the mean over its windows in the steps
 * since the last multiple of `log_interval` (of `evaluation_interval` where that is 0); NaN for a cluster without one. `sizes` learns how many windows
 * of the training text each has, `clusters` how many clusters there are: 0 when windows are drawn evenly.
 *
 * `losses` and `sizes` have room for `capacity` numbers; each output may be NULL. Returns SHAPE (capacity is
 * below the number of clusters, and losses or sizes are not NULL), STATE while another call uses the trainer.
 */
setun_status setun_trainer_cluster_losses(const setun_trainer *trainer,
                                          double *losses,
                                          int64_t *sizes,
                                          int64_t capacity,
                                          int64_t *clusters);

/** Frees the trainer; NULL is fine. The model stays, as far trained as it is. */
void setun_trainer_free(setun_trainer *trainer);

/*
 * GENERATE: text from a model
 *
 * `setun_generate` continues a prompt and hands out the text piece by piece; a `setun_sampler` gives the
 * tokens one by one and keeps the keys and values of the tokens so far. Past the context length the oldest
 * tokens are forgotten, and `slid` says so. The same seed, prompt and options give the same text.
 *
 *     static int32_t print(const char *piece, size_t bytes, void *user_data) {
 *         return fwrite(piece, 1, bytes, stdout) == bytes;
 *     }
 *
 *     setun_model_load(NULL, "model.safetensors", &model);
 *     setun_tokenizer_load("model.safetensors", &tokenizer);
 *     setun_generate(model, tokenizer, "Once", NULL, print, NULL, NULL);
 */

/**
 * In which numbers the keys and values of the tokens so far are kept, 2 * layers * kv_heads * head size of them a
 * token, all of which each new token reads.
 */
typedef enum {
    /** As they are computed. */
    SETUN_KV_CACHE_F32 = 0,
    /**
     * 8-bit codes, and a scale for each token and head: about a quarter of the memory, and of the time to read
     * it. The logits differ by what rounding each number to 1/254 of the largest of its head makes of them.
     */
    SETUN_KV_CACHE_INT8 = 1,
} setun_kv_cache;

/** A text being generated. */
typedef struct setun_sampler setun_sampler;

/** How the next token is chosen. Fill it with `setun_sample_options_init`. */
typedef struct {
    size_t struct_size;
    /** Divides the logits; 0 = always the most probable token. Default 1. */
    float temperature;
    /**
     * Only the most probable tokens that together reach this probability, 0 < top_p <= 1; 1 = all. Default
     * 1.
     */
    float top_p;
    /** Only this many of the most probable tokens; 0 = all. Default 0. */
    int64_t top_k;
    /** Default 0. */
    uint64_t seed;
    /** For `setun_generate`: how many tokens to make. Default 256. */
    int64_t max_tokens;
    /** A `setun_kv_cache`. Default F32. */
    int32_t kv_cache;
    /** 0. */
    int32_t reserved;
} setun_sample_options;

/**
 * Hears each piece of text as it comes: `bytes` bytes at `piece`, whole UTF-8 characters, no NUL at the
 * end, valid during the call. Return 0 to stop, anything else to go on.
 */
typedef int32_t (*setun_text_callback)(const char *piece, size_t bytes, void *user_data);

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_sample_options_init(setun_sample_options *options, size_t size);

/**
 * Makes a sampler on `model`, which it keeps alive. NULL options = the defaults. Free it with
 * `setun_sampler_free`. Returns ARGUMENT (an option out of its range, naming it), STATE (the model is being
 * trained), ABI, MEMORY.
 */
setun_status setun_sampler_create(const setun_model *model, const setun_sample_options *options, setun_sampler **out);

/**
 * Feeds `count` tokens, at least one, after those so far. Returns ARGUMENT (a token not below the
 * vocabulary, naming it), STATE.
 */
setun_status setun_sampler_prompt(setun_sampler *sampler, const uint32_t *tokens, int64_t count);

/**
 * Chooses the next token, writes it to `token` and feeds it. Returns STATE (there is no prompt yet, or the
 * model is being trained).
 */
setun_status setun_sampler_next(setun_sampler *sampler, uint32_t *token);

/** Says whether tokens were forgotten because the text is longer than the context: 1 or 0. */
setun_status setun_sampler_slid(const setun_sampler *sampler, int32_t *out);

/** Frees the sampler; NULL is fine. */
void setun_sampler_free(setun_sampler *sampler);

/**
 * Continues `prompt`, which is not empty, by up to `max_tokens` tokens and hands the text, without the
 * prompt, to `callback`. NULL options = the defaults. `slid`, unless NULL, becomes 1 when the text outgrew
 * the context, else 0. The callback may end it early: OK.
 *
 * Returns ARGUMENT (an empty prompt; a NULL callback), SHAPE (model and tokenizer of different
 * vocabularies), FORMAT (a character that the tokenizer does not know), STATE (the model is being
 * trained), ABI, MEMORY.
 */
setun_status setun_generate(const setun_model *model,
                            const setun_tokenizer *tokenizer,
                            const char *prompt,
                            const setun_sample_options *options,
                            setun_text_callback callback,
                            void *user_data,
                            int32_t *slid);

/*
 * BENCHMARK: how fast it runs here
 *
 * `setun_benchmark` times the operations of the library, at several sizes each, on every row of the
 * dispatch table: `scalar`, `simd` at each CPU level, `parallel`, `cuda`. Beside each time stands the share that it
 * reaches of what this machine can do at all: of its peak of arithmetic or of its memory bandwidth, both
 * measured in the same run. It takes about two minutes, more with a GPU, or some seconds when `quick`; other work on
 * the machine shows in the medians first.
 *
 *     static int32_t show(const setun_benchmark_result *r, void *user_data) {
 *         return printf("%s %s, %s: %g s\n", r->operation, r->sizes, r->backend_name, r->seconds) > 0;
 *     }
 *
 *     setun_benchmark_options options;
 *     setun_benchmark_options_init(&options, sizeof options);
 *     options.filter = "matmul";
 *     setun_benchmark(&options, show, NULL);
 */

/** What to measure. Fill it with `setun_benchmark_options_init`. */
typedef struct {
    size_t struct_size;
    /** Only operations with this in their name; NULL = all. Default NULL. */
    const char *filter;
    /**
     * Only this CPU level, by a name that `setun_context_level` gives, at most that of the environment variable
     * SETUN_CPU_LEVEL; NULL = each that build and machine have, and that SETUN_CPU_LEVEL leaves. `parallel` takes the best of them. Default NULL.
     */
    const char *level;
    /** Stops the run from another thread; NULL = no token. Default NULL. */
    const setun_cancel *cancel;
    /**
     * For each operation, size and row; each is timed three times at the least. Above 0, at most 60.
     * Default 0.08.
     */
    double seconds;
    /** Threads of `parallel`; 0 = as many as the process may use. Default 0. */
    int32_t threads;
    /** Non-zero: measure the row. Without `scalar` there is no `speedup`. Default 1. */
    int32_t scalar;
    /** Default 1. */
    int32_t simd;
    /** Default 1. */
    int32_t parallel;
    /** Non-zero: measure what the machine can do. Without it there is no `share`. Default 1. */
    int32_t ceilings;
    /** Non-zero: only the smallest size of each operation, and 5 ms at most. Default 0. */
    int32_t quick;
    /**
     * Non-zero: compare instead of timing. Every case is called once on `scalar`, on `simd` and `parallel` at every
     * CPU level there is, and on `cuda`, if that is set and there is a device, with its arguments on the host;
     * `scalar`, `simd`, `parallel`, `seconds` and `ceilings` are not read. `simd` and `cuda` may differ from `scalar`
     * by the tolerance of the operation, where it has one, and `parallel` not at all from `simd`. Results say so in
     * `agrees`. Default 0.
     */
    int32_t parity;
    /**
     * Non-zero: measure the row `cuda` too, on the first device, with its arguments there; without a device there is
     * no such row, and an error where all others are off. It has sizes of its own, which would take a CPU seconds.
     * Default 1.
     */
    int32_t cuda;
} setun_benchmark_options;

/**
 * How fast one operation of one size ran on one row, or how high a ceiling is. Strings are valid during the
 * callback, and never NULL.
 */
typedef struct {
    /** The size of the struct as this library knows it. */
    size_t struct_size;
    /** The operation, "matmul_ternary". Of a ceiling: "f32 peak", "int8 peak", "read" or "copy". */
    const char *operation;
    /** Its sizes, "256 x 2048 x 2048". Of a ceiling: how much memory it went through; "" for a peak. */
    const char *sizes;
    /** "scalar", "simd", "parallel" or "cuda". */
    const char *backend_name;
    /** The CPU level, "x86-64-v3"; "" on `scalar` and `cuda`, which have none. */
    const char *level;
    /** The unit of `rate`: "GFLOP/s", "GOP/s" (of 8-bit integers) or "GB/s". */
    const char *unit;
    /** The ceiling that bounds the call, "copy 16 MiB"; "" when none was measured. */
    const char *ceiling;
    /**
     * Multiplications and additions of products in one call, and bytes of its arguments, each counted once
     * when read and once when written.
     */
    double operations;
    double bytes;
    /** Of one call: the least, which is what it takes when nothing interrupts it, and the median. */
    double seconds;
    double median_seconds;
    /** `operations`, or `bytes` where an operation has no products, in billions a second at the least time. */
    double rate;
    /**
     * The least time that the ceilings leave (Williams, Waterman & Patterson, the roofline model) over
     * `seconds`. Bandwidths are those of the size nearest to `bytes`; where smaller memory is faster, it can
     * pass 1. NaN without ceilings.
     */
    double share;
    /** The time on `scalar` over `seconds`; NaN where that was not measured. */
    double speedup;
    /** How often it was timed. */
    int64_t repeats;
    /**
     * The size of the call: the elements of its largest tensor, or the multiplications of products, attention and
     * the search for nearest centroids. 0 of a ceiling.
     */
    int64_t call_size;
    /** A `setun_backend`. */
    int32_t backend;
    int32_t threads;
    /** Non-zero: a ceiling and not an operation. */
    int32_t is_ceiling;
    /** Of a comparison: 1 where the row gives what it has to, 0 where it does not. -1 where nothing was compared. */
    int32_t agrees;
    /** The first element that is not as it has to be, in words; "" where none is. */
    const char *difference;
} setun_benchmark_result;

/** Hears each result as it comes, on the thread that called. Return 0 to stop, anything else to go on. */
typedef int32_t (*setun_benchmark_callback)(const setun_benchmark_result *result, void *user_data);

/** Fills `options`, of `size` bytes (its sizeof), with the defaults; NULL does nothing. */
void setun_benchmark_options_init(setun_benchmark_options *options, size_t size);

/**
 * Measures, and hands each result to `callback`: the ceilings, on one thread and on those of `parallel`;
 * then each operation, size by size and row by row, `scalar` first. NULL options = the defaults.
 *
 * A call is measured as a training step makes it, while the threads of the pool stand by; its arguments are the
 * same on all rows. It takes up to 0.5 GB of memory; with a GPU up to 1.7 GB, and there up to 2.7 GB for an
 * operation, which it keeps for the next as long as there is room. Returns OK also when the callback stopped it;
 * ARGUMENT (a filter that no operation has, no row at all, seconds or threads out of range, a level that does not
 * exist or is above SETUN_CPU_LEVEL), UNSUPPORTED (a level that this build or machine lacks), DEVICE (`cuda` alone,
 * and there is none; or a device that fails), CANCELLED, MEMORY, ABI.
 */
setun_status setun_benchmark(const setun_benchmark_options *options, setun_benchmark_callback callback, void *user_data);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* SETUN_H */
