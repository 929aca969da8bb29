# Every call that the collector answers, through the unmodified boto3. Arguments: another account's key and secret.
import datetime, json, sys
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ARN = "arn:aws:cloudtrail:dc-local-1:111122223333:trail/default"
quick = Config(retries={"max_attempts": 1})
foreign = dict(aws_access_key_id=sys.argv[1], aws_secret_access_key=sys.argv[2])


def client(service, region="dc-local-1", **options):
    return boto3.client(service, region_name=region, config=options.pop("config", quick), **options)


def refused(code, call, **arguments):
    try:
        answer = call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, (code, error.response["Error"])
        assert error.response["Error"]["Message"], error.response
        assert error.response["ResponseMetadata"].get("RequestId"), error.response
        return error
    raise AssertionError(f"{code} expected, got {answer}")


trail = client("cloudtrail")

# trails
(described,) = trail.describe_trails()["trailList"]
assert described["TrailARN"] == ARN and described["HomeRegion"] == "dc-local-1", described
assert described["S3BucketName"] == "edgetrail" and described["LogFileValidationEnabled"] is True, described
assert described["IsMultiRegionTrail"] is True and "S3KeyPrefix" not in described, described
assert trail.get_trail(Name="default")["Trail"] == described == trail.get_trail(Name=ARN)["Trail"]
assert trail.list_trails()["Trails"] == [{"TrailARN": ARN, "Name": "default", "HomeRegion": "dc-local-1"}]
assert trail.describe_trails(trailNameList=["absent"])["trailList"] == []
assert trail.describe_trails(trailNameList=[ARN])["trailList"] == [described]
refused("TrailNotFoundException", trail.get_trail, Name="absent")
refused("InvalidTrailNameException", trail.get_trail, Name="a")
refused("CloudTrailARNInvalidException", trail.get_trail, Name="arn:aws:s3:::x")
osaka = client("cloudtrail", "dc-osaka-1")
assert osaka.describe_trails()["trailList"] == [described]
assert osaka.describe_trails(includeShadowTrails=False)["trailList"] == []
refused("TrailNotFoundException", osaka.get_trail, Name="default")
refused("InvalidHomeRegionException", osaka.stop_logging, Name=ARN)
eve = client("cloudtrail", **foreign)
assert eve.describe_trails()["trailList"] == []
refused("AccessDeniedException", eve.stop_logging, Name=ARN)
refused("TrailNotFoundException", eve.stop_logging, Name="default")


# selectors, insights, tags
(selector,) = trail.get_event_selectors(TrailName="default")["EventSelectors"]
assert selector["ReadWriteType"] == "All" and selector["IncludeManagementEvents"] is True, selector
assert trail.get_event_selectors(TrailName=ARN)["TrailARN"] == ARN
refused("TrailNotFoundException", trail.get_event_selectors, TrailName="absent")
refused("InsightNotEnabledException", trail.get_insight_selectors, TrailName="default")
listed = lambda: {t["Key"]: t.get("Value") for t in trail.list_tags(ResourceIdList=[ARN])["ResourceTagList"][0]["TagsList"]}
assert listed() == {}
trail.add_tags(ResourceId=ARN, TagsList=[{"Key": "team", "Value": "sre"}, {"Key": "bare"}])
trail.add_tags(ResourceId=ARN, TagsList=[{"Key": "team", "Value": "platform"}])
assert listed()["team"] == "platform" and set(listed()) == {"team", "bare"}, listed()
trail.remove_tags(ResourceId=ARN, TagsList=[{"Key": "bare"}, {"Key": "absent"}])
assert listed() == {"team": "platform"}
refused("InvalidTagParameterException", trail.add_tags, ResourceId=ARN, TagsList=[{"Key": "aws:x", "Value": "y"}])
refused("TagsLimitExceededException", trail.add_tags, ResourceId=ARN, TagsList=[{"Key": f"k{n}"} for n in range(50)])
assert listed() == {"team": "platform"}, "what is refused changes nothing"
refused("ResourceNotFoundException", trail.list_tags, ResourceIdList=[ARN.replace("default", "absent")])
refused("ConflictException", osaka.add_tags, ResourceId=ARN, TagsList=[{"Key": "team"}])
refused("AccessDeniedException", eve.list_tags, ResourceIdList=[ARN])

# logging
assert trail.get_trail_status(Name="default")["IsLogging"] is True
trail.stop_logging(Name="default")
stopped = trail.get_trail_status(Name="default")
assert stopped["IsLogging"] is False and isinstance(stopped["StopLoggingTime"], datetime.datetime), stopped
assert stopped["TimeLoggingStopped"].endswith("Z") and stopped["LatestNotificationAttemptTime"] == "", stopped
trail.stop_logging(Name="default")
trail.start_logging(Name=ARN)
assert trail.get_trail_status(Name=ARN)["IsLogging"] is True

