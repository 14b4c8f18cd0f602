"""What the example runs in: a folder, processes under uids of their own, and the end of both."""

import os
import random
import shutil
import socket
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Numbers that neither distributions nor systemd give out.
UIDS = dict(zip(
    ("server", "agent", "redis", "door", "ingester", "trainer", "inference", "sidecar", "checkout", "batch",
     "other", "stranger"), range(61001, 61013)))

BEGAN = time.monotonic()


def say(text):
    print(f"{time.monotonic() - BEGAN:5.1f} s  {text}", file=sys.stderr, flush=True)


class House:
    """One folder, the processes in it, and their end."""

    def __init__(self):
        self.root = Path(tempfile.mkdtemp(prefix="feature-store-"))
        self.root.chmod(0o711)
        self.processes = []
        # Below the range that outgoing connections take theirs from, and nobody's.
        free = (port for port in random.sample(range(20000, 32000), 1000) if not answers(port))
        names = ("server", "other", "write", "read", "mtls", "sidecar", "jwt", "model")
        self.ports = {name: next(free) for name in names}
        self.socket = self.root / "agent-api" / "agent.sock"
        self.folder("log")
        self.folder("services", mode=0o755)

    def folder(self, name, uid="root", gid=None, mode=0o700):
        path = self.root / name
        path.mkdir()
        owner = UIDS.get(uid, 0)
        os.chown(path, owner, UIDS.get(gid, owner))
        path.chmod(mode)
        return path

    def file(self, path, content, uid):
        """A file that only `uid` can read, from its first moment."""
        with open(os.open(self.root / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
            os.fchown(file.fileno(), UIDS[uid], UIDS[uid])
            file.write(content)

    def configure(self, template, uid, name=None, **more):
        values = {f"{each}_port": port for each, port in self.ports.items()}
        values |= {"root": self.root, "socket": self.socket}
        text = string.Template((HERE / "conf" / template).read_text()).substitute(values | more)
        self.file(f"conf/{name or template}", text, uid)
        return self.root / "conf" / (name or template)

    def command(self, uid, command, capability=None):
        """`command` as `uid`: no account, no group but its own, no way to more rights, and no life after ours."""
        keep = f",+{capability}" if capability else ""
        return ["setpriv", f"--reuid={UIDS[uid]}", f"--regid={UIDS[uid]}", "--clear-groups", "--no-new-privs",
                f"--inh-caps=-all{keep}", f"--ambient-caps=-all{keep}", f"--bounding-set=-all{keep}",
                "--pdeathsig=KILL", "--", *map(str, command)]

    def environment(self):
        return {"PATH": "/usr/bin:/bin", "SPIFFE_ENDPOINT_SOCKET": f"unix://{self.socket}",
                "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}

    def start(self, name, uid, command, ready, capability=None):
        """Starts a service and waits until it takes connections at `ready`: a port or a socket."""
        say(f"starting {name} (uid {UIDS[uid]})")
        log = self.root / "log" / f"{name}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(self.command(uid, command, capability), stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=output, env=self.environment(), cwd="/",
                                       start_new_session=True)
        self.processes.append(process)
        deadline = time.monotonic() + 60
        while not answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"run: {name} did not start:\n" + "\n".join(log.read_text().splitlines()[-20:]))
            time.sleep(0.05)

    def once(self, uid, command, given=""):
        """The output of a command that must succeed."""
        done = subprocess.run(self.command(uid, command), input=given, capture_output=True, text=True,
                              env=self.environment(), cwd="/")
        if done.returncode:
            sys.exit(f"run: {command[-1]} failed:\n{done.stderr}{done.stdout}")
        return done.stdout

    def end(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.root, ignore_errors=True)


def answers(place):
    family, address = (socket.AF_INET, ("127.0.0.1", place)) if isinstance(place, int) else (socket.AF_UNIX, str(place))
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


class Server:
    """A trust domain's server, and its command line."""

    def __init__(self, house, credence, name, trust_domain):
        self.house, self.credence = house, credence
        home = house.folder(name, name)
        self.socket = home / "api.sock"
        config = house.configure("server.conf", name, f"{name}.conf", dir=home, trust_domain=trust_domain,
                                 server_port=house.ports[name])
        self.uid = name
        command = [credence, "server", "run", "-config", config]
        house.start(f"credence server ({trust_domain})", name, command, self.socket)

    def cli(self, *arguments, given=""):
        # As the server's own user: nobody else can open its socket.
        return self.house.once(self.uid, [self.credence, "server", *arguments, "-socketPath", self.socket], given)

    def svid(self, spiffe_id, ttl):
        """Certificate and key in a file, for an impostor."""
        minted = self.cli("x509", "mint", "-spiffeID", spiffe_id, "-ttl", ttl)
        path = f"stolen/{len(os.listdir(self.house.root / 'stolen'))}.pem"
        self.house.file(path, minted, "stranger")
        return str(self.house.root / path)

    def token(self, spiffe_id, audience, ttl):
        return self.cli("jwt", "mint", "-spiffeID", spiffe_id, "-audience", audience, "-ttl", ttl).strip()
