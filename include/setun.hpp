/*
 * setun.hpp: the C++ face of setun.h. C++17, nothing to compile, nothing beside setun.h to link.
 *
 *     #include <setun.hpp>
 *     #include <iostream>
 *
 *     int main() try {
 *         setun::train_options options;                   // every options struct begins with the defaults
 *         options.max_steps = 200;
 *         auto [model, tokenizer] = setun::train("corpus.txt", options, [](const setun::metrics &m) {
 *             std::cout << m.step << ": " << m.loss << '\n';
 *             return true;                                // false stops the run
 *         });
 *         setun::save_options file;
 *         file.tokenizer = tokenizer.get();
 *         model.save("model.safetensors", file);
 *         std::cout << setun::generate(model, tokenizer, "Once") << '\n';
 *     } catch (const setun::error &e) {
 *         std::cerr << setun_status_name(e.status()) << ": " << e.what() << '\n';
 *     }
 *
 * What a call does, its shapes and units, is said in setun.h beside the function of the same name. Here holds:
 *
 * Objects own their handle: they move and do not copy, and free it at the end. get() is the handle for a call of the
 *   C interface, release() gives it away, and the constructor from a handle takes one.
 * Errors are setun::error: a status, and the sentence of setun_last_error(). Compiled with -fno-exceptions, an error
 *   is printed and ends the program; the C interface, on get(), is there for what is to be handled.
 * Arrays are setun::span: a pointer and a size, std::vector, std::array, any other container with data() and size().
 *   Sizes are checked against the shape before the call. Results are std::vector.
 * Callbacks are std::function. An exception that leaves one ends the call as a request to stop does, a run is saved,
 *   and the exception goes on to the caller.
 * Options keep pointers, as in C: what a field points to has to live until the call returns.
 * A context that was made without options is the default one of the process.
 */

#ifndef SETUN_HPP
#define SETUN_HPP

#include "setun.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__cpp_exceptions) || defined(__EXCEPTIONS) || defined(_CPPUNWIND)
#define SETUN_HPP_EXCEPTIONS 1
#else
#define SETUN_HPP_EXCEPTIONS 0
#endif

namespace setun {

/* --- errors ------------------------------------------------------------------------------------------------------ */

/** What a call that failed throws. */
class error : public std::runtime_error {
public:
    error(setun_status status, const std::string &message) : std::runtime_error(message), status_(status) {}
    setun_status status() const noexcept { return status_; }

private:
    setun_status status_;
};

namespace detail {

[[noreturn]] inline void fail(setun_status status, const std::string &message)
{
#if SETUN_HPP_EXCEPTIONS
    throw error(status, message);
#else
    std::fprintf(stderr, "setun: %s: %s\n", setun_status_name(status), message.c_str());
    std::abort();
#endif
}

} // namespace detail

/** Throws unless the status of a C call is SETUN_OK. */
inline void check(setun_status status)
{
    if (status != SETUN_OK)
        detail::fail(status, setun_last_error());
}

/* --- arrays ------------------------------------------------------------------------------------------------------ */

/** An array of the caller's: a pointer and how many elements are there. */
template <class T> class span {
public:
    constexpr span() noexcept = default;
    constexpr span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    /** Of a container with data() and size(), or of an array. */
    template <class Container,
              class = std::enable_if_t<!std::is_same_v<std::decay_t<Container>, span> &&
                                       std::is_convertible_v<std::remove_pointer_t<decltype(std::data(
                                                                 std::declval<Container &>()))> (*)[],
                                                             T (*)[]>>>
    constexpr span(Container &&container) noexcept : data_(std::data(container)), size_(std::size(container))
    {
    }
    constexpr T *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr T *begin() const noexcept { return data_; }
    constexpr T *end() const noexcept { return data_ + size_; }
    constexpr T &operator[](std::size_t index) const noexcept { return data_[index]; }

private:
    T *data_ = nullptr;
    std::size_t size_ = 0;
};

namespace detail {

/** The product of sizes. */
inline std::size_t count(std::initializer_list<std::int64_t> sizes)
{
    std::size_t product = 1;
    for (std::int64_t size : sizes) {
        if (size < 0)
            fail(SETUN_ERR_ARGUMENT, "a size is " + std::to_string(size) + ", expected 0 or more");
        auto next = static_cast<std::size_t>(size);
        if (next != 0 && product > PTRDIFF_MAX / next)
            fail(SETUN_ERR_SHAPE, "the sizes are more than this machine can address");
        product *= next;
    }
    return product;
}

/** SHAPE unless the array has as many elements as its shape. */
inline void fits(const char *name, std::size_t size, std::initializer_list<std::int64_t> shape)
{
    const std::size_t expected = count(shape);
    if (size != expected)
        fail(SETUN_ERR_SHAPE, std::string(name) + " has " + std::to_string(size) + " elements, its shape " +
                                  std::to_string(expected));
}

/** C strings end at a NUL: one inside would cut the text without a word. */
inline const char *c_string(const char *name, const std::string &text)
{
    const auto place = text.find('\0');
    if (place != std::string::npos)
        fail(SETUN_ERR_ARGUMENT, std::string(name) + " has a NUL at byte " + std::to_string(place));
    return text.c_str();
}

/** One handle: the base of all classes below. A new kind of handle is one class more. */
template <class Handle, void (*Free)(Handle *)> class owner {
public:
    owner() noexcept = default;
    explicit owner(Handle *handle) noexcept : handle_(handle) {}
    owner(owner &&other) noexcept : handle_(other.release()) {}
    owner &operator=(owner &&other) noexcept
    {
        if (this != &other) {
            Free(handle_);
            handle_ = other.release();
        }
        return *this;
    }
    ~owner() { Free(handle_); }

    Handle *get() const noexcept { return handle_; }
    Handle *release() noexcept { return std::exchange(handle_, nullptr); }
    explicit operator bool() const noexcept { return handle_ != nullptr; }

private:
    Handle *handle_ = nullptr;
};

/** Calls `make` with the place for a new handle. */
template <class Handle, class Make> Handle *made(Make make)
{
    Handle *handle = nullptr;
    check(make(&handle));
    return handle;
}

/** Calls `say` with the place for one result. */
template <class Result, class Say> Result said(Say say)
{
    Result result{};
    check(say(&result));
    return result;
}

/** A struct that a call fills. */
template <class Struct> Struct empty()
{
    Struct result{};
    result.struct_size = sizeof result;
    return result;
}

/** A text that `write` puts into room of ours. */
template <class Write> std::string sentence(Write write)
{
    std::size_t bytes = 0;
    check(write(nullptr, std::size_t{0}, &bytes));
    std::string text(bytes + 64, '\0'); /* it may have become longer */
    check(write(text.data(), text.size(), &bytes));
    text.resize(text.find('\0'));
    return text;
}

/** A struct of the C interface, with its defaults. */
template <class Struct, void (*Init)(Struct *, std::size_t)> struct with_defaults : Struct {
    with_defaults() { Init(this, sizeof(Struct)); }
};

/** A callback on its way through C, and the exception that it ended with. */
template <class Function> struct call {
    Function function;
    std::exception_ptr exception;

    /** What the callback says, or false when it throws: then it is not called again. */
    template <class... Arguments> bool operator()(Arguments &&...arguments) noexcept
    {
#if SETUN_HPP_EXCEPTIONS
        try {
            return !exception && function(std::forward<Arguments>(arguments)...);
        } catch (...) {
            exception = std::current_exception();
            return false;
        }
#else
        return function(std::forward<Arguments>(arguments)...);
#endif
    }

    /** After the call that used it. */
    void rethrow()
    {
#if SETUN_HPP_EXCEPTIONS
        if (exception)
            std::rethrow_exception(std::exchange(exception, nullptr));
#endif
    }
};

} // namespace detail

/* --- library ----------------------------------------------------------------------------------------------------- */

using metrics = setun_metrics;
using file_report = setun_file_report;
/** Hears of the progress; false stops the run. */
using progress_function = std::function<bool(const metrics &)>;
using kmeans_report = setun_kmeans_report;
/** Hears of each iteration; false stops the clustering with what there is. */
using kmeans_function = std::function<bool(const kmeans_report &)>;
using problem_report = setun_problem_report;
/** Hears of each iteration; false stops the solve with what there is. */
using problem_function = std::function<bool(const problem_report &)>;
/** f at x, into the second argument; false stops the solve. */
using objective_function = std::function<bool(span<const double>, double &)>;
/** Its gradient at x, into the second argument; false stops the solve. */
using gradient_function = std::function<bool(span<const double>, span<double>)>;
/** Its Hessian at x times the second argument, into the third; false stops the solve. */
using product_function = std::function<bool(span<const double>, span<const double>, span<double>)>;
/** Hears each result; false ends the benchmark. */
using benchmark_function = std::function<bool(const setun_benchmark_result &)>;
/** Hears each piece of text; false ends it. */
using text_function = std::function<bool(std::string_view)>;
/** Hears a log message; called from any thread, and from several at once. Exceptions go no further. */
using log_function = std::function<void(setun_log_level, std::string_view)>;

namespace detail {

struct log_hook {
    std::mutex mutex;
    std::shared_ptr<const log_function> function;
};

/** Never destroyed: a thread may log while the program ends. */
inline log_hook &the_log_hook()
{
    static log_hook *const hook = new log_hook;
    return *hook;
}

using progress_call = call<progress_function>;
using text_call = call<text_function>;
using kmeans_call = call<kmeans_function>;
using benchmark_call = call<benchmark_function>;
using problem_call = call<problem_function>;

/** The functions of a problem. An exception of one is kept here, and stops the solve. */
struct problem_calls {
    call<objective_function> objective;
    call<gradient_function> gradient;
    call<product_function> product;

