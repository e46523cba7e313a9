"""A network of stages in one process, for tests: every edge is a queue, and the test decides what has arrived when.

    network = Network(make_plan("decoupled", boxes=3, window=2), schedules=whims(plan, seed))
    run_hostile(network, seed)          # picks stages and delays messages at random, by seed; raises on a deadlock

Stages, schedules, `advance` and (for runs with arithmetic) the wire's encoder and decoder are the product's own. What is
here in place of processes and sockets is a queue an edge. Frames alias the sender's arrays until they are delivered, as a
transport may do, so an array that is written to after it was sent is noticed in the receiver's bits.
"""

from __future__ import annotations

import functools
import random
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from pipeline.actions import (
    ACTIVATION,
    CREDIT_ACTIVATION,
    CREDIT_INCREMENT,
    EVALUATION,
    GRADIENT,
    INCREMENT,
    KINDS,
    LENGTH,
    TARGET,
    Action,
    Message,
    Part,
    format_journal,
)
from pipeline.box import BoxWork
from pipeline.config import resolve
from pipeline.data import Batches, Split, load
from pipeline.drawn import Examples
from pipeline.drive import advance
from pipeline.errors import TimeboxError
from pipeline.head import HeadWork
from pipeline.learning import BACKWARD, EARLY, ONE_BY_ONE
from pipeline.payloads import Payloads
from pipeline.plan import EVALUATION_ROWS, LAG, Plan
from pipeline.reference import Reference
from pipeline.schedules import Program, Schedule, make_schedule
from pipeline.schema import TASKS, Config, Data
from pipeline.stage import Stage
from pipeline.wire import Decoder, Encoder
from pipeline.work import Arrays, Work

CREDITS = (CREDIT_ACTIVATION, CREDIT_INCREMENT)


def make_plan(
    schedule: str = "article",
    *,
    boxes: int = 2,
    batches: int = 2,
    epoch_batches: int = 0,
    evaluate_every: int = 1,
    chunks: int = 1,
    window: int = 0,
    tied: bool = True,
    rule: str = "",
    target: str = "bootstrapped",
    micro: int = 1,
    weights: str = "latest",
    delay: int = 0,
    program: str = "",
    last: str = "",
    corrects: bool = False,
    grows: bool = False,
    save_every: int = 0,
) -> Plan:
    """Return a plan by its counts alone; an epoch is the whole run unless `epoch_batches` says otherwise."""
    epoch_batches = epoch_batches or batches
    in_flight = {"1f1b": boxes + 1 if micro == 1 else micro, "gpipe": micro, "delayed": delay + 1}.get(schedule, 1)
    return Plan(
        boxes=boxes,
        batches=batches,
        epoch_batches=epoch_batches,
        evaluate_every=evaluate_every,
        chunks=chunks,
        window=window or (2 * (boxes + 1) if schedule == "decoupled" else in_flight),
        tied=tied,
        rule=rule or ("backward" if schedule in BACKWARD else "synthetic"),
        target=target,
        schedule=schedule,
        train=epoch_batches,
        batch=1,
        test=chunks * EVALUATION_ROWS,
        micro=micro,
        weights=weights,
        delay=delay,
        program=program,
        last=last,
        corrects=corrects,
        reads=grows,
        grows=grows,
        save_every=save_every,
    )


def random_plan(
    rng: random.Random, schedule: str, window: int = 0, most_boxes: int = 5, *, grows: bool = False
) -> Plan:
    """Return a plan of a schedule with everything else thrown by dice; one whose sequences grow has more epochs."""
    micro = rng.choice((2, 3)) if schedule == "gpipe" or (schedule == "1f1b" and rng.random() < 0.5) else 1
    epoch_batches = micro * rng.randint(1, 4)
    sums = micro > 1 or schedule in ("article", "locked", "decoupled")
    boxes, rule, last, corrects = rng.randint(1, most_boxes), "", "", False
    if schedule in ONE_BY_ONE and rng.random() < 0.5:
        rule, last, corrects = rng.choice(
            (
                ("backward", "", False),
                ("local", "", False),
                ("synthetic", "backward", False),
                ("frozen", "backward", False),
            )
            + (("synthetic", "", True), ("synthetic", "backward", True)) * (schedule == "decoupled")
        )
        if boxes == 1:
            rule, last, corrects = last or rule, "", corrects and not last
    return make_plan(
        schedule,
        boxes=boxes,
        batches=epoch_batches * (rng.randint(1, 3) + 2 * grows),
        epoch_batches=epoch_batches,
        evaluate_every=rng.choice((0, 1, 1, 2)),
        chunks=rng.choice((1, 1, 3)),
        window=window,
        tied=sums and rng.random() < 0.6,
        micro=micro,
        weights=rng.choice(("stash", "latest")),
        delay=rng.randint(0, 4) if schedule == "delayed" else 0,
        rule=rule or ("frozen" if rng.random() < 0.15 else ""),
        last=last,
        corrects=corrects,
        target=rng.choice(("bootstrapped", "true")),
        grows=grows,
        save_every=micro * rng.choice((0, 1, 2, 3)),
    )


