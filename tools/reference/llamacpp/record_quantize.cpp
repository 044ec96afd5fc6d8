// Record the size of the tensors that llama-quantize would write: one CSV row per type, by a dry run that quantises nothing.
//
//   record_quantize MODEL.f16.gguf MODEL_NAME > rows.csv
#include "llama.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

static std::string captured;
static void log_line(ggml_log_level, const char * text, void *) { captured += text; }

int main(int argc, char ** argv) {
    if (argc != 3) { fprintf(stderr, "usage: record_quantize MODEL.f16.gguf MODEL_NAME\n"); return 2; }
    static const struct { const char * name; llama_ftype type; } types[] = {
        {"q8_0", LLAMA_FTYPE_MOSTLY_Q8_0}, {"q4_0", LLAMA_FTYPE_MOSTLY_Q4_0}, {"q4_1", LLAMA_FTYPE_MOSTLY_Q4_1},
        {"q5_0", LLAMA_FTYPE_MOSTLY_Q5_0}, {"q5_1", LLAMA_FTYPE_MOSTLY_Q5_1}, {"q2_k", LLAMA_FTYPE_MOSTLY_Q2_K},
        {"q3_k_s", LLAMA_FTYPE_MOSTLY_Q3_K_S}, {"q3_k_m", LLAMA_FTYPE_MOSTLY_Q3_K_M}, {"q3_k_l", LLAMA_FTYPE_MOSTLY_Q3_K_L},
        {"q4_k_s", LLAMA_FTYPE_MOSTLY_Q4_K_S}, {"q4_k_m", LLAMA_FTYPE_MOSTLY_Q4_K_M}, {"q5_k_s", LLAMA_FTYPE_MOSTLY_Q5_K_S},
        {"q5_k_m", LLAMA_FTYPE_MOSTLY_Q5_K_M}, {"q6_k", LLAMA_FTYPE_MOSTLY_Q6_K}, {"iq4_nl", LLAMA_FTYPE_MOSTLY_IQ4_NL},
        {"iq4_xs", LLAMA_FTYPE_MOSTLY_IQ4_XS}, {"iq3_s", LLAMA_FTYPE_MOSTLY_IQ3_S}, {"iq3_m", LLAMA_FTYPE_MOSTLY_IQ3_M},
    };
    llama_log_set(log_line, nullptr);
    ggml_backend_load_all_from_path(getenv("GGML_BACKENDS")); // the folder of libggml-cpu-*.so
    llama_backend_init();
    printf("model,quant,pure,tensors_mib\n");
    for (const auto & t : types) for (int pure = 0; pure < 2; pure++) {
        auto p = llama_model_quantize_default_params();
        p.ftype = t.type; p.dry_run = true; p.pure = pure; p.nthread = 1;
        captured.clear();
        bool failed = llama_model_quantize(argv[1], "/dev/null", &p) != 0;
        auto at = captured.find("quant size");
        double mib = 0;
        if (failed || at == std::string::npos || sscanf(captured.c_str() + at, "quant size = %lf", &mib) != 1) {
            fprintf(stderr, "%s: %s\n", t.name, captured.c_str()); return 1;
        }
        printf("%s,%s,%d,%.2f\n", argv[2], t.name, pure, mib);
    }
}
