// Package chaos breaks a live cluster in ways drawn at random, one after another and several at a time, under connections
// that are held and others that are opened all the time, and looks whether anything was lost. A run is a seed and a number
// of steps: the same seed gives the same steps, and what fails is printed with both.
package chaos