def make_config(schedule: str, boxes: int, flags: Mapping[str, Any] | None = None) -> Config:
    """Return a tiny network that reads digits row by row: width 4, two epochs of three batches, a smaller one the last."""
    batch = int((flags or {}).get("data.batch", 1))
    return resolve(
        flags={
            "model.boxes": boxes,
            "model.width": 4,
            "model.init": 1.0,
            "schedule.kind": schedule,
            "data.reading": "rows",
            "data.train": 3 * batch - batch // 2,
            "data.test": 5,
            "train.epochs": 2,
            "train.rate_input": 0.05,
            "train.rate_recurrent": 0.05,
            "train.rate_head": 0.05,
            "train.rate_oracle": 0.02,
            "oracle.init": "random",
            **(flags or {}),
        }
    )


@functools.cache
def split_of(data: Data) -> Split:
    """Return the images that a configuration asks for, read once."""
    return load(data)


def batches_of(config: Config) -> Batches | Examples:
    """Return new batches of a configuration: drawn, or cut from images that are read once."""
    return Examples(config) if config.data.name in TASKS else Batches(config, split_of(config.data))


def make_works(config: Config) -> dict[int, BoxWork | HeadWork]:
    """Return the real arithmetic of every stage, each with batches of its own."""
    plan = Plan.of(config)
    works: dict[int, BoxWork | HeadWork] = {
        k: BoxWork(config, plan, k, batches_of(config)) for k in range(1, plan.head)
    }
    works[plan.head] = head = HeadWork(config, plan, batches_of(config))
    head.ledger.keeps_all = True  # tests look at every cost
    return works


class Paperwork:
    """A work without arithmetic. It yields the parts of every action and insists on holding what the action consumes."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        self.number = number
        self.outputs: dict[str, Arrays] = dict.fromkeys(KINDS, ())
        self.kept: set[Message] = set()
        self.version = 0

    def keep(self, message: Message, arrays: Arrays) -> None:
        """Keep a message until its action."""
        assert arrays == (), "nothing is sent where nothing is computed"
        if message.kind not in CREDITS:
            assert message not in self.kept, f"{message} came twice"
            self.kept.add(message)

    def do(self, action: Action) -> Iterator[Part]:
        """Use up what the action consumes."""
        for message in self._consumed(action):
            assert message in self.kept, f"{action} of stage {self.number} without {message}"
            self.kept.remove(message)
        read = self.version
        is_head = self.number == self.plan.head
        if action.kind == "F":
            yield Part("forward", read, read)
        updates_early = is_head or self.plan.learns(self.number) in EARLY
        if (action.kind == "F" and updates_early) or action.kind == "U":
            self.version += 1
            yield Part("apply" if action.kind == "U" else "update", read, self.version)
        if action.kind in "TCBES":
            names = {"T": "train", "C": "correct", "B": "backward", "E": "evaluate", "S": "save"}
            yield Part(names[action.kind], read, read)

    def _consumed(self, action: Action) -> list[Message]:
        kind, batch, sibling = action
        k, boxes = self.number, self.plan.boxes
        if kind == "S":
            barrier = self.plan.barrier(batch)
            for message in self.kept:  # of what stands before the barrier nothing is left
                what, number, source, _ = message
                first = {INCREMENT: self.plan.updates(source, barrier), EVALUATION: self.plan.due(barrier)}
                assert what == LENGTH or number >= first.get(what, barrier), f"{action} of stage {k} leaves {message}"
            return []
        if kind in "FE" and k > 1:
            return [Message(ACTIVATION if kind == "F" else EVALUATION, batch, k - 1, k)]
        if kind in "FE":
            epoch, at = divmod(batch, self.plan.epoch_batches)
            is_told = kind == "F" and self.plan.grows and at == 0 and epoch >= LAG
            return [Message(LENGTH, epoch - LAG, self.plan.head, 1)] if is_told else []
        if kind == "U":
            others = [j for j in range(1, boxes + 1) if j != k and self.plan.tied]
            siblings = [sibling] if sibling else others
            return [Message(INCREMENT, batch, j, k) for j in siblings]
        is_early = kind == "T" and self.plan.backward_kind(k) == TARGET
        if kind == "T" and self.plan.settles_by(k) == "C" and not is_early:
            return []  # C takes the same gradient
        return [Message(TARGET if is_early else GRADIENT, batch, k + 1, k)]


class Whim:
    """A greedy schedule without preference: any enabled action, by dice."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def choose(self, stage: Stage) -> Action | None:
        """Return one of the enabled actions."""
        enabled = list(stage.enabled())
        return self._rng.choice(enabled) if enabled else None


