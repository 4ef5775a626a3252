// Package laststate keeps on the disk of a node what its agent has to know when it starts and nobody can be asked: the
// settings that were good last, which the node returns to, settings that were taken back, which are not tried again, and the
// last Services and endpoints, which a node programs that boots while the API server is away.
//
// Each kind of thing is a file of its own in one folder, with a version, a checksum, and the content. A file is the old one
// or the new one at any moment. One that is damaged, or was written by an agent that kept it otherwise, is reported, left
// where it is until it is replaced, and never believed.
package laststate
