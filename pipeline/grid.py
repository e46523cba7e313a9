"""A program drawn as a staircase: what each stage does in each unit of time, every action one unit, messages none. Pure.

    box-1   F0  F1  F2  B0  F3  B1  …
    box-2       F0  F1  B0  F2  …
    head            F0  F1  …

It is also how a user's schedule is tried before it runs: it has to get through to its end by the rules of `stage`. Where it
cannot, the cell at which it fails is marked, and who waits for whom is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .actions import KINDS, Action, Message, Part
from .drive import advance
from .errors import ConfigError
from .lacks import Lack, explain
from .plan import LAG, Plan
from .programs import PROGRAMS, Pattern, program, unroll
from .schema import Config
from .stage import Stage
from .work import Arrays

#: Columns that a drawing shows at most, and letters of a line: with a `#` before it, it fits a terminal of 80.
COLUMNS, LETTERS = 26, 79


class Grid(NamedTuple):
    """The actions of each stage by the unit of time in which it does them, and where and why it came to a standstill."""

    cells: dict[str, list[str]]
    stuck: str = ""  # the stage
    at: str = ""  # its cell there
    why: str = ""

    @property
    def length(self) -> int:
        """How many units it takes."""
        return max((len(row) for row in self.cells.values()), default=0)

    def idle(self, name: str) -> float:
        """Return the share of the units in which a stage has nothing to do."""
        return 1 - sum(map(bool, self.cells[name])) / max(self.length, 1)

    def draw(self, most: int = COLUMNS, letters: int = LETTERS) -> str:
        """Return the grid as text; of a long one its end if it is stuck, else its beginning."""
        rows = {name: [*row, f">{self.at}<"] if name == self.stuck else row for name, row in self.cells.items()}
        length = max((len(row) for row in rows.values()), default=0)
        width = max((len(cell) for row in rows.values() for cell in row), default=1) + 1
        left = max(map(len, rows)) + 2
        most = min(most, max(1, (letters - left - len("  …   …")) // width))
        first = max(length - most, 0) if self.stuck else 0
        shown = {name: [*row[first : first + most]] for name, row in rows.items()}
        before, after = "… " if first else "  ", " …" if length > first + most else ""
        return "\n".join(
            (f"  {name:<{left}}{before}" + "".join(f"{cell:<{width}}" for cell in row)).rstrip() + after
            for name, row in shown.items()
        )


class _Actor:
    """A stage that does what its line says: schedule, port, work and watcher in one. Nothing is computed."""

    def __init__(self, plan: Plan, number: int, line: Sequence[Action], world: dict[int, _Actor]) -> None:
        self.stage = Stage(plan, number)
        self.line = line
        self.place = 0
        self.cells: list[str] = []
        self.come: list[Message] = []  # in the units before this one
        self.coming: list[Message] = []
        self.outputs: dict[str, Arrays] = dict.fromkeys(KINDS, ())
        self._world = world

    @property
    def upcoming(self) -> Action | None:
        """What it does next."""
        return self.line[self.place] if self.place < len(self.line) else None

    def choose(self, stage: Stage) -> Action | None:
        """Return the next action if it is enabled."""
        action = self.upcoming
        return None if action is None or stage.lack(action) is not None else action

    def lack(self, stage: Stage) -> Lack | None:
        """Return what the next action lacks."""
        return None if self.upcoming is None else stage.lack(self.upcoming)

    def arrived(self) -> Iterable[tuple[Message, Arrays]]:
        """Return what came in the units before this one."""
        come, self.come = self.come, []
        return [(message, ()) for message in come]

    def send(self, message: Message, arrays: Arrays) -> None:  # noqa: ARG002
        """Let a message arrive in the next unit."""
        self._world[message.target].coming.append(message)

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Nothing is computed, nothing is kept."""

    def do(self, action: Action) -> Iterator[Part]:  # noqa: ARG002
        """Nothing is computed."""
        return iter(())

    def begin(self, action: Action) -> None:
        """Nobody measures."""

    def part(self, action: Action, part: Part) -> None:
        """Nobody measures."""

    def end(self, action: Action) -> None:  # noqa: ARG002
        """Go on in the line."""
        self.place += 1


def lay(plan: Plan, orders: Mapping[int, Sequence[Action]]) -> Grid:
    """Return what stages do by their orders, unit by unit, until all is done or nothing goes on."""
    actors: dict[int, _Actor] = {}
    actors |= {k: _Actor(plan, k, line, actors) for k, line in orders.items()}
    while not all(actor.stage.is_done for actor in actors.values()):
        did = [advance(actor.stage, actor, actor, actor, actor) for actor in actors.values()]
        comes = False
        for actor, action in zip(actors.values(), did, strict=True):
            comes = comes or bool(actor.coming)
            actor.come, actor.coming = actor.coming, []
            actor.cells.append("" if action is None else str(action))
        if not comes and not any(did):
            for actor in actors.values():
                actor.cells.pop()
            return _stuck(plan, actors)
    rows = {plan.name(k): actor.cells for k, actor in actors.items()}
    for k, actor in actors.items():
        if actor.upcoming is not None:
            return Grid(rows, plan.name(k), str(actor.upcoming), f"{actor.upcoming} is more than there is to do")
    return Grid(rows)


