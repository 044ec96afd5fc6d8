package trace

// Slots is a bound above every slot so far.
func (r *Reader) Slots() uint32 { return r.ids.slots }

// Live is how many blocks are in use.
func (l *Lives) Live() int { return l.live }
