"""What boots: Xen, Linux, Linux's PV Calls drivers, and one initial file system for dom0 and guests alike."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
PROJECT = HERE.parent.parent

#: Of the project's requirements, what runs inside Xen; versions are pyproject.toml's own.
_PYTHON_PACKAGES = {"click", "pyxs", "rich", "pytest", "pytest-cov", "pytest-timeout"}
_XEN_PROGRAMS = ("xl", "xenstored", "xenconsoled", "xen-init-dom0", "lsevtchn", "libxl-save-helper")
_XENSTORE_PROGRAMS = ("ls", "read", "write", "list", "rm", "chmod", "watch", "exists")
_KERNEL_MODULES = (
    *("xen-evtchn", "xen-gntalloc", "xen-gntdev", "xen-privcmd", "xenfs", "xen-netback", "xen-netfront"),
    *("virtio_pci", "9pnet_virtio", "9p"),
)
_OUR_MODULES = ("pvcalls_front", "pvcalls-sockets", "pvcalls-back", "pvcalls-back-fixed")
#: Where the files of image/ and Linux's drivers are in the domains.
_OURS = "usr/lib/refimpl-xen"
_STDLIB_LEFT_OUT = {
    *("test", "idlelib", "lib2to3", "pydoc_data", "distutils", "ensurepip", "venv", "turtledemo", "tkinter"),
    *("__pycache__", "_dbm.cpython-311-x86_64-linux-gnu.so", "nis.cpython-311-x86_64-linux-gnu.so"),
}
_LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")


def run_unpacked(root: Path, program: str) -> list[str | Path]:
    """Return the start of a command that runs ``program`` of the unpacked tree on this machine, with its libraries."""
    path = ":".join(str(root / directory) for directory in _LIBRARIES)
    return [root / _LIBRARIES[0] / "ld-linux-x86-64.so.2", "--library-path", path, root / program]


def recipe() -> str:
    """Return a hash of everything an image is made from but Debian's packages."""
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    sources = [*HERE.glob("harness/*.py"), *HERE.glob("modules/*"), *HERE.glob("image/*")]
    for path in (*sorted(sources), PROJECT / "pyproject.toml"):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


