package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// shape is what a container is. Dictionaries turn into frames, blocks, segments and entries as soon as their items are
// known, lists of frames into stacks, and lists of entries into runs, so that nothing large is ever held untyped.
type shape uint8

const (
	shapeList shape = iota
	shapeTuple
	shapeDict
	shapeFrame   // index into frames
	shapeStack   // index into stacks
	shapeBlock   // index into blocks
	shapeSegment // index into segments
	shapeEntry   // index into entries
)

var shapeNames = [...]string{"a list", "a tuple", "a dictionary", "a frame", "a stack", "a block", "a segment",
	"an entry"}

// object is a container: what it holds is in contents at index, or of a typed one where the shape says.
type object struct {
	shape shape
	index int32
}

// nothing is the index of a container that holds nothing so far.
const nothing int32 = -1

// contents is what a list, a tuple or a dictionary holds.
type contents struct {
	first, entries int32   // of a list: the entries [first, first+entries), which come before values
	values         []value // of a dictionary keys and values in turn
}

// held is what an untyped object holds.
func (d *decoder) held(o *object) contents {
	if o.index == nothing || o.shape > shapeDict {
		return contents{}
	}
	return d.contents[o.index]
}

// hold makes room for what an untyped object holds.
func (d *decoder) hold(o *object) (*contents, error) {
	if o.index == nothing {
		o.index = int32(len(d.contents))
		d.contents = append(d.contents, contents{})
		return &d.contents[o.index], d.spend(48)
	}
	return &d.contents[o.index], nil
}

// add keeps values for an untyped object.
func (d *decoder) add(o *object, values []value) error {
	if len(values) == 0 {
		return nil
	}
	c, err := d.hold(o)
	if err != nil {
		return err
	}
	c.values = append(c.values, values...)
	return d.spend(16 * len(values))
}

// object is the container that v stands for, nil where it stands for none.
func (d *decoder) object(v value) *object {
	if v.kind != kObject {
		return nil
	}
	return &d.objects[v.n]
}

func (d *decoder) container(op byte) error {
	o := object{shape: shapeTuple, index: nothing}
	var items []value
	var err error
	switch op {
	case opEmptyDict:
		o.shape = shapeDict
	case opEmptyList:
		o.shape = shapeList
	case opTuple:
		items, err = d.popMark()
	case opTuple1, opTuple2, opTuple3:
		items, err = d.pop(int(op) - opTuple1 + 1)
	}
	if err != nil {
		return err
	}
	if err := d.add(&o, items); err != nil {
		return err
	}
	d.objects = append(d.objects, o)
	if err := d.spend(12); err != nil {
		return err
	}
	return d.push(value{kObject, int64(len(d.objects) - 1)})
}

// collect takes the items of an opcode that adds one item (of width values) or all since the mark, and what it adds to.
func (d *decoder) collect(one bool, width int, want shape) (items []value, to *object, err error) {
	if one {
		items, err = d.pop(width)
	} else {
		items, err = d.popMark()
	}
	if err != nil {
		return nil, nil, err
	}
	if len(d.stack) == 0 || d.stack[len(d.stack)-1].kind != kObject {
		return nil, nil, fmt.Errorf("items for %s that is not there", shapeNames[want])
	}
	if len(items)%width != 0 {
		return nil, nil, errors.New("a dictionary's last key has no value")
	}
	return items, &d.objects[d.stack[len(d.stack)-1].n], nil
}

func (d *decoder) appendItems(op byte) error {
	items, list, err := d.collect(op == opAppend, 1, shapeList)
	if err != nil || len(items) == 0 {
		return err
	}
	first := d.object(items[0])
	switch {
	case list.shape == shapeStack || list.index == nothing && first != nil && first.shape == shapeFrame:
		return d.appendFrames(list, items)
	case list.shape != shapeList:
		return fmt.Errorf("items for a list, found %s", shapeNames[list.shape])
	case first != nil && first.shape == shapeEntry:
		return d.appendEntries(list, items)
	}
	return d.add(list, items)
}

// appendFrames adds frames to a stack, or makes an empty list one: recordings repeat few stacks many times.
func (d *decoder) appendFrames(o *object, items []value) error {
	d.stackKey = d.stackKey[:0]
	if o.shape == shapeStack {
		for _, frame := range d.out.Stacks[o.index] {
			d.stackKey = binary.LittleEndian.AppendUint32(d.stackKey, uint32(frame))
		}
	}
	for _, v := range items {
		frame := d.object(v)
		if frame == nil || frame.shape != shapeFrame {
			return errors.New("a list of frames holds something that is not a frame")
		}
		d.stackKey = binary.LittleEndian.AppendUint32(d.stackKey, uint32(frame.index))
	}
	i, ok := d.stacks[string(d.stackKey)]
	if !ok {
		stack := make([]int32, len(d.stackKey)/4)
		for k := range stack {
			stack[k] = int32(binary.LittleEndian.Uint32(d.stackKey[4*k:]))
		}
		i = int32(len(d.out.Stacks))
		d.out.Stacks = append(d.out.Stacks, stack)
		d.stacks[string(d.stackKey)] = i
		if err := d.spend(96 + 8*len(stack)); err != nil {
			return err
		}
	}
	*o = object{shape: shapeStack, index: i}
	return nil
}

// appendEntries adds entries to a list. Picklers write entries in the order of their list, so a list is a run of
// d.entries; what a file states otherwise is kept one by one.
func (d *decoder) appendEntries(list *object, items []value) error {
	c, err := d.hold(list)
	if err != nil {
		return err
	}
	for k, v := range items {
		o := d.object(v)
		follows := o != nil && o.shape == shapeEntry && len(c.values) == 0
		if follows && c.entries == 0 {
			c.first = o.index
		}
		if !follows || o.index != c.first+c.entries {
			return d.add(list, items[k:])
		}
		c.entries++
	}
	return nil
}

// entriesOf is the entries of a list.
func (d *decoder) entriesOf(list *object) ([]Entry, error) {
	c := d.held(list)
	run := d.entries[c.first : c.first+c.entries : c.first+c.entries]
	if len(c.values) == 0 {
		return run, nil
	}
	if err := d.spend(entryBytes * (len(run) + len(c.values))); err != nil {
		return nil, err
	}
	out := slices.Clone(run)
	for i, v := range c.values {
		o := d.object(v)
		if o == nil || o.shape != shapeEntry {
			return nil, fmt.Errorf("item %d is not an entry", len(run)+i)
		}
		out = append(out, d.entries[o.index])
	}
	return out, nil
}

func (d *decoder) setItems(op byte) error {
	items, dict, err := d.collect(op == opSetItem, 2, shapeDict)
	if err != nil {
		return err
	}
	if dict.shape != shapeDict {
		return fmt.Errorf("items for a dictionary, found %s", shapeNames[dict.shape])
	}
	for i := 0; i < len(items); i += 2 {
		if items[i].kind != kText {
			return fmt.Errorf("a dictionary's key is %s, want text", kindNames[items[i].kind])
		}
	}
	if dict.index != nothing {
		if err := d.add(dict, items); err != nil {
			return err
		}
		items = d.held(dict).values
	}
	if len(items) <= maxFields { // none that has a type is larger; looking again at every item added would take forever
		if err := d.classify(dict, items); err != nil || dict.shape != shapeDict {
			return err
		}
	}
	if dict.index == nothing {
		return d.add(dict, items)
	}
	return nil
}
