// Package workload derives the memory behaviour of a vision-language model from its architecture: the sequence of
// allocations and frees that a program makes while it runs one request, or serves many.
//
// Request follows transformers' generate on Qwen3-VL, module by module and operator by operator: every tensor that
// PyTorch allocates, in order, with the bytes it asks for, freed where Python lets it go. The sizes are equations in
// the model's widths and these lengths:
//
//	N  patches of all images        T = N/merge²  vision tokens       S  tokens of a sequence, text and vision
//	C  width of the vision tower    D  width of the decoder           b  bytes of an element
//
// so that a block of the tower peaks at 34·N·C bytes in 16 bits (the fp32 rotary embedding: x 2, norm 2, qkv 6, q and k
// 4 each in fp32, rotated q 4, three temporaries 4 each) and a decoder layer's MLP near 6·S·D + 6·S·F. Nothing is
// fitted to a case: the same code gives every size of model, image, batch and type.
//
// How true it is. Recordings of transformers on a CPU stand in testdata, made by tools/reference; a test holds the
// generated sequence against them. What a GPU allocates differently was read in the sources of PyTorch: no tensors for
// Python numbers, statistics of norms in fp32, the state of the random generator beside fused attention, the workspace
// of cuBLAS, full masks in masked_scatter. A card of sm_90 or sm_100 gets what an H100 recorded (PyTorch 2.11,
// tools/card/testdata) on top: cuDNN's attention with its workspace, cub's temporary storage, and a few casts less and
// more. Twenty-three requests, 22 of them kept, agree in their peak to the byte, nine of them recorded after the rules
// were written; not modelled is the storage of a sort of more than 4,096 rows by expert, 90 KB. Older cards keep to the
// sources until one of them is recorded: they have cub's storage too.
package workload
