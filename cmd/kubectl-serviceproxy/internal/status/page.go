package status

import (
	"fmt"
	"strings"

	"github.com/serviceproxy/service-proxy-operator/cmd/kubectl-serviceproxy/internal/output"
)

const (
	// named is how many nodes a problem names; wide pages name all of them.
	named = 5
	// shown is how many problems a page shows.
	shown = 12
	// barLength is the number of characters of a bar of progress.
	barLength = 20
)

// Print adds the report to a page.
func (r *Report) Print(page *output.Page, wide bool) {
	colour := output.Good
	if !r.Well {
		colour = r.Problems[0].Severity.colour()
	}
	page.Printf("%s\n", page.In(colour, r.Summary+"."))
	problems := r.Problems
	if len(problems) > shown && !wide {
		problems = problems[:shown]
	}
	for i := range problems {
		page.Printf("\n")
		problems[i].print(page, wide)
	}
	if left := len(r.Problems) - len(problems); left > 0 {
		page.Printf("\n%s, see -o wide.\n", count(left, "more problem", "more problems"))
	}
	if len(r.Pools) > 0 {
		page.Printf("\n")
		r.printPools(page, wide)
	}
}

func (s Severity) colour() output.Colour {
	switch s {
	case Error:
		return output.Bad
	case Warning, Progress:
		return output.Warn
	default:
		return output.Plain
	}
}

func (p *Problem) print(page *output.Page, wide bool) {
	page.Printf("%s %s on %s\n", page.In(p.Severity.colour(), strings.ToUpper(string(p.Severity))),
		page.In(output.Bold, p.Reason), p.where(wide))
	page.Printf("  %s\n", p.Message)
	for _, command := range p.Next {
		page.Printf("  %s %s\n", page.In(output.Faint, "->"), command)
	}
}

// where names the pool, or the nodes: a few, unless the page is wide.
func (p *Problem) where(wide bool) string {
	if p.Pool != "" {
		return "pool " + p.Pool
	}
	nodes := p.Nodes
	more := ""
	if len(nodes) > named && !wide {
		more = fmt.Sprintf(" and %d more", len(nodes)-named)
		nodes = nodes[:named]
	}
	return count(len(p.Nodes), "node: ", "nodes: ") + strings.Join(nodes, ", ") + more
}

func (r *Report) printPools(page *output.Page, wide bool) {
	header := []string{"POOL", "MODE", "NODES", "UPDATED", "IN SYNC", "FAILED", "NOT READY", "STATE"}
	if wide {
		header = append(header, "PRIORITY", "CURRENT", "UPDATE")
	}
	table := [][]output.Cell{output.Row(header...)}
	for i := range table[0] {
		table[0][i].Colour = output.Faint
	}
	for i := range r.Pools {
		pool := &r.Pools[i]
		row := output.Row(pool.Name, string(pool.Mode), fmt.Sprint(pool.Assigned), fmt.Sprint(pool.Updated),
			fmt.Sprint(pool.InSync), fmt.Sprint(pool.Failed), fmt.Sprint(pool.Unavailable), pool.state())
		if pool.Failed > 0 {
			row[5].Colour = output.Bad
		}
		row[7].Colour = output.Good
		if !pool.Ready {
			row[7].Colour = r.colourOf(pool.Name)
		}
		if wide {
			row = append(row, output.Row(fmt.Sprint(pool.Priority), pool.CurrentRevision, pool.UpdateRevision)...)
		}
		table = append(table, row)
	}
	page.Table("", table...)
}

// colourOf is the colour of the worst problem of a pool.
func (r *Report) colourOf(pool string) output.Colour {
	for i := range r.Problems {
		if r.Problems[i].Pool == pool {
			return r.Problems[i].Severity.colour()
		}
	}
	return output.Plain
}

// state is the state of a pool, with a bar while nodes are on their way.
func (p *Pool) state() string {
	if p.Ready || p.Assigned == 0 {
		return p.State
	}
	done := int(p.InSync) * barLength / int(p.Assigned)
	return fmt.Sprintf("%s [%s%s] %d%%", p.State, strings.Repeat("#", done), strings.Repeat("-", barLength-done),
		int(p.InSync)*100/int(p.Assigned))
}
