package advise

// Pressure is when the pools change what they do. Shares are of a budget's capacity; fragmentation is external.
type Pressure struct {
	Low             Value[float64] `yaml:"low" json:"low"`
	High            Value[float64] `yaml:"high" json:"high"`
	Hysteresis      Value[float64] `yaml:"hysteresis" json:"hysteresis"`
	DefragmentAbove Value[float64] `yaml:"defragment_above" json:"defragment_above"`
}

// seedPressure is the thresholds that this system began with. They stay until a replay of bursts shows better ones.
func seedPressure() Pressure {
	return Pressure{
		Low:             assumed(0.30, "below it pools grow ahead"),
		High:            assumed(0.80, "above it caches are trimmed, pools compacted, the collector run"),
		Hysteresis:      assumed(0.05, "a level is left this far below where it was entered, so that it does not flap"),
		DefragmentAbove: assumed(0.30, "external fragmentation of a pool above which it is compacted"),
	}
}