def _stuck(plan: Plan, actors: Mapping[int, _Actor]) -> Grid:
    rows = {plan.name(k): actor.cells for k, actor in actors.items()}
    waits: dict[int, int] = {}
    texts: dict[int, tuple[str, str]] = {}
    for k, actor in actors.items():
        stage, action = actor.stage, actor.upcoming
        if stage.is_done:
            continue
        if action is None:
            return Grid(rows, stage.name, "?", "its line ends before all is done")
        lack = stage.lack(action)
        assert lack is not None, "a stage that can go on does"
        texts[k] = str(action), explain(stage, lack)
        if not lack.is_wait:  # no message can help it
            return Grid(rows, stage.name, str(action), f"{action} cannot stand here: {explain(stage, lack)}")
        waits[k] = lack.source
    # Each of them waits for another one: go round until one comes again.
    k, seen = next(iter(waits)), []
    while k in waits and k not in seen:
        seen.append(k)
        k = waits[k]
    ring = seen[seen.index(k) :] if k in seen else seen
    told = "; ".join(f"{plan.name(j)} cannot do {texts[j][0]}, {texts[j][1]}" for j in ring)
    return Grid(rows, plan.name(ring[0]), texts[ring[0]][0], f"no stage can go on: {told}")


def of_program(plan: Plan, batches: int) -> Grid:
    """Return the grid of the plan's program over so many batches, without evaluations but for the last."""
    # Where the head tells box 1 how long sequences are, epochs end as they do; evaluations do not.
    size = min(plan.epoch_batches, batches) if plan.grows else batches
    short = plan._replace(batches=batches, epoch_batches=size, evaluate_every=0, chunks=1, train=size, batch=1)
    return lay(short, {k: list(program(short, k)) for k in range(1, plan.head + 1)})


def check(config: Config) -> None:
    """Try the schedule of a configuration if it is a user's; raises ConfigError."""
    if config.schedule.kind == "own":
        rehearse(Plan.of(config), config.schedule.file or "schedule.program")


def rehearse(plan: Plan, name: str) -> None:
    """Try a user's program, over as many batches as tell it; raises ConfigError with the grid and the wrong cell marked."""
    patterns = {k: PROGRAMS[plan.schedule](plan, k) for k in range(1, plan.head + 1)}
    for length in _lengths(plan, patterns):
        for k, pattern in patterns.items():
            _check_counts(plan, k, pattern, length, name)
        grid = of_program(plan, length)
        if grid.stuck:
            raise ConfigError(f"{name}: {grid.stuck}: {grid.why}", grid.draw())


def _lengths(plan: Plan, patterns: Mapping[int, Pattern]) -> list[int]:
    """Return over how many batches a program is tried: between evaluations there are as many, or the same with fewer turns."""
    turn = max((sum(a.kind == "F" for a in pattern.again) for pattern in patterns.values()), default=1) or 1
    longest = max(sum(a.kind == "F" for a in pattern.start) for pattern in patterns.values())
    whole = plan.epoch_batches * plan.evaluate_every if plan.evaluate_every else plan.batches
    if plan.grows:  # long enough that box 1 has waited for the head's word
        longest = max(longest, (LAG + 1) * plan.epoch_batches)
    found = []
    for count in {min(whole, plan.batches), plan.batches % whole}:
        most = longest + 4 * turn * plan.micro
        if count > most:
            step = turn * plan.micro
            count -= -(-(count - most) // step) * step
        if count:
            found.append(count)
    return sorted(found)


def _check_counts(plan: Plan, number: int, pattern: Pattern, batches: int, name: str) -> None:
    """Check that a stage's line has each action that it needs once; raises ConfigError."""
    stage = Stage(plan, number)
    wanted = [("F", 0, batches)]
    if stage.settles_with is not None:
        wanted.append((stage.settling_action, 0, batches))
    if stage.corrects:
        wanted.append(("C", 0, batches))
    if stage.sums:
        wanted.append(("U", 0, batches // plan.micro))
    wanted += [("U", k, plan.updates(k) * batches // plan.batches) for k in stage.siblings if not stage.sums]
    counts = Counter(unroll(pattern, 0, batches, plan.micro))
    twice = next((action for action, times in counts.items() if times > 1), None)
    missing = (Action(kind, i, k) for kind, k, end in wanted for i in range(end) if Action(kind, i, k) not in counts)
    wrong = next(missing, None) if twice is None else twice
    if wrong is None:
        return
    grid = of_program(plan, batches)
    if grid.stuck != stage.name:
        grid = grid._replace(stuck=stage.name)
    what = "is there more than once" if twice is not None else "is missing"
    if twice is None and wrong.kind == "U" and not wrong.sibling:
        why = "tied boxes" if plan.tied else f"{plan.micro} micro-batches"
        what += f", the step that {why} make; without them there is none"
    raise ConfigError(
        f"{name}: {stage.name}: {wrong} {what}", grid._replace(at=f"{wrong}{'' if twice else '?'}").draw()
    )