def whims(plan: Plan, seed: int) -> dict[int, Schedule]:
    """Return the plan's schedules; a greedy one is replaced by one without preference."""
    if plan.schedule != "decoupled":
        return schedules(plan)
    return {k: Whim(random.Random(f"whim {seed} {k}")) for k in range(1, plan.head + 1)}


def schedules(plan: Plan) -> dict[int, Schedule]:
    """Return the plan's own schedules, by stage."""
    return {k: make_schedule(plan, k) for k in range(1, plan.head + 1)}


def programs(journals: Mapping[int, list[Action]]) -> dict[int, Schedule]:
    """Return the journals of a run as schedules."""
    return {k: Program(journal) for k, journal in journals.items()}


class Parcel(NamedTuple):
    """A message on its way: with its frames where there is arithmetic, alone where there is none."""

    message: Message
    frames: list[Any]


class Edge:
    """A directed edge: parcels in the order they were sent, of which the first `arrived` have arrived."""

    def __init__(self) -> None:
        self.parcels: deque[Parcel] = deque()
        self.arrived = 0
        self.most = 0  # parcels that were ever on it at once

    @property
    def travelling(self) -> int:
        """How many parcels have not arrived yet."""
        return len(self.parcels) - self.arrived

    def deliver(self, count: int) -> None:
        """Let the next `count` parcels arrive."""
        self.arrived += min(count, self.travelling)

    def push(self, parcel: Parcel) -> None:
        """Send a parcel."""
        self.parcels.append(parcel)
        self.most = max(self.most, len(self.parcels))

    def pop(self) -> Parcel:
        """Take the first parcel that has arrived."""
        self.arrived -= 1
        return self.parcels.popleft()


class Network:
    """All stages of a plan with the edges between them; every move is one `advance`."""

    def __init__(
        self,
        plan: Plan,
        works: Mapping[int, Work] | None = None,
        schedules: Mapping[int, Schedule] | None = None,
        payloads: Payloads | None = None,
    ) -> None:
        self.plan = plan
        self.numbers = range(1, plan.head + 1)
        self.stages = {k: Stage(plan, k) for k in self.numbers}
        self.works: Mapping[int, Any] = works or {k: Paperwork(plan, k) for k in self.numbers}
        self.schedules = schedules or {k: make_schedule(plan, k) for k in self.numbers}
        self.edges = {(source, k): Edge() for k in self.numbers for source in plan.sources(k)}
        self.ports = {k: QueuePort(self, k, payloads) for k in self.numbers}
        self.watchers = {k: Journalist() for k in self.numbers}

    @property
    def journals(self) -> dict[int, list[Action]]:
        """What each stage has done, in its order."""
        return {k: watcher.journal for k, watcher in self.watchers.items()}

    @property
    def is_done(self) -> bool:
        """Whether every stage is done."""
        return all(stage.is_done for stage in self.stages.values())

    def move(self, number: int) -> Action | None:
        """Let a stage do one action with what has arrived."""
        port, watcher = self.ports[number], self.watchers[number]
        return advance(self.stages[number], self.schedules[number], port, self.works[number], watcher)

    def deliver_all(self) -> None:
        """Let everything arrive."""
        for port in self.ports.values():
            port.deliver_all()

    def journal(self, name: str) -> str:
        """Return a stage's journal as text."""
        return format_journal(self.journals[self.plan.number(name)])

    def leftovers(self) -> list[Message]:
        """Return what nobody has taken in, credits aside: a stage that is done takes in nothing more."""
        found = [parcel.message for edge in self.edges.values() for parcel in edge.parcels]
        return [message for message in found if message.kind not in CREDITS]

    def stories(self) -> str:
        """Return what every stage did and waits for."""
        return "\n".join(f"{stage.name}: {stage.story()}" for stage in self.stages.values())


