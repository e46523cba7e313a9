"""A placer of your own: it starts each stage's agent by a shell, here on this machine, elsewhere by ssh, docker or kubectl.

timebox run --placer.file own_placer.py
"""

import shlex
import subprocess


class Placer:
    """Each stage has an agent, a process that joins the run from where its host is, and works for it there."""

    def start(self, stage, words, line):
        """Start an agent for a stage, and return what was started: its poll() and terminate() are called."""
        shell = ["sh", "-c", f"exec {shlex.join(words)}"]
        # On another host that has Timebox, with --transport.interface auto:
        # hosts = {"box-1": "host-1", "box-2": "host-2", "head": "host-3"}
        # shell = ["ssh", hosts[stage], f"timebox join - --stage {stage}"]
        agent = subprocess.Popen(shell, stdin=subprocess.PIPE, process_group=0)  # else Ctrl-C would end it at once
        agent.stdin.write(f"{line}\n".encode())  # the run's secrets, which an argument would show to everybody
        agent.stdin.close()
        return agent
