// Package output writes what commands have to say: as text for people, or as JSON or YAML for programs.
package output

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// Verdict is the exit status of a command that has said itself what there is to say. It is an error so that commands can
// return it; nothing is printed for it.
type Verdict int

const (
	// NotWell is the verdict on something that is not as it should be.
	NotWell Verdict = 1
	// Failed is the exit status of a command that could not do what it was asked.
	Failed Verdict = 2
)

func (v Verdict) Error() string { return fmt.Sprintf("exit status %d", int(v)) }

// Format is how something is written. It is the value of flag --output.
type Format string

const (
	// Text is for people.
	Text Format = "text"
	// Wide is for people with wide terminals.
	Wide Format = "wide"
	// JSON is for programs.
	JSON Format = "json"
	// YAML is for programs, and for people who are fond of it.
	YAML Format = "yaml"
)

// AddFlag adds flag --output to a command that can write these formats, besides JSON and YAML. The first is what it writes
// when nobody asks.
func (f *Format) AddFlag(cmd *cobra.Command, formats ...Format) {
	formats = append(formats, JSON, YAML)
	*f = formats[0]
	cmd.Flags().VarP(&choice{value: f, of: formats}, "output", "o", "how to write it: "+join(formats, ", "))
	// The flag was defined right before, which is all that registering asks for.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(strings.Split(join(formats, " "), " "),
		cobra.ShellCompDirectiveNoFileComp))
}

// IsForPrograms tells whether a program reads it.
func (f Format) IsForPrograms() bool { return f == JSON || f == YAML }

// Encode writes a value in a format for programs.
func (f Format) Encode(w io.Writer, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err == nil && f == YAML {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return fmt.Errorf("encoding the result: %w", err)
	}
	if f == JSON {
		text = append(text, '\n')
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// choice is a flag with a few values.
type choice struct {
	value *Format
	of    []Format
}

func (c *choice) String() string { return string(*c.value) }
func (c *choice) Type() string   { return "format" }

func (c *choice) Set(text string) error {
	if !slices.Contains(c.of, Format(text)) {
		return fmt.Errorf("is one of %s", join(c.of, ", "))
	}
	*c.value = Format(text)
	return nil
}

func join(formats []Format, separator string) string {
	texts := make([]string, 0, len(formats))
	for _, format := range formats {
		texts = append(texts, string(format))
	}
	return strings.Join(texts, separator)
}
