// Record the compute buffer that llama.cpp's mtmd reserves for one image: one CSV row per line of "width height flash(on|off)".
//
//   record_projector MMPROJ.gguf MODEL_NAME < sizes > rows.csv
//
// Built together with tools/mtmd: it includes clip.cpp, whose loader and reservation have no public header.
#include "clip.cpp"
#include "standin.h"
#include <cstdlib>

int main(int argc, char ** argv) {
    if (argc != 3) { fprintf(stderr, "usage: record_projector MMPROJ.gguf MODEL_NAME < sizes\n"); return 2; }
    ggml_backend_load_all_from_path(getenv("GGML_BACKENDS")); // the folder of libggml-cpu-*.so
    if (getenv("RECORD_DEVICE")) standin::install(); // everything on a card that is not there
    printf("model,width,height,flash_attention,weights_bytes,compute_bytes,device_compute_bytes\n");
    int width, height; char flash[8];
    while (scanf("%d %d %7s", &width, &height, flash) == 3) {
        clip_context_params p = {};
        p.image_min_tokens = p.image_max_tokens = -1;
        p.no_alloc = true;
        p.use_gpu = getenv("RECORD_DEVICE") != nullptr;
        p.flash_attn_type = !strcmp(flash, "on") ? CLIP_FLASH_ATTN_TYPE_ENABLED : CLIP_FLASH_ATTN_TYPE_DISABLED;
        clip_ctx * ctx = clip_init(argv[1], p).ctx_v;
        if (!ctx) return 1;
        clip_image_f32 image;
        image.set_size({width, height}, false, false);
        clip_image_f32_batch batch;
        batch.entries.push_back(image);
        clip_model_loader::warmup(*ctx, batch);
        size_t weights = 0, compute = 0, on_device = 0;
        for (const auto & m : ctx->mem_usage) weights += m.second;
        for (const auto & m : ctx->mem_compute) {
            compute += m.second;
            if (m.first == &standin::device) on_device += m.second;
        }
        printf("%s,%d,%d,%s,%zu,%zu,%zu\n", argv[2], width, height, flash, weights, compute, on_device);
        clip_free(ctx);
    }
}
