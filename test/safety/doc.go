// Package safety tests that a node returns by itself from settings that break it, and that a pool survives them: the life of
// one bad change, from the spec that people apply to the rules in the kernel.
package safety