class QueuePort:
    """A stage's port onto the network's edges."""

    def __init__(self, network: Network, number: int, payloads: Payloads | None) -> None:
        self._incoming = [network.edges[source, number] for source in network.plan.sources(number)]
        self.outgoing = {target: edge for (source, target), edge in network.edges.items() if source == number}
        self._work = network.works[number]
        self._encoder = Encoder(7, payloads) if payloads else None
        self._decoder = Decoder(number, 7, network.plan.sources(number), payloads) if payloads else None

    def deliver_all(self) -> None:
        """Let everything arrive that is on its way to the stage."""
        for edge in self._incoming:
            edge.deliver(edge.travelling)

    def arrived(self) -> Iterator[tuple[Message, Arrays]]:
        """Yield what has arrived, one parcel of each edge in turn."""
        while any(edge.arrived for edge in self._incoming):
            for edge in self._incoming:
                if edge.arrived:
                    yield self._open(edge.pop())

    def _open(self, parcel: Parcel) -> tuple[Message, Arrays]:
        if self._decoder is None:
            return parcel.message, ()
        # Only now are the frames copied: until here they alias what the sender may go on working with.
        message, _, arrays, _ = self._decoder.decode(
            [memoryview(bytearray(memoryview(frame).tobytes())) for frame in parcel.frames]
        )
        assert message == parcel.message
        return message, arrays

    def send(self, message: Message, arrays: Arrays) -> None:
        """Put a message on its edge."""
        assert all(array.flags.c_contiguous for array in arrays), f"{message}: the wire takes C-contiguous arrays only"
        frames = self._encoder.encode(message, self._work.version, arrays) if self._encoder else []
        self.outgoing[message.target].push(Parcel(message, list(frames)))


class Journalist:
    """Writes down what a stage does: its journal, and every part with its versions."""

    def __init__(self) -> None:
        self.journal: list[Action] = []
        self.parts: list[tuple[Action, Part]] = []
        self._began: Action | None = None

    def begin(self, action: Action) -> None:
        """An action begins."""
        assert self._began is None, f"{action} began within {self._began}"
        self._began = action

    def part(self, action: Action, part: Part) -> None:
        """A part has ended."""
        assert self._began == action
        self.parts.append((action, part))

    def end(self, action: Action) -> None:
        """An action has ended."""
        assert self._began == action
        self._began = None
        self.journal.append(action)


def real_network(config: Config, schedules: Mapping[int, Schedule] | None = None) -> Network:
    """Return a network with the real arithmetic and the real wire format."""
    plan = Plan.of(config)
    return Network(plan, make_works(config), schedules, Payloads(config, plan))


def reference_of(config: Config) -> Reference:
    """Return the reference after its training, which has kept all that it told."""
    reference = Reference(config, batches_of(config))
    reference.ledger.keeps_all = True
    for _ in reference.run():
        pass
    return reference


def run_prompt(network: Network) -> None:
    """Run to the end: every message arrives at once, stages move in turn."""
    is_moving = True
    while is_moving:
        is_moving = False
        for number in network.numbers:
            network.ports[number].deliver_all()
            if not network.stages[number].is_done and network.move(number) is not None:
                is_moving = True
    assert network.is_done, f"deadlock\n{network.stories()}"


def run_hostile(network: Network, seed: int) -> None:
    """Run to the end with everything that is left to chance against the run; raises AssertionError on a deadlock.

    By the seed, some stages rarely move and some edges are slow; messages keep their order on each edge and no other.
    """
    rng = random.Random(f"hostile {seed}")
    numbers = [k for k in network.numbers for _ in range(rng.choice((1, 4, 12)))]  # as often as the stage is to move
    slowness = {edge: rng.choice((0.0, 0.5, 0.95)) for edge in network.edges.values()}
    incoming = {k: [network.edges[source, k] for source in network.plan.sources(k)] for k in network.numbers}
    restless = set(network.numbers)  # who may have something to do: it moved, or something came, since it last waited
    left = set(network.numbers)
    while left:
        number = numbers[int(rng.random() * len(numbers))]
        for edge in incoming[number]:
            if edge.travelling and rng.random() >= slowness[edge]:
                edge.deliver(rng.randint(1, edge.travelling))
                restless.add(number)
        if number in restless:
            if not move_checked(network, number):
                restless.discard(number)
            if network.stages[number].is_done:
                left.discard(number)
        elif not restless:
            network.deliver_all()
            restless = {k for k in left if move_checked(network, k)}
            left = {k for k in left if not network.stages[k].is_done}
            assert restless, f"deadlock\n{network.stories()}"


def move_checked(network: Network, number: int) -> bool:
    """Let a stage do one action, if it has one to do, and hold it against what the rules promise at any time."""
    stage = network.stages[number]
    if stage.is_done or network.move(number) is None:
        return False
    check_bounds(network, stage)
    return True


