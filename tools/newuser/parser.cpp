// llama-server's own reading of its arguments, from the libllama-common of a released package: says what they set, or what
// is wrong with them and exits with 1. Nothing is loaded or downloaded.
#include "arg.h"
#include "common.h"
#include <cstdio>

int main(int argc, char ** argv) {
    common_params params;
    if (!common_params_parse(argc, argv, params, LLAMA_EXAMPLE_SERVER)) {
        return 1;
    }
    printf("repository %s, context %d, sequences %d\n", params.model.hf_repo.c_str(), params.n_ctx, params.n_parallel);
}
