// serve loads a GGUF with llama.cpp's own library and settings as its programs take them, computes a prompt of so many
// tokens and decodes: serve -m FILE -c N -ctk TYPE [-ub N] [--no-repack] [--no-mmap] --prompt N --decode N
#include "llama.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>
#include "ggml-backend.h"
static ggml_type type_of(const std::string &s) {
    for (int t = 0; t < GGML_TYPE_COUNT; t++) if (ggml_type_name((ggml_type)t) && s == ggml_type_name((ggml_type)t)) return (ggml_type)t;
    fprintf(stderr, "unknown type %s\n", s.c_str()); exit(2);
}
int main(int argc, char **argv) {
    std::string file, ctk = "f16"; int ctx = 4096, ub = 512, prompt = 512, decode = 16, threads = 2; bool mmap = true, repack = true;
    for (int i = 1; i < argc; i++) {
        std::string a = argv[i]; auto next = [&] { return std::string(argv[++i]); };
        if (a == "-m") file = next(); else if (a == "-c") ctx = stoi(next()); else if (a == "-ctk" || a == "-ctv") ctk = next();
        else if (a == "-ub") ub = stoi(next()); else if (a == "--prompt") prompt = stoi(next()); else if (a == "--decode") decode = stoi(next());
        else if (a == "--no-mmap") mmap = false; else if (a == "--no-repack") repack = false; else if (a == "-t") threads = stoi(next());
    }
    ggml_backend_load_all_from_path(getenv("GGML_BACKENDS"));
    llama_backend_init();
    auto mp = llama_model_default_params(); mp.use_extra_bufts = repack; mp.n_gpu_layers = 0;
    mp.load_mode = mmap ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
    llama_model *m = llama_model_load_from_file(file.c_str(), mp); if (!m) return 3;
    auto cp = llama_context_default_params(); cp.n_ctx = ctx; cp.n_ubatch = ub; cp.n_outputs_max = 1; cp.n_batch = 2048; cp.type_k = cp.type_v = type_of(ctk);
    cp.n_threads = cp.n_threads_batch = threads; cp.no_perf = false;
    llama_context *c = llama_init_from_model(m, cp); if (!c) return 3;
    std::vector<llama_token> t(prompt); for (int i = 0; i < prompt; i++) t[i] = 10 + i % 1000;
    for (int at = 0; at < prompt; at += 2048) {
        auto b = llama_batch_get_one(t.data() + at, std::min(2048, prompt - at)); if (llama_decode(c, b)) return 4;
    }
    for (int i = 0; i < decode; i++) { llama_token x = 20 + i; auto b = llama_batch_get_one(&x, 1); if (llama_decode(c, b)) return 4; }
    llama_perf_context_print(c);
    llama_free(c); llama_model_free(m); return 0;
}
