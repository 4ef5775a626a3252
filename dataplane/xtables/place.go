package xtables

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	goiptables "github.com/coreos/go-iptables/iptables"
)

// Place is a chain of a table of one family.
type Place struct {
	IPv6         bool
	Table, Chain string
}

// Reading is what was read of the rules of one family: everything, or some chains.
type Reading struct {
	Tables map[string]Dump
	// only has the chains that were read, by their tables; nil for all.
	only map[string][]string
}

// ReadPlaces reads some places, which takes a small part of the time that everything does; everything when there are none, or
// when one of them cannot be read alone: of a chain that is not there, iptables-nft 1.8.9 may say that it is incompatible.
func (t *Programs) ReadPlaces(ctx context.Context, places []Place) (*Reading, error) {
	if len(places) > 0 {
		if r, err := t.readOnly(ctx, places); err == nil {
			return r, nil
		}
	}
	tables, err := t.Read(ctx)
	return &Reading{Tables: tables}, err
}

func (t *Programs) readOnly(ctx context.Context, places []Place) (*Reading, error) {
	r := &Reading{Tables: map[string]Dump{}, only: map[string][]string{}}
	for _, p := range places {
		if p.IPv6 != t.IPv6 || slices.Contains(r.only[p.Table], p.Chain) {
			continue
		}
		r.only[p.Table] = append(r.only[p.Table], p.Chain)
		rules, err := t.list(ctx, p)
		if err != nil {
			return nil, err
		}
		if r.Tables[p.Table] == nil {
			r.Tables[p.Table] = Dump{}
		}
		if rules != nil {
			r.Tables[p.Table][p.Chain] = rules
		}
	}
	return r, nil
}

// list are the rules of a chain; nil where it is not there.
func (t *Programs) list(ctx context.Context, p Place) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if t.Direct {
		if rules, err := t.reader.ReadChain(ctx, p.Table, p.Chain); err == nil {
			return rules, nil
		}
	}
	lines, err := t.command.List(p.Table, p.Chain)
	if refused, is := errors.AsType[*goiptables.Error](err); is && refused.IsNotExist() {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing chain %s of table %s: %w", p.Chain, p.Table, err)
	}
	rules := []string{}
	for _, line := range lines {
		if rule, is := strings.CutPrefix(line, "-A "+p.Chain); is {
			rules = append(rules, rule)
		}
	}
	return rules, nil
}

// Jumps are those of some jumps that would have been read.
func (r *Reading) Jumps(jumps []Jump) []Jump {
	if r.only == nil {
		return jumps
	}
	return slices.DeleteFunc(slices.Clone(jumps), func(j Jump) bool { return !slices.Contains(r.only[j.Table], j.Chain) })
}

// Read tells the table what was read of it.
func (s *Table) Read(r *Reading) {
	if r.only == nil {
		s.Found(r.Tables[s.name])
		return
	}
	for _, name := range r.only[s.name] {
		if strings.HasPrefix(name, s.prefix) {
			s.rules -= s.kernel[name].rules
			delete(s.kernel, name)
		}
		if rules, there := r.Tables[s.name][name]; there && strings.HasPrefix(name, s.prefix) {
			s.kernel[name] = s.summarize(rules)
			s.rules += len(rules)
		}
	}
}

// Compare names the chains of the owner that are not, or not only, as they were written, as far as they were read. What was
// asked for and not written yet is no difference.
func (s *Table) Compare(r *Reading) []string {
	if r.only == nil {
		return s.Differences(r.Tables[s.name])
	}
	return s.differences(r.Tables[s.name], slices.Values(r.only[s.name]))
}

// Differences names the chains of the owner that are not, or not only, as they were written. What was asked for and not
// written yet is no difference.
func (s *Table) Differences(d Dump) []string {
	return s.differences(d, maps.Keys(s.kernel), maps.Keys(d))
}

func (s *Table) differences(d Dump, some ...iter.Seq[string]) []string {
	var different []string
	for _, names := range some {
		for name := range names {
			rules, there := d[name]
			held, known := s.kernel[name]
			if strings.HasPrefix(name, s.prefix) && (there != known || there && s.summarize(rules) != held) {
				different = append(different, fmt.Sprintf("chain %s in table %s", name, s.name))
			}
		}
	}
	slices.Sort(different)
	return slices.Compact(different)
}
