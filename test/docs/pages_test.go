package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// block is a fenced block of a page.
type block struct {
	page, heading string
	// line is where the fence is, from 1.
	line int
	// language is what the fence says: sh, console, yaml or nothing. file is where the content belongs, if it says that too.
	language, file string
	text           string
}

func (b *block) String() string { return fmt.Sprintf("%s:%d (%s)", b.page, b.line, b.heading) }

// readPage returns the blocks of a page, and the commands that its text mentions.
func readPage(path string) (blocks []block, mentioned []string, err error) {
	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		return nil, nil, err
	}
	fence, span := regexp.MustCompile("^( *)```(\\w*)(?: file=(\\S+))?$"), regexp.MustCompile("`([^`]+)`")
	var heading string
	var current *block
	var indent string
	for i, line := range strings.Split(string(content), "\n") {
		match := fence.FindStringSubmatch(line)
		switch {
		case match != nil && current == nil:
			indent = match[1]
			current = &block{page: path, heading: heading, line: i + 1, language: match[2], file: match[3]}
		case match != nil:
			blocks, current = append(blocks, *current), nil
		case current != nil:
			current.text += strings.TrimPrefix(line, indent) + "\n"
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimLeft(line, "# ")
		default:
			for _, found := range span.FindAllStringSubmatch(line, -1) {
				mentioned = append(mentioned, found[1])
			}
		}
	}
	if current != nil {
		return nil, nil, fmt.Errorf("%s: the block in line %d has no end", path, current.line)
	}
	return blocks, mentioned, nil
}

// commands are those of a block: all of one marked sh, and of one marked console what follows "$ ".
func (b *block) commands() []string {
	var lines []string
	switch b.language {
	case "sh":
		lines = strings.Split(b.text, "\n")
	case "console":
		for line := range strings.Lines(b.text) {
			if command, found := strings.CutPrefix(line, "$ "); found {
				lines = append(lines, strings.TrimSuffix(command, "\n"))
			}
		}
	}
	var commands []string
	var command string
	for _, line := range lines {
		if command == "" && (line == "" || strings.HasPrefix(line, "#")) {
			continue
		}
		command += line
		if strings.HasSuffix(line, `\`) || strings.Count(command, "'")%2 == 1 {
			command += "\n"
			continue
		}
		commands, command = append(commands, command), ""
	}
	return commands
}

// words are those of a command up to the first pipe or comment, as far as a check needs them.
func words(command string) []string {
	all := strings.Fields(strings.ReplaceAll(command, "\\\n", " "))
	if end := slices.IndexFunc(all, func(w string) bool { return w == "|" || w == "&&" || strings.HasPrefix(w, "#") }); end >= 0 {
		return all[:end]
	}
	return all
}
