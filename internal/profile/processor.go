package profile

import "encoding/json"

// ReadProcessor takes the limits of a processor's own file, which config.json says nothing of:
// preprocessor_config.json, video_preprocessor_config.json, or processor_config.json with both inside. Limits are
// areas in pixels; their older names are min_pixels and max_pixels.
func (m *Model) ReadProcessor(name string, data []byte) error {
	r := &reader{name: name, data: plainJSON(data)}
	k := keys{reader: r}
	if err := json.Unmarshal(r.data, &k.given); err != nil {
		return jsonError(name, r.data, err)
	}
	image, video := k.object("image_processor"), k.object("video_processor")
	if image.given == nil && video.given == nil {
		image = k
		if kind := k.text("video_processor_type"); kind != "" {
			image, video = keys{reader: r}, k
		}
	}
	p := &m.Preprocess
	image.limits(&p.MinPixels, &p.MaxPixels)
	video.limits(&p.VideoMinPixels, &p.VideoMaxPixels)
	if r.err == nil {
		m.Source["preprocess"] = name
	}
	return r.err
}

// limits reads the area limits where they are given.
func (k keys) limits(least, most *int) {
	size := k.object("size")
	for _, l := range []struct {
		into *int
		n    int
	}{{least, k.optional("min_pixels")}, {most, k.optional("max_pixels")}, {least, size.optional("shortest_edge")},
		{most, size.optional("longest_edge")}} {
		if l.n > 1<<12 || l.n > 0 && l.into == least { // smaller ones are sides of other processors
			*l.into = l.n
		}
	}
}
