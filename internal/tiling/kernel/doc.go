// Package kernel holds the CPU kernels whose tiles package tiling chooses.
package kernel
