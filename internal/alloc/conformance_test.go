package alloc_test

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/alloctest"
	"github.com/vlmem/vlmem/internal/alloc/space"
)

var update = flag.Bool("update", false, "rewrite the states in testdata")

const capacity = 64 << 20

// subject is an allocator that the suite is run on.
type subject struct {
	name string
	make func() (alloc.Allocator, error)
	alloctest.Options
}

// conforming is every policy, pool and manager of this package: those that promise more than any policy must, and the
// policies beside them. Rivals run the suite in their own.
var conforming = withEveryPolicy([]subject{
	{"bestfit", bare("bestfit"), alloctest.Options{Aligns: []int64{64, 4096, 2 << 20}}},
	{"buddy", bare("buddy"), alloctest.Options{Aligns: []int64{64, 4096, 2 << 20}}},
	{"buddy-lazy", bare("buddy-lazy"), alloctest.Options{Unmerged: true}},
	{"buddy-whole", bare("buddy-whole"), alloctest.Options{}},
	{"fixed", bare("fixed"), alloctest.Options{MaxSize: 64 << 10, Aligns: []int64{64, 64 << 10}}},
	{"vlmem arena", arena("vlmem", space.DeviceGranule), alloctest.Options{}},
	{"vlmem of zones", zones, alloctest.Options{Aligns: []int64{64, 4096, 4 << 20}, Concurrent: true}},
	{"vlmem arena in pages", arena("vlmem", space.HostGranule), alloctest.Options{}},
	{"vlmem", bare("vlmem"), alloctest.Options{Aligns: []int64{64, 4096, 4 << 20}, Concurrent: true}},
	{"pool of bestfit, growing", pool("bestfit", 8<<20), alloctest.Options{Aligns: []int64{64, 4096, 2 << 20},
		Concurrent: true}},
	{"pool of buddies, growing", pool("buddy", 8<<20), alloctest.Options{Concurrent: true}},
	{"pool of fixed", pool("fixed", 0), alloctest.Options{MaxSize: 64 << 10, Aligns: []int64{64, 64 << 10},
		Concurrent: true}},
	{"pool of vlmem", pool("vlmem", 0), alloctest.Options{Concurrent: true}},
	{"pool of vlmem in huge pages", hugePool, alloctest.Options{Concurrent: true}},
	{"pools", pools, alloctest.Options{Concurrent: true}},
})

// withEveryPolicy adds the policies that a list does not name, bare and with what every policy promises.
func withEveryPolicy(list []subject) []subject {
	for _, name := range alloc.PolicyNames() {
		named := func(s subject) bool { return s.name == name }
		if name != "plan" && !slices.ContainsFunc(list, named) { // plan has lives to know first: plan_test.go
			list = append(list, subject{name, bare(name), alloctest.Options{}})
		}
	}
	return list
}

// zones is vlmem with the zones of a program of many granules.
func zones() (alloc.Allocator, error) {
	return alloc.New("vlmem", alloc.Options{Capacity: capacity, PolicyOptions: alloc.PolicyOptions{Few: -1}})
}

func bare(name string) func() (alloc.Allocator, error) {
	return func() (alloc.Allocator, error) { return alloc.New(name, alloc.Options{Capacity: capacity}) }
}

func arena(policy string, granule int64) func() (alloc.Allocator, error) {
	return func() (alloc.Allocator, error) {
		s, err := space.NewBare(16*capacity, granule)
		if err != nil {
			return nil, err
		}
		return alloc.NewArena(s, alloc.ArenaOptions{Policy: policy, Max: capacity})
	}
}

// pool is one over host memory.
func pool(policy string, grow int64) func() (alloc.Allocator, error) {
	return func() (alloc.Allocator, error) {
		open := func(size int64) (space.Space, error) { return space.NewHost(size, space.HostOptions{}) }
		return alloc.NewPool("test", alloc.Config{Policy: policy, Max: capacity, Grow: grow}, open)
	}
}

// hugePool moves pages between its zones.
func hugePool() (alloc.Allocator, error) {
	open := func(size int64) (space.Space, error) { return space.NewHost(size, space.HostOptions{HugePages: true}) }
	return alloc.NewPool("test", alloc.Config{Policy: "vlmem", Max: capacity, PolicyOptions: alloc.PolicyOptions{Few: -1}},
		open)
}

func pools() (alloc.Allocator, error) {
	open := func(_ string, size int64) (space.Space, error) { return space.NewHost(size, space.HostOptions{}) }
	return alloc.NewPools(map[string]alloc.Config{
		alloc.GeneralPool: {Policy: "vlmem", Max: capacity},
		alloc.KVCachePool: {Policy: "fixed", Max: capacity},
	}, open)
}

func TestConformance(t *testing.T) {
	for _, c := range conforming {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			alloctest.Run(t, func() alloc.Allocator {
				a, err := c.make()
				if err != nil {
					t.Fatal(err)
				}
				return a
			}, c.Options)
		})
	}
}

