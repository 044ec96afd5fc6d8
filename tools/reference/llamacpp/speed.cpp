// Load a GGUF on a card and time it: buffers on stderr as llama.cpp logs them, one CSV row a setting on stdout.
//
//   speed MODEL.gguf NAME GPU_LAYERS DEPTH... > rows.csv
//
// A row is name,gpu_layers,prompt_tokens,depth,prefill_tps,decode_tps: the prompt is 512 tokens after DEPTH cached ones, then
// 32 single steps; the better of two runs, after one that warms up. GGML_BACKENDS is the folder of the backends' libraries.
#include "llama.h"
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

static double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static const int prompt = 512, steps = 32;

// decode feeds n tokens in batches of at most `prompt` and waits for the result.
static bool decode(llama_context * c, int n) {
    std::vector<llama_token> tokens(prompt, 1);
    for (int done = 0; done < n; done += prompt) {
        if (llama_decode(c, llama_batch_get_one(tokens.data(), std::min(prompt, n - done)))) return false;
    }
    llama_synchronize(c);
    return true;
}

int main(int argc, char ** argv) {
    if (argc < 5) { fprintf(stderr, "usage: speed MODEL.gguf NAME GPU_LAYERS DEPTH...\n"); return 2; }
    const char * folder = getenv("GGML_BACKENDS");
    folder ? ggml_backend_load_all_from_path(folder) : ggml_backend_load_all();
    llama_backend_init();
    auto mparams = llama_model_default_params();
    mparams.n_gpu_layers = atoi(argv[3]);
    llama_model * model = llama_model_load_from_file(argv[1], mparams);
    if (!model) return 1;
    printf("name,gpu_layers,prompt_tokens,depth,prefill_tps,decode_tps\n");
    for (int i = 4; i < argc; i++) {
        const int depth = atoi(argv[i]);
        auto p = llama_context_default_params();
        p.n_ctx = depth + prompt + steps + 256; p.n_batch = p.n_ubatch = prompt;
        if (mparams.n_gpu_layers == 0) p.n_threads = p.n_threads_batch = 1; // its threads wait by spinning
        llama_context * c = llama_init_from_model(model, p);
        if (!c) return 1;
        double prefill = 0, single = 0;
        for (int run = 0; run < 3; run++) {
            llama_memory_clear(llama_get_memory(c), true);
            if (!decode(c, depth)) return 1;
            double begun = seconds();
            if (!decode(c, prompt)) return 1;
            double filled = seconds();
            for (int s = 0; s < steps; s++) if (!decode(c, 1)) return 1;
            double ended = seconds();
            if (run == 0) continue;
            prefill = std::max(prefill, prompt / (filled - begun)); single = std::max(single, steps / (ended - filled));
        }
        printf("%s,%s,%d,%d,%.2f,%.2f\n", argv[2], argv[3], prompt, depth, prefill, single);
        fflush(stdout);
        llama_free(c);
    }
    llama_model_free(model);
}
