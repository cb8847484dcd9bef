"""Folders laid out like llama.cpp's tools, made of scripts that answer --help and --version."""

import sys
from pathlib import Path

from tunesmith.llama_cpp.probe import NEEDED_OPTIONS
from tunesmith.llama_cpp.tools import COMPANIONS, EXECUTABLES, LIBRARIES, SCRIPTS

VERSION = "version: 0.5.0-dev (build 11312, commit 0c1e57098)"


def a_tools_folder(folder: Path, *, without_options: tuple[str, ...] = (), version: str = VERSION) -> Path:
    """A whole folder whose tools name every option that we need, but for `without_options`."""
    for name, tool in EXECUTABLES.items():
        options = [option for option in NEEDED_OPTIONS[name] if option not in without_options]
        a_script(folder / tool, f'[ "$1" = --version ] && echo "{version}" || echo "usage: {" ".join(options)}"')
    for part in (*SCRIPTS.values(), *COMPANIONS, LIBRARIES["libllama"]):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).touch()
    return folder


def a_script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def a_chatting_server(folder: Path, answer: str) -> Path:
    """A whole folder of tools whose server loads nothing and answers every chat with the same words, in one piece.

    It leaves its process id in a file beside it.
    """
    a_tools_folder(folder)
    server = folder / EXECUTABLES["server"]
    usage = f"usage: {' '.join(NEEDED_OPTIONS['server'])}\n{VERSION}"
    server.write_text(f"#!{sys.executable}\nUSAGE, ANSWER = {usage!r}, {answer!r}\n{_CHATTING}")
    return folder


_CHATTING = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Chat(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
        event = {"choices": [{"delta": {"content": ANSWER}}]}
        self.wfile.write(f"data: {json.dumps(event)}\\n\\n".encode())

    def log_message(self, *_):
        pass

if "--port" in sys.argv:
    open(sys.argv[0] + ".pid", "w").write(str(os.getpid()))
    HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Chat).serve_forever()
print(USAGE)
"""