    void rethrow()
    {
        objective.rethrow();
        gradient.rethrow();
        product.rethrow();
    }
};

extern "C" {

inline std::int32_t setun_hpp_progress(const setun_metrics *metrics, void *user_data) noexcept
{
    return (*static_cast<progress_call *>(user_data))(*metrics);
}

inline std::int32_t setun_hpp_kmeans(const setun_kmeans_report *report, void *user_data) noexcept
{
    return (*static_cast<kmeans_call *>(user_data))(*report);
}

inline std::int32_t setun_hpp_problem(const setun_problem_report *report, void *user_data) noexcept
{
    return (*static_cast<problem_call *>(user_data))(*report);
}

inline std::int32_t setun_hpp_objective(std::int64_t n, const double *x, double *f, void *user_data) noexcept
{
    return static_cast<problem_calls *>(user_data)->objective(span<const double>(x, static_cast<std::size_t>(n)), *f);
}

inline std::int32_t setun_hpp_gradient(std::int64_t n, const double *x, double *gradient, void *user_data) noexcept
{
    const auto count = static_cast<std::size_t>(n);
    return static_cast<problem_calls *>(user_data)->gradient(span<const double>(x, count),
                                                             span<double>(gradient, count));
}

inline std::int32_t setun_hpp_product(std::int64_t n, const double *x, const double *v, double *product,
                                      void *user_data) noexcept
{
    const auto count = static_cast<std::size_t>(n);
    return static_cast<problem_calls *>(user_data)->product(span<const double>(x, count), span<const double>(v, count),
                                                            span<double>(product, count));
}

inline std::int32_t setun_hpp_benchmark(const setun_benchmark_result *result, void *user_data) noexcept
{
    return (*static_cast<benchmark_call *>(user_data))(*result);
}

inline std::int32_t setun_hpp_text(const char *piece, std::size_t bytes, void *user_data) noexcept
{
    return (*static_cast<text_call *>(user_data))(std::string_view(piece, bytes));
}

inline void setun_hpp_log(std::int32_t level, const char *message, void *) noexcept
{
    std::shared_ptr<const log_function> function;
    {
        const std::lock_guard<std::mutex> lock(the_log_hook().mutex);
        function = the_log_hook().function;
    }
#if SETUN_HPP_EXCEPTIONS
    try {
        if (function)
            (*function)(static_cast<setun_log_level>(level), message);
    } catch (...) {
    }
#else
    if (function)
        (*function)(static_cast<setun_log_level>(level), message);
#endif
}

} // extern "C"
} // namespace detail

/** Sends log messages up to `level` to `function`; an empty one removes the hook. */
inline void set_log(log_function function, setun_log_level level = SETUN_LOG_WARNING)
{
    const bool on = static_cast<bool>(function);
    std::shared_ptr<const log_function> hook;
    if (on)
        hook = std::make_shared<const log_function>(std::move(function));
    {
        const std::lock_guard<std::mutex> lock(detail::the_log_hook().mutex);
        detail::the_log_hook().function.swap(hook);
    }
    check(setun_set_log(on ? detail::setun_hpp_log : nullptr, nullptr, level));
}

/** A flag that any thread may raise to stop a long call: hand get() to train_options::cancel. */
class cancel : public detail::owner<setun_cancel, setun_cancel_free> {
public:
    using owner::owner;
    cancel() : owner(detail::made<setun_cancel>([](auto out) { return setun_cancel_create(out); })) {}
    void request() const { check(setun_cancel_request(get())); }
    void reset() const { check(setun_cancel_reset(get())); }
};

/* --- context ----------------------------------------------------------------------------------------------------- */

using context_options = detail::with_defaults<setun_context_options, setun_context_options_init>;

/** Where calls run. Made without options it is the default context of the process. */
class context : public detail::owner<setun_context, setun_context_free> {
public:
    using owner::owner;
    explicit context(const setun_context_options &options)
        : owner(detail::made<setun_context>([&](auto out) { return setun_context_create(&options, out); }))
    {
    }
    setun_backend backend() const
    {
        return static_cast<setun_backend>(
            detail::said<std::int32_t>([&](auto out) { return setun_context_backend(get(), out); }));
    }
    int threads() const
    {
        return detail::said<std::int32_t>([&](auto out) { return setun_context_threads(get(), out); });
    }
    std::string level() const
    {
        return detail::said<const char *>([&](auto out) { return setun_context_level(get(), out); });
    }
    /** What would run a call of an operation, and why; an empty name: the context as a whole. */
    std::string explain(const std::string &operation = {}, std::int64_t size = -1) const
    {
        return detail::sentence([&](char *text, std::size_t capacity, std::size_t *bytes) {
            return setun_context_explain(get(), operation.empty() ? nullptr : detail::c_string("operation", operation),
                                         size, text, capacity, bytes);
        });
    }
    /** What has run of operation number `index`, below setun_operation_count(). */
    setun_statistics statistics(std::int64_t index) const
    {
        auto result = detail::empty<setun_statistics>();
        check(setun_context_statistics(get(), index, &result));
        return result;
    }
    void reset_statistics() const { check(setun_context_reset_statistics(get())); }
};

/** How many NVIDIA GPUs there are. */
inline int device_count()
{
    return detail::said<std::int32_t>([](auto out) { return setun_device_count(out); });
}

inline std::string device_name(int device)
{
    return detail::sentence([&](char *text, std::size_t capacity, std::size_t *bytes) {
        return setun_device_name(device, text, capacity, bytes);
    });
}

/* --- tensor ------------------------------------------------------------------------------------------------------ */

namespace detail {

template <class T> constexpr setun_dtype dtype_of()
{
    if constexpr (std::is_same_v<T, float>)
        return SETUN_DTYPE_F32;
    else if constexpr (std::is_same_v<T, std::int8_t>)
        return SETUN_DTYPE_I8;
    else if constexpr (std::is_same_v<T, std::uint8_t>)
        return SETUN_DTYPE_U8;
    else if constexpr (std::is_same_v<T, std::int32_t>)
        return SETUN_DTYPE_I32;
    else {
        static_assert(std::is_same_v<T, std::uint32_t>, "tensors hold float, int8_t, uint8_t, int32_t or uint32_t");
        return SETUN_DTYPE_U32;
    }
}

} // namespace detail

/** An array with a type and a shape. */
class tensor : public detail::owner<setun_tensor, setun_tensor_free> {
public:
    using owner::owner;
    /** Zeros. */
    tensor(setun_dtype dtype, span<const std::int64_t> dims)
        : owner(detail::made<setun_tensor>([&](auto out) {
              return setun_tensor_create(dtype, dims.data(), static_cast<std::int32_t>(dims.size()), out);
          }))
    {
    }
    /** A tensor over `data`, which is not copied and has to outlive it. */
    template <class T> static tensor wrap(span<T> data, span<const std::int64_t> dims)
    {
        std::size_t elements = 1;
        for (std::int64_t size : dims)
            elements *= detail::count({size});
        if (elements != data.size())
            detail::fail(SETUN_ERR_SHAPE, "data has " + std::to_string(data.size()) + " elements, its shape " +
                                              std::to_string(elements));
        return tensor(detail::made<setun_tensor>([&](auto out) {
            return setun_tensor_wrap(data.data(), detail::dtype_of<T>(), dims.data(),
                                     static_cast<std::int32_t>(dims.size()), out);
        }));
    }
    template <class T> static tensor wrap(std::vector<T> &data, span<const std::int64_t> dims)
    {
        return wrap(span<T>(data), dims);
    }
    setun_dtype dtype() const
    {
        return static_cast<setun_dtype>(
            detail::said<std::int32_t>([&](auto out) { return setun_tensor_dtype(get(), out); }));
    }
    std::vector<std::int64_t> dims() const
    {
        std::vector<std::int64_t> dims(SETUN_MAX_RANK);
        std::int32_t rank = 0;
        check(setun_tensor_dims(get(), dims.data(), &rank));
        dims.resize(static_cast<std::size_t>(rank));
        return dims;
    }
    std::size_t nbytes() const
    {
        return detail::said<std::size_t>([&](auto out) { return setun_tensor_nbytes(get(), out); });
    }
    /** Copies all elements in. */
    template <class T> void write(span<const T> data) const
    {
        same_type<T>();
        check(setun_tensor_write(get(), data.data(), data.size() * sizeof(T)));
    }
    template <class T> void write(const std::vector<T> &data) const { write(span<const T>(data)); }
    /** Copies all elements out. */
    template <class T> std::vector<T> read() const
    {
        same_type<T>();
        std::vector<T> data(nbytes() / sizeof(T));
        check(setun_tensor_read(get(), data.data(), data.size() * sizeof(T)));
        return data;
    }

private:
    template <class T> void same_type() const
    {
        if (dtype() != detail::dtype_of<T>())
            detail::fail(SETUN_ERR_DTYPE, "the tensor holds setun_dtype " + std::to_string(dtype()) + ", not " +
                                              std::to_string(detail::dtype_of<T>()));
    }
};

/* --- quantize ---------------------------------------------------------------------------------------------------- */

using quantize_options = detail::with_defaults<setun_quantize_options, setun_quantize_options_init>;

inline std::size_t pack_size(std::int64_t rows, std::int64_t columns, setun_packing packing = SETUN_PACKING_TWO_BIT)
{
    return detail::said<std::size_t>([&](auto out) { return setun_pack_size(rows, columns, packing, out); });
}

inline std::int64_t scale_count(std::int64_t rows, std::int64_t columns, std::int64_t group)
{
    return detail::said<std::int64_t>([&](auto out) { return setun_scale_count(rows, columns, group, out); });
}

/** A matrix [rows, columns] as packed trits and scales, in memory of its own. */
struct quantized {
    std::int64_t rows = 0, columns = 0;
    quantize_options options{};
    std::vector<float> scales{};
    std::vector<std::uint8_t> packed{};

