package relay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/serviceproxy/service-proxy-operator/test/relay"
)

// echo answers every connection with what it sends, until the listener is closed.
func echo(t *testing.T) net.Listener {
	t.Helper()
	listener := listen(t)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	return listener
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestARelayForwardsBothWaysUntilItIsClosed(t *testing.T) {
	far := echo(t)
	r := relay.Start(listen(t), func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp4", far.Addr().String())
	})
	conn := connect(t, r.Address())
	for _, text := range []string{"one", strings.Repeat("much", 100_000)} {
		go func() { _, _ = io.WriteString(conn, text) }()
		back := make([]byte, len(text))
		if _, err := io.ReadFull(conn, back); err != nil || string(back) != text {
			t.Errorf("%d bytes came back otherwise: %v", len(text), err)
		}
	}
	r.Close()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes after Close", n)
	}
	if _, err := net.Dial("tcp4", r.Address()); err == nil {
		t.Error("somebody listens after Close")
	}
}

func TestAConnectionThatCannotBeForwardedIsClosed(t *testing.T) {
	r := relay.Start(listen(t), func(context.Context) (net.Conn, error) { return nil, errors.New("on purpose") })
	t.Cleanup(r.Close)
	if _, err := connect(t, r.Address()).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read %v, want the end", err)
	}
}
