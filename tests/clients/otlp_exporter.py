"""Exports one log record each over gRPC and HTTP with OpenTelemetry's own exporters; exits 0 if all were taken.

otlp_exporter.py ADDRESS NAME...   ADDRESS is host:port; NAME becomes the eventName of a record over each wire
"""
import sys

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as Grpc
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as Http
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExportResult, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
import grpc

address, names = sys.argv[1], sys.argv[2:]
exporters = {
    "grpc": Grpc(endpoint=address, insecure=True, timeout=20),
    "grpc-gzip": Grpc(endpoint=address, insecure=True, timeout=20, compression=grpc.Compression.Gzip),
    "http": Http(endpoint=f"http://{address}/v1/logs", timeout=20),
    "http-gzip": Http(endpoint=f"http://{address}/v1/logs", timeout=20, compression=Compression.Gzip),
}
refused = []
for wire, exporter in exporters.items():

    class Seen(SimpleLogRecordProcessor):
        """Exports at once, and keeps what became of it."""

        def on_emit(self, record, wire=wire, exporter=exporter):
            result = exporter.export([record])
            print(wire, result, flush=True)
            if result is not LogRecordExportResult.SUCCESS:
                refused.append(wire)

    provider = LoggerProvider(resource=Resource.create({"service.name": "shop", "service.version": "7"}))
    provider.add_log_record_processor(Seen(exporter))
    for name in names:
        provider.get_logger("shop.audit", "1").emit(
            LogRecord(
                event_name=name,
                severity_number=SeverityNumber.INFO,
                body={"order": "o-1", "items": [1, 2]},
                attributes={"user.name": "alice", "client.address": "192.0.2.7", "wire": wire, "password": "hunter2"},
            )
        )
    exporter.shutdown()
sys.exit(1 if refused else 0)
