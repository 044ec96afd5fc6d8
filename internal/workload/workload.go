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
// generated sequence against them. What a GPU allocates differently was read in the sources of PyTorch and held against
// recordings of an H100 (PyTorch 2.11, tools/card/testdata): no tensors for Python numbers, statistics of norms in
// fp32, cuDNN's attention with its workspace, the workspace of cuBLAS, cub's temporary storage, full masks in
// masked_scatter, the weights of chosen experts copied at each decode step. Twenty-three requests agree in their peak
// to the byte, nine of them recorded after the rules were written. Not modelled: the storage of a sort of more than
// 4,096 rows by expert, 90 KB. What older cards do otherwise, their own fused attention, is from the sources still.
package workload
