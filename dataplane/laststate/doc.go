// Package laststate keeps on the disk of a node what its agent has to know when it starts and nobody can be asked: the
// settings that were good last, which the node returns to, and settings that were taken back, which are not tried again.
//
// Each kind of thing is a file of its own in one folder: JSON with a version, a checksum, and the content. A file is the
// old one or the new one at any moment. One that is damaged, or was written by a newer agent, is reported, left where it
// is until it is replaced, and never believed.
package laststate
