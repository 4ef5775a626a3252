package query

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Client asks the agent that listens at a socket.
type Client struct {
	http   *http.Client
	socket string
}

// NewClient returns a client for a socket. Nothing is opened before it is asked.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}, socket: socket}
}

// Ask puts a question: service, trace or kernel. The error for a question that makes no sense is what the agent says.
func Ask[T any](ctx context.Context, c *Client, question string, values url.Values) (answer T, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/"+question+"?"+values.Encode(), nil)
	if err != nil {
		return answer, fmt.Errorf("asking the agent: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return answer, fmt.Errorf("asking the agent at %s: %w", c.socket, err)
	}
	defer func() { _ = response.Body.Close() }() // it is read
	text, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return answer, fmt.Errorf("reading what the agent says: %w", err)
	case response.StatusCode != http.StatusOK:
		return answer, fmt.Errorf("the agent says: %s", strings.TrimSpace(string(text)))
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("reading what the agent says: %w", err)
	}
	return answer, nil
}
