package report

import (
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/vlmem/vlmem/internal/advise"
)

// sections is what stands before each part of the long form.
var sections = map[string]string{
	"hardware": "What the advice is for. Capacities and bandwidth under measured were timed on the machine.",
	"model":    "What is loaded, and the elements it is held in.",
	"budget": `Every byte of each memory has an account, and the accounts add up:
  capacity = weights + KV cache + vision + compute + pools + pinned + other + free
Weights and KV cache follow from the model. Vision and compute are the largest sums of tensors live at once in a replayed
request at the limits. Pools is what the pools' maxima hold beyond them. Intervals are the least and the most of each.`,
	"pools": `One pool for each kind of tensor. The policy is the one that reserved least over all sampled requests. Initial is the median need,
maximum the largest need and a reserve. verify replays other seeds against it.`,
	"tiles": "The blocks of the kernels, from the caches or the limits of a multiprocessor and the shapes of the model.",
	"pressure": `Shares of a capacity C at which the pools change what they do. With U the largest burst and R what a reaction gives back at least:
  high = 1 - (U - R)/C        so that the burst fits after the reaction
  hysteresis = R/C            so that the reaction is not taken for relief
  low = high - hysteresis - U/C   so that growing ahead does not lead to high`,
	"speed": `How fast it will answer, from public measurements of other machines by the terms of docs/speed.md. Intervals hold four times in
five.`,
	"streams": "How copies overlap with computing.",
	"samples": "What pools and thresholds were sized from.",
}

const tradeIntro = `The precisions that fit, where their layers lie, how fast they write and how much context there ` +
	`is room for.`

// Explain writes a configuration's long form: every value with its reason and source, by section.
func Explain(w io.Writer, a advise.Advice) error {
	text, err := yaml.Dump(a)
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Load(text, &document); err != nil {
		return fmt.Errorf("reading the configuration back: %w", err)
	}
	var b strings.Builder
	for _, line := range a.Headline {
		fmt.Fprintln(&b, Visible(line))
	}
	root := &document
	if root.Kind == yaml.DocumentNode {
		root = root.Content[0]
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if value.Kind == yaml.ScalarNode {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n\n", strings.ToUpper(key.Value))
		if intro := sections[key.Value]; intro != "" {
			fmt.Fprintf(&b, "%s\n\n", Paragraphs(intro))
		}
		explain(&b, "", value)
	}
	if _, err = io.WriteString(w, fold(w, b.String())); err != nil || len(a.Choices) == 0 {
		return err
	}
	if _, err := fmt.Fprintf(w, "\nTHE TRADE\n\n%s\n\n", fold(w, Paragraphs(tradeIntro))); err != nil {
		return err
	}
	return Choices(w, a.Choices, false)
}

// explain writes the values below n, each under its path.
func explain(b *strings.Builder, path string, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			explain(b, strings.TrimPrefix(path+"."+n.Content[i].Value, "."), n.Content[i+1])
		}
	case yaml.SequenceNode:
		if n.Style&yaml.FlowStyle != 0 {
			line(b, path, n.Content[0].Value+" to "+n.Content[1].Value, n.LineComment)
			return
		}
		for i, item := range n.Content {
			explain(b, fmt.Sprintf("%s[%d]", path, i), item)
		}
	default:
		line(b, path, n.Value, n.LineComment)
	}
}

func line(b *strings.Builder, path, value, comment string) {
	fmt.Fprintf(b, "  %s = %s\n", path, Visible(value))
	if why := strings.TrimPrefix(comment, "# "); why != "" {
		fmt.Fprintf(b, "      %s\n", why)
	}
}