def check_bounds(network: Network, stage: Stage) -> None:
    """Assert what the rules promise of a stage at any time: its window, its credits, the messages on its edges."""
    plan = network.plan
    in_flight = stage.forwards - stage.settled
    assert stage.is_head or 0 <= in_flight <= plan.window, f"{stage.name}: {in_flight} batches in flight"
    assert 0 <= stage.activation_credit <= plan.activation_credits, f"{stage.name}: {stage.activation_credit} credits"
    for sibling, credit in stage.increment_credit.items():
        assert 0 <= credit <= plan.increment_credits, f"{stage.name}: {credit} credits of box {sibling}"
    most = plan.most_waiting()
    for edge in network.ports[stage.number].outgoing.values():
        assert edge.most <= most, f"{stage.name}: {edge.most} messages wait on one edge"


def learns(plan: Plan, number: int) -> str:
    """Return a box's learning rule, as the plan's fields say it; nothing for the head."""
    if number == plan.head:
        return ""
    return plan.last if plan.last and number == plan.boxes else plan.rule


def check_history(network: Network) -> None:
    """Assert what the rules promise of a whole run: every batch once everywhere, every increment once a sibling."""
    plan = network.plan
    batches, evaluations = range(plan.batches), range(plan.evaluations)
    assert network.leftovers() == []
    for number, journal in network.journals.items():
        boxes = [k for k in range(1, plan.boxes + 1) if k != number and number != plan.head]
        rule = learns(plan, number)
        sums = plan.schedule not in ONE_BY_ONE
        made = {"synthetic": 1 + plan.corrects, "local": 1, "traced": 1, "backward": 1, "frozen": 0}
        expected = [Action("F", batch) for batch in batches] + [Action("E", e) for e in evaluations]
        barriers = range(plan.save_every, plan.batches, plan.save_every) if plan.save_every else range(0)
        expected += [Action("S", c) for c, _ in enumerate(barriers)]
        if rule == "synthetic":
            expected += [Action(kind, batch) for kind in ("TC" if plan.corrects else "T") for batch in batches]
        if rule == "backward":
            expected += [Action("B", batch) for batch in batches]
            expected += [Action("U", step) for step in range(plan.steps) if sums and (plan.tied or plan.micro > 1)]
        if plan.tied and not (sums and plan.rule == "backward"):
            expected += [Action("U", n, k) for k in boxes for n in range(made[learns(plan, k)] * plan.batches)]
        assert sorted(journal) == sorted(expected), f"{plan.name(number)}: {format_journal(journal)}"
        _check_evaluations(plan, number, journal)
        for c, batch in enumerate(barriers):
            # What is done by then is all of the batches before, and nothing of a later one.
            before = journal[: journal.index(Action("S", c))]
            settled = [a for a in expected if a.kind in "FTCB" and a.batch < batch]
            settled += [a for a in expected if a.kind == "U" and not a.sibling and a.batch < batch // plan.micro]
            settled += [
                a for a in expected if a.kind == "U" and a.sibling and a.batch < made[learns(plan, a.sibling)] * batch
            ]
            done = [action for action in before if action.kind not in "ES"]
            assert sorted(done) == sorted(settled), f"{plan.name(number)}, S{c}: {format_journal(journal)}"
        work = network.works[number]
        assert not isinstance(work, Paperwork) or work.kept == set(), f"{plan.name(number)}: {work.kept} never used"


def _check_evaluations(plan: Plan, number: int, journal: list[Action]) -> None:
    """Assert that each round stands between its epochs' forwards and that the last one follows everything else."""
    last = len(journal) - plan.chunks
    assert [action.kind for action in journal[last:]] == ["E"] * plan.chunks, (
        f"{plan.name(number)}: the drain comes first"
    )
    line = [action for action in journal if action.kind in "FE"]
    expected: list[Action] = []
    for batch in range(plan.batches):
        expected.append(Action("F", batch))
        epoch, at = divmod(batch + 1, plan.epoch_batches)
        is_round = plan.evaluate_every and at == 0 and epoch % plan.evaluate_every == 0
        if is_round or batch + 1 == plan.batches:
            begun = sum(action.kind == "E" for action in expected)
            expected += [Action("E", begun + chunk) for chunk in range(plan.chunks)]
    assert line == expected, f"{plan.name(number)}: {format_journal(line)}"


@contextmanager
def telling(**what: object) -> Iterator[None]:
    """Add to a failure what it needs to be seen again: the seed, the plan."""
    try:
        yield
    except (AssertionError, LookupError, TimeboxError) as error:
        error.add_note(", ".join(f"{name} {value}" for name, value in what.items()))
        raise
