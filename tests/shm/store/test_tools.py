"""Debian's own xenstore tools are clients of our server, as domain 0 and as a guest."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(
    shutil.which("xenstore-ls") is None, reason="needs xenstore-ls (package xenstore-utils)"
)


@pytest.fixture
def run(store):
    """Return ``run(tool, *arguments, domid=0)``: the tool's status, output and errors."""

    def run(tool, *arguments, domid=0):
        environment = dict(os.environ, XENSTORED_PATH=store.identity(domid))
        command = [f"xenstore-{tool}", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def says(run):
    """Return ``says(tool, *arguments)``: the output of a tool that has to succeed."""

    def says(tool, *arguments, domid=0):
        done = run(tool, *arguments, domid=domid)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    return says


def test_write_read_list_exists_and_remove(run, says):
    says("write", "/t/a", "one", "/t/b/c", "two words")
    assert says("read", "/t/a", "/t/b/c") == "one\ntwo words\n"
    assert says("read", "-p", "/t/a") == "/t/a: one\n"
    assert says("list", "/t") == "a\nb\n"
    assert says("list", "-p", "/t") == "/t/a\n/t/b\n"
    assert run("exists", "/t/b").returncode == 0
    assert run("exists", "/t/x").returncode == 1
    says("rm", "/t/b")
    assert run("read", "/t/b/c").stderr == "xenstore-read: couldn't read path /t/b/c\n"
    says("rm", "-t", "/t/a")  # and its parents, now empty
    assert says("list", "/") == "tool\n"


def test_ls_shows_the_tree(says):
    says("write", "/t/a", "one", "/t/b/c", "two")
    assert says("ls", "/t") == 'a = "one"\nb = ""\n c = "two"\n'
    assert (
        says("ls", "-f", "/") == '/tool = ""\n/tool/xenstored = ""\n/t = ""\n/t/a = "one"\n/t/b = ""\n/t/b/c = "two"\n'
    )


def test_chmod_and_ls_show_permissions(says):
    says("write", "/t/a/b", "one")
    says("chmod", "-r", "/t/a", "n1", "r2")
    assert says("ls", "-fp", "/t") == '/t/a = ""   (n1,r2)\n/t/a/b = "one"   (n1,r2)\n'


def test_a_directory_longer_than_a_message(says):
    names = [f"{number:03}-{'n' * 60}" for number in range(300)]
    says("write", *(word for name in names for word in (f"/big/{name}", "v")))
    assert says("list", "/big").split() == names
    assert says("ls", "/big").count("\n") == 300


def test_a_guest_sees_its_own(run, says):
    says("write", "/local/domain/1/name", "guest")
    says("chmod", "-r", "/local/domain/1", "n1")
    assert says("read", "name", domid=1) == "guest\n"
    says("write", "data/x", "mine", domid=1)
    assert says("ls", "-fp", "/local/domain/1", domid=1) == (
        '/local/domain/1/name = "guest"   (n1)\n'
        '/local/domain/1/data = ""   (n1)\n'
        '/local/domain/1/data/x = "mine"   (n1)\n'
    )
    denied = run("ls", "/", domid=1)
    assert denied.returncode != 0
    assert "Permission denied" in denied.stderr
    assert run("write", "/t", "v", domid=1).returncode != 0


def test_watch_sees_changes(store, says):
    command = ["xenstore-watch", "-n", "3", "/t"]
    environment = dict(os.environ, XENSTORED_PATH=store)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout.readline() == "/t\n"
        says("write", "/t/a", "one")
        assert watcher.stdout.readline() == "/t/a\n"
        says("rm", "/t")
        assert watcher.stdout.readline() == "/t\n"
        assert watcher.wait(60) == 0


def test_watch_hears_of_domains(store):
    command = ["xenstore-watch", "-n", "4", "@introduceDomain", "@releaseDomain"]
    environment = dict(os.environ, XENSTORED_PATH=store)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watcher:
        assert {watcher.stdout.readline() for _ in range(2)} == {"@introduceDomain\n", "@releaseDomain\n"}
        store.identity(7)
        assert watcher.stdout.readline() == "@introduceDomain\n"
        store.release(7)
        assert watcher.stdout.readline() == "@releaseDomain\n"
        assert watcher.wait(60) == 0
