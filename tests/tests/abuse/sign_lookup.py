# Prints the head of one LookupEvents over as long a range as there is, signed by botocore, and its body, as JSON.
# Arguments: access key id, secret, region, port.
import json, sys, time
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

key, secret, region, port = sys.argv[1:]
body = json.dumps({"StartTime": int(time.time()) - 89 * 86400, "EndTime": int(time.time()) + 3600, "MaxResults": 50})
request = AWSRequest(method="POST", url=f"https://localhost:{port}/", data=body)
request.headers["X-Amz-Target"] = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents"
request.headers["Content-Type"] = "application/x-amz-json-1.1"
SigV4Auth(Credentials(key, secret), "cloudtrail", region).add_auth(request)
lines = [f"Host: localhost:{port}"] + [f"{name}: {value}" for name, value in request.headers.items() if name.lower() != "host"]
print(json.dumps({"head": lines, "body": body}))