# keys
(key, *_) = trail.list_public_keys()["PublicKeyList"]
assert len(key["Value"]) == 270 and len(key["Fingerprint"]) == 32 and key["ValidityStartTime"] < key["ValidityEndTime"], key
now = datetime.datetime.now(datetime.timezone.utc)
hour = datetime.timedelta(hours=1)
refused("InvalidTimeRangeException", trail.list_public_keys, StartTime=now, EndTime=now - hour)
refused("InvalidTokenException", trail.list_public_keys, NextToken="abcd")


# look-ups
def lookup(client=trail, **attributes):
    asked = [{"AttributeKey": k, "AttributeValue": v} for k, v in attributes.items()]
    pages = client.get_paginator("lookup_events").paginate(LookupAttributes=asked, PaginationConfig={"PageSize": 7})
    return [event for page in pages for event in page["Events"]]


alice = lookup(Username="alice", EventName="RunCommand")
assert len(alice) == 40, len(alice)
assert [e["EventTime"] for e in alice] == sorted((e["EventTime"] for e in alice), reverse=True)
assert all(json.loads(e["CloudTrailEvent"])["eventID"] == e["EventId"] for e in alice)
(one,) = lookup(EventName="CreateUser")
assert one["Username"] == "carol" and one["ReadOnly"] == "false" and one["AccessKeyId"] == "AKIAcarol", one
assert one["Resources"] == [{"ResourceType": "Host::File", "ResourceName": "arn:aws:host:dc-local-1:111122223333:h/file/etc/carol"}]
for attributes in [
    {"EventId": one["EventId"]},
    {"Username": "carol", "EventName": "CreateUser"},
    {"AccessKeyId": "AKIAcarol", "EventName": "CreateUser"},
    {"ResourceName": one["Resources"][0]["ResourceName"], "EventName": "CreateUser"},
    {"ResourceType": "Host::File", "EventSource": "sudo.linux", "ReadOnly": "false", "EventName": "CreateUser"},
]:
    assert [e["EventId"] for e in lookup(**attributes)] == [one["EventId"]], attributes
assert lookup(Username="Carol") == [] and lookup(EventId="x") == []
assert len(lookup(EventName="Login")) == 1 and len(lookup(osaka, EventName="Login")) == 1, "a region shows its own"
assert lookup(eve, EventName="RunCommand") == [], "an account sees its own"
assert lookup(EventName="TooOld") == [], "90 days"
at = one["EventTime"]
inclusive = trail.lookup_events(StartTime=at, EndTime=at, LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "CreateUser"}])
assert len(inclusive["Events"]) == 1 and "NextToken" not in inclusive, inclusive
assert trail.lookup_events(EventCategory="insight")["Events"] == []
refused("InvalidTimeRangeException", trail.lookup_events, StartTime=now, EndTime=now - hour)
loose = client("cloudtrail", config=Config(parameter_validation=False, retries={"max_attempts": 1}))
for max_results in (0, 51, -1):
    refused("InvalidMaxResultsException", loose.lookup_events, MaxResults=max_results)
for attribute in ({"AttributeKey": "eventname", "AttributeValue": "x"}, {"AttributeKey": "EventName", "AttributeValue": "_" * 1001}):
    refused("InvalidLookupAttributesException", loose.lookup_events, LookupAttributes=[attribute])
refused("InvalidEventCategoryException", loose.lookup_events, EventCategory="data")
refused("InvalidNextTokenException", trail.lookup_events, NextToken="abcd")
token = trail.lookup_events(MaxResults=2)["NextToken"]
assert trail.lookup_events(MaxResults=3, NextToken=token)["Events"]
refused("InvalidNextTokenException", trail.lookup_events, MaxResults=2, NextToken=token, EndTime=now)
refused("InvalidTrailNameException", loose.get_trail)
refused("SerializationException", loose.lookup_events, MaxResults="many")

# all that is not built: modelled errors, each
built = {"AddTags", "RemoveTags", "ListTags", "GetEventSelectors", "GetInsightSelectors", "DescribeTrails", "GetTrail", "ListTrails", "GetTrailStatus", "StartLogging", "StopLogging", "ListPublicKeys", "LookupEvents"}
from botocore import xform_name
for operation in loose.meta.service_model.operation_names:
    if operation not in built:
        error = refused("UnsupportedOperationException", getattr(loose, xform_name(operation)))
        assert isinstance(error, loose.exceptions.UnsupportedOperationException), operation

# sts and organizations
identity = client("sts").get_caller_identity()
assert identity["Account"] == "111122223333" and identity["Arn"] == "arn:aws:iam::111122223333:user/alice", identity
refused("InvalidAction", client("sts").get_session_token)
refused("AWSOrganizationsNotInUseException", client("organizations").describe_organization)

