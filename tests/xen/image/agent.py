"""The guest's end of the harness: run what dom0 asks for.

A connection brings one line, a shell command; the rest of it is the command's input. What the command prints goes back,
and after it a NUL and the exit status in decimal.
"""

import socketserver
import subprocess


class Request(socketserver.BaseRequestHandler):
    def handle(self):
        line = bytearray()
        while not line.endswith(b"\n"):
            character = self.request.recv(1)
            if not character:
                return
            line += character
        pipes = {"stdin": self.request, "stdout": self.request, "stderr": subprocess.STDOUT}
        status = subprocess.run(["/bin/sh", "-c", line.decode()], cwd="/source", **pipes).returncode
        try:
            self.request.sendall(b"\0%d" % status)
        except OSError:
            pass  # Nobody is left to be told.


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


Server(("", 5757), Request).serve_forever()
