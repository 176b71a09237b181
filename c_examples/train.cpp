/* From a text to a model, a file and a sample, in C++17: c++ -std=c++17 -O2 -I../include train.cpp
   -L../target/release -lsetun -Wl,-rpath,../target/release -o train-cpp */
#include <setun.hpp>

#include <cstdlib>
#include <iostream>
#include <string>

namespace {

/* Twenty lines for a run, whatever its length. */
bool show(const setun::metrics &m)
{
    const std::int64_t part = m.total_steps / 20 + 1;
    if (m.step % part == 0 || m.step == m.total_steps)
        std::cout << "step " << m.step << " of " << m.total_steps << ": loss " << m.loss << ", "
                  << static_cast<long>(m.tokens_per_second) << " tokens/s" << std::endl;
    return true; /* false stops the run */
}

void train(const std::string &text, const std::string &file, std::int64_t steps)
{
    setun::train_options options; /* begins with the defaults: a model of 4 layers of width 128 */
    options.tokenizer = SETUN_TOKENIZER_CHARACTER;
    options.batch_size = 12;
    options.max_steps = steps;
    options.warmup_steps = steps / 20;
    options.evaluation_windows = 100;
    const auto [model, tokenizer] = setun::train(text, options, show);

    setun::save_options packed; /* 1.6 bits a weight */
    packed.tokenizer = tokenizer.get();
    const auto report = model.save(file, packed);
    std::cout << file << ": " << report.parameters << " parameters in " << report.file_bytes << " bytes\n";
}

void sample(const std::string &file, const std::string &prompt)
{
    const auto model = setun::model::load(file);
    const auto tokenizer = setun::tokenizer::load(file);
    setun::sample_options options;
    options.temperature = .8f;
    options.top_k = 20;
    options.max_tokens = 200;
    std::cout << prompt;
    setun::generate(model, tokenizer, prompt, options, [](std::string_view piece) {
        return static_cast<bool>(std::cout << piece << std::flush);
    });
    std::cout << std::endl;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 5) {
        std::cerr << "usage: train-cpp TEXT [FILE [STEPS [PROMPT]]]\n";
        return 2;
    }
    const std::string file = argc > 2 ? argv[2] : "model.safetensors";
    try {
        train(argv[1], file, argc > 3 ? std::atol(argv[3]) : 500);
        sample(file, argc > 4 ? argv[4] : "The ");
    } catch (const setun::error &e) {
        std::cerr << setun_status_name(e.status()) << ": " << e.what() << '\n';
        return 1;
    }
    return 0;
}
