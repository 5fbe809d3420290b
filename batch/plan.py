"""Rows in, calls out: which row goes into which call of which stage.

Arithmetic on integer columns; knows no file, no network and no answer. The same rows
and options always give the same plan, and `Plan.fingerprint` proves it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from batch.model import ACTIONS, Action, Call, PlanOptions
from batch.rows import Rows

IntArray = npt.NDArray[np.int64]
_UNASSIGN = Action.UNASSIGN.code
_ASSIGN = Action.ASSIGN.code


@dataclass(frozen=True, slots=True)
class Stage:
    """Calls that may run together, as lanes: the calls of a lane go one after another.

    A lane is one customer, because an unknown customer is created by the first of its
    calls. Customers that share a device which may have to be created share a lane.
    """

    number: int
    action: Action
    lanes: tuple[range, ...]
    """Call numbers, the longest lane first."""
    devices: int

    @property
    def calls(self) -> int:
        """Number of calls in this stage."""
        return sum(len(lane) for lane in self.lanes)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which rows are sent, in which order, cut into which calls.

    order         int64[sent]      row numbers, call after call
    offsets       int64[calls + 1] call number c has the rows order[offsets[c - 1] : offsets[c]]
    groups        one record a group: stage, lane, customer, device_type (codes)
    group_of      int64[calls]     the group each call was cut from
    duplicate_of  int64[rows]      the row that a row repeats, or -1
    left_out      int64[rows]      0, or why a row is not sent: the number of the run that settled it
    """

    rows: Rows
    options: PlanOptions
    order: IntArray
    offsets: IntArray
    groups: pd.DataFrame
    group_of: IntArray
    duplicate_of: IntArray
    left_out: IntArray

    @property
    def calls(self) -> int:
        """Number of calls."""
        return len(self.group_of)

    @property
    def sent(self) -> int:
        """Number of rows that go into calls."""
        return len(self.order)

    @property
    def customers(self) -> int:
        """Number of customers that at least one call concerns."""
        return int(self.groups["customer"].nunique())

    def rows_of(self, number: int) -> IntArray:
        """Row numbers of one call, in the order of its devices."""
        return self.order[self.offsets[number - 1] : self.offsets[number]]

    def customer_of(self, number: int) -> int:
        """The customer's code of one call."""
        return int(self.groups["customer"].to_numpy()[self.group_of[number - 1]])

    def devices_sent_several_times(self) -> frozenset[str]:
        """Identifiers of the devices that more than one call holds."""
        codes, times = np.unique(self.rows.frame["device"].to_numpy()[self.order], return_counts=True)
        return frozenset(self.rows.devices.take(codes[times > 1]).to_pylist())

    def call(self, number: int) -> Call:
        """Make one call (numbers count from 1); cheap, so make it when its turn comes."""
        group = self.groups.iloc[self.group_of[number - 1]]
        codes = self.rows.frame["device"].to_numpy()[self.rows_of(number)]
        stage = int(group["stage"])
        return Call(
            number=number,
            stage=stage,
            customer=self.rows.customers[int(group["customer"])].as_py(),
            action=_action_of(stage),
            devices=tuple(self.rows.devices.take(codes).to_pylist()),
            device_type=self._device_type(stage, int(group["device_type"])),
        )

    def _device_type(self, stage: int, code: int) -> str | None:
        if not self.options.auto_create_devices or _action_of(stage) is Action.UNASSIGN:
            return None
        text: str = self.rows.device_types[code].as_py()
        return text

    def stages(self) -> Iterator[Stage]:
        """The stages that have calls, in their order."""
        calls = self.groups.loc[self.group_of, ["stage", "lane"]]
        devices = np.diff(self.offsets)
        for stage in np.unique(calls["stage"].to_numpy()):
            numbers = np.flatnonzero(calls["stage"].to_numpy() == stage)
            lanes = calls["lane"].to_numpy()[numbers]
            cuts = np.flatnonzero(np.diff(lanes, prepend=-1))
            bounds = [*(numbers[cuts] + 1).tolist(), int(numbers[-1]) + 2]
            yield Stage(
                number=int(stage),
                action=_action_of(int(stage)),
                lanes=tuple(range(a, b) for a, b in pairwise(bounds)),
                devices=int(devices[numbers].sum()),
            )

    def fingerprint(self) -> str:
        """SHA-256 of everything that decides which request is sent for which row."""
        digest = hashlib.sha256(repr(self.options).encode())
        for column in (self.order, self.offsets, self.group_of, self.groups.to_numpy(np.int64)):
            digest.update(np.ascontiguousarray(column).data)
        if self.left_out.any():
            digest.update(self.left_out.data)
        return digest.hexdigest()