    /** Room for the trits of a matrix. */
    quantized(std::int64_t rows_, std::int64_t columns_, const quantize_options &options_)
        : rows(rows_), columns(columns_), options(options_),
          scales(static_cast<std::size_t>(scale_count(rows_, columns_, options_.group)), 1),
          packed(pack_size(rows_, columns_, static_cast<setun_packing>(options_.packing)))
    {
    }
    std::int64_t count() const { return static_cast<std::int64_t>(scales.size()); }
};

inline quantized quantize(span<const float> weights, std::int64_t rows, std::int64_t columns,
                          const quantize_options &options = {})
{
    detail::fits("weights", weights.size(), {rows, columns});
    quantized q(rows, columns, options);
    std::size_t size = q.packed.size();
    check(setun_quantize(weights.data(), rows, columns, &options, q.packed.data(), &size, q.scales.data(), q.count()));
    q.packed.resize(size);
    return q;
}

/** What quantizing `weights` to `q` cost. */
inline setun_quantize_report quantize_measure(span<const float> weights, const quantized &q)
{
    detail::fits("weights", weights.size(), {q.rows, q.columns});
    setun_quantize_report report{};
    report.struct_size = sizeof report;
    check(setun_quantize_measure(weights.data(), q.rows, q.columns, q.packed.data(), q.packed.size(), q.scales.data(),
                                 q.count(), &q.options, &report));
    return report;
}

inline std::vector<float> dequantize(const quantized &q)
{
    std::vector<float> weights(detail::count({q.rows, q.columns}));
    check(setun_dequantize(q.packed.data(), q.packed.size(), q.rows, q.columns, q.scales.data(), q.count(),
                           &q.options, weights.data()));
    return weights;
}

/** Trits of yours, one a byte, with scales of 1. */
inline quantized pack(span<const std::int8_t> trits, std::int64_t rows, std::int64_t columns,
                      const quantize_options &options = {})
{
    detail::fits("trits", trits.size(), {rows, columns});
    quantized q(rows, columns, options);
    std::size_t size = q.packed.size();
    check(setun_pack(trits.data(), rows, columns, &options, q.packed.data(), &size));
    q.packed.resize(size);
    return q;
}

inline std::vector<std::int8_t> unpack(const quantized &q)
{
    std::vector<std::int8_t> trits(detail::count({q.rows, q.columns}));
    check(setun_unpack(q.packed.data(), q.packed.size(), q.rows, q.columns, &q.options, trits.data()));
    return trits;
}

/** Blocks of a setun_gguf_type, of a multiple of 256 weights. */
inline std::vector<std::uint8_t> gguf_encode(std::int32_t type, span<const float> weights)
{
    std::size_t size = 0;
    check(setun_gguf_size(type, static_cast<std::int64_t>(weights.size()), &size));
    std::vector<std::uint8_t> blocks(size);
    check(setun_gguf_encode(type, weights.data(), static_cast<std::int64_t>(weights.size()), blocks.data(), size));
    return blocks;
}

inline std::vector<float> gguf_decode(std::int32_t type, span<const std::uint8_t> blocks, std::int64_t count)
{
    std::vector<float> weights(detail::count({count}));
    check(setun_gguf_decode(type, blocks.data(), blocks.size(), count, weights.data()));
    return weights;
}

/** The same matrix in another packing. */
inline quantized repack(const quantized &q, setun_packing packing)
{
    quantized r = q;
    r.options.packing = packing;
    r.packed.resize(pack_size(q.rows, q.columns, packing));
    std::size_t size = r.packed.size();
    check(setun_repack(q.packed.data(), q.packed.size(), q.rows, q.columns, q.options.packing, &r.options,
                       r.packed.data(), &size));
    r.packed.resize(size);
    return r;
}

/** Codes [m, k] and the scale of each row, [m]. */
inline std::pair<std::vector<std::int8_t>, std::vector<float>>
quantize_activations(span<const float> x, std::int64_t m, std::int64_t k, const quantize_options &options = {})
{
    detail::fits("x", x.size(), {m, k});
    std::vector<std::int8_t> codes(x.size());
    std::vector<float> scales(detail::count({m}));
    check(setun_quantize_activations(x.data(), m, k, &options, codes.data(), scales.data()));
    return {std::move(codes), std::move(scales)};
}

/** y [m, rows] = x [m, columns] * q transposed. */
inline std::vector<float> matmul(span<const float> x, std::int64_t m, const quantized &q)
{
    detail::fits("x", x.size(), {m, q.columns});
    std::vector<float> y(detail::count({m, q.rows}));
    check(setun_matmul(x.data(), m, q.packed.data(), q.packed.size(), q.rows, q.columns, q.scales.data(),
                       q.count(), &q.options, y.data()));
    return y;
}

/** dx [m, columns] = dy [m, rows] * q. */
inline std::vector<float> matmul_backward(span<const float> dy, std::int64_t m, const quantized &q)
{
    detail::fits("dy", dy.size(), {m, q.rows});
    std::vector<float> dx(detail::count({m, q.columns}));
    check(setun_matmul_backward(dy.data(), m, q.packed.data(), q.packed.size(), q.rows, q.columns, q.scales.data(),
                                q.count(), &q.options, dx.data()));
    return dx;
}

/** Codes [n], and a scale for every `block` elements of the gradient g [n]. */
inline std::pair<std::vector<std::int8_t>, std::vector<float>>
quantize_gradients(span<const float> g, std::int64_t block, std::uint64_t seed, std::uint32_t step,
                   std::uint32_t tensor, const quantize_options &options = {})
{
    const auto n = static_cast<std::int64_t>(g.size());
    std::vector<std::int8_t> codes(g.size());
    std::vector<float> scales(block > 0 ? static_cast<std::size_t>(n / block + (n % block != 0)) : 0);
    check(setun_quantize_gradients(g.data(), n, block, seed, step, tensor, &options, codes.data(), scales.data()));
    return {std::move(codes), std::move(scales)};
}

inline std::vector<float> dequantize_gradients(span<const std::int8_t> codes, span<const float> scales,
                                               std::int64_t block, const quantize_options &options = {})
{
    const auto n = static_cast<std::int64_t>(codes.size());
    if (block > 0)
        detail::fits("scales", scales.size(), {block > 0 ? n / block + (n % block != 0) : 0});
    std::vector<float> g(codes.size());
    check(setun_dequantize_gradients(codes.data(), scales.data(), n, block, &options, g.data()));
    return g;
}

/** Packed trits [ceil(n / 4)] of g [n] + error [n], and a scale for every `block` elements; what they lose is left in
    `error`. */
inline std::pair<std::vector<std::uint8_t>, std::vector<float>>
ternarize_gradients(span<const float> g, span<float> error, std::int64_t block, const quantize_options &options = {})
{
    const auto n = static_cast<std::int64_t>(g.size());
    detail::fits("error", error.size(), {n});
    std::vector<std::uint8_t> packed((g.size() + 3) / 4);
    std::vector<float> scales(block > 0 ? static_cast<std::size_t>(n / block + (n % block != 0)) : 0);
    std::size_t size = packed.size();
    check(setun_ternarize_gradients(g.data(), n, block, &options, error.data(), packed.data(), &size, scales.data()));
    return {std::move(packed), std::move(scales)};
}

inline std::vector<float> deternarize_gradients(span<const std::uint8_t> packed, span<const float> scales,
                                                std::int64_t n, std::int64_t block,
                                                const quantize_options &options = {})
{
    if (block > 0)
        detail::fits("scales", scales.size(), {n / block + (n % block != 0)});
    std::vector<float> g(detail::count({n}));
    check(setun_deternarize_gradients(packed.data(), packed.size(), scales.data(), n, block, &options, g.data()));
    return g;
}

/** How many trits are -1, 0 and +1. */
inline std::vector<std::int64_t> trit_histogram(const quantized &q)
{
    std::vector<std::int64_t> counts(3);
    check(setun_trit_histogram(q.packed.data(), q.packed.size(), q.rows, q.columns, &q.options, counts.data()));
    return counts;
}

/** A packed weight matrix, checked once. */
class packed : public detail::owner<setun_packed, setun_packed_free> {
public:
    using owner::owner;
    explicit packed(const tensor &w, const quantize_options &options = {}, const context &where = {})
        : owner(detail::made<setun_packed>(
              [&](auto out) { return setun_packed_create(where.get(), w.get(), &options, out); }))
    {
    }
    void matmul(const tensor &x, tensor &y) const { check(setun_packed_matmul(get(), x.get(), y.get())); }
    void dequantize(tensor &w) const { check(setun_packed_dequantize(get(), w.get())); }
    /** What packing w cost. */
    setun_quantize_report measure(const tensor &w) const
    {
        auto report = detail::empty<setun_quantize_report>();
        check(setun_packed_measure(get(), w.get(), &report));
        return report;
    }
    /** Writes the scales: as many as `scale_count` says. */
    void scales(span<float> to) const
    {
        check(setun_packed_scales(get(), to.data(), static_cast<std::int64_t>(to.size())));
    }
    std::size_t nbytes() const
    {
        return detail::said<std::size_t>([&](auto out) { return setun_packed_nbytes(get(), out); });
    }
};

/* --- file -------------------------------------------------------------------------------------------------------- */

/** Packed matrices and tensors: of a .npy or .safetensors file, or, made without a path, of one to be saved. */
class file : public detail::owner<setun_file, setun_file_free> {
public:
    using owner::owner;
    file() : owner(detail::made<setun_file>([](auto out) { return setun_file_create(out); })) {}
    explicit file(const std::string &path)
        : owner(detail::made<setun_file>(
              [&](auto out) { return setun_file_open(detail::c_string("path", path), out); }))
    {
    }
    std::int64_t count() const
    {
        return detail::said<std::int64_t>([&](auto out) { return setun_file_count(get(), out); });
    }
    std::string name(std::int64_t index) const
    {
        return detail::sentence([&](char *text, std::size_t capacity, std::size_t *bytes) {
            return setun_file_name(get(), index, text, capacity, bytes);
        });
    }
    std::int64_t find(const std::string &name) const
    {
        return detail::said<std::int64_t>(
            [&](auto out) { return setun_file_find(get(), detail::c_string("name", name), out); });
    }
    setun_file_entry describe(std::int64_t index) const
    {
        auto entry = detail::empty<setun_file_entry>();
        check(setun_file_describe(get(), index, &entry));
        return entry;
    }
    tensor read(std::int64_t index) const
    {
        return tensor(detail::made<setun_tensor>([&](auto out) { return setun_file_read(get(), index, out); }));
    }
    packed read_packed(std::int64_t index, const context &where = {}) const
    {
        return packed(detail::made<setun_packed>(
            [&](auto out) { return setun_file_read_packed(get(), index, where.get(), out); }));
    }
    void add(const std::string &name, const tensor &value)
    {
        check(setun_file_add(get(), detail::c_string("name", name), value.get()));
    }
    void add(const std::string &name, const packed &value)
    {
        check(setun_file_add_packed(get(), detail::c_string("name", name), value.get()));
    }
    /** Writes a .safetensors file, and returns its size in bytes. */
    std::size_t save(const std::string &path) const
    {
        return detail::said<std::size_t>(
            [&](auto out) { return setun_file_save(get(), detail::c_string("path", path), out); });
    }
};

/* --- cluster ----------------------------------------------------------------------------------------------------- */

using kmeans_options = detail::with_defaults<setun_kmeans_options, setun_kmeans_options_init>;

/** Labels [n], centroids [k, d], and the sum of weight * squared distance. */
struct clustering {
    std::vector<std::int32_t> labels{};
    std::vector<float> centroids{};
    double inertia = 0;
};

/** Exact k-means of the points x [n, d]. `progress`, unless empty, takes the place of the options' callback. */
inline clustering cluster(span<const float> x, std::int64_t n, std::int64_t d, std::int64_t k,
                          const setun_kmeans_options &options = kmeans_options(), kmeans_function progress = {})
{
    detail::fits("x", x.size(), {n, d});
    detail::kmeans_call call{std::move(progress), nullptr};
    setun_kmeans_options told = options;
    if (call.function) {
        told.progress = detail::setun_hpp_kmeans;
        told.user_data = &call;
    }
    clustering result;
    result.labels.resize(detail::count({n}));
    result.centroids.resize(detail::count({k, d}));
    const setun_status status =
        setun_cluster(x.data(), n, d, k, &told, result.labels.data(), result.centroids.data(), &result.inertia);
    call.rethrow();
    check(status);
    return result;
}

/** A k-means: its options, and its centroids once there are some. */
class kmeans : public detail::owner<setun_kmeans, setun_kmeans_free> {
public:
    using owner::owner;
    explicit kmeans(std::int64_t k, const setun_kmeans_options &options = kmeans_options(),
                    kmeans_function progress = {})
        : call_(std::make_unique<detail::kmeans_call>(detail::kmeans_call{std::move(progress), nullptr}))
    {
        setun_kmeans_options told = options;
        if (call_->function) {
            told.progress = detail::setun_hpp_kmeans;
            told.user_data = call_.get();
        }
        static_cast<owner &>(*this) =
            owner(detail::made<setun_kmeans>([&](auto out) { return setun_kmeans_create(k, &told, out); }));
    }
    /** The labels of the points x [n, d]; `weights` [n], or none. */
    std::vector<std::int32_t> fit(span<const float> x, std::int64_t n, std::int64_t d, span<const float> weights = {})
    {
        return fitted(setun_kmeans_fit, x, n, d, weights);
    }
    /** Takes the points as a batch of a stream; their labels by the centroids before. */
    std::vector<std::int32_t> partial_fit(span<const float> x, std::int64_t n, std::int64_t d,
                                          span<const float> weights = {})
    {
        return fitted(setun_kmeans_partial_fit, x, n, d, weights);
    }
    void set_centroids(span<const float> centroids, std::int64_t d)
    {
        detail::fits("centroids", centroids.size(), {shape().first, d});
        check(setun_kmeans_set_centroids(get(), centroids.data(), d));
    }
    /** The nearest centroids of points x [n, d], and their squared distances. */
    std::pair<std::vector<std::int32_t>, std::vector<float>> assign(span<const float> x, std::int64_t n,
                                                                    std::int64_t d) const
    {
        detail::fits("x", x.size(), {n, d});
        std::vector<std::int32_t> labels(detail::count({n}));
        std::vector<float> distances(labels.size());
        check(setun_kmeans_assign(get(), x.data(), n, d, labels.data(), distances.data()));
        return {std::move(labels), std::move(distances)};
    }
    /** The m nearest centroids of points x [n, d], nearest first, and their squared distances, both [n, m]. */
    std::pair<std::vector<std::int32_t>, std::vector<float>> nearest(span<const float> x, std::int64_t n,
                                                                     std::int64_t d, std::int64_t m) const
    {
        return looked_up(x, n, d, m, [&](auto labels, auto distances) {
            return setun_kmeans_nearest(get(), x.data(), n, d, m, labels, distances);
        });
    }
    /** The same with weights that fall as distance^-sharpness and add up to 1, instead of distances. */
    std::pair<std::vector<std::int32_t>, std::vector<float>> route(span<const float> x, std::int64_t n, std::int64_t d,
                                                                   std::int64_t m, double sharpness) const
    {
        return looked_up(x, n, d, m, [&](auto labels, auto weights) {
            return setun_kmeans_route(get(), x.data(), n, d, m, sharpness, labels, weights);
        });
    }
    /** k and d. */
    std::pair<std::int64_t, std::int64_t> shape() const
    {
        std::pair<std::int64_t, std::int64_t> shape;
        check(setun_kmeans_shape(get(), &shape.first, &shape.second));
        return shape;
    }
    std::vector<float> centroids() const
    {
        const auto [k, d] = shape();
        std::vector<float> centroids(detail::count({k, d}));
        check(setun_kmeans_centroids(get(), centroids.data(), k * d));
        return centroids;
    }
    double inertia() const
    {
        return detail::said<double>([&](auto out) { return setun_kmeans_inertia(get(), out); });
    }
    kmeans_report report() const
    {
        auto result = detail::empty<kmeans_report>();
        check(setun_kmeans_last_report(get(), &result));
        return result;
    }

private:
    template <class Call>
    std::pair<std::vector<std::int32_t>, std::vector<float>> looked_up(span<const float> x, std::int64_t n,
                                                                       std::int64_t d, std::int64_t m, Call call) const
    {
        detail::fits("x", x.size(), {n, d});
        std::vector<std::int32_t> labels(detail::count({n, m}));
        std::vector<float> numbers(labels.size());
        check(call(labels.data(), numbers.data()));
        return {std::move(labels), std::move(numbers)};
    }
    template <class Call>
    std::vector<std::int32_t> fitted(Call call, span<const float> x, std::int64_t n, std::int64_t d,
                                     span<const float> weights)
    {
        detail::fits("x", x.size(), {n, d});
        if (weights.size() != 0)
            detail::fits("weights", weights.size(), {n});
        std::vector<std::int32_t> labels(detail::count({n}));
        const setun_status status =
            call(get(), x.data(), n, d, weights.size() != 0 ? weights.data() : nullptr, labels.data());
        if (call_)
            call_->rethrow();
        check(status);
        return labels;
    }
    std::unique_ptr<detail::kmeans_call> call_;
};

/* --- text vectors ------------------------------------------------------------------------------------------------ */

using tfidf_options = detail::with_defaults<setun_tfidf_options, setun_tfidf_options_init>;

/** Documents of a text: where each begins and ends. */
struct places {
    std::vector<std::int64_t> begins{};
    std::vector<std::int64_t> ends{};
};

/** Windows of about `window` bytes, about every `stride` bytes, that cut no word. */
inline places text_windows(std::string_view text, std::int64_t window, std::int64_t stride)
{
    const auto cut = [&](places &to) {
        return detail::said<std::int64_t>([&](auto out) {
            const bool counts = to.begins.empty();
            return setun_text_windows(text.data(), text.size(), window, stride, counts ? nullptr : to.begins.data(),
                                      counts ? nullptr : to.ends.data(), static_cast<std::int64_t>(to.begins.size()), out);
        });
    };
    places result;
    const std::size_t count = detail::count({cut(result)});
    result.begins.resize(count);
    result.ends.resize(count);
    if (count != 0)
        cut(result);
    return result;
}

/** Documents as points for k-means: hashed TF-IDF vectors. */
class tfidf : public detail::owner<setun_tfidf, setun_tfidf_free> {
public:
    using owner::owner;
    explicit tfidf(const setun_tfidf_options &options)
        : owner(detail::made<setun_tfidf>([&](auto out) { return setun_tfidf_create(&options, out); }))
    {
    }
    /** Learns how rare terms are; what was learned before is forgotten. */
    void fit(std::string_view text, span<const std::int64_t> begins, span<const std::int64_t> ends)
    {
        check(setun_tfidf_fit(get(), text.data(), text.size(), begins.data(), ends.data(), count(begins, ends)));
    }
    /** Learns from more documents. */
    void partial_fit(std::string_view text, span<const std::int64_t> begins, span<const std::int64_t> ends)
    {
        check(setun_tfidf_partial_fit(get(), text.data(), text.size(), begins.data(), ends.data(), count(begins, ends)));
    }
    /** The vectors [n, dimensions] of documents. */
    std::vector<float> transform(std::string_view text, span<const std::int64_t> begins,
                                 span<const std::int64_t> ends) const
    {
        const std::int64_t n = count(begins, ends);
        std::vector<float> x(detail::count({n, dimensions()}));
        check(setun_tfidf_transform(get(), text.data(), text.size(), begins.data(), ends.data(), n, x.data()));
        return x;
    }
    std::int64_t dimensions() const
    {
        return detail::said<std::int64_t>([&](auto out) { return setun_tfidf_dimensions(get(), out); });
    }
    std::vector<float> idf() const
    {
        std::vector<float> idf(detail::count({dimensions()}));
        check(setun_tfidf_idf(get(), idf.data(), static_cast<std::int64_t>(idf.size())));
        return idf;
    }
    void set_idf(span<const float> idf)
    {
        check(setun_tfidf_set_idf(get(), idf.data(), static_cast<std::int64_t>(idf.size())));
    }

private:
    static std::int64_t count(span<const std::int64_t> begins, span<const std::int64_t> ends)
    {
        const auto n = static_cast<std::int64_t>(begins.size());
        detail::fits("ends", ends.size(), {n});
        return n;
    }
};

/* --- codebook ---------------------------------------------------------------------------------------------------- */

using codebook_options = detail::with_defaults<setun_codebook_options, setun_codebook_options_init>;

/** Ascending entries [k], labels [n], and the sum of weight * squared error. */
struct codebook {
    std::vector<float> entries{};
    std::vector<std::int32_t> labels{};
    double inertia = 0;
};

/** The k entries that the numbers x are best written by. */
inline codebook codebook_fit(span<const float> x, std::int64_t k, const setun_codebook_options &options = codebook_options())
{
    codebook result;
    result.entries.resize(detail::count({k}));
    result.labels.resize(x.size());
    check(setun_codebook_fit(x.data(), static_cast<std::int64_t>(x.size()), k, &options, result.entries.data(),
                             result.labels.data(), &result.inertia));
    return result;
}

inline std::size_t codebook_size(std::int64_t n, std::int64_t k)
{
    return detail::said<std::size_t>([&](auto out) { return setun_codebook_size(n, k, out); });
}

/** The codes of the nearest entries: two a byte for up to 16 entries, else one. */
inline std::vector<std::uint8_t> codebook_pack(span<const float> x, span<const float> entries,
                                               const setun_context *context = nullptr)
{
    const auto n = static_cast<std::int64_t>(x.size()), k = static_cast<std::int64_t>(entries.size());
    std::vector<std::uint8_t> packed(codebook_size(n, k));
    check(setun_codebook_pack(context, x.data(), n, entries.data(), k, packed.data(), packed.size()));
    return packed;
}

/** The inverse: the entries of n codes. */
inline std::vector<float> codebook_unpack(span<const std::uint8_t> packed, std::int64_t n, span<const float> entries,
                                          const setun_context *context = nullptr)
{
    std::vector<float> y(detail::count({n}));
    check(setun_codebook_unpack(context, packed.data(), packed.size(), n, entries.data(),
                                static_cast<std::int64_t>(entries.size()), y.data()));
    return y;
}

/* --- step -------------------------------------------------------------------------------------------------------- */

using optimizer_options = detail::with_defaults<setun_optimizer_options, setun_optimizer_options_init>;
using parameter_options = detail::with_defaults<setun_parameter_options, setun_parameter_options_init>;
using step_report = setun_step_report;

/** One step of `parameters` [n]; `moments` [2, n] is what the steps so far have left, 0 before the first. */
inline step_report step(span<float> parameters, span<const float> gradient, span<float> moments, std::int64_t number,
                        const setun_optimizer_options &options = optimizer_options())
{
    const auto n = static_cast<std::int64_t>(parameters.size());
    detail::fits("gradient", gradient.size(), {n});
    detail::fits("moments", moments.size(), {2, n});
    auto report = detail::empty<step_report>();
    check(setun_step(parameters.data(), gradient.data(), n, moments.data(), number, &options, &report));
    return report;
}

/** A small network that adapts the learning rate. */
class lr_net : public detail::owner<setun_lr_net, setun_lr_net_free> {
public:
    using owner::owner;
    static constexpr std::size_t weight_count = 133, feature_count = 9;
    explicit lr_net(const setun_lr_net_options &options)
        : owner(detail::made<setun_lr_net>([&](auto out) { return setun_lr_net_create(&options, out); }))
    {
    }
    /** The loss of a step, before its factors. */
    void observe_loss(double loss) { check(setun_lr_net_observe_loss(get(), loss)); }
    /** What to multiply the learning rate of a parameter by in its next step. */
    double factor(const setun_lr_net_observation &seen, std::int64_t index = 0)
    {
        return detail::said<double>([&](auto out) { return setun_lr_net_factor(get(), index, &seen, out); });
    }
    /** What the network sees; NaN for a number that is none. */
    std::vector<double> features(const setun_lr_net_observation &seen) const
    {
        std::vector<double> found(feature_count);
        check(setun_lr_net_features(get(), &seen, found.data()));
        return found;
    }
    /** What became of the last step s: -g . s / (|g| |s|), with the gradient g after it. */
    void learn(double hypergradient, std::int64_t index = 0) { check(setun_lr_net_learn(get(), index, hypergradient)); }
    std::vector<double> weights() const
    {
        std::vector<double> found(weight_count);
        check(setun_lr_net_weights(get(), found.data(), static_cast<std::int64_t>(found.size())));
        return found;
    }
    void set_weights(span<const double> weights)
    {
        check(setun_lr_net_set_weights(get(), weights.data(), static_cast<std::int64_t>(weights.size())));
    }
    void save(const std::string &path) const { check(setun_lr_net_save(get(), detail::c_string("path", path))); }
    void load(const std::string &path) { check(setun_lr_net_load(get(), detail::c_string("path", path))); }
    /** Forgets losses and parameters, for another run; the weights stay. */
    void reset() { check(setun_lr_net_reset(get())); }
};

/** Steps many parameters as one. */
class optimizer : public detail::owner<setun_optimizer, setun_optimizer_free> {
public:
    using owner::owner;
    explicit optimizer(const setun_optimizer_options &options)
        : owner(detail::made<setun_optimizer>([&](auto out) { return setun_optimizer_create(&options, out); }))
    {
    }
    /** A parameter of yours, which is not copied and has to outlive the optimizer. */
    void add(const std::string &name, span<float> data, span<const std::int64_t> dims,
             const setun_parameter_options &options = parameter_options())
    {
        std::size_t elements = 1;
        for (std::int64_t size : dims)
            elements *= detail::count({size});
        if (elements != data.size())
            detail::fail(SETUN_ERR_SHAPE, name + " has " + std::to_string(data.size()) + " elements, its shape " +
                                              std::to_string(elements));
        check(setun_optimizer_add(get(), detail::c_string("name", name), data.data(), dims.data(),
                                  static_cast<std::int32_t>(dims.size()), &options));
        sizes_.push_back(data.size());
    }
    /** A ternary parameter of codes of 8 bits that are the optimizer's own. */
    void add_compact(const std::string &name, span<const float> initial, span<const std::int64_t> dims,
                     const setun_parameter_options &options = parameter_options())
    {
        std::size_t elements = 1;
        for (std::int64_t size : dims)
            elements *= detail::count({size});
        if (elements != initial.size())
            detail::fail(SETUN_ERR_SHAPE, name + " has " + std::to_string(initial.size()) + " elements, its shape " +
                                              std::to_string(elements));
        check(setun_optimizer_add_compact(get(), detail::c_string("name", name), initial.data(), dims.data(),
                                          static_cast<std::int32_t>(dims.size()), &options));
        sizes_.push_back(initial.size());
    }
    /** The floats of a parameter, also of codes. */
    std::vector<float> read(std::int64_t index) const
    {
        const bool known = index >= 0 && static_cast<std::size_t>(index) < sizes_.size();
        std::vector<float> floats(known ? sizes_[static_cast<std::size_t>(index)] : 0);
        check(setun_optimizer_read(get(), index, floats.data(), static_cast<std::int64_t>(floats.size())));
        return floats;
    }
    /** A copy of the network, whose factors multiply learning rates and radii. */
    void set_lr_net(const lr_net &net) { check(setun_optimizer_set_lr_net(get(), net.get())); }
    /** A copy of its network, with what it has learned. */
    lr_net copy_lr_net() const
    {
        return lr_net(detail::made<setun_lr_net>([&](auto out) { return setun_optimizer_lr_net(get(), out); }));
    }
    /** Under the guard, of a batch with this loss. */
    step_report step(span<const span<const float>> gradients, double loss)
    {
        const auto all = pointers(gradients);
        auto report = detail::empty<step_report>();
        check(setun_optimizer_step_guarded(get(), all.data(), static_cast<std::int64_t>(all.size()), loss, &report));
        return report;
    }
    /** Whether the step whose report says check_due was undone, by the losses of its batch's parts before and after it. */
    bool judge(span<const float> before, span<const float> after)
    {
        detail::fits("after", after.size(), {static_cast<std::int64_t>(before.size())});
        std::int32_t undone = 0;
        check(setun_optimizer_judge(get(), before.data(), after.data(), static_cast<std::int64_t>(before.size()), &undone));
        return undone != 0;
    }
    /** Along one gradient for each parameter, in the order in which they were added. */
    step_report step(span<const span<const float>> gradients)
    {
        const auto all = pointers(gradients);
        auto report = detail::empty<step_report>();
        check(setun_optimizer_step(get(), all.data(), static_cast<std::int64_t>(all.size()), &report));
        return report;
    }
    /** Of one parameter; -1: of all. */
    step_report report(std::int64_t index = -1) const
    {
        auto report = detail::empty<step_report>();
        check(setun_optimizer_report(get(), index, &report));
        return report;
    }
    double radius() const
    {
        return detail::said<double>([&](auto out) { return setun_optimizer_radius(get(), out); });
    }
    void set_radius(double radius) { check(setun_optimizer_set_radius(get(), radius)); }
    void set_learning_rate(double rate) { check(setun_optimizer_set_learning_rate(get(), rate)); }
    std::size_t state_bytes() const
    {
        return detail::said<std::size_t>([&](auto out) { return setun_optimizer_state_bytes(get(), out); });
    }
    void save(const std::string &path) const { check(setun_optimizer_save(get(), detail::c_string("path", path))); }
    void load(const std::string &path) { check(setun_optimizer_load(get(), detail::c_string("path", path))); }

private:
    std::vector<const float *> pointers(span<const span<const float>> gradients) const
    {
        std::vector<const float *> all;
        for (std::size_t i = 0; i < gradients.size(); i++) {
            if (i < sizes_.size())
                detail::fits("a gradient", gradients[i].size(), {static_cast<std::int64_t>(sizes_[i])});
            all.push_back(gradients[i].data());
        }
        return all;
    }