class Image:
    """The built files, in ``cache / "image"``: ``xen``, ``vmlinux`` and ``base.cpio``."""

    def __init__(self, cache: Path, root: Path) -> None:
        self.directory = cache / "image"
        self._work = cache / "work"
        self._root = root
        self.xen, self.kernel = self.directory / "xen", self.directory / "vmlinux"
        self.base = self.directory / "base.cpio"

    @property
    def is_current(self) -> bool:
        """Whether what is built was built from the sources as they are."""
        stamp = self.directory / "recipe"
        return stamp.exists() and stamp.read_text() == recipe()

    def build(self, tell: Callable[[str], None]) -> None:
        """Build it all; about half a minute."""
        shutil.rmtree(self._work, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        (hypervisor,) = self._root.glob("boot/xen-*-amd64.gz")
        self.xen.write_bytes(gzip.decompress(hypervisor.read_bytes()))
        (kernel,) = self._root.glob("boot/vmlinuz-*")
        release = kernel.name.removeprefix("vmlinuz-")
        tell(f"{hypervisor.stem}, Linux {release}: drivers")
        modules = self._build_drivers(release)
        self._extract_kernel(kernel)
        tell("file system")
        tree = self._work / "tree"
        self._fill_tree(tree, release, modules)
        with self.base.open("wb") as archive:
            write_archive(archive.write, files_of(tree))
        shutil.rmtree(self._work)
        (self.directory / "recipe").write_text(recipe())

    # Linux.

    def _build_drivers(self, release: str) -> Path:
        (source,) = self._root.glob("usr/src/linux-source-*.tar.xz")
        top = source.name.removesuffix(".tar.xz")
        build = self._root / "build"
        shutil.rmtree(build)
        shutil.copytree(HERE / "modules", build)
        names = [f"{top}/drivers/xen/pvcalls-{end}" for end in ("front.c", "front.h", "back.c")]
        names.append(f"{top}/scripts/extract-vmlinux")
        with tarfile.open(source) as archive:
            for member in archive:
                if member.name in names:
                    data = archive.extractfile(member)
                    assert data is not None
                    (build / Path(member.name).name).write_bytes(data.read())
                    names.remove(member.name)
                if not names:
                    break
        (build / "pvcalls-back-fixed.c").write_text(unmask_always((build / "pvcalls-back.c").read_text()))
        headers = f"/usr/src/linux-headers-{release}"
        self._in_root("make", "-s", "-C", headers, "M=/build", f"-j{os.cpu_count()}", "modules")
        self._in_root("strip", "--strip-debug", *(f"/build/{name}.ko" for name in _OUR_MODULES))
        return build

    def _extract_kernel(self, kernel: Path) -> None:
        script = self._root / "build/extract-vmlinux"
        with self.kernel.open("wb") as output:
            subprocess.run(["sh", script, kernel], stdout=output, stderr=subprocess.DEVNULL, check=True)

    def _in_root(self, *command: str) -> None:
        """Run a command in the unpacked tree, by root itself or by whom Linux lets be root in a namespace."""
        null = self._root / "dev/null"
        if os.geteuid() == 0:
            if not null.exists():
                try:
                    os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
                except PermissionError:  # A container that may not; a plain file will do.
                    null.touch()
            enter = ["chroot", str(self._root)]
        else:
            null.touch()
            script = 'mount --bind /dev/null "$0/dev/null" && exec chroot "$0" "$@"'
            enter = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(self._root)]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        done = subprocess.run([*enter, *command], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")

    # The file system.

    def _fill_tree(self, tree: Path, release: str, modules: Path) -> None:
        for directory in ("bin", "sbin", "dev", "proc", "sys", "run", "tmp", "root", "etc/xen", "mnt", "usr/sbin"):
            (tree / directory).mkdir(parents=True, exist_ok=True)
        for directory in ("var/lib/xen", "var/lib/xenstored", "var/log/xen/console", "run/lock"):
            (tree / directory).mkdir(parents=True, exist_ok=True)
        (tree / "var/run").symlink_to("/run")
        programs = [*self._put_programs(tree), *self._put_python(tree)]
        self._put_libraries(tree, programs)
        self._put_modules(tree, release, modules)
        for source in (HERE / "image").iterdir():
            target = tree / {"init": "init"}.get(source.name, f"{_OURS}/{source.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
            target.chmod(0o755)
        (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n")
        (tree / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
        (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
        (tree / "etc/xen/xl.conf").write_text('autoballoon="off"\n')

    def _put_programs(self, tree: Path) -> Iterator[Path]:
        (tools,) = {path.parent for path in self._root.glob("usr/lib/xen-*/bin/xl")}
        found = [(tools / name, f"usr/sbin/{name}") for name in _XEN_PROGRAMS]
        found += [(self._root / f"usr/bin/xenstore-{n}", f"usr/bin/xenstore-{n}") for n in _XENSTORE_PROGRAMS]
        found += [(self._root / "bin/busybox", "bin/busybox"), (self._root / "bin/kmod", "bin/kmod")]
        for source, target in found:
            _copy(source, tree / target)
            yield source
        # xl looks for its helper where Debian has it.
        helper = tree / tools.relative_to(self._root) / "libxl-save-helper"
        helper.parent.mkdir(parents=True)
        helper.symlink_to("/usr/sbin/libxl-save-helper")
        for name in ("modprobe", "insmod", "rmmod", "lsmod", "depmod"):
            (tree / "sbin" / name).symlink_to("/bin/kmod")

    def _put_python(self, tree: Path) -> Iterator[Path]:
        (python,) = (p for p in self._root.glob("usr/bin/python3.*") if re.fullmatch(r"python3\.\d+", p.name))
        _copy(python, tree / "usr/bin" / python.name)
        (tree / "usr/bin/python3").symlink_to(python.name)
        library = tree / "usr/lib" / python.name
        shutil.copytree(
            self._root / "usr/lib" / python.name,
            library,
            ignore=lambda _, names: _STDLIB_LEFT_OUT.intersection(names),
            ignore_dangling_symlinks=True,
        )
        packages = tree / "usr/local/lib" / python.name / "dist-packages"
        self._install_packages(packages, python.name.removeprefix("python"))
        for directory in (library, packages):
            self._compile(directory, tree, "/")
        yield python
        yield from (*library.glob("lib-dynload/*.so"), *packages.rglob("*.so"))

    def compiled(self, package: Path, folder: str, work: Path) -> Iterator[tuple[str, Path]]:
        """Compile a copy of a package in ``work``; yield its bytecode with the names it has below ``folder``.

        Without it every start of a program would compile the package anew, which takes seconds under emulation.
        """
        shutil.copytree(package, work / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        self._compile(work / package.name, work, f"/{folder}")
        for name, path in files_of(work, f"{folder}/"):
            if "__pycache__" in name:
                yield name, path

    def prepare_evidence(self, file: Path) -> None:
        """Write what recorded runs in domains need to know of the project: it takes them half a minute each."""
        program = run_unpacked(self._root, "usr/bin/python3")
        environment = {"PYTHONHOME": str(self._root / "usr"), "PYTHONPATH": str(PROJECT)}
        command = [*program, "-m", "refimpl.speclink.preparation", PROJECT, file, "/source"]
        subprocess.run(command, env=environment, check=True)

    def _compile(self, directory: Path, above: Path, prefix: str) -> None:
        """Compile what is in ``directory`` for domains, where ``prefix`` stands in place of ``above``."""
        (python,) = (p for p in self._root.glob("usr/bin/python3.*") if re.fullmatch(r"python3\.\d+", p.name))
        script = "import compileall, sys; compileall.compile_dir(sys.argv[1], quiet=2, stripdir=sys.argv[2], "
        script += "prependdir=sys.argv[3], invalidation_mode=compileall.py_compile.PycInvalidationMode.UNCHECKED_HASH)"
        program = run_unpacked(self._root, f"usr/bin/{python.name}")
        environment = {"PYTHONHOME": str(self._root / "usr")}
        subprocess.run([*program, "-c", script, directory, above, prefix], env=environment, check=False)

    def _install_packages(self, target: Path, version: str) -> None:
        project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
        known = project["dependencies"] + project["optional-dependencies"]["test"]
        wanted = [spec for spec in known if re.split(r"[^A-Za-z0-9_.-]", spec)[0] in _PYTHON_PACKAGES]
        pip = [sys.executable, "-m", "pip", "-qq", "install", "--disable-pip-version-check", "--no-compile"]
        pip += ["--python-version", version, "--only-binary=:all:", "--root-user-action=ignore"]
        subprocess.run([*pip, "--target", target, *wanted], check=True)
        for lexer in (target / "pygments/lexers").iterdir():  # 8 MB that every guest would hold in memory.
            if lexer.stem not in {"__init__", "_mapping", "python", "diff"}:
                lexer.unlink() if lexer.is_file() else shutil.rmtree(lexer)

    def _put_libraries(self, tree: Path, programs: Iterable[Path]) -> None:
        """Copy the loader and what the programs need of shared libraries."""
        libraries = self._root / _LIBRARIES[0]
        _copy(libraries / "ld-linux-x86-64.so.2", tree / "lib64/ld-linux-x86-64.so.2")
        _copy(libraries / "libgcc_s.so.1", tree / _LIBRARIES[0] / "libgcc_s.so.1")  # For pthread_cancel.
        for program in programs:
            command = [*run_unpacked(self._root, "")[:-1], "--list", program]
            needed = subprocess.run(command, capture_output=True, text=True).stdout
            for path in re.findall(r"=> (\S+) \(", needed):
                target = tree / _LIBRARIES[0] / Path(path).name
                if not target.exists():
                    _copy(Path(path).resolve(), target)

    def _put_modules(self, tree: Path, release: str, built: Path) -> None:
        directory = tree / "lib/modules" / release
        available = {_module_name(path): path for path in (self._root / "lib/modules" / release).rglob("*.ko")}
        wanted = [_module_name(Path(name)) for name in _KERNEL_MODULES]
        for name in wanted:
            path = available[name]
            _copy(path, directory / path.name)
            depends = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
            needed = (depends[1].decode() if depends else "").replace("-", "_").split(",")
            wanted += [name for name in needed if name and name not in wanted]
        for index in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            _copy(self._root / "lib/modules" / release / index, directory / index)
        command = run_unpacked(self._root, "bin/kmod")
        command[1:1] = ["--argv0", "depmod"]
        subprocess.run([*command, "-b", tree, release], check=True)
        for name in _OUR_MODULES:
            _copy(built / f"{name}.ko", tree / _OURS / f"{name}.ko")


def unmask_always(source: str) -> str:
    """Make upstream's fix in pvcalls-back.c: clear ``write`` before looking at the ring, not after finding bytes there.

    Without it an event that finds the ring empty leaves its channel masked for ever (Linux before 6.3).
    """
    clear = "\tatomic_set(&map->write, 0);\n"
    head, name, body = source.partition("pvcalls_conn_back_write(struct sock_mapping *map)\n")
    look = body.index("\tcons = intf->out_cons;\n")
    cleared = body.index(clear)
    if cleared > look:
        body = body[:look] + clear + body[look:cleared] + body[cleared + len(clear) :]
    return head + name + body


def _module_name(path: Path) -> str:
    return path.name.removesuffix(".ko").replace("-", "_")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def files_of(tree: Path, prefix: str = "") -> Iterator[tuple[str, Path]]:
    """Yield each file and directory below ``tree`` with its name in an archive."""
    for path in sorted(tree.rglob("*")):
        yield prefix + str(path.relative_to(tree)), path


def write_archive(write: Callable[[bytes], object], files: Iterable[tuple[str, Path]]) -> None:
    """Write a cpio archive as Linux takes it for an initial file system; several may follow each other in one file."""
    written = 0

    def put(name: str, mode: int, data: bytes, number: int) -> None:
        nonlocal written
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        for part in (header, data):
            padded = part + bytes(-len(part) % 4)
            write(padded)
            written += len(padded)

    number = 0
    for number, (name, path) in enumerate(files, 1):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            put(name, mode, os.readlink(path).encode(), number)
        elif stat.S_ISDIR(mode):
            put(name, stat.S_IFDIR | 0o755, b"", number)
        elif stat.S_ISREG(mode):
            put(name, mode | 0o444, path.read_bytes(), number)  # Whoever builds this, whoever reads it there.
    put("TRAILER!!!", 0, b"", number + 1)
    write(bytes(-written % 512))
