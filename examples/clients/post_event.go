// Posts one event to the agent's socket and waits until it is durable: exits 0 if it is, 1 otherwise.
//
// go run post_event.go ID     ID is the event's own id, so that it may be sent again; EDGETRAIL_SOCKET names the socket
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

type event struct {
	EventSource       string         `json:"eventSource"`
	EventName         string         `json:"eventName"`
	ID                string         `json:"id"`
	RequestParameters map[string]any `json:"requestParameters,omitempty"`
}

// agent speaks HTTP over the agent's Unix socket.
func agent() *http.Client {
	socket := os.Getenv("EDGETRAIL_SOCKET")
	if socket == "" {
		socket = "/var/lib/edgetrail-agent/api.sock"
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: dial}}
}

// record returns the eventID once the event is durable, or why it could not be recorded.
func record(client *http.Client, event event) (string, error) {
	body, err := json.Marshal(event)
	if err != nil {
		return "", err
	}
	for attempt := 0; attempt < 5; attempt++ {
		wait := time.Second
		reply, err := client.Post("http://localhost/v1/events", "application/json", bytes.NewReader(body))
		// No answer: the same id makes sending again safe.
		if err == nil {
			var answer struct {
				EventIDs []*string `json:"eventIDs"`
				Error    struct {
					Message string `json:"message"`
				} `json:"error"`
			}
			err = json.NewDecoder(reply.Body).Decode(&answer)
			reply.Body.Close()
			switch {
			case err == nil && reply.StatusCode == http.StatusOK && len(answer.EventIDs) == 1:
				if answer.EventIDs[0] == nil {
					return "", errors.New("the event was not kept: the agent's selection turned it away")
				}
				return *answer.EventIDs[0], nil
			case err == nil && reply.StatusCode != http.StatusServiceUnavailable:
				return "", errors.New(answer.Error.Message)
			}
			if seconds, err := strconv.Atoi(reply.Header.Get("Retry-After")); err == nil {
				wait = time.Duration(seconds) * time.Second
			}
		}
		time.Sleep(wait)
	}
	return "", errors.New("the event could not be recorded")
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: post_event ID")
		os.Exit(2)
	}
	id, err := record(agent(), event{
		EventSource:       "billing.example",
		EventName:         "CreateInvoice",
		ID:                os.Args[1],
		RequestParameters: map[string]any{"invoice": "I-7"},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(id)
}
