package access

import (
	"fmt"
	"slices"
)

// NoSuch is the error for a name that nothing has. It tells which of the names that there are was probably meant.
func NoSuch(kind, name string, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("there is no %s %q, and no other either", kind, name)
	}
	if nearest, found := Nearest(name, names); found {
		return fmt.Errorf("there is no %s %q; did you mean %q?", kind, name, nearest)
	}
	const few = 5
	more := ""
	if len(names) > few {
		more = fmt.Sprintf(" and %d more", len(names)-few)
	}
	return fmt.Errorf("there is no %s %q; there are %q%s", kind, name, names[:min(few, len(names))], more)
}

// Nearest returns the name that takes the fewest edits, and whether these are few enough for a typing error: a third of the
// name, rounded up.
func Nearest(name string, names []string) (string, bool) {
	nearest, best := "", (len(name)+2)/3+1
	for _, candidate := range names {
		if d := distance(name, candidate); d < best {
			nearest, best = candidate, d
		}
	}
	return nearest, nearest != ""
}

// distance is how many characters have to be inserted, deleted or replaced to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = slices.Min([]int{replaced, row[j] + 1, row[j+1] + 1})
		}
	}
	return row[len(b)]
}
