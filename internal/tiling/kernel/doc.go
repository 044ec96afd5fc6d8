// Package kernel holds the CPU kernels whose tiles package tiling chooses: the matrix product, attention, transposition
// and the cutting of images into patches, in fp32.
//
// They exist to be good enough that the tiles decide the speed, and so that the effect of tiles can be measured and not
// only claimed; each also comes without tiles. Two implementations have one API: C over the compiler's vector types
// (template.h, built once per vector width and chosen at run time) and Go, for builds without cgo and as the plain
// statement of what the C does. Both are tested against a float64 reference on every shape class.
//
// # The matrix product
//
// C = A·B by Goto's five loops (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS
// 34, 2008). B is cut into nc columns, those into kc rows, A into mc rows; what is in use of each is packed so that the
// register kernel reads it in order:
//
//	for jc in 0..n by nc          C[:, jc], a panel of B for L3
//	  for pc in 0..k by kc        pack B[pc, jc] in panels of nr columns
//	    for ic in 0..m by mc      pack A[ic, pc] in panels of mr rows, a block for L2
//	      for jr in 0..nc by nr     a micropanel of B, for L1
//	        for ir in 0..mc by mr     c[mr x nr] += a micropanel of A · that of B, in registers
//
// # Attention
//
// O = softmax(Q·Kᵀ/sqrt(d))·V by online softmax: for block_q queries, block_kv keys at a time, the scores are a matrix
// product in the same register kernel, and so is their weighted sum over V; a larger maximum rescales what is summed so
// far.
package kernel
