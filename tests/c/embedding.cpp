/* setun.hpp: ownership, errors, arrays, options, callbacks and the exceptions that leave them. */
#undef NDEBUG
#include <setun.hpp>

#include <array>
#include <atomic>
#include <cassert>
#include <cmath>
#include <fstream>
#include <iostream>
#include <thread>

namespace {

template <class Call> void fails(setun_status status, const char *message, Call call)
{
    try {
        call();
    } catch (const setun::error &e) {
        if (e.status() != status || std::string(e.what()).find(message) == std::string::npos) {
            std::cerr << setun_status_name(e.status()) << ": " << e.what() << ", expected " << message << '\n';
            std::abort();
        }
        return;
    }
    std::cerr << "no error, expected " << message << '\n';
    std::abort();
}

void library_and_contexts()
{
    setun::context standard;
    assert(!standard && standard.threads() >= 1 && standard.backend() != SETUN_BACKEND_AUTO);
    setun::context_options options;
    assert(options.struct_size == sizeof(setun_context_options) && options.prefer_simd == 1);
    options.backend = SETUN_BACKEND_SIMD;
    options.verbose = 1;
    std::atomic<int> heard{0};
    setun::set_log([&](setun_log_level level, std::string_view message) {
        heard += level == SETUN_LOG_INFO && !message.empty();
        throw std::runtime_error("goes no further");
    }, SETUN_LOG_INFO);
    setun::context simd(options);
    setun::set_log({});
    assert(heard > 0 && simd && simd.threads() == 1 && simd.backend() == SETUN_BACKEND_SIMD && !simd.level().empty());

    static_assert(!std::is_copy_constructible_v<setun::context> && std::is_nothrow_move_constructible_v<setun::model>);
    assert(simd.explain().find("simd") != std::string::npos && !standard.explain("matmul", 1000).empty());
    fails(SETUN_ERR_ARGUMENT, "matmull", [&] { simd.explain("matmull"); });
    assert(simd.statistics(0).calls[SETUN_BACKEND_AUTO] == 0 && setun::device_count() >= 0);
    setun::context moved(std::move(simd));
    assert(moved.backend() == SETUN_BACKEND_SIMD);
    setun_context *raw = moved.release();
    assert(!moved);
    setun::context taken(raw);
    taken = setun::context(options);
    int32_t backend;
    assert(setun_context_backend(raw, &backend) == SETUN_ERR_ARGUMENT); /* the assignment freed it */
    options.threads = -1;
    fails(SETUN_ERR_ARGUMENT, "threads is -1", [&] { setun::context bad(options); });
}

void tensors_and_matrices()
{
    const std::array<std::int64_t, 2> dims{2, 3};
    setun::tensor zeros(SETUN_DTYPE_F32, dims);
    assert(zeros.dtype() == SETUN_DTYPE_F32 && zeros.dims() == std::vector<std::int64_t>({2, 3}) && zeros.nbytes() == 24);
    zeros.write(std::vector<float>{1, 2, 3, 4, 5, 6});
    assert(zeros.read<float>()[5] == 6);
    fails(SETUN_ERR_DTYPE, "holds setun_dtype 0, not 2", [&] { zeros.read<std::int8_t>(); });
    fails(SETUN_ERR_SHAPE, "nbytes is 20", [&] { zeros.write(std::vector<float>(5)); });
    std::vector<float> memory{.9f, -.8f, .1f, -.7f, .6f, 0};
    setun::tensor w = setun::tensor::wrap(memory, dims);
    fails(SETUN_ERR_SHAPE, "data has 6 elements, its shape 4",
          [&] { setun::tensor::wrap(memory, std::vector<std::int64_t>{2, 2}); });

    const setun::quantized q = setun::quantize(memory, 2, 3);
    assert(setun::unpack(q) == std::vector<std::int8_t>({1, -1, 0, -1, 1, 0}));
    assert(setun::trit_histogram(q) == std::vector<std::int64_t>({2, 2, 2}));
    const float x[3] = {1, 2, 4};
    const std::vector<float> y = setun::matmul(x, 1, q);
    assert(y.size() == 2 && std::fabs(y[0] + q.scales[0]) < .05f && std::fabs(y[1] - q.scales[0]) < .05f);
    assert(setun::matmul_backward(std::vector<float>{1, 0}, 1, q)[1] == -q.scales[0]);
    assert(setun::dequantize(q)[0] == q.scales[0]);
    assert(setun::pack(setun::unpack(q), 2, 3).packed == q.packed);
    const auto [codes, scales] = setun::quantize_activations(x, 1, 3);
    assert(codes[2] == 127 && std::fabs(scales[0] * 127 - 4) < 1e-5f);
    fails(SETUN_ERR_SHAPE, "weights has 6 elements, its shape 9", [&] { setun::quantize(memory, 3, 3); });
    fails(SETUN_ERR_ARGUMENT, "a size is -1", [&] { setun::quantize(memory, -1, -6); });

    for (const auto packing : {SETUN_PACKING_FIVE_PER_BYTE, SETUN_PACKING_MASK_SIGN}) {
        const setun::quantized other = setun::repack(q, packing);
        assert(setun::unpack(other) == setun::unpack(q) && setun::repack(other, SETUN_PACKING_TWO_BIT).packed == q.packed);
    }
    std::vector<float> g(40, .5f), error(40, 0);
    const auto [packed_gradient, gradient_scales] = setun::ternarize_gradients(g, error, 32);
    assert(packed_gradient.size() == 10 && gradient_scales == std::vector<float>({.5f, .5f}));
    assert(setun::deternarize_gradients(packed_gradient, gradient_scales, 40, 32) == g && error[39] == 0);

    setun::packed layer(w);
    std::vector<float> held(1);
    layer.scales(held);
    assert(held[0] == q.scales[0] && layer.nbytes() == 2);
    assert(layer.measure(w).scale_count == 1);
    {
        setun::file file;
        file.add("layer", layer);
        file.add("w", w);
        assert(file.save("packed.safetensors") > 0);
        const setun::file again("packed.safetensors");
        assert(again.count() == 2 && again.name(0) == "layer" && again.find("w") == 1);
        assert(again.describe(0).is_packed && again.describe(1).dims[1] == 3);
        setun::tensor restored(SETUN_DTYPE_F32, dims);
        again.read_packed(0).dequantize(restored);
        assert(restored.read<float>() == setun::dequantize(q) && again.read(1).read<float>() == memory);
        fails(SETUN_ERR_ARGUMENT, "no entry", [&] { again.find("x"); });
    }
    setun::tensor in(SETUN_DTYPE_F32, std::vector<std::int64_t>{1, 3}), out(SETUN_DTYPE_F32, std::vector<std::int64_t>{1, 2});
    in.write(setun::span<const float>(x));
    layer.matmul(in, out);
    assert(out.read<float>() == y);
}

void clusters()
{
    const std::vector<float> points{0, 0, 0, 1, 9, 9, 9, 8};
    setun::kmeans_options options;
    options.seed = 1;
    int iterations = 0;
    const auto found = setun::cluster(points, 4, 2, 2, options, [&](const setun::kmeans_report &) { return ++iterations > 0; });
    assert(found.inertia == 1 && found.labels[0] == found.labels[1] && found.labels[0] != found.labels[2] && iterations > 0);
    try {
        setun::cluster(points, 4, 2, 2, options, [](const setun::kmeans_report &) -> bool { throw 5; });
        assert(!"the exception is lost");
    } catch (int five) {
        assert(five == 5);
    }
    setun::kmeans kmeans(2, options);
    fails(SETUN_ERR_STATE, "centroids", [&] { kmeans.assign(points, 4, 2); });
    assert(kmeans.fit(points, 4, 2) == found.labels && kmeans.centroids() == found.centroids && kmeans.inertia() == 1);
    assert(kmeans.report().converged == 1 && kmeans.assign(points, 4, 2).second[3] == .25f);
    assert(kmeans.partial_fit(points, 4, 2) == found.labels && kmeans.centroids() == found.centroids);
    const auto near = kmeans.nearest(points, 4, 2, 2);
    assert(near.first[0] == found.labels[0] && near.first[1] != near.first[0] && near.second[6] == .25f);
    assert(kmeans.route(points, 4, 2, 2, 0).second[7] == .5f);
    kmeans.set_centroids(std::vector<float>{0, 0, 9, 9}, 2);
    assert(kmeans.assign(points, 4, 2).second[3] == 1 && kmeans.shape().second == 2);
    fails(SETUN_ERR_SHAPE, "weights has 1 elements, its shape 4", [&] { kmeans.fit(points, 4, 2, std::vector<float>{1}); });
}

void text_vectors()
{
    const std::string text = "apples and pears. pears and apples! rust or ruin, ruin or rust";
    const auto windows = setun::text_windows(text, 17, 17);
    assert((windows.begins == std::vector<std::int64_t>{0, 18, 36, 55} && windows.ends.back() == 62));
    assert(setun::text_windows("", 5, 5).begins.empty());
    setun::tfidf_options options;
    options.dimensions = 64;
    setun::tfidf tfidf(options), restored(options);
    fails(SETUN_ERR_STATE, "fit", [&] { tfidf.transform(text, windows.begins, windows.ends); });
    fails(SETUN_ERR_SHAPE, "ends has 1 elements", [&] { tfidf.fit(text, windows.begins, std::vector<std::int64_t>{3}); });
    tfidf.fit(text, windows.begins, windows.ends);
    const auto x = tfidf.transform(text, windows.begins, windows.ends);
    const auto labels = setun::cluster(x, 4, tfidf.dimensions(), 2).labels;
    assert(labels[0] == labels[1] && labels[2] == labels[3] && labels[0] != labels[2]);
    restored.set_idf(tfidf.idf());
    assert(restored.transform(text, windows.begins, windows.ends) == x);
    restored.partial_fit(text, windows.begins, windows.ends);
    assert(restored.idf() == tfidf.idf());
}

void codebooks()
{
    const std::vector<float> x{10, -1, 1, 12, 11}, expected{0, 11};
    const setun::codebook found = setun::codebook_fit(x, 2);
    assert(found.entries == expected && found.labels == (std::vector<std::int32_t>{1, 0, 0, 1, 1}) && found.inertia == 4);
    const std::vector<std::uint8_t> packed = setun::codebook_pack(x, found.entries);
    assert(packed == (std::vector<std::uint8_t>{0x01, 0x10, 0x01}) && setun::codebook_size(5, 17) == 5);
    assert(setun::codebook_unpack(packed, 5, found.entries) == (std::vector<float>{11, 0, 0, 11, 11}));
    fails(SETUN_ERR_SHAPE, "take 2", [&] { setun::codebook_unpack(packed, 4, found.entries); });
    setun::codebook_options options;
    options.constraint = SETUN_CODEBOOK_CONSTRAINT_TERNARY;
    fails(SETUN_ERR_ARGUMENT, "k is 2", [&] { setun::codebook_fit(x, 2, options); });
    assert(setun::codebook_fit(x, 3, options).entries == (std::vector<float>{-11, 0, 11}));
}

void steps()
{
    std::vector<float> w{1, 2}, moments(4);
    setun::optimizer_options options;
    options.learning_rate = .1;
    for (int number = 1; number <= 50; number++)
        assert(setun::step(w, std::vector<float>{2 * w[0], 2 * w[1]}, moments, number, options).step == number);
    assert(w[0] < .95f);
    fails(SETUN_ERR_STATE, "gradient", [&] { setun::step(w, std::vector<float>{NAN, 1}, moments, 51, options); });
    fails(SETUN_ERR_SHAPE, "moments has 4 elements, its shape 2",
          [&] { setun::step(setun::span<float>(w.data(), 1), std::vector<float>{1}, moments, 1); });

    std::vector<float> matrix(6, 1), vector{0.5f};
    const std::vector<float> gradients[2] = {std::vector<float>(6, 1), {1}};
    const setun::span<const float> both[2] = {gradients[0], gradients[1]};
    setun::optimizer optimizer(options);
    optimizer.add("matrix", matrix, std::vector<std::int64_t>{2, 3});
    optimizer.add("vector", vector, std::vector<std::int64_t>{1});
    assert(optimizer.step(both).step == 1 && matrix[5] < 1 && optimizer.report(1).step == 1);
    assert(optimizer.state_bytes() == 56);
    optimizer.save("optimizer.safetensors");
    const std::vector<float> kept = matrix;
    optimizer.set_radius(.5);
    optimizer.step(both);
    optimizer.load("optimizer.safetensors");
    assert(matrix == kept);
    fails(SETUN_ERR_SHAPE, "a gradient has 1 elements, its shape 6", [&] { optimizer.step(setun::span<const setun::span<const float>>(both + 1, 1)); });

    setun::lr_net_options adapting;
    adapting.online_rate = .01;
    setun::lr_net net(adapting);
    setun::lr_net_observation seen;
    seen.kind = SETUN_PARAMETER_KIND_TERNARY;
    seen.relative_step = 1e-3;
    net.observe_loss(2);
    assert(net.factor(seen) == 1 && std::fabs(net.features(seen)[0]) < 1e-12 && net.features(seen)[7] == 1);
    net.learn(1);
    net.save("lr_net.safetensors");
    const double after = net.factor(seen);
    assert(after > 1 && net.factor(seen, 3) > 1);
    std::vector<double> weights = net.weights();
    assert(weights.size() == 133);
    weights[132] = 17;
    fails(SETUN_ERR_ARGUMENT, "weights[132] is 17", [&] { net.set_weights(weights); });
    weights[132] = -1;
    net.set_weights(weights);
    net.reset();
    assert(net.factor(seen) < 1);
    net.load("lr_net.safetensors");
    assert(net.factor(seen) == after);

    options = setun::optimizer_options();
    options.states = SETUN_STATE_PRECISION_COMPACT;
    options.method = SETUN_STEP_METHOD_MUON;
    options.guard_interval = 1;
    setun::optimizer guarded(options);
    guarded.add_compact("codes", std::vector<float>{1, -2, .5f, .25f, 2, 1}, std::vector<std::int64_t>{2, 3});
    guarded.add("vector", vector, std::vector<std::int64_t>{1});
    const std::vector<float> before = guarded.read(0);
    assert(std::fabs(before[1] + 2) < .02f && guarded.read(1) == vector);
    assert(guarded.step(both, 1.5).check_due == 1 && guarded.read(0) != before);
    assert(guarded.judge(std::vector<float>{1, 2}, std::vector<float>{3, 4}) && guarded.read(0) == before);
    assert(guarded.report(-1).undone == 1);
    assert(guarded.step(both, 1.5).step == 1 && !guarded.judge(std::vector<float>{1}, std::vector<float>{1}));
    assert(guarded.step(both, NAN).outcome == SETUN_STEP_OUTCOME_SKIPPED);
    fails(SETUN_ERR_STATE, "no step waits", [&] { guarded.judge(std::vector<float>{1}, std::vector<float>{1}); });
    fails(SETUN_ERR_SHAPE, "after", [&] { guarded.judge(std::vector<float>{1}, std::vector<float>{1, 2}); });
    fails(SETUN_ERR_ARGUMENT, "index is 2", [&] { guarded.read(2); });
    fails(SETUN_ERR_SHAPE, "more has 1 elements, its shape 6",
          [&] { guarded.add_compact("more", std::vector<float>{1}, std::vector<std::int64_t>{2, 3}); });

    const auto [codes, scales] = setun::quantize_gradients(std::vector<float>{1, -2, .5f}, 32, 1, 2, 3);
    assert(codes[1] == -127 && std::fabs(setun::dequantize_gradients(codes, scales, 32)[1] + 2) < 1e-5f);
    setun::benchmark_options quick;
    quick.filter = "add";
    quick.quick = 1;
    quick.ceilings = 0;
    int results = 0;
    setun::benchmark(quick, [&](const setun_benchmark_result &result) { return result.seconds > 0 && ++results < 2; });
    assert(results == 2);
}

void problems()
{
    const auto f = [](setun::span<const double> x, double &value) {
        value = 100 * std::pow(x[1] - x[0] * x[0], 2) + std::pow(1 - x[0], 2);
        return true;
    };
    const auto gradient = [](setun::span<const double> x, setun::span<double> g) {
        const double t = x[1] - x[0] * x[0];
        g[0] = -400 * x[0] * t - 2 * (1 - x[0]);
        g[1] = 200 * t;
        return true;
    };
    const auto product = [](setun::span<const double> x, setun::span<const double> v, setun::span<double> hv) {
        hv[0] = (1200 * x[0] * x[0] - 400 * x[1] + 2) * v[0] - 400 * x[0] * v[1];
        hv[1] = -400 * x[0] * v[0] + 200 * v[1];
        return true;
    };
    std::vector<double> x{-1.2, 1};
    setun::problem free(2, f, gradient, product);
    const setun::problem_report report = free.solve(x);
    assert(report.f < 1e-16 && report.products > 0 && std::fabs(x[0] - 1) < 1e-7);
    setun::problem bounded(2, f, gradient);
    bounded.bounds({}, std::vector<double>{.5, 9});
    bounded.ball(std::vector<double>{0, 0}, 3);
    bounded.inequalities(std::vector<double>{1, 1}, {}, std::vector<double>{5});
    x = {-1.2, 1};
    int heard = 0;
    bounded.solve(x, setun::problem_options(), [&](const setun::problem_report &at) { return ++heard == at.iterations; });
    assert(x[0] == .5 && std::fabs(x[1] - .25) < 1e-6 && heard > 1);
    bounded.equalities(std::vector<double>{1, -1}, std::vector<double>{0});
    assert(bounded.solve(x).violation < 1e-12 && std::fabs(x[0] - x[1]) < 1e-12);
    fails(SETUN_ERR_ARGUMENT, "the others before it", [&] { bounded.equalities(std::vector<double>{2, -2}, std::vector<double>{1}); });
    fails(SETUN_ERR_SHAPE, "x has 1 elements", [&] { free.solve(setun::span<double>(x.data(), 1)); });

    setun::problem thrown(2, f, [](setun::span<const double>, setun::span<double>) -> bool { throw std::string("mine"); });
    try {
        thrown.solve(x);
        assert(!"the exception of a callback is gone");
    } catch (const std::string &mine) {
        assert(mine == "mine");
    }
    const auto [step, multiplier, value] =
        setun::trust_region_subproblem(std::vector<double>{1, 1, 1}, std::vector<double>{1, 0, 0, 0, 2, 0, 0, 0, 3}, .5);
    assert(std::fabs(multiplier - 1.7348183) < 1e-7 && std::fabs(value + .63915578) < 1e-7 && step.size() == 3);
}

void text()
{
    std::ofstream file("corpus.txt");
    for (int i = 0; i < 300; i++)
        file << "the " << (i % 3 ? "cat" : "dog") << " sat on the " << (i % 5 ? "mat" : "hat") << ".\n";
    file.close();
    const auto tokenizer = setun::tokenizer::train(SETUN_TOKENIZER_CHARACTER, "corpus.txt");
    const std::vector<std::uint32_t> tokens = tokenizer.encode("the hat");
    assert(tokens.size() == 7 && tokenizer.decode(tokens) == "the hat" && tokenizer.vocabulary() == 14);
    assert(tokenizer.encode("").empty() && tokenizer.decode({}).empty());
    tokenizer.save("tokenizer.json");
    assert(setun::tokenizer::load("tokenizer.json").vocabulary() == 14);
    fails(SETUN_ERR_FORMAT, "U+0078", [&] { tokenizer.encode("x"); });
    fails(SETUN_ERR_ARGUMENT, "path has a NUL at byte 1", [&] { tokenizer.save(std::string("a\0b", 3)); });
    const auto data = setun::dataset::open("corpus.txt", tokenizer, .25);
    assert(data.tokens(SETUN_SPLIT_VALIDATION) > 1000);
    const auto [windows, targets] = data.batch(SETUN_SPLIT_TRAIN, 1, 2, 3, 4);
    assert(windows.size() == 12 && windows[1] == targets[0]);
    assert(setun::dataset::from_tokens(tokens, 14, 0).tokens(SETUN_SPLIT_TRAIN) == 7);
}

setun::train_options small(const setun_model_options &geometry)
{
    setun::train_options options;
    options.batch_size = 4;
    options.max_steps = 12;
    options.warmup_steps = 2;
    options.model = &geometry;
    options.tokenizer = SETUN_TOKENIZER_CHARACTER;
    return options;
}

void training()
{
    setun::model_options geometry;
    geometry.layers = 2;
    geometry.width = 32;
    geometry.context_length = 16;
    setun::train_options options = small(geometry);
    int calls = 0;
    const setun::trained made = setun::train("corpus.txt", options, [&](const setun::metrics &m) {
        assert(m.step == ++calls);
        return m.step < 5;
    });
    const setun::tokenizer &tokenizer = made.tokenizer;
    assert(calls == 5 && made.model.parameters() > 0 && tokenizer.vocabulary() == 14);

    /* An exception passes through C, after the run was stopped. */
    calls = 0;
    try {
        setun::train("corpus.txt", options, [&](const setun::metrics &) -> bool {
            if (++calls == 3)
                throw std::out_of_range("three");
            return true;
        });
        assert(!"the exception is lost");
    } catch (const std::out_of_range &e) {
        assert(calls == 3 && std::string(e.what()) == "three");
    }

    /* A trainer that was stopped by one runs on, and ends as one that was not. */
    const auto data = setun::dataset::open("corpus.txt", tokenizer, .1);
    geometry.vocabulary = tokenizer.vocabulary();
    std::vector<double> losses[2];
    for (int broken = 0; broken < 2; broken++) {
        setun::model fresh(geometry);
        options.checkpoint_dir = broken ? "broken" : "whole";
        bool threw = false;
        setun::trainer trainer(fresh, data, tokenizer, options, [&](const setun::metrics &m) {
            losses[broken].push_back(m.loss);
            if (broken && m.step == 6) {
                threw = true;
                throw 6;
            }
            return true;
        });
        setun::trainer moved(std::move(trainer));
        try {
            assert(moved.run());
        } catch (int step) {
            assert(step == 6 && moved.metrics().step == 6);
            setun::model again(geometry);
            setun::trainer resumed(again, data, tokenizer, options, [&](const setun::metrics &m) {
                losses[broken].push_back(m.loss);
                return true;
            });
            resumed.resume("broken");
            assert(resumed.run() && resumed.evaluate() > 0);
        }
        assert(threw == (broken == 1));
    }
    assert(losses[0].size() == 12 && losses[0] == losses[1]);
    fails(SETUN_ERR_STATE, "holds", [&] {
        setun::model fresh(geometry);
        setun::trainer(fresh, data, tokenizer, options).run();
    });

    setun::cancel token;
    options.checkpoint_dir = nullptr;
    options.cancel = token.get();
    token.request();
    fails(SETUN_ERR_CANCELLED, "cancelled", [&] { setun::train("corpus.txt", options); });
    token.reset();
    setun::model fresh(geometry);
    setun::trainer steps(fresh, data, tokenizer, options);
    assert(steps.step().step == 1 && steps.metrics().step == 1 && steps.cluster_losses().size() <= 10);
    fails(SETUN_ERR_STATE, "no checkpoint_dir", [&] { steps.save(); });
}

/* Plain descent over the gradients: the loss falls. */
void loop()
{
    setun::model_options geometry;
    geometry.vocabulary = 14;
    geometry.layers = 1;
    geometry.width = 32;
    geometry.context_length = 16;
    setun::model model(geometry);
    const setun::parameter_description q = model.describe(2);
    assert(q.name == "model.layers.0.self_attn.q_proj.weight" && q.kind == SETUN_PARAMETER_KIND_TERNARY);
    assert((q.dims == std::vector<std::int64_t>{32, 32}));
    std::vector<std::vector<float>> weights, gradients;
    for (std::int64_t i = 0; i < model.tensor_count(); i++) {
        std::size_t size = 1;
        for (std::int64_t dim : model.describe(i).dims) size *= static_cast<std::size_t>(dim);
        weights.emplace_back(size);
        gradients.emplace_back(size);
        model.read(i, weights.back());
    }
    const std::vector<setun::span<float>> room(gradients.begin(), gradients.end());
    const std::vector<std::uint32_t> tokens{1, 2, 3, 4, 5, 6}, targets{2, 3, 4, 5, 6, 7};
    assert(model.copy().forward(tokens, 1, 6) == model.forward(tokens, 1, 6));
    assert(model.copy(false).describe().quantize_weights == 0);
    setun::backward_options options;
    double first = 0, last = 0;
    for (std::uint64_t step = 0; step < 20; step++) {
        options.step = step;
        last = model.backward(tokens, targets, 2, 3, room, options);
        if (step == 0) first = last;
        for (std::size_t i = 0; i < weights.size(); i++) {
            for (std::size_t j = 0; j < weights[i].size(); j++) weights[i][j] -= gradients[i][j];
            model.write(static_cast<std::int64_t>(i), weights[i]);
        }
    }
    assert(last < first - .5);
    fails(SETUN_ERR_ARGUMENT, "count is 1", [&] {
        model.backward(tokens, targets, 2, 3, setun::span<const setun::span<float>>(room.data(), 1));
    });
    fails(SETUN_ERR_SHAPE, "count is 3", [&] { model.write(0, std::vector<float>(3)); });
}

void models_and_text()
{
    const setun::trained made = [] {
        setun::model_options geometry;
        geometry.layers = 1;
        geometry.width = 32;
        geometry.context_length = 16;
        return setun::train("corpus.txt", small(geometry));
    }();
    const setun::model &model = made.model;
    const setun::tokenizer &tokenizer = made.tokenizer;
    assert(model.describe().layers == 1 && model.describe().vocabulary == 14);
    const auto tokens = tokenizer.encode("the cat");
    const auto count = static_cast<std::int64_t>(tokens.size());
    assert(model.forward(tokens, 1, count).size() == 7 * 14);
    assert(model.loss(tokens, tokens, 1, count) > 0);
    fails(SETUN_ERR_SHAPE, "tokens has 7 elements, its shape 8", [&] { model.forward(tokens, 1, 8); });
    const auto [name, weights] = model.tensor(0);
    assert(!name.empty() && weights.dtype() == SETUN_DTYPE_F32);
    setun::save_options file;
    file.tokenizer = tokenizer.get();
    const setun::file_report report = model.save("model.safetensors", file);
    assert(report.parameters == model.parameters());
    const auto loaded = setun::model::load("model.safetensors");
    const auto words = setun::tokenizer::load("model.safetensors");

    setun::sample_options options;
    options.max_tokens = 40;
    const std::string first = setun::generate(loaded, words, "the", options);
    assert(first.size() == 40 && first == setun::generate(loaded, words, "the", options));
    std::string heard;
    const bool slid = setun::generate(loaded, words, "the", options, [&](std::string_view piece) {
        heard += piece;
        return heard.size() < 10;
    });
    assert(heard == first.substr(0, 10) && !slid);
    try {
        setun::generate(loaded, words, "the", options, [](std::string_view) -> bool { throw std::string("enough"); });
        assert(!"the exception is lost");
    } catch (const std::string &why) {
        assert(why == "enough");
    }
    fails(SETUN_ERR_ARGUMENT, "hear is empty", [&] { setun::generate(loaded, words, "the", options, nullptr); });
    setun::sampler sampler(loaded, options);
    fails(SETUN_ERR_STATE, "no prompt", [&] { sampler.next(); });
    sampler.prompt(words.encode("the"));
    assert(words.decode(std::vector<std::uint32_t>{sampler.next()}) == first.substr(0, 1) && !sampler.slid());
}

} // namespace

int main()
{
    library_and_contexts();
    tensors_and_matrices();
    clusters();
    text_vectors();
    codebooks();
    steps();
    problems();
    text();
    training();
    loop();
    models_and_text();
    return 0;
}
