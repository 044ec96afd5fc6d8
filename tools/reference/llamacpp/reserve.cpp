// reserve takes llama-server's arguments, loads and reserves as the server does before it listens, and prints what every
// buffer type holds: "buffer NAME weights BYTES cache BYTES compute BYTES". GGML_BACKENDS is the folder of the backends.
// Everything is allocated: no_alloc, which only reckons, leaves out what a batch of single tokens needs beyond a prompt, and gives
// a second card the first one's buffer. Exit 2 where the arguments are refused, 3 where loading is.
#include "arg.h"
#include "common.h"
#include "ggml-backend.h"
#include "llama.h"
#include "llama-ext.h"
#include "speculative.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

int main(int argc, char ** argv) {
    ggml_backend_load_all_from_path(getenv("GGML_BACKENDS"));
    common_init();
    common_params params;
    if (!common_params_parse(argc, argv, params, LLAMA_EXAMPLE_SERVER)) return 2;
    llama_backend_init();
    if (params.n_parallel < 0) { // as tools/server does
        params.n_parallel = 4;
        params.kv_unified = true;
    }
    const auto outputs = common_speculative_get_output_limits(params.n_batch, params.n_parallel,
                                                              common_speculative_n_max(&params.speculative));
    params.n_outputs_max         = std::max<int>(1, outputs.total);
    params.n_outputs_max_per_seq = std::max<int>(1, outputs.per_seq);
    params.warmup = false;
    auto loaded = common_init_from_params(params);
    if (!loaded || !loaded->context()) return 3;
    for (const auto & [type, held] : llama_get_memory_breakdown(loaded->context()))
        printf("buffer %s weights %zu cache %zu compute %zu\n", ggml_backend_buft_name(type), held.model, held.context, held.compute);
    fflush(stdout);
    _exit(0); // a runtime of stubs does not come down cleanly
}