    std::vector<std::size_t> sizes_;
};

using lr_net_options = detail::with_defaults<setun_lr_net_options, setun_lr_net_options_init>;

/** What the network is told of a parameter: all 0, and a matrix. */
struct lr_net_observation : setun_lr_net_observation {
    lr_net_observation() : setun_lr_net_observation(detail::empty<setun_lr_net_observation>()) {}
};

/* --- problem ----------------------------------------------------------------------------------------------------- */

using problem_options = detail::with_defaults<setun_problem_options, setun_problem_options_init>;

/** A function of n variables to minimise, and its constraints. */
class problem : public detail::owner<setun_problem, setun_problem_free> {
public:
    using owner::owner;
    problem(std::int64_t n, objective_function objective, gradient_function gradient, product_function product = {})
        : n_(n), calls_(std::make_unique<detail::problem_calls>())
    {
        calls_->objective.function = std::move(objective);
        calls_->gradient.function = std::move(gradient);
        calls_->product.function = std::move(product);
        const auto with_product = calls_->product.function ? detail::setun_hpp_product : nullptr;
        static_cast<owner &>(*this) = owner(detail::made<setun_problem>([&](auto out) {
            return setun_problem_create(n, detail::setun_hpp_objective, detail::setun_hpp_gradient, with_product,
                                        calls_.get(), out);
        }));
    }
    /** lower <= x <= upper; an empty one: none on that side. */
    void bounds(span<const double> lower, span<const double> upper)
    {
        const double *const low = side("lower", lower, n_), *const high = side("upper", upper, n_);
        check(setun_problem_bounds(get(), low, high));
    }
    void ball(span<const double> centre, double radius)
    {
        fits("centre", centre.size(), 1);
        check(setun_problem_ball(get(), centre.data(), radius));
    }
    /** a x = b, a [m, n]. */
    void equalities(span<const double> a, span<const double> b)
    {
        const auto m = static_cast<std::int64_t>(b.size());
        fits("a", a.size(), m);
        check(setun_problem_equalities(get(), a.data(), b.data(), m));
    }
    /** lower <= a x <= upper, a [m, n]; an empty one: no limits on that side. */
    void inequalities(span<const double> a, span<const double> lower, span<const double> upper)
    {
        const auto m = static_cast<std::int64_t>(lower.size() != 0 ? lower.size() : upper.size());
        fits("a", a.size(), m);
        const double *const low = side("lower", lower, m), *const high = side("upper", upper, m);
        check(setun_problem_inequalities(get(), a.data(), low, high, m));
    }
    /** Minimises from x, which becomes the best point found. */
    problem_report solve(span<double> x, const setun_problem_options &options = problem_options(),
                         problem_function progress = {})
    {
        fits("x", x.size(), 1);
        detail::problem_call call{std::move(progress), nullptr};
        setun_problem_options told = options;
        if (call.function) {
            told.progress = detail::setun_hpp_problem;
            told.user_data = &call;
        }
        auto report = detail::empty<problem_report>();
        const setun_status status = setun_problem_solve(get(), x.data(), &told, &report);
        call.rethrow();
        if (calls_)
            calls_->rethrow();
        check(status);
        return report;
    }

private:
    /** `count` rows of n, where n is known: not of a handle that was made elsewhere. */
    void fits(const char *name, std::size_t size, std::int64_t count) const
    {
        if (n_ != 0)
            detail::fits(name, size, {count, n_});
    }
    const double *side(const char *name, span<const double> numbers, std::int64_t count) const
    {
        if (numbers.size() == 0)
            return nullptr;
        if (count != 0)
            detail::fits(name, numbers.size(), {count});
        return numbers.data();
    }
    std::int64_t n_ = 0;
    std::unique_ptr<detail::problem_calls> calls_;
};

/** A step of a trust region, its multiplier, and what it adds to the model. */
struct trust_region_step {
    std::vector<double> step;
    double multiplier;
    double value;
};

/** The least gradient's + s'(hessian)s/2 in |s| <= radius; hessian [n, n]. */
inline trust_region_step trust_region_subproblem(span<const double> gradient, span<const double> hessian, double radius)
{
    const auto n = static_cast<std::int64_t>(gradient.size());
    detail::fits("hessian", hessian.size(), {n, n});
    trust_region_step result{std::vector<double>(gradient.size()), 0, 0};
    check(setun_trust_region_subproblem(gradient.data(), hessian.data(), n, radius, result.step.data(),
                                        &result.multiplier, &result.value));
    return result;
}

/* --- text -------------------------------------------------------------------------------------------------------- */

/** Text to tokens and back. */
class tokenizer : public detail::owner<setun_tokenizer, setun_tokenizer_free> {
public:
    using owner::owner;
    /** For the text at `path`; `vocabulary` is for byte-pair encoding. */
    static tokenizer train(setun_tokenizer_kind kind, const std::string &path, std::int64_t vocabulary = 1024)
    {
        return tokenizer(detail::made<setun_tokenizer>([&](auto out) {
            return setun_tokenizer_train(kind, detail::c_string("path", path), vocabulary, out);
        }));
    }
    static tokenizer load(const std::string &path)
    {
        return tokenizer(detail::made<setun_tokenizer>(
            [&](auto out) { return setun_tokenizer_load(detail::c_string("path", path), out); }));
    }
    void save(const std::string &path) const { check(setun_tokenizer_save(get(), detail::c_string("path", path))); }
    std::int64_t vocabulary() const
    {
        return detail::said<std::int64_t>([&](auto out) { return setun_tokenizer_vocabulary(get(), out); });
    }
    std::vector<std::uint32_t> encode(std::string_view text) const
    {
        std::int64_t count = 0;
        check(setun_tokenizer_encode(get(), text.data(), text.size(), nullptr, 0, &count));
        std::vector<std::uint32_t> tokens(static_cast<std::size_t>(count));
        check(setun_tokenizer_encode(get(), text.data(), text.size(), tokens.data(), count, &count));
        return tokens;
    }
    /** The bytes of the tokens; they may end inside a UTF-8 character. */
    std::string decode(span<const std::uint32_t> tokens) const
    {
        std::size_t bytes = 0;
        const auto count = static_cast<std::int64_t>(tokens.size());
        check(setun_tokenizer_decode(get(), tokens.data(), count, nullptr, 0, &bytes));
        std::string text(bytes, '\0');
        check(setun_tokenizer_decode(get(), tokens.data(), count, text.data(), text.size(), &bytes));
        return text;
    }
};

/** The tokens of a text. */
class dataset : public detail::owner<setun_dataset, setun_dataset_free> {
public:
    using owner::owner;
    static dataset open(const std::string &path, const tokenizer &tokenizer, double validation_fraction = .1)
    {
        return dataset(detail::made<setun_dataset>([&](auto out) {
            return setun_dataset_open(detail::c_string("path", path), tokenizer.get(), validation_fraction, out);
        }));
    }
    static dataset from_tokens(span<const std::uint32_t> tokens, std::int64_t vocabulary,
                               double validation_fraction = .1)
    {
        return dataset(detail::made<setun_dataset>([&](auto out) {
            return setun_dataset_from_tokens(tokens.data(), static_cast<std::int64_t>(tokens.size()), vocabulary,
                                             validation_fraction, out);
        }));
    }
    std::int64_t tokens(setun_split split) const
    {
        return detail::said<std::int64_t>([&](auto out) { return setun_dataset_tokens(get(), split, out); });
    }
    /** The tokens and targets, both [batch, length], that a training step without clusters would draw. */
    std::pair<std::vector<std::uint32_t>, std::vector<std::uint32_t>>
    batch(setun_split split, std::uint64_t seed, std::uint64_t step, std::int64_t batch, std::int64_t length) const
    {
        std::vector<std::uint32_t> tokens(detail::count({batch, length})), targets(tokens.size());
        check(setun_dataset_batch(get(), split, seed, step, batch, length, tokens.data(), targets.data()));
        return {std::move(tokens), std::move(targets)};
    }
};

/* --- model ------------------------------------------------------------------------------------------------------- */

using model_options = detail::with_defaults<setun_model_options, setun_model_options_init>;
using save_options = detail::with_defaults<setun_save_options, setun_save_options_init>;
using backward_options = detail::with_defaults<setun_backward_options, setun_backward_options_init>;

/** What a parameter tensor of a model is. */
struct parameter_description {
    std::string name;
    setun_parameter_kind kind;
    std::vector<std::int64_t> dims;
};

/** A transformer and its parameters. */
class model : public detail::owner<setun_model, setun_model_free> {
public:
    using owner::owner;
    /** Random weights. */
    explicit model(const setun_model_options &options, const context &where = {})
        : owner(detail::made<setun_model>([&](auto out) { return setun_model_create(where.get(), &options, out); }))
    {
    }
    static model load(const std::string &path, const context &where = {})
    {
        return model(detail::made<setun_model>(
            [&](auto out) { return setun_model_load(where.get(), detail::c_string("path", path), out); }));
    }
    /** A copy that can be trained: of what was loaded packed, or with weights of the other kind. */
    model copy(bool quantize_weights = true) const
    {
        return model(
            detail::made<setun_model>([&](auto out) { return setun_model_copy(get(), quantize_weights ? 1 : 0, out); }));
    }
    file_report save(const std::string &path, const setun_save_options &options = save_options()) const
    {
        auto report = detail::empty<file_report>();
        check(setun_model_save(get(), detail::c_string("path", path), &options, &report));
        return report;
    }
    model_options describe() const
    {
        model_options options;
        check(setun_model_describe(get(), &options));
        return options;
    }
    std::int64_t parameters() const
    {
        return detail::said<std::int64_t>([&](auto out) { return setun_model_parameters(get(), out); });
    }
    std::int64_t tensor_count() const
    {
        return detail::said<std::int64_t>([&](auto out) { return setun_model_tensor_count(get(), out); });
    }
    /** The name of parameter tensor `index`, and a copy of it. */
    std::pair<std::string, setun::tensor> tensor(std::int64_t index) const
    {
        const char *name = nullptr;
        setun::tensor copy(
            detail::made<setun_tensor>([&](auto out) { return setun_model_tensor(get(), index, &name, out); }));
        return {name, std::move(copy)};
    }
    /** Logits [batch, length, vocabulary]. */
    std::vector<float> forward(span<const std::uint32_t> tokens, std::int64_t batch, std::int64_t length) const
    {
        detail::fits("tokens", tokens.size(), {batch, length});
        std::vector<float> logits(detail::count({batch, length, describe().vocabulary}));
        check(setun_model_forward(get(), tokens.data(), batch, length, logits.data()));
        return logits;
    }
    double loss(span<const std::uint32_t> tokens, span<const std::uint32_t> targets, std::int64_t batch,
                std::int64_t length) const
    {
        detail::fits("tokens", tokens.size(), {batch, length});
        detail::fits("targets", targets.size(), {batch, length});
        return detail::said<double>(
            [&](auto out) { return setun_model_loss(get(), tokens.data(), targets.data(), batch, length, out); });
    }
    /** What parameter tensor `index` is, without a copy. */
    parameter_description describe(std::int64_t index) const
    {
        const char *name = nullptr;
        std::int32_t kind = 0, rank = 0;
        std::int64_t dims[SETUN_MAX_RANK];
        check(setun_model_tensor_describe(get(), index, &name, &kind, dims, &rank));
        return {name, static_cast<setun_parameter_kind>(kind), std::vector<std::int64_t>(dims, dims + rank)};
    }
    /** Copies parameter tensor `index` to `values`, which has as many floats. */
    void read(std::int64_t index, span<float> values) const
    {
        check(setun_model_tensor_read(get(), index, values.data(), static_cast<std::int64_t>(values.size())));
    }
    /** Overwrites parameter tensor `index`; its trits follow. */
    void write(std::int64_t index, span<const float> values)
    {
        check(setun_model_tensor_write(get(), index, values.data(), static_cast<std::int64_t>(values.size())));
    }
    /** The mean loss; its gradients go to one array for each parameter tensor. */
    double backward(span<const std::uint32_t> tokens, span<const std::uint32_t> targets, std::int64_t batch,
                    std::int64_t length, span<const span<float>> gradients,
                    const setun_backward_options &options = backward_options())
    {
        detail::fits("tokens", tokens.size(), {batch, length});
        detail::fits("targets", targets.size(), {batch, length});
        if (sizes_.empty())
            for (std::int64_t index = 0, count = tensor_count(); index < count; index++) {
                std::size_t elements = 1;
                for (std::int64_t size : describe(index).dims)
                    elements *= detail::count({size});
                sizes_.push_back(elements);
            }
        std::vector<float *> pointers;
        for (std::size_t i = 0; i < gradients.size(); i++) {
            if (i < sizes_.size())
                detail::fits("a gradient", gradients[i].size(), {static_cast<std::int64_t>(sizes_[i])});
            pointers.push_back(gradients[i].data());
        }
        return detail::said<double>([&](auto out) {
            return setun_model_backward(get(), tokens.data(), targets.data(), batch, length, &options, out,
                                        pointers.data(), static_cast<std::int64_t>(pointers.size()));
        });
    }

private:
    std::vector<std::size_t> sizes_;
};

/* --- train ------------------------------------------------------------------------------------------------------- */

using train_options = detail::with_defaults<setun_train_options, setun_train_options_init>;

/** What `train` makes. */
struct trained {
    setun::model model;
    setun::tokenizer tokenizer;
};

/** From the text at `path` to a model. `progress`, unless empty, takes the place of the options' callback. */
inline trained train(const std::string &path, const setun_train_options &options = train_options(),
                     progress_function progress = {})
{
    detail::progress_call call{std::move(progress), nullptr};
    setun_train_options told = options;
    if (call.function) {
        told.progress = detail::setun_hpp_progress;
        told.user_data = &call;
    }
    setun_model *model = nullptr;
    setun_tokenizer *made = nullptr;
    const setun_status status = setun_train(detail::c_string("path", path), &told, &model, &made);
    trained result{setun::model(model), tokenizer(made)};
    call.rethrow();
    check(status);
    return result;
}

/** A training run. */
class trainer : public detail::owner<setun_trainer, setun_trainer_free> {
public:
    using owner::owner;
    trainer(model &model, const dataset &dataset, const tokenizer &tokenizer,
            const setun_train_options &options = train_options(), progress_function progress = {})
        : call_(std::make_unique<detail::progress_call>(detail::progress_call{std::move(progress), nullptr}))
    {
        setun_train_options told = options;
        if (call_->function) {
            told.progress = detail::setun_hpp_progress;
            told.user_data = call_.get();
        }
        static_cast<owner &>(*this) = owner(detail::made<setun_trainer>([&](auto out) {
            return setun_trainer_create(model.get(), dataset.get(), tokenizer.get(), &told, out);
        }));
    }
    /** One step, and nothing else. */
    setun::metrics step()
    {
        auto result = detail::empty<setun::metrics>();
        check(setun_trainer_step(get(), &result));
        return result;
    }
    /** All the remaining steps; false when the callback stopped the run. */
    bool run()
    {
        std::int32_t finished = 0;
        const setun_status status = setun_trainer_run(get(), &finished);
        if (call_)
            call_->rethrow();
        check(status);
        return finished != 0;
    }
    double evaluate()
    {
        return detail::said<double>([&](auto out) { return setun_trainer_evaluate(get(), out); });
    }
    void save() { check(setun_trainer_save(get())); }
    void resume(const std::string &checkpoint, bool allow_other_backend = false)
    {
        check(setun_trainer_resume(get(), detail::c_string("checkpoint", checkpoint), allow_other_backend));
    }
    setun::metrics metrics() const
    {
        auto result = detail::empty<setun::metrics>();
        check(setun_trainer_metrics(get(), &result));
        return result;
    }

