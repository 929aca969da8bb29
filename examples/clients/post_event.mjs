// Posts one event to the agent's socket and waits until it is durable: exits 0 if it is, 1 otherwise.
//
// node post_event.mjs ID     ID is the event's own id, so that it may be sent again; EDGETRAIL_SOCKET names the socket
import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const socketPath = process.env.EDGETRAIL_SOCKET ?? "/var/lib/edgetrail-agent/api.sock";

function post(event) {
  const body = JSON.stringify(event);
  const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path: "/v1/events", method: "POST", headers, timeout: 60_000 }, (reply) => {
      let text = "";
      reply.setEncoding("utf8");
      reply.on("data", (part) => (text += part));
      reply.on("error", reject);
      reply.on("end", () => resolve({ status: reply.statusCode, headers: reply.headers, answer: JSON.parse(text) }));
    });
    call.on("timeout", () => call.destroy(new Error("no answer")));
    call.on("error", reject);
    call.end(body);
  });
}

/** The eventID once the event is durable; throws if it could not be recorded. */
export async function record(event, attempts = 5) {
  for (let attempt = 0; attempt < attempts; attempt++) {
    // No answer: the same id makes sending again safe.
    const reply = await post(event).catch(() => ({ status: 503, headers: {} }));
    if (reply.status === 200) {
      const [eventID] = reply.answer.eventIDs;
      if (eventID === null) throw new Error("the event was not kept: the agent's selection turned it away");
      return eventID;
    }
    if (reply.status !== 503) throw new Error(reply.answer.error.message);
    await sleep(1000 * Number(reply.headers["retry-after"] ?? 1));
  }
  throw new Error("the event could not be recorded");
}

console.log(await record({
  eventSource: "billing.example",
  eventName: "CreateInvoice",
  id: process.argv[2],
  requestParameters: { invoice: "I-7" },
}));
