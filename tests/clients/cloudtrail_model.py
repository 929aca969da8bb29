"""Prints what cloudtrail/tests/model.toml holds, from botocore's copy of CloudTrail's service model.

cloudtrail_model.py > cloudtrail/tests/model.toml
"""
import gzip
import json
import os

import botocore

OPERATIONS = """AddTags CreateTrail DeleteTrail DescribeTrails GetEventSelectors GetInsightSelectors GetTrail GetTrailStatus
ListTags ListTrails PutEventSelectors PutInsightSelectors RemoveTags StartLogging StopLogging UpdateTrail""".split()

path = os.path.join(os.path.dirname(botocore.__file__), "data/cloudtrail/2013-11-01/service-2.json.gz")
with gzip.open(path) as file:
    model = json.load(file)
shapes = model["shapes"]
seen, waiting = set(), []


def kind(name):
    """A member's type: a scalar's name, [element], {structure}, or the values of an enumeration."""
    shape = shapes[name]
    if shape["type"] == "list":
        return f"[{kind(shape['member']['shape'])}]"
    if shape["type"] == "structure":
        waiting.append(name)
        return f"{{{name}}}"
    return "|".join(shape["enum"]) if "enum" in shape else shape["type"]


def quoted(values):
    return "[" + ", ".join(json.dumps(value) for value in values) + "]"


print("# CloudTrail's service model 2013-11-01, as far as trails go: errors, required members, shapes.")
print("# Made from botocore by tests/clients/cloudtrail_model.py; a test compares the two.")
for name in OPERATIONS:
    operation = model["operations"][name]
    print(f"\n[operations.{name}]")
    for side in ("input", "output"):
        waiting.append(operation[side]["shape"])
        print(f"{side} = {json.dumps(operation[side]['shape'])}")
    print(f"errors = {quoted(sorted(error['shape'] for error in operation['errors']))}")
while waiting:
    name = waiting.pop(0)
    if name in seen:
        continue
    seen.add(name)
    shape = shapes[name]
    print(f"\n[shapes.{name}]")
    print(f"required = {quoted(sorted(shape.get('required', [])))}")
    print(f"[shapes.{name}.members]")
    for member, of in sorted(shape["members"].items()):
        print(f"{member} = {json.dumps(kind(of['shape']))}")
