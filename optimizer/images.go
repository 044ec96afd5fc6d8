package optimizer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"

	"github.com/vlmem/vlmem/internal/profile"
)

// Image is one picture or clip after resizing: 8-bit RGB, three bytes a pixel, rows back to back, a slice per frame.
// Width and Height are multiples of patch·merge.
type Image struct {
	Width, Height int
	Frames        [][]byte // one for a still image
}

// Vision is the geometry of a vision tower: channels, patches, merging.
type Vision = profile.Vision

// Normalization maps a byte p of a channel to (p/255 − Mean) / Deviation.
type Normalization struct {
	Mean, Deviation [3]float64
}

// HalfNormalization maps bytes to [−1, 1], as the Qwen3-VL processor does.
func HalfNormalization() Normalization {
	half := [3]float64{0.5, 0.5, 0.5}
	return Normalization{half, half}
}

// table is the normalized value of every byte, as fp32 bits by channel. 3 KiB: it stays in the first-level cache.
func (n Normalization) table() *[3][256]uint32 {
	var t [3][256]uint32
	for c := range t {
		for p := range t[c] {
			t[c][p] = math.Float32bits(float32((float64(p)/255 - n.Mean[c]) / n.Deviation[c]))
		}
	}
	return &t
}

// ImageBatch is the input of the vision tower for several images in one block: pixel_values, fp32 [N, channels·t·p·p]
// with N the patches of all images, and the rows of each as a view of it. The tower needs no further copy, split or
// concatenation.
type ImageBatch struct {
	Pixels *Tensor
	Images []ImageView
}

// ImageView is one image's patches: a view of rows of the batch and their grid.
type ImageView struct {
	Pixels                  *Tensor
	Temporal, Height, Width int // the grid in patches
}

