"""A local sweep's processes listen on 127.0.0.1 only, whichever back end trains: nobody else can reach them."""

import ipaddress
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from vaesweep.sweep.cluster import Resources

slow = pytest.mark.slow
LONG = ("training.steps=1500", "training.evaluate_every=100", "rates.total.target=1.0", "seed=0")


def listening(process: subprocess.Popen[str]) -> dict[tuple[str, int], str]:
    """The command lines of the driver and all that it has started, by the addresses at which they can be reached."""
    addresses = {}
    driver = psutil.Process(process.pid)
    for child in [driver, *driver.children(recursive=True)]:
        try:
            for connection in child.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN or (
                    connection.type == socket.SOCK_DGRAM and connection.laddr and not connection.raddr
                ):
                    addresses[tuple(connection.laddr)] = " ".join(child.cmdline())[:100]
        except psutil.Error:
            continue  # it has just ended
    return addresses


def is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return parsed.is_loopback or bool(getattr(parsed, "ipv4_mapped", None) and parsed.ipv4_mapped.is_loopback)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::", False),
        ("0.0.0.0", False),
        ("192.168.1.2", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_addresses_of_this_machine_alone_are_known(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("address", "variable", "expected"),
    [
        (None, None, None),
        ("local", None, None),
        (None, "local", None),
        (None, "", None),
        ("auto", None, "auto"),
        ("10.0.0.1:6379", "local", "10.0.0.1:6379"),
        (None, "10.0.0.1:6379", "10.0.0.1:6379"),
    ],
)
def test_a_local_ray_is_told_from_a_cluster(
    monkeypatch: pytest.MonkeyPatch, address: str | None, variable: str | None, expected: str | None
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    cluster = Resources(address=address).cluster
    assert (cluster and cluster.address) == expected


@slow
@pytest.mark.parametrize("workers", [1, 2])
def test_all_processes_of_a_sweep_listen_on_loopback_only(command: Any, workers: int) -> None:
    process = command.start("--workers", str(workers), "--checkpoint-every", "0", settings=LONG)
    addresses: dict[tuple[str, int], str] = {}
    wait(process, lambda: addresses.update(listening(process)))
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "cells: 1 finished, 0 diverged, 0 failed" in out
    assert any("gcs_server" in name for name in addresses.values())
    assert any("raylet" in name for name in addresses.values())
    assert any("RayTrainWorker" in name for name in addresses.values()) == (workers == 2)
    assert {address: name for address, name in addresses.items() if not is_loopback(address[0])} == {}


def wait(process: subprocess.Popen[str], look: Callable[[], Any]) -> None:
    """Look again and again until the process has ended."""
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        look()
        time.sleep(0.2)