// TestPoliciesConform holds every policy to what it promises by itself, with no arena above it.
func TestPoliciesConform(t *testing.T) {
	for _, name := range alloc.PolicyNames() {
		var o alloctest.Options
		for _, c := range conforming {
			if c.name == name {
				o = c.Options
			}
		}
		open := func(limit int64) (alloc.Policy, error) { return alloc.NewPolicy(name, limit, alloc.PolicyOptions{}) }
		if err := alloctest.Policies(capacity, open, o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEveryPolicyHasAName: what is a policy, and what makes one, stands in the table of policies, from where the suite,
// bench, its help and its completions take it. Both are found by their types, whatever they are called.
func TestEveryPolicyHasAName(t *testing.T) {
	made := map[string]bool{}
	for _, name := range alloc.PolicyNames() {
		p, err := alloc.NewPolicy(name, capacity, alloc.PolicyOptions{Granule: space.DeviceGranule, Block: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		made[strings.TrimPrefix(fmt.Sprintf("%T", p), "*alloc.")] = true
	}
	list, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax}, ".")
	if err != nil || packages.PrintErrors(list) > 0 {
		t.Fatal("loading the package", err)
	}
	p := list[0]
	policy := p.Types.Scope().Lookup("Policy").Type()
	row := p.Types.Scope().Lookup("policies").Type().(*types.Slice).Elem().(*types.Struct)
	maker := row.Field(1).Type()
	inTable := namedInTable(p)
	for _, name := range p.Types.Scope().Names() {
		switch o := p.Types.Scope().Lookup(name).(type) {
		case *types.TypeName:
			if is := types.NewPointer(o.Type()); !types.IsInterface(o.Type()) && !made[name] &&
				types.Implements(is, policy.Underlying().(*types.Interface)) {
				t.Errorf("%v: %s is a policy and no line of policies (policy.go) makes it", p.Fset.Position(o.Pos()), name)
			}
		case *types.Func:
			if types.Identical(o.Type(), maker) && !inTable[o] {
				t.Errorf("%v: %s makes a policy and is not in policies (policy.go)", p.Fset.Position(o.Pos()), name)
			}
		}
	}
}

// namedInTable are the functions that the table of policies names.
func namedInTable(p *packages.Package) map[types.Object]bool {
	named := map[types.Object]bool{}
	for _, file := range p.Syntax {
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
				if v := g.Specs[0].(*ast.ValueSpec); v.Names[0].Name == "policies" {
					ast.Inspect(v, func(n ast.Node) bool {
						if name, ok := n.(*ast.Ident); ok {
							named[p.TypesInfo.Uses[name]] = true
						}
						return true
					})
				}
			}
		}
	}
	return named
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/policy/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { alloctest.Script(t, f, *update) })
	}
}

// TestProperties lets rapid choose the operations, so that a failure shrinks to the shortest sequence that shows it.
func TestProperties(t *testing.T) {
	for _, c := range conforming {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				a, err := c.make()
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				s := alloctest.NewShadow(a)
				maxSize := c.MaxSize
				if maxSize == 0 {
					maxSize = 24 << 20
				}
				for range rapid.IntRange(1, 40).Draw(t, "operations") {
					if blocks := s.Blocks(); len(blocks) > 0 && rapid.Bool().Draw(t, "free") {
						err = s.Free(rapid.SampledFrom(blocks).Draw(t, "block"))
					} else {
						_, err = s.Alloc(alloc.Request{Size: rapid.Int64Range(1, maxSize).Draw(t, "size")})
					}
					if broke(err) {
						t.Fatal(err)
					}
				}
				if err := s.Verify(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// FuzzAllocators reads operations out of bytes: a free of a live block, or an allocation of a size in any magnitude.
func FuzzAllocators(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	seed := make([]byte, 200)
	for i := range seed {
		seed[i] = byte(r.Uint32())
	}
	f.Add(uint8(0), seed)
	f.Add(uint8(5), []byte{0, 21, 0, 21, 1, 0, 0, 22})
	f.Fuzz(func(t *testing.T, which uint8, text []byte) {
		c := conforming[int(which)%len(conforming)]
		a, err := c.make()
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		s := alloctest.NewShadow(a)
		for ; len(text) >= 2; text = text[2:] {
			blocks := s.Blocks()
			if text[0]&1 == 1 && len(blocks) > 0 {
				err = s.Free(blocks[int(text[1])%len(blocks)])
			} else {
				_, err = s.Alloc(alloc.Request{Size: int64(text[0]>>1)<<(text[1]%20) + 1, Align: 1 << (text[1] >> 5)})
			}
			if broke(err) {
				t.Fatal(err)
			}
		}
		if err := s.Verify(); err != nil {
			t.Fatal(err)
		}
	})
}

// broke says whether an error is more than running out of memory, or being asked for more than a policy ever grants.
func broke(err error) bool {
	return err != nil && (errors.Is(err, alloctest.ErrViolation) || !errors.Is(err, alloc.ErrOutOfMemory))
}