// ImageBatch lays images out in the order in which the tower reads them. The rows of an image run over
//
//	temporal patch, block row, block column, row in block, column in block
//
// where a block is merge × merge patches, those that the merger joins into one token: a token's patches are neighbours.
// The elements of a row run over channel, frame in the temporal patch, y, x. A still image fills its temporal patch
// with copies, a clip of odd length repeats its last frame, as the reference processor does. Each byte is read once and
// each element written once, in order of rows.
func (o *Optimizer) ImageBatch(images []Image, v Vision, n Normalization) (*ImageBatch, error) {
	views := make([]ImageView, len(images))
	patches := 0
	for i := range images {
		view, err := images[i].grid(&v)
		if err != nil {
			return nil, fmt.Errorf("laying out image %d of %d: %w", i+1, len(images), err)
		}
		views[i] = view
		patches += view.patches()
	}
	if patches == 0 {
		return nil, errors.New("laying out an image batch: no images")
	}
	width := v.InChannels * v.TemporalPatchSize * v.PatchSize * v.PatchSize
	kind := VisionFeatures
	if o.placesOf(kind)[0] == Device {
		kind = Staging // it is written here and copied from there
	}
	pixels, err := o.Allocate([]int{patches, width}, FP32, kind)
	if err != nil {
		return nil, fmt.Errorf("laying out an image batch: %w", err)
	}
	err = pixels.Use(func(to []byte) error {
		table, row := n.table(), 0
		for i := range views {
			w := &views[i]
			w.Pixels = pixels.view(int64(row)*pixels.Strides[0], []int{w.patches(), width}, FP32)
			images[i].write(to[w.Pixels.at:][:w.Pixels.size], w, &v, table)
			row += w.patches()
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("laying out an image batch: %w", err), o.Free(pixels))
	}
	return &ImageBatch{pixels, views}, nil
}

func (w *ImageView) patches() int { return w.Temporal * w.Height * w.Width }

// grid checks an image and counts its patches.
func (m *Image) grid(v *Vision) (ImageView, error) {
	block := v.PatchSize * v.SpatialMergeSize
	switch {
	case v.InChannels != 3 || !sane(v.PatchSize) || !sane(v.SpatialMergeSize) || !sane(v.TemporalPatchSize):
		return ImageView{}, fmt.Errorf("a tower of %d channels, patches of %d, merged by %d, and %d frames: want RGB patches",
			v.InChannels, v.PatchSize, v.SpatialMergeSize, v.TemporalPatchSize)
	case m.Width > mostSide || m.Height > mostSide:
		return ImageView{}, fmt.Errorf("%dx%d pixels: want sides of at most %d", m.Width, m.Height, mostSide)
	case m.Width <= 0 || m.Height <= 0 || m.Width%block != 0 || m.Height%block != 0:
		return ImageView{}, fmt.Errorf("%dx%d pixels: want multiples of %d, as Model.ImageGrid gives them", m.Width, m.Height,
			block)
	case len(m.Frames) == 0:
		return ImageView{}, errors.New("no frames")
	}
	for i, f := range m.Frames {
		if len(f) != 3*m.Width*m.Height {
			return ImageView{}, fmt.Errorf("frame %d has %d bytes: want %d for %dx%d pixels of RGB", i, len(f),
				3*m.Width*m.Height, m.Width, m.Height)
		}
	}
	t := (len(m.Frames) + v.TemporalPatchSize - 1) / v.TemporalPatchSize
	return ImageView{Temporal: t, Height: m.Height / v.PatchSize, Width: m.Width / v.PatchSize}, nil
}

// mostSide is far above any picture, and keeps every product of sides and patches in an int.
const mostSide = 1 << 20

// sane says that a size of patches is one of a tower.
func sane(n int) bool { return n > 0 && n <= 1024 }

// write fills to, the view's rows.
//
// The lines of a patch lie a whole image row apart, on pages of their own, where no hardware prefetcher follows. So
// before a patch is written, the first byte of every line of the patch two to the right is read: that starts its misses
// while this one is computed, and takes a quarter to a half off the time of a 1080p image. One patch to the right gains
// less, four no more, and filling patches line by line across the image, which reads in order, is slower than no
// reading ahead.
func (m *Image) write(to []byte, w *ImageView, v *Vision, table *[3][256]uint32) {
	merge := v.SpatialMergeSize
	size := 4 * w.Pixels.Shape[1]
	var read byte
	for t := range w.Temporal {
		for by := 0; by < w.Height; by += merge {
			for bx := 0; bx < w.Width; bx += merge {
				for y := by; y < by+merge; y++ {
					for x := bx; x < bx+merge; x++ {
						read += m.readAhead(t, y, x+2, v)
						m.writePatch(to[:size], t, y, x, v, table)
						to = to[size:]
					}
				}
			}
		}
	}
	runtime.KeepAlive(read) // or the compiler would drop the loads
}

// readAhead reads a byte of every line of patch (y, x), which may lie past the image's edge, in the frames of temporal
// patch t.
func (m *Image) readAhead(t, y, x int, v *Vision) (read byte) {
	for f := t * v.TemporalPatchSize; f < min((t+1)*v.TemporalPatchSize, len(m.Frames)); f++ {
		pixels := m.Frames[f]
		for dy := range v.PatchSize {
			read += pixels[min(3*((y*v.PatchSize+dy)*m.Width+x*v.PatchSize), len(pixels)-1)]
		}
	}
	return read
}

// writePatch fills one row: patch (y, x) of the frames of temporal patch t.
func (m *Image) writePatch(to []byte, t, y, x int, v *Vision, table *[3][256]uint32) {
	p, depth := v.PatchSize, v.TemporalPatchSize
	plane := 4 * p * p // bytes of one channel of one frame
	for f := range depth {
		at := t*depth + f
		if at >= len(m.Frames) { // a copy of the frame before
			for c := range 3 {
				frame := to[(c*depth+f)*plane:]
				copy(frame[:plane], to[(c*depth+f-1)*plane:])
			}
			continue
		}
		pixels := m.Frames[at]
		red, green, blue := to[f*plane:][:plane], to[(depth+f)*plane:][:plane], to[(2*depth+f)*plane:][:plane]
		for dy := range p {
			line := pixels[3*((y*p+dy)*m.Width+x*p):][:3*p]
			writeLine(red[4*dy*p:][:4*p], green[4*dy*p:][:4*p], blue[4*dy*p:][:4*p], line, table)
		}
	}
}

// writeLine splits a line of RGB bytes into three lines of normalized fp32.
func writeLine(red, green, blue, line []byte, table *[3][256]uint32) {
	for ; len(line) >= 3; line = line[3:] {
		binary.LittleEndian.PutUint32(red, table[0][line[0]])
		binary.LittleEndian.PutUint32(green, table[1][line[1]])
		binary.LittleEndian.PutUint32(blue, table[2][line[2]])
		red, green, blue = red[4:], green[4:], blue[4:]
	}
}

// FreeImageBatch takes back a batch with all its views.
func (o *Optimizer) FreeImageBatch(b *ImageBatch) error {
	if b == nil {
		return o.Free(nil)
	}
	return o.Free(b.Pixels)
}
