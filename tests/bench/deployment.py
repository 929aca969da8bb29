"""A collector and agents of the built programs on loopback, as the benchmarks start and measure them."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
PROFILE = os.environ.get("EDGETRAIL_BENCH_PROFILE", "dist")


def target():
    out = subprocess.run([TOP / "tests/target-dir"], check=True, capture_output=True, text=True)
    return pathlib.Path(out.stdout.strip()) / PROFILE


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_s(pid):
    """User and system time to the nanosecond, where /proc counts ticks. Source: clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def thread_cpu_s(pid):
    """By thread name, of threads that still run: which stage the time goes to. Source: schedstat in proc(5), nanoseconds."""
    by_name = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        by_name[name] = by_name.get(name, 0) + int((task / "schedstat").read_text().split()[0]) / 1e9
    return by_name


def rss_mib(pid, member="VmRSS"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(member + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def until(what, condition, bound_s=600):
    end = time.monotonic() + bound_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise SystemExit(f"waited {bound_s} s in vain for {what}")


class Deployment:
    """The collector, with a trail into a directory."""

    def __init__(self, directory):
        self.dir, self.bin, self.process = directory, target(), None
        self.api, ingest = port(), port()
        # The file grows to its size; digests come each minute, as short as they may be outside of tests.
        (directory / "collector.toml").write_text(
            f'[collector]\naccount = "111122223333"\nregion = "dc-local-1"\nstate_dir = "{directory}/collector"\n'
            f'[ingest]\nlisten = "127.0.0.1:{ingest}"\nnames = ["127.0.0.1"]\n[api]\nlisten = "127.0.0.1:{self.api}"\nnames = ["127.0.0.1"]\n'
            f'[trail]\nlog_interval = "5s"\ndigest_interval = "60s"\n[trail.sink]\nkind = "directory"\npath = "{directory}/trail"\n'
        )

    def start(self):
        log = open(self.dir / "collector.log", "ab")
        command = [self.bin / "edgetrail-collector", "serve", "--config", self.dir / "collector.toml"]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until("the collector", self.listening)

    def listening(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.api)) == 0

    def stop(self):
        stop(self.process)

    def token(self):
        command = [self.bin / "edgetrail-collector", "token", "create", "--account", "111122223333", "--region", "dc-local-1"]
        command += ["--config", self.dir / "collector.toml", "-o", "json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


class Agent:
    """One agent with only the sources that its settings name."""

    def __init__(self, deployment, name, settings):
        self.name, self.bin, self.process = name, deployment.bin / "edgetrail-agent", None
        self.state, self.config, self.log = (deployment.dir / f"{name}{end}" for end in ("", ".toml", ".log"))
        self.configure(f"[sources.audit]\nenabled = false\n[sources.journal]\nenabled = false\n{settings}")
        token = deployment.token()
        join = ["join", token["url"], "--token", token["token"], "--ca-pin", token["ca_pin"]]
        subprocess.run([self.bin, *join, "--config", self.config], check=True, capture_output=True)

    def configure(self, settings):
        self.config.write_text(f'[agent]\nstate_dir = "{self.state}"\n{settings}')

    def start(self):
        log = open(self.log, "ab")
        self.process = subprocess.Popen([self.bin, "run", "--config", self.config], stdout=log, stderr=log)

    def stop(self):
        stop(self.process)

    def status(self):
        """What it says of itself; `None` while it does not answer."""
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} ended: see {self.log}")
        done = subprocess.run([self.bin, "status", "-o", "json", "--config", self.config], capture_output=True)
        return json.loads(done.stdout) if done.returncode in (0, 1) and done.stdout else None

    def buffered(self):
        """How many records it ever committed, and how many of them wait for a receipt."""
        buffer = (self.status() or {}).get("buffer") or {}
        return (buffer.get("head") or {}).get("next_seq") or 0, buffer.get("records", 1)


def stop(process):
    if process and process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
