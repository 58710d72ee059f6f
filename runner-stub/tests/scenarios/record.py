#!/usr/bin/env python3
"""Runs every scenario under Docker Engine and Docker Compose and writes what happened to docker.json, which the tests
compare with. Needs dockerd, docker and Docker Compose on the search path, a static busybox, and root: `ci/record.sh
scenarios` runs it where they are. Starts a daemon of its own in a temporary folder.

    record.py [NAME...]        only these scenarios; the others keep their records
"""
import io, json, os, re, shutil, signal, subprocess, sys, tarfile, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
LINKS = ("sh true false cat echo sleep id ls touch wget nc httpd trap hostname kill pwd test stat grep cut tr mkdir rm head"
         " env mount sort wc chmod cp").split()


def rootfs():
    """The image of the tests: see `busybox` in tests/support/mod.rs."""
    busybox = next(path for path in ("/bin/busybox", "/usr/bin/busybox", f"{HERE}/busybox") if os.path.exists(path))
    out = io.BytesIO()
    tar = tarfile.open(fileobj=out, mode="w")

    def add(path, content=None, link=None, mode=0o755):
        info = tarfile.TarInfo(path)
        info.mode = mode
        if link:
            info.type, info.linkname = tarfile.SYMTYPE, link
        elif content is None:
            info.type = tarfile.DIRTYPE
        else:
            info.size = len(content)
        tar.addfile(info, io.BytesIO(content or b""))

    for folder in ("bin", "etc", "tmp", "data", "proc", "dev", "sys"):
        add(folder)
    add("bin/busybox", open(busybox, "rb").read())
    for name in LINKS:
        add(f"bin/{name}", link="busybox")
    add("etc/passwd", b"root:x:0:0::/:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n")
    add("etc/group", b"root:x:0:\nguest:x:1000:\n")
    add("data/from-image", b"x")
    tar.close()
    return out.getvalue()


class Scenario:
    def __init__(self, scenario, docker):
        self.folder = tempfile.mkdtemp(prefix="scenario-")
        self.docker = docker
        self.env = dict(os.environ, DOCKER_HOST=docker, **scenario.get("env", {}))
        self.ids = {}
        for path, content in scenario.get("files", {}).items():
            path = os.path.join(self.folder, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w").write(content)
        compose = {key: scenario[key] for key in ("volumes", "secrets", "configs", "networks") if key in scenario}
        compose["services"] = {
            name: dict({"image": "busybox", "stop_grace_period": "2s"}, **service)
            for name, service in scenario["services"].items()
        }
        json.dump(compose, open(os.path.join(self.folder, "compose.yml"), "w"))
        self.since = f"{time.time():.6f}"
        self.steps = scenario["steps"]

    def compose(self, *arguments):
        command = ["docker", "compose", "-p", "test", *arguments]
        return subprocess.run(command, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)

    def rows(self):
        lines = self.compose("--profile", "*", "ps", "-a", "--format", "json").stdout.splitlines()
        return {row["Name"].removeprefix("test-"): row for row in map(json.loads, lines)}

    def events(self):
        out = self.compose("events", "--json", "--since", self.since, "--until", str(time.time())).stdout
        wanted = ("create", "start", "die", "stop", "kill", "destroy")
        events = [json.loads(line) for line in out.splitlines()]
        return [e for e in events if e["action"] in wanted or e["action"].startswith("health_status")]

    def step(self, step):
        if isinstance(step, list):
            ended = self.compose(*step)
            prints = any(word in step for word in ("exec", "run", "logs", "wait", "port"))
            return {"code": ended.returncode, "out": normal(ended.stdout) if prints else ""}
        if "out" in step:
            return normal(self.compose(*step["out"]).stdout)
        if "code" in step:
            return self.compose(*step["code"]).returncode
        if "ps" in step:
            return {name: [row["State"], row["ExitCode"], row["Health"]] for name, row in sorted(self.rows().items())}
        if "until" in step:
            name, what = step["until"]
            return eventually(lambda: what in (lambda row: (row.get("State"), row.get("Health")))(self.rows().get(name, {})))
        if "events" in step:
            service, = step["events"]
            return [e["action"] for e in self.events() if e["service"] == service]
        if "order" in step:
            return [e["service"] for e in self.events() if e["action"] == step["order"]]
        if "count" in step:
            service, action = step["count"]
            return sum(e["service"] == service and e["action"] == action for e in self.events())
        if "until-count" in step:
            service, action, number = step["until-count"]
            return eventually(lambda: sum(e["service"] == service and e["action"] == action for e in self.events()) >= number)
        if "ports" in step:
            rows = [row for row in self.rows().values() if row["Service"] == step["ports"]]
            return sorted([p["URL"], p["TargetPort"], p["PublishedPort"], p["Protocol"]] for row in rows for p in row["Publishers"])
        if "sleep" in step:
            time.sleep(step["sleep"])
            return None
        if "logs" in step:
            return normal(self.compose("logs", "--no-log-prefix", "--no-color", step["logs"]).stdout)
        if "setenv" in step:
            name, value = step["setenv"]
            self.env[name] = value
            return None
        if "ids" in step:
            before, self.ids = self.ids, {name: row["ID"] for name, row in self.rows().items()}
            return {name: "same" if before.get(name) == id else "new" for name, id in sorted(self.ids.items())}
        raise SystemExit(f"unknown step {step}")

    def run(self):
        try:
            return [self.step(step) for step in self.steps]
        finally:
            self.compose("--profile", "*", "down", "-v", "-t", "0", "--remove-orphans")
            shutil.rmtree(self.folder)


def normal(text):
    text = re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "<id>", text.replace("\r\n", "\n"))
    return re.sub(r"\b(172|10|192)\.[0-9]+\.[0-9]+\.[0-9]+\b", "<ip>", text)


def eventually(so):
    end = time.time() + 30
    while not so():
        if time.time() > end:
            return False
        time.sleep(0.1)
    return True


def main():
    scenarios = json.load(open(f"{HERE}/scenarios.json"))
    path = f"{HERE}/docker.json"
    records = json.load(open(path)) if os.path.exists(path) else {}
    wanted = set(sys.argv[1:]) or {scenario["name"] for scenario in scenarios}
    folder = tempfile.mkdtemp(prefix="docker-")
    docker = f"unix://{folder}/sock"
    log = open(f"{folder}/log", "w")
    daemon = subprocess.Popen(["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "-H", docker,
                               "-p", f"{folder}/pid"], stdout=log, stderr=log)
    try:
        env = dict(os.environ, DOCKER_HOST=docker)
        if not eventually(lambda: subprocess.run(["docker", "version"], env=env, capture_output=True).returncode == 0):
            raise SystemExit(open(f"{folder}/log").read()[-3000:])
        subprocess.run(["docker", "import", "-c", "ENV PATH=/bin", "-c", 'CMD ["sh"]', "-c", "VOLUME /data", "-", "busybox"],
                       input=rootfs(), env=env, check=True, stdout=subprocess.DEVNULL)
        for scenario in scenarios:
            if scenario["name"] in wanted:
                records[scenario["name"]] = Scenario(scenario, docker).run()
                print(scenario["name"], json.dumps(records[scenario["name"]])[:300], flush=True)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)
    names = {scenario["name"] for scenario in scenarios}
    with open(path, "w") as out:
        lines = (f"{json.dumps(name)}: {json.dumps(records[name])}" for name in sorted(records) if name in names)
        out.write("{\n" + ",\n".join(lines) + "\n}\n")


main()
