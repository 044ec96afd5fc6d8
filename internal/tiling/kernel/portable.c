// The register kernel for the compiler's generic 16-byte vectors: SSE2 on amd64, NEON on arm64. See template.h.
#define VARIANT portable
#define LANES 4
#define MR 6
#define NV 2
#include "template.h"
