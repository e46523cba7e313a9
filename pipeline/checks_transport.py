"""What cannot be of how messages travel and of where processes are, each with the way out. Pure."""

from __future__ import annotations

from .errors import ConfigError
from .schema import Config
from .schema_run import Placer

#: Keys that some kinds of placer read; nobody else does.
_READ_BY = {
    "wait_s": ("env", "own", "ray"),
    "lost_s": ("env", "own", "ray"),
    "address": ("ray",),
    "strategy": ("ray",),
    "cpus": ("ray",),
}


def check(config: Config) -> None:
    """Check transport and placer; raises ConfigError."""
    if config.transport.kind != "tcp":
        usual = type(config.transport)()
        for key in ("port", "interface", "curve", "insecure"):
            if getattr(config.transport, key) != getattr(usual, key):
                raise ConfigError(
                    f"transport.{key}: only read with transport.kind tcp; add --transport.kind tcp, or leave it out"
                )
    if config.transport.curve == "on" and config.transport.insecure:
        raise ConfigError(
            "transport.insecure: what transport.curve encrypts is not plain text; leave out one of the two"
        )
    placer, usual_placer = config.placer, Placer()
    for key, kinds in _READ_BY.items():
        if placer.kind not in kinds and getattr(placer, key) != getattr(usual_placer, key):
            reads = ", ".join(kinds[:-1]) + " or " * (len(kinds) > 1) + kinds[-1]
            raise ConfigError(
                f"placer.{key}: only read with placer.kind {reads}; add --placer {kinds[-1]}, or leave it out"
            )
