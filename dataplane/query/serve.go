package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/serviceproxy/service-proxy-operator/dataplane/forwarding"
)

// Packet is a packet that is asked about.
type Packet struct {
	From netip.Addr
	// Node says that the node itself sends it, from whatever address it has, and FromPod that a pod of the node does.
	Node, FromPod bool
	To            netip.AddrPort
	Protocol      forwarding.Protocol
}

// Agent answers. An error that is not the context's is a fault of the kernel or its programs.
type Agent interface {
	Service(ctx context.Context, name types.NamespacedName) (Service, error)
	Trace(ctx context.Context, p Packet) (Trace, error)
	Kernel(ctx context.Context, p Packet) (Kernel, error)
}

// patience is how long a question may wait for an agent that is busy.
const patience = 20 * time.Second

// Handler answers questions by HTTP.
func Handler(a Agent) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /service", answer(func(ctx context.Context, r *http.Request) (any, error) {
		name, err := ParseService(r.FormValue("name"))
		if err != nil {
			return nil, err
		}
		return a.Service(ctx, name)
	}))
	mux.HandleFunc("GET /trace", answer(func(ctx context.Context, r *http.Request) (any, error) {
		p, err := ParsePacket(r.FormValue("from"), r.FormValue("to"), r.FormValue("protocol"))
		if err != nil {
			return nil, err
		}
		p.FromPod = r.FormValue("pod") == "true"
		return a.Trace(ctx, p)
	}))
	mux.HandleFunc("GET /kernel", answer(func(ctx context.Context, r *http.Request) (any, error) {
		p, err := ParsePacket(FromNode, r.FormValue("to"), r.FormValue("protocol"))
		if err != nil {
			return nil, err
		}
		return a.Kernel(ctx, p)
	}))
	return mux
}

// malformed is the error for a question that makes no sense.
type malformed struct{ error }

func answer(ask func(context.Context, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		value, err := ask(ctx, r)
		var text []byte
		if err == nil {
			text, err = json.Marshal(value)
		}
		var bad malformed
		switch {
		case errors.As(err, &bad):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(text) // the client is gone
		}
	}
}

// ParseService reads NAMESPACE/NAME.
func ParseService(text string) (types.NamespacedName, error) {
	namespace, name, found := strings.Cut(text, "/")
	if !found || namespace == "" || name == "" {
		return types.NamespacedName{}, malformed{fmt.Errorf("%q is not NAMESPACE/NAME of a Service", text)}
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}

// FromNode as the source of a packet is the node itself.
const FromNode = "node"

// ParsePacket reads where a packet comes from, an address or FromNode, where it goes to, ADDRESS:PORT, and its protocol, TCP
// when empty.
func ParsePacket(from, to, protocol string) (Packet, error) {
	p := Packet{Node: from == FromNode}
	var err error
	if !p.Node {
		if p.From, err = netip.ParseAddr(from); err != nil {
			return p, malformed{fmt.Errorf("%q is neither an address nor %q", from, FromNode)}
		}
	}
	if p.To, err = netip.ParseAddrPort(to); err != nil {
		return p, malformed{fmt.Errorf("%q is not ADDRESS:PORT", to)}
	}
	p.From, p.To = p.From.Unmap(), netip.AddrPortFrom(p.To.Addr().Unmap(), p.To.Port())
	if !p.Node && p.From.Is6() != p.To.Addr().Is6() {
		return p, malformed{fmt.Errorf("%s and %s are not of one family", p.From, p.To.Addr())}
	}
	for _, known := range []forwarding.Protocol{forwarding.TCP, forwarding.UDP, forwarding.SCTP} {
		if strings.EqualFold(protocol, known.String()) || protocol == "" && known == forwarding.TCP {
			p.Protocol = known
			return p, nil
		}
	}
	return p, malformed{fmt.Errorf("%q is none of the protocols tcp, udp, sctp", protocol)}
}

// Listen opens the socket at which an agent answers. Whatever was left there by one that has ended is replaced. Only the
// user that the agent runs as can open it.
func Listen(path string) (net.Listener, error) {
	listen := func() (net.Listener, error) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		if err := Remove(path); err != nil {
			return nil, err
		}
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return nil, err
		}
		// By the time this one ends the next agent may have put its own there.
		listener.SetUnlinkOnClose(false)
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, errors.Join(err, listener.Close())
		}
		return listener, nil
	}
	listener, err := listen()
	if err != nil {
		return nil, fmt.Errorf("opening the socket for questions: %w", err)
	}
	return listener, nil
}

// Remove removes the socket of an agent that has ended. It is no error if there is none.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the socket for questions: %w", err)
	}
	return nil
}