def plan_calls(rows: Rows, options: PlanOptions, left_out: IntArray | None = None) -> Plan:
    """Put every valid row into a call of the earliest stage that the order of the file allows.

    Stages alternate unassign, assign, unassign, ... counted from 1. A row goes into the
    first stage of its kind after the stage of an earlier row of its (customer, device)
    pair with the other action; an assign also after every unassign of its device that
    stands earlier in the file. A row that repeats its pair's last action is not sent, nor
    is one that `left_out` gives a number: of a device with such a row all rows have one, so
    the others go where they would go without.
    """
    valid = np.flatnonzero(rows.frame["problem"].to_numpy() == 0)
    duplicate_of, follows_assign = _pairs(rows, valid)
    left_out = np.where(duplicate_of < 0, 0 if left_out is None else left_out, 0).astype(np.int64)
    sent = valid[(duplicate_of[valid] < 0) & (left_out[valid] == 0)]
    stage = _stages(rows, sent, follows_assign)
    groups, group_of_row = _groups(rows, sent, stage, options)
    order = sent[np.argsort(group_of_row, kind="stable")]
    offsets, group_of = _cut(groups["size"].to_numpy(), options.chunk_size)
    shown = groups[["stage", "lane", "customer", "device_type"]]
    return Plan(rows, options, order, offsets, shown, group_of, duplicate_of, left_out)


def _action_of(stage: int) -> Action:
    return Action.UNASSIGN if stage % 2 else Action.ASSIGN


def _pairs(rows: Rows, valid: IntArray) -> tuple[IntArray, IntArray]:
    """For each row the row it repeats (or -1); and the rows that undo an earlier assign of their pair."""
    frame = rows.frame
    pair = frame["customer"].to_numpy()[valid].astype(np.int64) * len(rows.devices)
    pair += frame["device"].to_numpy()[valid]
    by_pair = np.argsort(pair, kind="stable")
    pair, row = pair[by_pair], valid[by_pair]
    action = frame["action"].to_numpy()[row]
    same_pair = np.diff(pair, prepend=-1) == 0
    repeats = same_pair & (np.diff(action, prepend=-1) == 0)
    first_of_run = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(row))))
    duplicate_of = np.full(len(frame), -1, dtype=np.int64)
    duplicate_of[row[repeats]] = row[first_of_run[repeats]]
    return duplicate_of, row[same_pair & ~repeats & (action == _UNASSIGN)]


def _stages(rows: Rows, sent: IntArray, follows_assign: IntArray) -> IntArray:
    """The stage of each sent row.

    Almost every file needs two stages. Only devices that are taken back from a customer
    whom the same file gave them need the walk in file order.
    """
    action = rows.frame["action"].to_numpy()[sent]
    stage = np.where(action == _UNASSIGN, 1, 2).astype(np.int64)
    device = rows.frame["device"].to_numpy()
    taken_back = np.unique(device[follows_assign])
    if len(taken_back):
        walked = np.flatnonzero(np.isin(device[sent], taken_back))
        stage[walked] = _walk(rows, sent[walked])
    return stage


