package output

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Colour is what a text is printed in on a terminal.
type Colour string

// The colours, as the parameters of "select graphic rendition" (ECMA-48, 8.3.117).
const (
	Plain Colour = ""
	Bad   Colour = "31"
	Good  Colour = "32"
	Warn  Colour = "33"
	Bold  Colour = "1"
	Faint Colour = "2"
)

// Page is text for people. It is written whole, by Flush, so that a reader never sees half of it. The first error of
// writing is what Flush returns.
type Page struct {
	out      io.Writer
	coloured bool
	text     strings.Builder
}

// NewPage returns a page for a writer. It has colours if that is a terminal, unless the environment says otherwise
// (https://no-color.org, TERM=dumb).
func NewPage(w io.Writer) *Page { return &Page{out: w, coloured: IsTerminal(w) && wantsColour()} }

// IsTerminal tells whether people see at once what is written there.
func IsTerminal(w io.Writer) bool {
	file, is := w.(*os.File)
	return is && term.IsTerminal(int(file.Fd()))
}

func wantsColour() bool { return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" }

// In returns a text in a colour, or as it is where there are none.
func (p *Page) In(colour Colour, text string) string {
	if !p.coloured || colour == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(colour) + "m" + text + "\x1b[0m"
}

// Printf adds to the page.
func (p *Page) Printf(format string, args ...any) { fmt.Fprintf(&p.text, format, args...) }

// String is what is on the page and was not written yet.
func (p *Page) String() string { return p.text.String() }

// Flush writes the page and empties it.
func (p *Page) Flush() error {
	_, err := io.WriteString(p.out, p.text.String())
	p.text.Reset()
	if err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// Cell is a text in a table.
type Cell struct {
	Text   string
	Colour Colour
}

// Row is a row of plain cells.
func Row(texts ...string) []Cell {
	row := make([]Cell, 0, len(texts))
	for _, text := range texts {
		row = append(row, Cell{Text: text})
	}
	return row
}

// Table adds rows whose columns stand below each other, two spaces apart. Every line begins with indent.
func (p *Page) Table(indent string, rows ...[]Cell) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell.Text))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		line.WriteString(indent)
		for i, cell := range row {
			line.WriteString(p.In(cell.Colour, cell.Text))
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell.Text)+2))
			}
		}
		p.Printf("%s\n", strings.TrimRight(line.String(), " "))
	}
}
