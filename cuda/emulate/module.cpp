#include "module.hpp"
#include <cctype>

extern "C" {
__attribute__((weak, visibility("hidden"))) extern const emulate::Kernel *const __start_setun_kernels[];
__attribute__((weak, visibility("hidden"))) extern const emulate::Kernel *const __stop_setun_kernels[];
}

namespace emulate {

namespace {

const Kernel *find_kernel(const std::string &name) {
    for (auto place = __start_setun_kernels; place != __stop_setun_kernels; ++place)
        if (name == (*place)->name) return *place;
    return nullptr;
}

/// Comments become spaces.
std::string without_comments(const std::string &text) {
    std::string result = text;
    for (size_t i = 0; i + 1 < result.size(); ++i) {
        if (result[i] != '/') continue;
        bool line = result[i + 1] == '/';
        if (!line && result[i + 1] != '*') continue;
        size_t end = line ? result.find('\n', i) : result.find("*/", i);
        end = end == std::string::npos ? result.size() : line ? end : end + 2;
        for (; i < end; ++i)
            if (result[i] != '\n') result[i] = ' ';
        --i;
    }
    return result;
}

/// The word after `what`, from `start` on; empty if there is none.
std::string word_after(const std::string &text, const std::string &what, size_t start) {
    size_t place = text.find(what, start);
    if (place == std::string::npos) return "";
    place += what.size();
    while (place < text.size() && isspace((unsigned char)text[place])) ++place;
    size_t end = place;
    while (end < text.size() && (isalnum((unsigned char)text[end]) || strchr("_$.%", text[end]))) ++end;
    return text.substr(place, end - place);
}

/// Bytes of a declaration: ".param .u64 name", ".shared .align 4 .b8 name[128]".
size_t size_of_declaration(const std::string &words) {
    size_t size = 0;
    for (size_t i = 0; i + 1 < words.size(); ++i)
        if (words[i] == '.' && strchr("usbf", words[i + 1]) && isdigit((unsigned char)words[i + 2]))
            size = strtoul(words.c_str() + i + 2, nullptr, 10) / 8;
    size_t bracket = words.find('[');
    return bracket == std::string::npos ? size : size * strtoul(words.c_str() + bracket + 1, nullptr, 10);
}

size_t matching(const std::string &text, size_t open, char begin, char end) {
    int depth = 0;
    for (size_t i = open; i < text.size(); ++i) {
        if (text[i] == begin) ++depth;
        if (text[i] == end && --depth == 0) return i;
    }
    return std::string::npos;
}

std::vector<size_t> parameter_sizes(const std::string &list) {
    std::vector<size_t> sizes;
    for (size_t place = list.find(".param"); place != std::string::npos;) {
        size_t next = list.find(".param", place + 1);
        sizes.push_back(size_of_declaration(list.substr(place + 6, next == std::string::npos ? next : next - place - 6)));
        place = next;
    }
    return sizes;
}

/// Adds up the shared variables that are declared in `text`, but not those of which the launch says the size.
size_t shared_size(const std::string &text) {
    size_t size = 0;
    for (size_t place = text.find(".shared "); place != std::string::npos; place = text.find(".shared ", place + 1)) {
        size_t before = text.find_last_not_of(" \t", place == 0 ? 0 : place - 1);
        // An instruction has its ".shared" in a word; a declaration begins with it.
        bool begins = place == 0 || isspace((unsigned char)text[place - 1]);
        bool is_extern = before != std::string::npos && before >= 6 && text.compare(before - 6, 7, ".extern") == 0;
        if (!begins || is_extern) continue;
        std::string words = text.substr(place + 7, text.find(';', place) - place - 7);
        size_t align = strtoul(word_after(words, ".align", 0).c_str(), nullptr, 10);
        if (align > 1) size = (size + align - 1) / align * align;
        size_t colon = words.find(".align");
        if (colon != std::string::npos) words = words.substr(words.find('.', colon + 6));
        size += size_of_declaration(words);
    }
    return size;
}

std::string read_entry(const std::string &text, size_t place, size_t module_shared, Module &module) {
    std::string name = word_after(text, ".entry", place);
    const Kernel *kernel = find_kernel(name);
    if (!kernel) return "the emulation has no kernel " + name;
    size_t open = text.find_first_of("({", place);
    size_t close = open == std::string::npos || text[open] == '{' ? open : matching(text, open, '(', ')');
    size_t body = close == std::string::npos ? close : text.find('{', close);
    size_t end = body == std::string::npos ? body : matching(text, body, '{', '}');
    if (end == std::string::npos) return name + " has no end";
    auto sizes = parameter_sizes(text.substr(open, close - open));
    if (sizes.size() != kernel->count)
        return name + " has " + std::to_string(sizes.size()) + " parameters, in the emulation " + std::to_string(kernel->count);
    for (size_t i = 0; i < sizes.size(); ++i)
        if (sizes[i] != kernel->sizes[i])
            return "parameter " + std::to_string(i) + " of " + name + " has " + std::to_string(sizes[i]) +
                   " bytes, in the emulation " + std::to_string(kernel->sizes[i]);
    Function function{kernel, MAX_THREADS, 0, 0};
    std::string directives = text.substr(close, body - close);
    size_t limit = directives.find(".maxntid");
    if (limit != std::string::npos) {
        const char *number = directives.c_str() + limit + strlen(".maxntid");
        unsigned long product = 1;
        for (char *after; ; number = after + 1) {
            product *= strtoul(number, &after, 10);
            while (isspace((unsigned char)*after)) ++after;
            if (*after != ',') break;
        }
        function.max_threads = unsigned(product);
    }
    function.static_shared = shared_size(text.substr(body, end - body)) + module_shared;
    if (function.static_shared > PLAIN_SHARED) return name + " declares more shared memory than 48 KB";
    function.max_dynamic_shared = PLAIN_SHARED - function.static_shared;
    module.functions.push_back(function);
    return "";
}

}  // namespace

bool is_ptx(const std::string &text) { return !word_after(without_comments(text), ".version", 0).empty(); }

std::string read_ptx(const std::string &original, Module &module) {
    std::string text = without_comments(original);
    std::string version = word_after(text, ".version", 0), target = word_after(text, ".target", 0);
    if (target.compare(0, 3, "sm_")) return "no .target";
    if (strtod(version.c_str(), nullptr) > 9.0) return "unsupported .version " + version;
    unsigned long architecture = strtoul(target.c_str() + 3, nullptr, 10);
    if (architecture > 90) return "the device is of sm_90, the text for " + target;
    size_t first = text.find(".entry");
    size_t module_shared = shared_size(text.substr(0, first));
    for (size_t place = first; place != std::string::npos; place = text.find(".entry", place + 1)) {
        std::string wrong = read_entry(text, place, module_shared, module);
        if (!wrong.empty()) return wrong;
    }
    return "";
}

}  // namespace emulate