def _walk(rows: Rows, some: IntArray) -> list[int]:
    """Stages of rows in file order, each after what must come before it.

    No pair is told the same twice in a row, for such rows are not sent.
    """
    columns = rows.frame.loc[some, ["customer", "device", "action"]].to_numpy().tolist()
    given: dict[tuple[int, int], int] = {}
    removed: dict[int, int] = {}
    stages = []
    for customer, device, action in columns:
        if action == _UNASSIGN:
            stage = given.get((customer, device), 0) + 1
            removed[device] = max(removed.get(device, 1), stage)
        else:
            stage = removed.get(device, 1) + 1
            given[customer, device] = stage
        stages.append(stage)
    return stages


def _groups(rows: Rows, sent: IntArray, stage: IntArray, options: PlanOptions) -> tuple[pd.DataFrame, IntArray]:
    """Groups of rows that may share a call, in sending order; and each row's place in that order."""
    frame = rows.frame
    customer = frame["customer"].to_numpy()[sent].astype(np.int64)
    device_type = np.zeros(len(sent), dtype=np.int64)
    if options.auto_create_devices:
        device_type = np.where(stage % 2, 0, frame["device_type"].to_numpy()[sent])
    key = (stage * len(rows.customers) + customer) * len(rows.device_types) + device_type
    code, _ = pd.factorize(key)
    size = np.bincount(code)
    first = np.full(len(size), len(frame), dtype=np.int64)
    np.minimum.at(first, code, np.arange(len(sent)))
    lane = _lanes(rows, sent) if options.auto_create_devices else np.arange(len(rows.customers))
    groups = pd.DataFrame(
        {
            "stage": stage[first],
            "lane": np.where(stage[first] % 2, customer[first], lane[customer[first]]),
            "customer": customer[first],
            "device_type": device_type[first],
            "size": size,
            "first": first,
            "calls": -(-size // options.chunk_size),
        }
    )
    return _in_sending_order(groups, code)


def _in_sending_order(groups: pd.DataFrame, code: IntArray) -> tuple[pd.DataFrame, IntArray]:
    """Stage by stage, the lane with most calls first, so that no long lane is left for the end."""
    lanes = groups.groupby(["stage", "lane"], sort=False)
    ordered = groups.assign(lane_calls=-lanes["calls"].transform("sum"), lane_first=lanes["first"].transform("min"))
    ordered = ordered.sort_values(["stage", "lane_calls", "lane_first", "first"])
    place = np.empty(len(groups), dtype=np.int64)
    place[ordered.index.to_numpy()] = np.arange(len(groups))
    return ordered.reset_index(drop=True), place[code]


def _lanes(rows: Rows, sent: IntArray) -> IntArray:
    """For each customer a lane, shared with every customer who is given a device of theirs.

    Two calls that create the same device at once might collide: the API does not say.
    """
    lane = list(range(len(rows.customers)))

    def root(customer: int) -> int:
        while lane[customer] != customer:
            lane[customer] = lane[lane[customer]]
            customer = lane[customer]
        return customer

    given = rows.frame.loc[sent, ["action", "device", "customer"]]
    given = given[given["action"] == _ASSIGN]
    shared = given[given["device"].duplicated(keep=False)].sort_values("device", kind="stable")
    device, customer = shared["device"].to_numpy(), shared["customer"].tolist()
    for at in np.flatnonzero(np.diff(device) == 0).tolist():
        lane[root(customer[at + 1])] = root(customer[at])
    return np.fromiter((root(customer) for customer in range(len(lane))), np.int64)


def _cut(sizes: IntArray, chunk_size: int) -> tuple[IntArray, IntArray]:
    """Cut groups into as few calls as possible: ceil(size / chunk_size) for each."""
    calls = -(-sizes // chunk_size)
    group_of = np.repeat(np.arange(len(sizes)), calls)
    nth = np.arange(len(group_of)) - np.repeat(np.cumsum(calls) - calls, calls)
    size = np.minimum(chunk_size, sizes[group_of] - nth * chunk_size)
    return np.concatenate([[0], np.cumsum(size)]).astype(np.int64), group_of


assert len(ACTIONS) == 2, "stages alternate between two actions"  # noqa: S101 - a third action needs a new plan
