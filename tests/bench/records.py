#!/usr/bin/env python3
"""Writes N events as JSON lines, as a busy service would log them: about 830 bytes a record once the agent has filled them in.

Every event has what no compression removes: a request id and an order of its own. The rest repeats as it does in life:
some hundred people, some thousand addresses, a handful of programs.

Usage: records.py N FILE [SEED]
"""

import json
import random
import sys
import uuid


def events(count, seed):
    chance = random.Random(seed)
    people = [f"{name}{number}" for name in ("alice", "bob", "carol", "dave", "erin") for number in range(20)]
    addresses = [f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(1, 255)}" for _ in range(1000)]
    agents = ["shop-frontend/4.2.1", "shop-backoffice/1.9.0", "partner-gateway/2.0.7"]
    names = ["RefundOrder", "UpdatePrice", "CreateVoucher", "DeleteCustomer", "GrantRole", "ChangeAddress"]
    for number in range(count):
        who = chance.choice(people)
        order = f"{chance.randrange(10**9):09d}"
        yield {
            "eventSource": "shop.example",
            "eventName": chance.choice(names),
            "userIdentity": {"type": "IAMUser", "userName": who},
            "sourceIPAddress": chance.choice(addresses),
            "userAgent": chance.choice(agents),
            "requestParameters": {"orderId": order, "amount": f"{chance.randrange(1, 50000) / 100:.2f}"},
            "requestID": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            "resources": [{"type": "Shop::Order", "ARN": f"arn:aws:shop:dc-local-1:111122223333:order/{order}"}],
            "readOnly": False,
        }


def main():
    count, path = int(sys.argv[1]), sys.argv[2]
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    with open(path, "w", encoding="utf-8") as out:
        for event in events(count, seed):
            out.write(json.dumps(event, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
