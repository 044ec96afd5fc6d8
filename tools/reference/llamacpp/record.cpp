// Record the buffers that libllama allocates for a GGUF: one CSV row per setting read from stdin.
//
//   record MODEL.gguf WEIGHTS_NAME MODEL_NAME [GPU_LAYERS] < settings > rows.csv
//
// A setting is one line: ctx batch ubatch parallel kv_type flash(on|off|auto) unified(0|1) outputs, where outputs
// 0 means logits of a whole batch, as libllama has it, and llama-server asks for one a slot. The model is opened with no_alloc, so that
// nothing is allocated and sizes come from the same reservation that a real load makes. Bytes come from the memory breakdown
// that llama.cpp's own fitting uses, KV and output apart: the context's share is KV + output.
#include "llama.h"
#include "llama-ext.h"
#include "standin.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

static ggml_type type_of(const std::string & name) {
    for (int t = 0; t < GGML_TYPE_COUNT; t++) {
        const char * n = ggml_type_name((ggml_type) t);
        if (n && name == n) return (ggml_type) t;
    }
    return GGML_TYPE_COUNT;
}

static std::string captured;
static void log_line(ggml_log_level, const char * text, void *) { captured += text; }

int main(int argc, char ** argv) {
    if (argc != 4 && argc != 5) { fprintf(stderr, "usage: record MODEL.gguf WEIGHTS_NAME MODEL_NAME [GPU_LAYERS] < settings\n"); return 2; }
    llama_log_set(log_line, nullptr);
    ggml_backend_load_all_from_path(getenv("GGML_BACKENDS")); // the folder of libggml-cpu-*.so
    if (getenv("RECORD_DEVICE")) standin::install(); // everything on a card that is not there
    llama_backend_init();
    auto mparams = llama_model_default_params();
    mparams.no_alloc = true;
    mparams.load_mode = LLAMA_LOAD_MODE_NONE;
    mparams.use_extra_bufts = false;
    if (argc == 5) mparams.n_gpu_layers = atoi(argv[4]); // the head counts as one after the last
    llama_model * model = llama_model_load_from_file(argv[1], mparams);
    if (!model) { fprintf(stderr, "%s", captured.c_str()); return 1; }
    printf("model,weights_file,ctx,batch,ubatch,parallel,kv_type,flash_attention,unified,outputs,device,model_bytes,context_bytes,compute_bytes\n");
    unsigned ctx, batch, ubatch, parallel, unified, outputs;
    char kv[32], fa[8];
    while (scanf("%u %u %u %u %31s %7s %u %u", &ctx, &batch, &ubatch, &parallel, kv, fa, &unified, &outputs) == 8) {
        auto p = llama_context_default_params();
        p.n_ctx = ctx; p.n_batch = batch; p.n_ubatch = ubatch; p.n_seq_max = parallel; p.kv_unified = unified; p.n_outputs_max = outputs;
        p.swa_full = false; // as llama.cpp's own programs have it: sliding layers keep their window
        p.type_k = p.type_v = type_of(kv);
        p.flash_attn_type = !strcmp(fa, "on") ? LLAMA_FLASH_ATTN_TYPE_ENABLED : !strcmp(fa, "off") ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_AUTO;
        captured.clear();
        llama_context * c = llama_init_from_model(model, p);
        if (!c) { fprintf(stderr, "%u %u %u %s %s: %s\n", ctx, batch, ubatch, kv, fa, captured.c_str()); continue; }
        for (const auto & [buft, d] : llama_get_memory_breakdown(c)) {
            if (d.context + d.compute + d.model == 0) continue;
            printf("%s,%s,%u,%u,%u,%u,%s,%s,%u,%u,%s,%zu,%zu,%zu\n", argv[3], argv[2], ctx, batch, ubatch, parallel, kv, fa, unified, outputs,
                ggml_backend_buft_name(buft), d.model, d.context, d.compute);
        }
        if (getenv("RECORD_LOG")) fprintf(stderr, "%s", captured.c_str());
        llama_free(c);
    }
    llama_model_free(model);
}
