# Prints random requests signed by botocore, one JSON object a line: method, url, headers, body, now.
# Arguments: access key id, secret, count. Fixed seed, so that a failure repeats.
import json, random, sys, time, calendar
from urllib.parse import quote
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

key, secret, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = random.Random(20131101)
credentials = Credentials(key, secret)
LETTERS = "abcXYZ019-_.~ !$&'()*+,;=:@/%\"<>[]{}|^`é漢"


def word(most):
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, most)))


for _ in range(count):
    kind = rng.choice(["cloudtrail", "sts", "s3", "s3-presigned"])
    service = kind.split("-")[0]
    body = "" if service == "s3" else word(40)
    path = "/" + quote("/".join(word(8) for _ in range(rng.randint(0, 3))), safe="/-._~") if service == "s3" else "/"
    query = "&".join(f"{quote(word(6), safe='-._~')}={quote(word(6), safe='-._~')}" for _ in range(rng.randint(0, 4)))
    url = f"https://localhost:8443{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method="GET" if service == "s3" else "POST", url=url, data=body.encode())
    if kind != "s3-presigned":
        request.headers["X-Amz-Target"] = "CloudTrail_20131101.LookupEvents"
        request.headers["X-Note"] = "a   b  " + word(5).encode("ascii", "ignore").decode().strip() + "c"
        request.headers["User-Agent"] = "aws-cli/1.46"
    signer = {"s3": S3SigV4Auth, "s3-presigned": S3SigV4QueryAuth}.get(kind, SigV4Auth)
    signer(credentials, service, rng.choice(["us-east-1", "dc-tokyo-1"])).add_auth(request)
    prepared = request.prepare()
    headers = [(n, v.decode() if isinstance(v, bytes) else v) for n, v in prepared.headers.items()]
    headers.append(("Host", "localhost:8443"))
    print(json.dumps({"method": prepared.method, "url": prepared.url, "headers": headers, "body": body, "now": int(time.time())}))