    /** The mean training loss of each cluster of the text, and how many windows it has. */
    std::vector<std::pair<double, std::int64_t>> cluster_losses() const
    {
        std::int64_t count = 0;
        check(setun_trainer_cluster_losses(get(), nullptr, nullptr, 0, &count));
        std::vector<double> losses(static_cast<std::size_t>(count));
        std::vector<std::int64_t> sizes(losses.size());
        check(setun_trainer_cluster_losses(get(), losses.data(), sizes.data(), count, &count));
        std::vector<std::pair<double, std::int64_t>> result;
        for (std::size_t i = 0; i < losses.size(); i++)
            result.emplace_back(losses[i], sizes[i]);
        return result;
    }

private:
    std::unique_ptr<detail::progress_call> call_;
};

/* --- generate ---------------------------------------------------------------------------------------------------- */

using sample_options = detail::with_defaults<setun_sample_options, setun_sample_options_init>;

/** A text being generated, token by token. */
class sampler : public detail::owner<setun_sampler, setun_sampler_free> {
public:
    using owner::owner;
    explicit sampler(const model &model, const setun_sample_options &options = sample_options())
        : owner(detail::made<setun_sampler>(
              [&](auto out) { return setun_sampler_create(model.get(), &options, out); }))
    {
    }
    void prompt(span<const std::uint32_t> tokens)
    {
        check(setun_sampler_prompt(get(), tokens.data(), static_cast<std::int64_t>(tokens.size())));
    }
    std::uint32_t next()
    {
        return detail::said<std::uint32_t>([&](auto out) { return setun_sampler_next(get(), out); });
    }
    bool slid() const
    {
        return detail::said<std::int32_t>([&](auto out) { return setun_sampler_slid(get(), out); }) != 0;
    }
};

/** Continues `prompt`, piece by piece. Whether the text outgrew the context. */
inline bool generate(const model &model, const tokenizer &tokenizer, const std::string &prompt,
                     const setun_sample_options &options, text_function hear)
{
    detail::text_call call{std::move(hear), nullptr};
    if (!call.function)
        detail::fail(SETUN_ERR_ARGUMENT, "hear is empty");
    std::int32_t slid = 0;
    const setun_status status =
        setun_generate(model.get(), tokenizer.get(), detail::c_string("prompt", prompt), &options,
                       detail::setun_hpp_text, &call, &slid);
    call.rethrow();
    check(status);
    return slid != 0;
}

/** The text that follows `prompt`. */
inline std::string generate(const model &model, const tokenizer &tokenizer, const std::string &prompt,
                            const setun_sample_options &options = sample_options())
{
    std::string text;
    generate(model, tokenizer, prompt, options, [&](std::string_view piece) {
        text += piece;
        return true;
    });
    return text;
}

/* --- benchmark --------------------------------------------------------------------------------------------------- */

using benchmark_options = detail::with_defaults<setun_benchmark_options, setun_benchmark_options_init>;

/** Times the operations, and hands on each result. */
inline void benchmark(const setun_benchmark_options &options, benchmark_function hear)
{
    detail::benchmark_call call{std::move(hear), nullptr};
    if (!call.function)
        detail::fail(SETUN_ERR_ARGUMENT, "hear is empty");
    const setun_status status = setun_benchmark(&options, detail::setun_hpp_benchmark, &call);
    call.rethrow();
    check(status);
}

} // namespace setun

#endif /* SETUN_HPP */
