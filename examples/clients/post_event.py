#!/usr/bin/env python3
"""Posts one event to the agent's socket and waits until it is durable: exits 0 if it is, 1 otherwise.

post_event.py ID     ID is the event's own id, so that it may be sent again; EDGETRAIL_SOCKET names the socket
"""
import http.client
import json
import os
import socket
import sys
import time

SOCKET = os.environ.get("EDGETRAIL_SOCKET", "/var/lib/edgetrail-agent/api.sock")


class Agent(http.client.HTTPConnection):
    """HTTP over the agent's Unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def record(event, attempts=5):
    """Returns the eventID once the event is durable; raises if it could not be recorded."""
    for _ in range(attempts):
        agent = Agent("localhost", timeout=60)
        try:
            agent.request("POST", "/v1/events", json.dumps(event), {"Content-Type": "application/json"})
            reply = agent.getresponse()
            answer = json.load(reply)
        except (OSError, ValueError):
            # No answer: the same id makes sending again safe.
            time.sleep(1)
            continue
        finally:
            agent.close()
        if reply.status == 200:
            if answer["eventIDs"][0] is None:
                raise ValueError("the event was not kept: the agent's selection turned it away")
            return answer["eventIDs"][0]
        if reply.status != 503:
            raise ValueError(answer["error"]["message"])
        time.sleep(int(reply.headers.get("Retry-After", "1")))
    raise TimeoutError("the event could not be recorded")


if __name__ == "__main__":
    try:
        print(record({
            "eventSource": "billing.example",
            "eventName": "CreateInvoice",
            "id": sys.argv[1],
            "requestParameters": {"invoice": "I-7"},
        }))
    except (ValueError, TimeoutError) as error:
        sys.exit(str(error))
