#!/bin/sh
# Posts one event to the agent's socket and waits until it is durable: 0 if it is, 1 otherwise.
# EDGETRAIL_SOCKET names the socket; $1 is the event's own id, so that it may be sent again.
set -eu
socket=${EDGETRAIL_SOCKET:-/var/lib/edgetrail-agent/api.sock}
event=$(printf '{"eventSource":"billing.example","eventName":"CreateInvoice","id":"%s","requestParameters":{"invoice":"I-7"}}' "$1")
# --retry waits as long as a 503's Retry-After says.
answer=$(curl --silent --show-error --fail --retry 5 --max-time 60 --unix-socket "$socket" \
    --header 'Content-Type: application/json' --data "$event" http://localhost/v1/events)
case $answer in
*null*)
    echo "the event was not kept: the agent's selection turned it away" >&2
    exit 1
    ;;
esac
printf '%s\n' "$answer"
