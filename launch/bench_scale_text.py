"""Ten thousand stages in virtual time, and the launcher's part in it, for people. Pure."""

from __future__ import annotations

from typing import Any

from .text import share, table


def lines(document: dict[str, Any]) -> list[str]:
    """Return the benchmark's document for people."""
    return [*_head(document), _rates(document), _delays(document), *_check(document), *_control(document["control"])]


def _head(made: dict[str, Any]) -> list[str]:
    links = ", ".join(f"{name} {ms:g} ms" for name, ms in made["links_ms"].items())
    batches, locked = made["batches"], made["locked_batches"]
    counts = ", ".join(f"{int(stages):,} stages {count:,} ({locked[stages]})" for stages, count in batches.items())
    return [
        f"virtual time: actions of {made['action_ms']:g} ms, one way {links}; % slow: so many take {made['factor']:g} "
        "times as long",
        f"batches (locked): {counts}; decoupled with none slow {made['even_batches']}",
        "counted: all but the first third; of 1f1b those after as many as there are stages",
    ]


def _worlds(made: dict[str, Any]) -> list[tuple[str, float]]:
    return [(link, straggle) for link in made["links_ms"] for straggle in (0.0, made["straggle"])]


def _of(row: dict[str, Any], link: str, straggle: float) -> dict[str, Any]:
    found: dict[str, Any] = row["worlds"][f"{link} {straggle:g}"]
    return found


def _rates(made: dict[str, Any]) -> str:
    slow = made["straggle"]
    header = ["batches/s", "stages"]
    for link, straggle in _worlds(made):
        header.append(f"{link}, {100 * straggle:g} %" if straggle else link)
        header += ["halves"] if straggle else []
    rows = []
    for row in made["rows"]:
        cells = [row["kind"], f"{row['stages']:,}"]
        for link, straggle in _worlds(made):
            found = _of(row, link, straggle)
            cells.append(f"{found['rate']:.3g}")
            cells += [" – ".join(f"{half:.3g}" for half in found["halves"])] if straggle == slow else []
        rows.append(cells)
    return table(header, rows, left=(0,))


def _delays(made: dict[str, Any]) -> str:
    slow, links = made["straggle"], made["links_ms"]
    header = [f"{100 * slow:g} % slow", "stages"]
    for name in ("idle", "late", "first s", "all s"):
        header += [f"{name} {link}" for link in links]
    rows = []
    for row in made["rows"]:
        found = [_of(row, link, slow) for link in links]
        rows.append(
            [
                row["kind"],
                f"{row['stages']:,}",
                *(share(each["idle"]) for each in found),
                *(f"{each['late']:,} – {each['most_late']:,}" for each in found),
                *(f"{each['first_s']:,.2f}" for each in found),
                *(f"{each['all_s']:,.1f}" for each in found),
            ]
        )
    return table(header, rows, left=(0,))


def _check(made: dict[str, Any]) -> list[str]:
    check = made["check"]
    return [
        f"{made['actions']:,} actions in {made['seconds']:.0f} s, {made['peak_mb']:.0f} MB in all",
        f"{check['stages']:,} stages × {check['batches']} batches by events: the same to the nanosecond, "
        f"{check['events_a_second']:,.0f} actions/s",
        "",
    ]


def _control(load: dict[str, Any]) -> list[str]:
    rate = load["words_a_second_each"]
    words = {(row["stages"], row["tied"]): row for row in load["words"]}
    rows = []
    for row in load["rows"]:
        stages = row["stages"]
        untied, tied = words[stages, False], words[stages, True]
        rows.append(
            (
                f"{stages:,}",
                f"{rate * stages:,.0f}",
                f"{untied['progress']:,}",
                f"{row['bytes_a_second'] / 1e6:,.3f}",
                f"{row['peers_bytes'] / 1e6:,.3f}",
                f"{tied['progress']:,}",
                f"{rate * stages * tied['progress'] / 1e6:,.3f}",
                f"{stages * tied['peers'] / 1e6:,.3f}",
                _milliseconds(row["start_s"]),
                _milliseconds(row["look_s"]),
                f"{row['memory_bytes'] / 1e6:.2f}",
            )
        )
    header = (
        "stages", "words/s", "word B", "MB/s", "start MB", "tied: word B", "MB/s", "start MB", "start ms", "look ms", "MB",
    )  # fmt: skip
    return [
        f"the launcher: {rate:g} progress words a second from each worker; at the start each is told its peers",
        table(header, rows),
        *_saturation(load, rate),
    ]


def _milliseconds(found: dict[str, Any]) -> str:
    least, median, most = (1e3 * found[key] for key in ("least", "median", "most"))
    return f"{median:,.2f} [{least:,.2f} – {most:,.2f}]"


def _saturation(load: dict[str, Any], rate: float) -> list[str]:
    taken, most, agent = load["taken"], load["saturates_at"], load["agent_stages"]
    own, wall = taken["own_s"], taken["words_a_second"]
    least, median, longest = (1e6 * own[key] for key in ("least", "median", "most"))
    largest = load["rows"][-1]["stages"]
    of_agents = rate * largest / agent
    tied = next(row for row in load["words"] if row["stages"] == largest and row["tied"])
    siblings = load["most_word_bytes"] / (tied["progress"] / tied["edges"])
    return [
        f"a word takes {median:.1f} µs [{least:.1f} – {longest:.1f}] of its processor time, lots of {taken['words']:,} words "
        f"by {taken['connections']} connections",
        f"with this machine's load {wall['median']:,.0f} words/s [{wall['least']:,.0f} – {wall['most']:,.0f}]; libzmq's "
        f"thread: {1e6 * taken['zmq_s']['median']:.1f} µs a word",
        f"saturated: {1 / own['median']:,.0f} words/s, {most:,.0f} stages; {largest:,} want {largest / most:.1f} processors",
        f"{largest:,} stages at half of one processor: a word every {2 * largest * own['median']:.2f} s,",
        f"or one agent for {agent} stages: {of_agents:,.0f} words/s, {100 * of_agents * own['median']:.1f} % of a processor",
        f"descriptors: {taken['descriptors']:.2f} a worker of {load['descriptors'][0]:,}; "
        f"{taken['resident_bytes'] / 1e6:.2f} MB a connection with words waiting",
        f"whether a local worker lives: {1e6 * taken['poll_s']:.1f} µs; a look and this for all at least every "
        f"{load['turn_ms']} ms",
        f"tied: {load['most_sockets']:,} sockets a stage at most; a word of {load['most_word_bytes'] / 2**20:g} MiB at most, "
        f"{siblings:,.0f} siblings",
    ]
