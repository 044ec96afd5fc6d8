package profile

import (
	"fmt"
	"math"
	"strings"
)

// Grid is an image or video after preprocessing: resized to Width × Height pixels (multiples of patch·merge), cut into
// Temporal × (Height/patch) × (Width/patch) patches, of which merge² become one token.
type Grid struct {
	Width, Height int // pixels after resizing
	Temporal      int // temporal patches: 1 for an image
	Patches       int // over all temporal patches
	Tokens        int // that the decoder sees, vision markers and timestamps not counted
	PatchWidth    int // elements of one flattened patch: channels · temporal_patch · patch²
}

// PixelBytes is the size of the fp32 pixel_values tensor [Patches, PatchWidth].
func (g Grid) PixelBytes() int64 { return 4 * int64(g.Patches) * int64(g.PatchWidth) }

// ImageGrid resizes a width × height image as the model's image processor does. With f = patch·merge and area limits
// [min, max] in pixels:
//
//	w̄, h̄ = f·round(w/f), f·round(h/f)                  round half to even, as Python
//	h̄·w̄ > max: β = √(h·w/max), w̄ = f·⌊w/β/f⌋ likewise h̄
//	h̄·w̄ < min: β = √(min/(h·w)), w̄ = f·⌈w·β/f⌉ likewise h̄
//
// An aspect ratio above 200 is an error there and here.
func (m *Model) ImageGrid(width, height int) (Grid, error) {
	if v := m.Vision; v.ImageTokens > 0 && width > 0 && height > 0 {
		side := v.ImageSize / v.PatchSize
		return Grid{Width: v.ImageSize, Height: v.ImageSize, Temporal: 1, Patches: side * side, Tokens: v.ImageTokens,
			PatchWidth: v.InChannels * v.PatchSize * v.PatchSize}, nil
	}
	if m.Vision.Kind == Gemma4Tower && min(width, height) > 0 && max(width, height) <= mostSide {
		return m.softGrid(width, height), nil
	}
	if t := m.Vision.TemporalPatchSize; m.Vision.Kind == GLMTower { // to whose processor an image is a clip
		return m.grown(width, height, t, t*m.Preprocess.MinPixels, t*m.Preprocess.MaxPixels)
	}
	return m.resize(width, height, 1, m.Preprocess.MinPixels, m.Preprocess.MaxPixels)
}

// VideoGrid resizes a clip of n sampled frames, each width × height, as the model's video processor does. Qwen3-VL's
// limits bind the whole clip, and its rules differ from an image's:
//
//	a side under f: both grow until it is f            then as an image, with
//	area = t·round(n/t)·h̄·w̄, t = temporal patch       round half to even: 5 frames count as 4, 7 as 8
//	β from n·h·w
//
// and fewer frames than a temporal patch are refused. Qwen2-VL's limits bind each frame. Either pads the last patch.
func (m *Model) VideoGrid(width, height, frames int) (Grid, error) {
	p, t := m.Preprocess, m.Vision.TemporalPatchSize
	if frames <= 0 {
		return Grid{}, fmt.Errorf("a video of %d frames: want at least one", frames)
	}
	if p.VideoPerFrame {
		g, err := m.resize(width, height, 1, p.VideoMinPixels, p.VideoMaxPixels)
		if err != nil {
			return Grid{}, err
		}
		return m.grid(g.Width, g.Height, (frames+t-1)/t), nil
	}
	if frames < t {
		return Grid{}, fmt.Errorf("a video of %d frames: the processor takes no fewer than %d", frames, t)
	}
	return m.grown(width, height, frames, p.VideoMinPixels, p.VideoMaxPixels)
}

// grown resizes after both sides grew until neither is under a token's.
func (m *Model) grown(width, height, frames, minPixels, maxPixels int) (Grid, error) {
	if f := m.Vision.PatchSize * m.Vision.SpatialMergeSize; width > 0 && height > 0 && min(width, height) < f {
		scale := max(float64(f)/float64(height), float64(f)/float64(width))
		width, height = int(float64(width)*scale), int(float64(height)*scale)
	}
	return m.resize(width, height, frames, minPixels, maxPixels)
}

// SampledFrames is how many frames of a clip the video processor keeps: duration·fps within the model's limits.
func (m *Model) SampledFrames(seconds float64) int {
	p := m.Preprocess
	n := min(max(int(seconds*p.VideoFPS), p.VideoMinFrames), p.VideoMaxFrames)
	t := m.Vision.TemporalPatchSize
	return (n + t - 1) / t * t
}

// mostSide is far above any image: 2^20 pixels a side.
const mostSide = 1 << 20

func (m *Model) resize(width, height, frames, minPixels, maxPixels int) (Grid, error) {
	if width <= 0 || height <= 0 {
		return Grid{}, fmt.Errorf("an image of %dx%d pixels: both sides must be above zero", width, height)
	}
	if max(width, height, frames) > mostSide {
		return Grid{}, fmt.Errorf("an image of %dx%d pixels and %d frames: at most %d of each make sense", width, height,
			frames,
			mostSide)
	}
	if max(width, height) > 200*min(width, height) {
		return Grid{}, fmt.Errorf("an image of %dx%d pixels: the aspect ratio may be at most 200", width, height)
	}
	t := m.Vision.TemporalPatchSize
	counted := 1.0
	if frames > 1 {
		counted = math.RoundToEven(float64(frames)/float64(t)) * float64(t)
	}
	f := float64(m.Vision.PatchSize * m.Vision.SpatialMergeSize)
	w, h, n := float64(width), float64(height), float64(frames)
	wBar, hBar := math.RoundToEven(w/f)*f, math.RoundToEven(h/f)*f
	switch area := counted * wBar * hBar; {
	case area > float64(maxPixels):
		beta := math.Sqrt(n * h * w / float64(maxPixels))
		wBar, hBar = max(f, math.Floor(w/beta/f)*f), max(f, math.Floor(h/beta/f)*f)
	case area < float64(minPixels):
		beta := math.Sqrt(float64(minPixels) / (n * h * w))
		wBar, hBar = math.Ceil(w*beta/f)*f, math.Ceil(h*beta/f)*f
	}
	return m.grid(int(wBar), int(hBar), (frames+t-1)/t), nil
}

func (m *Model) grid(width, height, temporal int) Grid {
	v := m.Vision
	patches := temporal * (width / v.PatchSize) * (height / v.PatchSize)
	return Grid{
		Width: width, Height: height, Temporal: temporal, Patches: patches,
		Tokens:     patches / (v.SpatialMergeSize * v.SpatialMergeSize),
		PatchWidth: v.InChannels * v.TemporalPatchSize * v.PatchSize * v.PatchSize,
	}
}

// lines are images that people name by their lines, 16 by 9.
var lines = map[string][2]int{"480p": {854, 480}, "720p": {1280, 720}, "1080p": {1920, 1080}, "1440p": {2560, 1440},
	"2160p": {3840, 2160}, "4k": {3840, 2160}}

// ParseImage reads WIDTHxHEIGHT, or a name such as 1080p.
func ParseImage(s string) (width, height int, err error) {
	if sides, ok := lines[strings.ToLower(s)]; ok {
		return sides[0], sides[1], nil
	}
	if n, err := fmt.Sscanf(s, "%dx%d", &width, &height); n != 2 || err != nil ||
		fmt.Sprintf("%dx%d", width, height) != s {
		return 0, 0, fmt.Errorf("image %q: want WIDTHxHEIGHT in pixels, such as 1280x720, or 1080p", s)
	}
	return width, height, nil
}
