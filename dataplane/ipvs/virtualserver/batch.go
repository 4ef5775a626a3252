package virtualserver

import "fmt"

// Action is what an Operation does.
type Action uint8

// The actions. The kernel answers EEXIST to adding what is there, ESRCH where there is no such virtual server, ENOENT
// where it has no such real server, and to adding or setting a virtual server ENOENT where there is no such scheduler.
const (
	AddServer Action = iota + 1
	SetServer
	DeleteServer
	AddReal
	SetReal
	DeleteReal
)

// String is the action in words.
func (a Action) String() string {
	switch a {
	case AddServer, AddReal:
		return "adding"
	case SetServer, SetReal:
		return "changing"
	case DeleteServer, DeleteReal:
		return "deleting"
	}
	return "doing nothing with"
}

// Operation is one change.
type Operation struct {
	Action Action
	// Server is the virtual server. Only its key counts where it is deleted, and where Real is meant.
	Server Server
	// Real is the real server of AddReal, SetReal and DeleteReal.
	Real RealServer
}

// String is the operation in words, for errors and logs.
func (o Operation) String() string {
	if o.Action.onReal() {
		return fmt.Sprintf("%s real server %s of virtual server %s", o.Action, o.Real.Addr, o.Server.Key)
	}
	return fmt.Sprintf("%s virtual server %s", o.Action, o.Server.Key)
}

func (a Action) onReal() bool { return a >= AddReal }

// Batch is changes in the order in which they are made. Each is made or fails by itself.
type Batch []Operation

// AddServer adds a virtual server that is not there.
func (b *Batch) AddServer(s Server) { *b = append(*b, Operation{Action: AddServer, Server: s}) }

// SetServer changes scheduler, flags and persistence of a virtual server. Its connections go on.
func (b *Batch) SetServer(s Server) { *b = append(*b, Operation{Action: SetServer, Server: s}) }

// DeleteServer deletes a virtual server with its real servers. With expire_nodest_conn their connections are cut when
// the next packet comes.
func (b *Batch) DeleteServer(key Key) {
	*b = append(*b, Operation{Action: DeleteServer, Server: Server{Key: key}})
}

// AddReal adds a real server to a virtual one that does not have it.
func (b *Batch) AddReal(key Key, r RealServer) { b.real(AddReal, key, r) }

// SetReal changes the weight of a real server. Its connections go on.
func (b *Batch) SetReal(key Key, r RealServer) { b.real(SetReal, key, r) }

// DeleteReal deletes a real server. With expire_nodest_conn its connections are cut when the next packet comes.
func (b *Batch) DeleteReal(key Key, r RealServer) { b.real(DeleteReal, key, r) }

func (b *Batch) real(action Action, key Key, r RealServer) {
	*b = append(*b, Operation{Action: action, Server: Server{Key: key}, Real: r})
}

// Failure is an operation that the kernel refused. It changed nothing. It unwraps to a unix.Errno.
type Failure struct {
	Operation
	Err error
}

// Error says what was refused and why.
func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Operation, f.Err) }

// Unwrap is the reason.
func (f *Failure) Unwrap() error { return f.Err }