# authentication, per protocol
wrong = dict(aws_access_key_id=client("sts")._request_signer._credentials.access_key, aws_secret_access_key="wrong")
unknown = dict(aws_access_key_id="AKIAUNKNOWN", aws_secret_access_key="wrong")
token = dict(aws_session_token="token")
for credentials, json_code, query_code, s3_code in [
    (wrong, "InvalidSignatureException", "SignatureDoesNotMatch", "SignatureDoesNotMatch"),
    (unknown, "UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId"),
    ({**wrong, **token}, "UnrecognizedClientException", "InvalidClientTokenId", "InvalidToken"),
]:
    refused(json_code, client("cloudtrail", **credentials).describe_trails)
    refused(query_code, client("sts", **credentials).get_caller_identity)
    refused(s3_code, client("s3", **credentials).list_objects, Bucket="edgetrail")

# s3
s3 = client("s3")
assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["edgetrail"]
assert s3.get_bucket_location(Bucket="edgetrail")["LocationConstraint"] == "dc-local-1"
s3.head_bucket(Bucket="edgetrail")
refused("NoSuchBucket", s3.list_objects, Bucket="absent")
refused("AccessDenied", client("s3", **foreign).list_objects_v2, Bucket="edgetrail")
refused("404", s3.head_object, Bucket="edgetrail", Key="absent")
for key in ("absent", "../control.sqlite", "a/../../control.sqlite", "..", "AWSLogs", "AWSLogs/", "a%2f..", "a\\..\\b", "x" * 2000):
    refused("NoSuchKey", s3.get_object, Bucket="edgetrail", Key=key)
refused("MethodNotAllowed", s3.put_object, Bucket="edgetrail", Key="k", Body=b"x" * 100)
refused("MethodNotAllowed", s3.delete_object, Bucket="edgetrail", Key="k")
refused("NotImplemented", s3.get_bucket_versioning, Bucket="edgetrail")

import time, gzip
deadline = time.time() + 60
while True:
    contents = s3.list_objects_v2(Bucket="edgetrail").get("Contents", [])
    logs = [entry for entry in contents if "/CloudTrail/" in entry["Key"]]
    digests = [entry for entry in contents if "/CloudTrail-Digest/" in entry["Key"]]
    if logs and digests:
        break
    assert time.time() < deadline, contents
    time.sleep(0.2)
keys = [entry["Key"] for entry in contents]
assert keys == sorted(keys) and not any(key.endswith(".meta.json") for key in keys), keys
refused("NoSuchKey", s3.get_object, Bucket="edgetrail", Key=digests[0]["Key"] + ".meta.json")
got = s3.get_object(Bucket="edgetrail", Key=digests[0]["Key"])
body = got["Body"].read()
assert got["ContentLength"] == len(body) == digests[0]["Size"] and got["ETag"] == digests[0]["ETag"], got
assert got["ContentEncoding"] == "gzip" and "signature" in got["Metadata"], got
assert json.loads(gzip.decompress(body))["digestS3Object"] == digests[0]["Key"]
head = s3.head_object(Bucket="edgetrail", Key=digests[0]["Key"])
assert head["Metadata"] == got["Metadata"] and head["ContentLength"] == len(body) and head["LastModified"] == got["LastModified"]
part = s3.get_object(Bucket="edgetrail", Key=digests[0]["Key"], Range="bytes=2-5")
assert part["Body"].read() == body[2:6] and part["ResponseMetadata"]["HTTPStatusCode"] == 206
refused("InvalidRange", s3.get_object, Bucket="edgetrail", Key=digests[0]["Key"], Range="bytes=9999999-")
for operation in ("list_objects", "list_objects_v2"):
    pages = s3.get_paginator(operation).paginate(Bucket="edgetrail", PaginationConfig={"PageSize": 1})
    found = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    assert set(keys) <= set(found) and found == sorted(found), operation
    folded = s3.get_paginator(operation).paginate(Bucket="edgetrail", Delimiter="/", Prefix="AWSLogs/", PaginationConfig={"PageSize": 1})
    prefixes = [entry["Prefix"] for page in folded for entry in page.get("CommonPrefixes", [])]
    assert prefixes == sorted(set(prefixes)) and "AWSLogs/111122223333/" in prefixes, prefixes
url = s3.generate_presigned_url("get_object", Params={"Bucket": "edgetrail", "Key": digests[0]["Key"]}, ExpiresIn=60)
import os, ssl, urllib.request, urllib.error
context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
presigned = boto3.client("s3", region_name="dc-local-1", config=Config(signature_version="s3v4"))
url = presigned.generate_presigned_url("get_object", Params={"Bucket": "edgetrail", "Key": digests[0]["Key"]}, ExpiresIn=60)
assert urllib.request.urlopen(url, context=context).read() == body
try:
    urllib.request.urlopen(url.replace("Digest", "Digesu", 1), context=context)
    raise AssertionError("a changed presigned URL was answered")
except urllib.error.HTTPError as error:
    assert error.code == 403 and b"SignatureDoesNotMatch" in error.read()
print("every call as expected")
